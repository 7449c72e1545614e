"""The held-out set: made once, never trained on, asked greedily of a model before and after.

Its programs come from the untrained model's own proposals and from a CRUXEval file. Each gives a deduction and an
abduction task. What keeps them out of self-play is `azr.heldout.HeldOut`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from azr import heldout, prompts
from azr.buffer import Buffer, seed_tasks
from azr.config import Config
from azr.errors import UserError
from azr.evaluation.core import mcnemar, wilson
from azr.executor import Executor, Status, Validation, ValidationRequest
from azr.policy.base import Policy, Progress
from azr.program import is_trivial, shape
from azr.proposer import propose
from azr.records import Attempt, Task, TaskType, Verdict
from azr.rows import EvaluationSampleRow
from azr.solver import attempt, grade
from azr.store import Evaluation, Store

TYPES: tuple[TaskType, ...] = ("deduction", "abduction")


def cruxeval_requests(path: Path) -> list[ValidationRequest]:
    """Programs and inputs of a CRUXEval file (JSON lines, gzipped or not). Raises UserError for another format."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
        return [ValidationRequest(row["code"], (row["input"],)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no CRUXEval file ({error}): give its published JSON lines") from error


def untrained_requests(policy: Policy, executor: Executor, config: Config, seed: int) -> Iterator[ValidationRequest]:
    """What the model proposes when its buffer holds nothing but the seed, without end."""
    identity = executor.validate([ValidationRequest(prompts.IDENTITY.program, prompts.IDENTITY.inputs)])[0]
    buffer = Buffer(config.tasks.buffer_size)
    for task in seed_tasks(identity.pairs[0]):
        buffer.add(task, step=-1)
    tasks = config.tasks.model_copy(update={"types": TYPES})
    while True:
        for proposal in propose(policy, buffer, tasks, seed):
            if proposal.program is not None:
                yield ValidationRequest(proposal.program, proposal.inputs)
        seed += 1


def make(requests: Sequence[ValidationRequest], executor: Executor, seen: set[str]) -> list[Task]:
    """Deduction and abduction tasks of the valid requests whose shape is new. `seen` is added to."""
    tasks: list[Task] = []
    for request, result in zip(requests, executor.validate(requests), strict=True):
        if _usable(request, result) and shape(request.program) not in seen:
            seen.add(shape(request.program))
            tasks += [Task(kind, request.program, result.pairs) for kind in TYPES]
    return tasks


def _usable(request: ValidationRequest, result: Validation) -> bool:
    return result.status is Status.OK and not is_trivial(request.program)


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy of one model on one task type, with what is needed to compare two of them."""

    correct: frozenset[str]  # task ids
    parsed: frozenset[str]
    tasks: frozenset[str]

    def line(self) -> str:
        n, right, parsed = len(self.tasks), len(self.correct), len(self.parsed)
        low, high = wilson(right, n)
        of_parsed = f"{right / parsed:.1%}" if parsed else "–"
        interval = f"[{low:.1%}, {high:.1%}]"
        return f"{right}/{n} = {right / n:.1%} {interval}, parsed {parsed / n:.1%}, right of parsed {of_parsed}"


def score(
    policy: Policy,
    executor: Executor,
    store: Store,
    tasks: Sequence[Task],
    config: Config,
    subject: str,
    *,
    run: int | None = None,
    step: int | None = None,
    progress: Progress | None = None,
) -> dict[TaskType, Score]:
    """Greedy, one answer a task. Every sample is stored; nothing that is stored already is generated again."""
    found: dict[TaskType, Score] = {}
    for kind in TYPES:
        own = [task for task in tasks if task.type == kind]
        protocol = {"style": policy.style, "temperature": 0, "answer_tokens": config.tasks.answer_tokens}
        key = hashlib.sha256(json.dumps([protocol, sorted(task.id for task in own)]).encode()).hexdigest()[:16]
        record = Evaluation.open(store, subject, f"heldout-{kind}", protocol, key, run=run, step=step)
        done = {task_id for task_id, _ in record.done()}
        missing = [task for task in own if task.id not in done]
        attempts = attempt(policy, missing, config.tasks, 1, 0.0, 0, progress) if missing else []
        record.record([_row(a, v) for a, v in zip(attempts, grade(attempts, executor), strict=True)])
        found[kind] = read(store, record.id)
        record.finish({"pass@1": len(found[kind].correct) / len(own), "tasks": len(own)})
    return found


def _row(item: Attempt, verdict: Verdict) -> EvaluationSampleRow:
    return EvaluationSampleRow(
        task_id=item.task.id,
        sample=0,
        completion=item.completion.text,
        solution=item.answer,
        status="malformed" if item.answer is None else verdict.status,
        correct=verdict.correct,
        tokens=len(item.completion.token_ids),
        stop_reason=item.completion.stop_reason,
        seconds=0.0,
        detail=item.reason,
    )


def read(store: Store, evaluation: int) -> Score:
    rows = store.query("SELECT task_id, correct, solution FROM evaluation_samples WHERE evaluation = ?", evaluation)
    return Score(
        frozenset(row["task_id"] for row in rows if row["correct"]),
        frozenset(row["task_id"] for row in rows if row["solution"] is not None),
        frozenset(row["task_id"] for row in rows),
    )


def compare(before: Score, after: Score) -> str:
    """Paired comparison in one line: gained, lost, exact McNemar."""
    if before.tasks != after.tasks:
        raise UserError("the two scores are of different tasks: score both on the same held-out set")
    gained, lost = len(after.correct - before.correct), len(before.correct - after.correct)
    return f"gained {gained}, lost {lost}, McNemar p = {mcnemar(gained, lost):.2g}"


def build(
    policy: Policy, executor: Executor, config: Config, path: Path, own: int, cruxeval: Path | None, seed: int = 1
) -> list[Task]:
    """Make the file: every usable CRUXEval program, and `own` programs of the untrained model. Refuses to overwrite."""
    if path.exists():
        raise UserError(f"{path} exists: a held-out set is made once; delete it to make another")
    seen: set[str] = set()
    tasks = make(cruxeval_requests(cruxeval), executor, seen) if cruxeval else []
    proposals, wanted, batch = untrained_requests(policy, executor, config, seed), len(tasks) + 2 * own, []
    while len(tasks) < wanted:
        batch = [next(proposals) for _ in range(32)]
        tasks += make(batch, executor, seen)[: wanted - len(tasks)]
    random.Random(seed).shuffle(tasks)
    heldout.save(tasks, path)
    return tasks
