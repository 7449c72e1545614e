"""MADE-UP DATA, for tests and benchmarks of the dashboard only: a store that looks like a long run's.

`python tests/made_up_store.py FOLDER --steps 10000 --tasks 10` writes FOLDER/data/azr.sqlite.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from azr.config import Config
from azr.policy.geometry import EMBEDDED
from azr.records import TASK_TYPES, Completion, Pair, Proposal, Task, TaskType
from azr.rows import EvaluationSampleRow, ProposalRow, TaskRow, encode_text
from azr.store import Evaluation, Run, Store

HOSTILE = (
    "</script><img src=x onerror=document.title='owned'>",
    "<svg/onload=document.title='owned'>",
    "\u202egnirts desrever\u202c \u2066isolate\u2069 \u200bzero width",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \r\b\b",
    "NUL \0 and a lone \ud800 surrogate",
    "javascript:document.title='owned'",
    "{{constructor.constructor('document.title=1')()}} ${document.title='owned'}",
    "x" * 1_000_000,
    "\n" * 5_000,
    "ا" * 2_000 + "a" + "e\u0301\u0302\u0303" * 500,
)
_PROGRAMS = (
    "def f(nums):\n    total = 0\n    for n in nums:\n        total += n % {k} == 0\n    return total",
    "def f(text):\n    return ''.join(sorted(set(text)))[{k}:]",
    "def f(a, b):\n    while b > {k}:\n        a, b = b, a % b  # {k}\n    return a",
    "def f(items):\n    return [x * {k} for x in items if x > {k}]",
)


def start(store: Store, steps: int = 10_000, **changes: Any) -> Run:
    config = Config.model_validate({"model": {"name": EMBEDDED}, "train": {"steps": steps, **changes}})
    versions = {"azr": "test", "python": "3"}
    return store.start_run(config, versions, {"name": "made-up", "parameters": 1, "device": "cpu"})


def metrics_of(step: int, rng: random.Random) -> dict[str, float]:
    """Curves that rise and level off, with noise."""
    learnt = 1 - math.exp(-step / 2000)
    found: dict[str, float] = {}
    for name, low, high in (
        ("propose/valid", 0.1, 0.8), ("solve/rate", 0.1, 0.55), ("solve/parsed", 0.7, 0.98),
        ("solve/rate_of_parsed", 0.12, 0.56), ("reward/propose", -0.9, 0.3), ("reward/solve", -0.6, 0.2),
    ):  # fmt: skip
        for suffix in ("", *(f"/{kind}" for kind in TASK_TYPES)):
            value = low + (high - low) * learnt + rng.gauss(0, 0.05)
            found[name + suffix] = value if low < 0 else min(max(value, 0.0), 1.0)
    for name, value in (
        ("propose/repeated", 0.1), ("propose/cut", 0.2), ("propose/tokens", 70.0), ("solve/tokens", 20.0),
        ("solve/in_between", 0.5), ("solve/tasks", 16.0), ("solve/new", 9.0), ("advantage/silent_groups", 1.0),
        ("diversity/unique_programs", 0.9), ("diversity/unique_shapes", 0.7), ("diversity/reference_distance", 0.6),
        ("diversity/trivial", 0.1), ("update/loss", 0.02), ("update/grad_norm", 0.8), ("update/entropy", 1.1),
        ("update/importance_ratio", 1.0), ("update/zero_advantage", 0.2), ("update/importance_capped", 0.01),
        ("update/clip_fraction", 0.0), ("rejected/syntax", 12.0), ("rejected/timeout", 2.0),
        ("buffer/deduction", 400.0),
        ("buffer/abduction", 300.0), ("buffer/induction", 200.0), ("tokens/sampled", 9000.0),
    ):  # fmt: skip
        noisy = value * (1 + rng.gauss(0, 0.1))
        found[name] = min(noisy, 1.0) if value < 1 else noisy
    return found


def timings_of(rng: random.Random) -> dict[str, float]:
    parts = {"propose": 9.0, "validate": 0.6, "solve": 8.0, "grade": 0.4, "update": 11.0}
    seconds = {f"seconds/{name}": value * (1 + rng.gauss(0, 0.05)) for name, value in parts.items()}
    return seconds | {"seconds/step": sum(seconds.values()), "tokens/s": 480.0, "memory/resident_bytes": 2.1e9}


def task_of(kind: TaskType, number: int) -> Task:
    program = _PROGRAMS[number % len(_PROGRAMS)].format(k=number)
    pairs = tuple(Pair(f"[{number}, {i}, 3]", str(number + i), b"") for i in range(6 if kind == "induction" else 1))
    return Task(kind, program, pairs, "sums" if kind == "induction" else "")


def completion(text: str) -> Completion:
    return Completion(tuple(range(min(len(text), 50))), text, (-0.5, -1.25), "stop")


def record(run: Run, step: int, tasks: int = 4, attempts: int = 4, rng: random.Random | None = None) -> None:
    """One small step through the store's own interface, hostile texts included."""
    from azr.records import Attempt, Verdict
    from azr.rows import AttemptRow

    rng = rng or random.Random(step)
    made = [task_of(TASK_TYPES[i % 3], 1000 * step + i) for i in range(tasks)]
    hostile = HOSTILE[step % len(HOSTILE)]
    bad = Task("deduction", f"def f(x):\n    return {hostile!r}\n# {hostile}", (Pair(hostile, hostile, b""),))
    made.append(bad)
    proposals = [
        ProposalRow(
            Proposal(t.type, (1,), completion(t.program), ("def f(a): return a",), t.program, task=t), 0.5, 0.5, 0.1
        )
        for t in made
    ]
    proposals.append(
        ProposalRow(
            Proposal("abduction", (1,), completion(hostile), (), reason=f"syntax: {hostile[:200]}"), None, -1.0, -1.0
        )
    )
    run.record_step(
        step,
        proposals=proposals,
        tasks=[
            TaskRow(t, "proposed", rng.choice((0.0, 0.25, 0.5, 1.0)), {"nodes": float(step + 5 + len(t.type))})
            for t in made
        ],
        attempts=[
            AttemptRow(Attempt(t, (1,), completion(answer), answer), Verdict(i == 0, "ok"), float(i == 0), 0.2)
            for t in made
            for i in range(attempts)
            for answer in ((hostile if t is bad else f"{i}"),)
        ],
        metrics=metrics_of(step, rng),
        timings=timings_of(rng),
    )


