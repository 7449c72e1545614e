"""One model on one benchmark: generate, score, store; go on where an interrupted evaluation stopped.

Completions are stored before they are scored, chunk by chunk, in a fixed order of the tasks: killed at any moment, an
evaluation generates nothing twice but the chunk it was in. A subset of N tasks is the first N of that order, so a
larger evaluation goes on from a smaller one. Results are read from the stored samples alone.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from azr.evaluation.problems import Benchmark, Problem
from azr.evaluation.protocols import Protocol, read
from azr.evaluation.results import Result, result_of
from azr.evaluation.scoring import Score, Scorer
from azr.policy.base import Policy
from azr.records import Completion
from azr.rows import EvaluationSampleRow
from azr.store import Evaluation, Store

CHUNK_ROWS = 32  # completions that are generated together, and lost together
ORDER_SEED = 0
UNSCORED = "unscored"

# (phase, done, total): what is under way, in samples.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated. `run` and `step` are a checkpoint's; None for an untrained model."""

    name: str
    run: int | None = None
    step: int | None = None


def untrained(model: str, fingerprint: str = "") -> Subject:
    """A model before training. The fingerprint tells the weights that once had the same name apart."""
    return Subject(f"untrained {model} {fingerprint}".strip())


def fingerprint_of(policy: Policy) -> str:
    return str(policy.describe().get("fingerprint", ""))


def select(benchmark: Benchmark, max_tasks: int = 0, split: str = "test") -> tuple[Problem, ...]:
    """The problems of the split (`test`, or `all`) in the fixed order; the first `max_tasks` of them, 0 for all."""
    problems = [p for p in benchmark.problems if split == "all" or p.tags.get("split", "test") == "test"]
    # A file that holds no test problem at all (APPS-mini comes from the train split) is evaluated as it is.
    problems = problems or list(benchmark.problems)
    random.Random(ORDER_SEED).shuffle(problems)
    return tuple(problems[: max_tasks or None])


def evaluate(
    policy: Policy,
    scorer: Scorer,
    store: Store,
    subject: Subject,
    protocol: Protocol,
    prompts: dict[str, str],
    problems: Sequence[Problem],
    *,
    samples: int = 1,
    ks: Sequence[int] = (1,),
    source: str = "",
    rescore: bool = False,
    progress: Progress = lambda phase, done, total: None,
) -> Result:
    """Generate what is missing, score what is not scored (all, with `rescore`), and read the result from the store."""
    problems, excluded = selftest(scorer, problems, progress)
    record = Evaluation.open(
        store,
        subject.name,
        protocol.benchmark,
        protocol.describe(problems),
        protocol.hash,
        run=subject.run,
        step=subject.step,
    )
    _generate(policy, record, protocol, prompts, problems, samples, progress)
    _score(scorer, record, protocol.style, problems, samples, rescore, progress)
    result = result_of(store, record.id, [problem.id for problem in problems], samples, ks, excluded, source)
    record.finish(result.summary())
    return result


def selftest(
    scorer: Scorer, problems: Sequence[Problem], progress: Progress = lambda phase, done, total: None
) -> tuple[list[Problem], dict[str, str]]:
    """Problems whose reference solution passes here, and why the others do not: these judge nobody.

    A problem without a reference solution is kept.
    """
    known = [problem for problem in problems if problem.reference]
    scores = scorer.score([(p, p.reference) for p in known], lambda done, total: progress("self-test", done, total))
    excluded = {
        problem.id: f"{score.status} {score.detail}".strip()
        for problem, score in zip(known, scores, strict=True)
        if not score.correct
    }
    return [problem for problem in problems if problem.id not in excluded], excluded


def _generate(
    policy: Policy,
    record: Evaluation,
    protocol: Protocol,
    prompts: dict[str, str],
    problems: Sequence[Problem],
    samples: int,
    progress: Progress,
) -> None:
    have = Counter(task_id for task_id, _ in record.done())
    total = sum(max(0, samples - have[problem.id]) for problem in problems)
    generated = 0
    for first, chunk in _chunks(problems, have, samples):
        started = time.monotonic()
        rows = len(chunk) * (samples - first)
        digest = hashlib.sha256(f"{protocol.seed}/{chunk[0].id}/{first}".encode()).digest()

        def report(tokens: int, all_tokens: int, before: int = generated, rows: int = rows) -> None:
            progress("generating", before + rows * tokens // max(all_tokens, 1), total)

        sampling = protocol.sampling(int.from_bytes(digest[:6], "big"))
        groups = policy.generate([prompts[p.id] for p in chunk], samples - first, sampling, report)
        seconds = (time.monotonic() - started) / rows
        record.record(
            [
                _unscored(problem, sample, completion, seconds)
                for problem, group in zip(chunk, groups, strict=True)
                for sample, completion in enumerate(group.completions, first)
            ],
            fresh=True,
        )
        generated += rows
        progress("generating", generated, total)


def _chunks(
    problems: Sequence[Problem], have: Mapping[str, int], samples: int
) -> Iterator[tuple[int, Sequence[Problem]]]:
    """Problems that lack samples, in order, a batch of those that have equally many: (that many, problems)."""
    for first, same in itertools.groupby(problems, key=lambda problem: have.get(problem.id, 0)):
        if first < samples:
            members, size = list(same), max(1, CHUNK_ROWS // (samples - first))
            for start in range(0, len(members), size):
                yield first, members[start : start + size]


def _unscored(problem: Problem, sample: int, completion: Completion, seconds: float) -> EvaluationSampleRow:
    return EvaluationSampleRow(
        task_id=problem.id,
        sample=sample,
        completion=completion.text,
        solution=None,
        status=UNSCORED,
        correct=False,
        tokens=len(completion.token_ids),
        stop_reason=completion.stop_reason,
        seconds=seconds,
    )


def _score(
    scorer: Scorer,
    record: Evaluation,
    style: str,
    problems: Sequence[Problem],
    samples: int,
    rescore: bool,
    progress: Progress,
) -> None:
    by_id = {problem.id: problem for problem in problems}
    rows = [
        EvaluationSampleRow(
            **{name: row[name] for name in EvaluationSampleRow.__dataclass_fields__ if name != "correct"},
            correct=bool(row["correct"]),
        )
        for row in record.store.query(
            "SELECT * FROM evaluation_samples WHERE evaluation = ? AND sample < ? ORDER BY task_id, sample",
            record.id,
            samples,
        )
        if row["task_id"] in by_id and (rescore or row["status"] == UNSCORED)
    ]
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        progress("scoring", start, len(rows))
        record.record(score_rows(scorer, part, by_id, style))
    progress("scoring", len(rows), len(rows))


def score_rows(
    scorer: Scorer, rows: Sequence[EvaluationSampleRow], by_id: dict[str, Problem], style: str
) -> list[EvaluationSampleRow]:
    """The same samples, scored."""
    found = [read(by_id[row.task_id], style, row.completion, row.stop_reason == "length") for row in rows]
    items = [
        (by_id[row.task_id], extraction.solution)
        for row, extraction in zip(rows, found, strict=True)
        if extraction.solution is not None
    ]
    scores = iter(scorer.score(items))
    scored = []
    for row, extraction in zip(rows, found, strict=True):
        score = Score(False, extraction.reason) if extraction.solution is None else next(scores)
        scored.append(
            EvaluationSampleRow(
                task_id=row.task_id,
                sample=row.sample,
                completion=row.completion,
                solution=extraction.solution,
                status=score.status,
                correct=score.correct,
                tokens=row.tokens,
                stop_reason=row.stop_reason,
                seconds=row.seconds,
                detail=score.detail,
            )
        )
    return scored
