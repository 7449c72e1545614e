"""Ready-made solutions: read from JSON lines, scored like a model's. Nothing is excluded: a missing solution fails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from azr.errors import UserError
from azr.evaluation.benchmarks.source import read_rows
from azr.evaluation.evaluate import Progress
from azr.evaluation.problems import Benchmark, Problem
from azr.evaluation.results import Result, result_of
from azr.evaluation.scoring import LIMITS, RULES, Score, Scorer
from azr.rows import EvaluationSampleRow
from azr.store import Evaluation, Store

_ID_KEYS = ("task_id", "problem_id", "id")
_PREFIXES = {"humaneval": "humaneval", "humaneval+": "humaneval", "mbpp": "mbpp", "mbpp+": "mbpp"}


def read_solutions(path: Path, benchmark: Benchmark) -> dict[str, list[str]]:
    """Solutions per task id. A record has `task_id` (`problem_id`, `id`) and `solution`, or `completion` of the stub.

    Solutions of problems without tests are ignored. Raises UserError for a record without these keys, and for an id
    that the benchmark does not have.
    """
    problems: dict[str, Problem | None] = {problem.id: problem for problem in benchmark.problems}
    problems |= dict.fromkeys(benchmark.untested)
    found: dict[str, list[str]] = {}
    for number, row in enumerate(read_rows(path), 1):
        task = _find(row, problems, _PREFIXES.get(benchmark.name))
        if task is None:
            shown = next((repr(row[key]) for key in _ID_KEYS if key in row), "no id")
            raise UserError(f"{path}, record {number}: {shown} is no task of {benchmark.name} ({benchmark.source})")
        problem = problems[task]
        if problem is None:
            continue
        if isinstance(row.get("solution"), str):
            solution = row["solution"]
        elif isinstance(row.get("completion"), str):
            solution = problem.stub + row["completion"]
        else:
            raise UserError(f"{path}, record {number}: give the program as text in `solution`, or in `completion`")
        found.setdefault(task, []).append(solution)
    return found


def _find(row: dict[str, Any], known: Mapping[str, Problem | None], prefix: str | None) -> str | None:
    """The benchmark's own id; `12` and `"Mbpp/12"` name the same task of a benchmark with that prefix, of no other."""
    given = next((row[key] for key in _ID_KEYS if key in row), None)
    if given is None or isinstance(given, bool):
        return None
    before, slash, number = str(given).rpartition("/")
    if slash and before.lower() != prefix:
        return None
    own = next(iter(known)).rpartition("/")[0]
    return next((name for name in (number, f"{own}/{number}") if name in known), None)


def score_solutions(
    scorer: Scorer,
    store: Store,
    path: Path,
    benchmark: Benchmark,
    problems: Sequence[Problem],
    *,
    ks: Sequence[int] = (1,),
    progress: Progress = lambda phase, done, total: None,
) -> tuple[Result, int]:
    """The result, and the evaluation's id in the store. What a task has fewer than others is missing."""
    found = read_solutions(path, benchmark)
    samples = max(map(len, found.values()), default=1)
    if max(ks) > samples:
        raise UserError(
            f"pass@{max(ks)} needs as many solutions of a task, and {path} has {samples} at most: lower --k"
        )
    items = [(problem, solution) for problem in problems for solution in found.get(problem.id, ())]
    scores = iter(scorer.score(items, lambda done, total: progress("scoring", done, total)))
    protocol = {
        "name": "solutions",
        "benchmark": benchmark.name,
        "data": benchmark.digest,
        "limits": LIMITS,
        "rules": RULES,
    }
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    key = hashlib.sha256(repr(sorted(protocol.items())).encode()).hexdigest()[:16]
    record = Evaluation.open(store, f"solutions {path.name} {digest[:12]}", benchmark.name, protocol, key)
    rows = []
    for problem in problems:
        own = found.get(problem.id, [])
        rows += [_row(problem, sample, solution, next(scores)) for sample, solution in enumerate(own)]
        rows += [_row(problem, sample, None, Score(False, "missing")) for sample in range(len(own), samples)]
    record.record(rows)
    result = result_of(store, record.id, [p.id for p in problems], samples, ks, {}, benchmark.source)
    record.finish(result.summary())
    return result, record.id


def _row(problem: Problem, sample: int, solution: str | None, score: Score) -> EvaluationSampleRow:
    return EvaluationSampleRow(
        task_id=problem.id,
        sample=sample,
        completion=solution or "",
        solution=solution,
        status=score.status,
        correct=score.correct,
        tokens=0,
        stop_reason="stop",
        seconds=score.seconds,
        detail=score.detail,
    )
