"""A controller with chosen means, and what it looks at."""

from __future__ import annotations

from typing import Any, get_args

from azr.buffer import Buffer
from azr.config import CurriculumConfig, Mean
from azr.curriculum import Curriculum
from azr.records import Completion, Difficulty, Pair, Proposal, Task, TaskType

CONFIG = CurriculumConfig(enabled=True)
BAND = (CONFIG.band_low, CONFIG.band_high)
MEANS = get_args(Mean)


def curriculum(*means: str, **keys: Any) -> Curriculum:
    """The controller with these means only."""
    return Curriculum(CurriculumConfig.model_validate({"enabled": True, "means": means, **keys}))


def difficulty(structural: float = 20.0, dynamic: float | None = 1.0, variety: float = 1.0) -> Difficulty:
    measured = dynamic is not None
    return Difficulty(4, 8, 0, 1, structural, *((1, 1.0, variety, dynamic) if measured else (None,) * 4))


def task(program: str, kind: TaskType = "deduction", text: str = "1") -> Task:
    return Task(kind, program, (Pair(text, "2", b"x"),))


def proposal(t: Task | None, hard: Difficulty | None = None, **more: Any) -> Proposal:
    kind = t.type if t else "deduction"
    references = more.pop("references", ())
    program = t.program if t else None
    return Proposal(
        kind, (1,), Completion((1,), "", (-1.0,), "stop"), references, program, task=t, difficulty=hard, **more
    )


PROGRAMS = (
    "def f(x):\n    return x + 1",
    "def f(xs):\n    return sorted(xs)[::-1]",
    "def f(s):\n    return s.upper().split()",
    "def f(n):\n    t = 0\n    for i in range(n):\n        t += i\n    return t",
    "def f(d):\n    return {v: k for k, v in d.items()}",
    "def f(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
)


def filled(rate: float | None = 0.5, kind: TaskType = "deduction") -> Buffer:
    """PROGRAMS, ever harder: 20, 30, 40, … points of structure."""
    buffer = Buffer(64)
    for i, program in enumerate(PROGRAMS):
        buffer.add(task(program, kind), i, rate, difficulty(20.0 + 10 * i))
    return buffer