def record_tasks(run: Run, step: int, tasks: list[Task]) -> None:
    """A step of nothing but these tasks, which nobody attempted."""
    rows = [TaskRow(task, "proposed") for task in tasks]
    run.record_step(step, proposals=[], tasks=rows, attempts=[], metrics={}, timings={})


def fill_large(store: Store, run: Run, steps: int, tasks: int, attempts: int = 1) -> None:
    """Many steps in one transaction, straight into the tables."""
    rng = random.Random(0)

    def step_rows() -> Iterator[tuple[Any, ...]]:
        for step in range(1, steps + 1):
            yield (
                run.id,
                step,
                "2026-01-01T00:00:00+00:00",
                json.dumps(metrics_of(step, rng)),
                json.dumps(timings_of(rng)),
            )

    with store.transaction() as connection:
        connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?)", step_rows())
        for step in range(1, steps + 1):
            for index in range(tasks):
                kind = TASK_TYPES[index % 3]
                task = task_of(kind, step * tasks + index)
                columns = TaskRow(task, "proposed", rng.choice((None, 0.0, 0.25, 0.5, 0.75, 1.0))).columns()
                row = {"run": run.id, "step": step, "idx": index, **columns}
                row |= {name: json.dumps(row[name]) for name in ("pairs", "difficulty")}
                _insert(connection, "tasks", row)
                proposal = Proposal(kind, (1,), completion(task.program), (), reason="syntax: unexpected indent")
                row = {"run": run.id, "step": step, "idx": index, **ProposalRow(proposal, None, -1.0, 0.0).columns()}
                row |= {name: json.dumps(row[name]) for name in ("inputs", "refs")}
                _insert(connection, "proposals", row)
                for attempt in range(attempts):
                    connection.execute(
                        """INSERT INTO attempts (run, step, idx, task_id, type, correct, status, reward, advantage,
                        tokens, stop_reason, reason, answer, text) VALUES (?, ?, ?, ?, ?, 1, 'ok', 1, 0, 5, 'stop', '',
                        '3', '3')""",
                        (run.id, step, index * attempts + attempt, task.id, kind),
                    )


def evaluation_sample(number: int, right: bool, sample: int = 0, status: str = "") -> EvaluationSampleRow:
    status = status or ("ok" if right else "wrong")
    return EvaluationSampleRow(f"HumanEval/{number}", sample, "pass", "pass", status, right, 9, "stop", 0.1)


def add_evaluations(
    store: Store, run: Run, right: Sequence[int] = (3, 5, 8), comparable: Sequence[str] = ("0-shot",)
) -> None:
    """The untrained model, which belongs to no run, and two checkpoints, on 20 problems."""
    protocol = {"name": "completion", "comparable": list(comparable)}
    untrained = f"untrained {run.config.model.name}"
    for step, solved in zip((None, 10, 20), right, strict=True):
        subject, run_id = (untrained, None) if step is None else (f"{run.name}/step-{step:04d}", run.id)
        evaluation = Evaluation.open(store, subject, "humaneval", protocol, "ab12", run=run_id, step=step)
        evaluation.record([evaluation_sample(number, number < solved) for number in range(20)])
        evaluation.finish({"pass@1": solved / 20, "samples": 20})


def _insert(connection: Any, table: str, row: dict[str, Any]) -> None:
    values = [encode_text(value) if isinstance(value, str) else value for value in row.values()]
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=10)
    arguments = parser.parse_args()
    with Store(arguments.folder / "data" / "azr.sqlite") as store:
        run = start(store, arguments.steps)
        fill_large(store, run, arguments.steps, arguments.tasks)
        run.finish("finished")


if __name__ == "__main__":
    main()
