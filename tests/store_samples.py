"""Rows for the tests of the store: a step that is a function of `seed` alone."""

from __future__ import annotations

import hashlib
from typing import Any

from azr.config import Config
from azr.records import Attempt, Completion, Pair, Proposal, Task, Verdict
from azr.rows import AttemptRow, ProposalRow, TaskRow

WEIRD = "NUL \0, lone \ud800, a pair kept apart \ud83d\ude00, escape ␛0000, ```fence```, ä\r\n\x1b[31m"


def config(**train: Any) -> Config:
    return Config.model_validate({"train": train})


def completion(text: str) -> Completion:
    return Completion((1, 2, 3), text, (-0.5, -0.25, -1.0), "stop")


def task(seed: str, text: str = "") -> Task:
    return Task("deduction", f"def f(a):\n    return a + {seed!r}", (Pair("'x'", repr("x" + seed), b"\0\xff"),), text)


def step_rows(seed: str, text: str = "") -> dict[str, Any]:
    """Keyword arguments of `Run.record_step`: two proposals (one invalid), one task, two attempts (one malformed)."""
    made = task(seed, text)
    valid = Proposal("deduction", (1,), completion(text + seed), ("def f(a): ...",), made.program, ("'x'",), task=made)
    invalid = Proposal("abduction", (1,), completion(seed), (), reason="no_program: no block")
    right = Attempt(made, (1,), completion(text), made.pairs[0].output)
    malformed = Attempt(made, (1,), completion("?"), None, "no_answer")
    value = int(hashlib.sha256(seed.encode()).hexdigest()[:6], 16) / 2**24
    return {
        "proposals": [ProposalRow(valid, 0.5, 0.5, value), ProposalRow(invalid, None, -1.0, -value)],
        "tasks": [TaskRow(made, "proposed", 0.5, {"nodes": 7})],
        "attempts": [
            AttemptRow(right, Verdict(True, "ok"), 1.0, value),
            AttemptRow(malformed, None, -1.0, -value),
        ],
        "metrics": {"loss": value, "solve/rate": 0.5},
        "timings": {"seconds": 1.0},
    }
