"""The held-out set: made once, never trained on, asked greedily of a model before and after.

Its programs come from the untrained model's own proposals and from a CRUXEval file. Each gives a deduction and an
abduction task. What keeps them out of self-play is `azr.heldout.HeldOut`; how they are scored is `heldout_scores`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from azr import heldout, prompts
from azr.buffer import Buffer, seed_tasks
from azr.config import Config, CurriculumConfig
from azr.curriculum import Curriculum
from azr.errors import UserError
from azr.evaluation.benchmarks.source import read_rows
from azr.executor import Executor, Status, ValidationRequest
from azr.policy.base import Policy, Progress
from azr.program import is_trivial, shape
from azr.proposer import propose
from azr.records import Task, TaskType

TYPES: tuple[TaskType, ...] = ("deduction", "abduction")
FRUITLESS_ROUNDS = 10  # rounds of proposals without a usable program, after which a model is given up


def build(
    policy: Callable[[], Policy],
    executor: Executor,
    config: Config,
    path: Path,
    own: int,
    cruxeval: Path | None,
    seed: int = 1,
    progress: Progress = lambda done, total: None,
) -> list[Task]:
    """Make the file: every usable program of the CRUXEval file, and `own` programs of the untrained model.

    `policy` is called only if `own` is more than 0. Raises UserError if the file exists already, if nothing is asked
    for, or if the model proposes nothing usable.
    """
    if path.exists():
        raise UserError(f"{path} exists: a held-out set is made once; delete it to make another")
    if not own and cruxeval is None:
        raise UserError("nothing to make a held-out set of: give --cruxeval FILE, or --programs of at least 1")
    seen: set[str] = set()
    tasks = make(cruxeval_requests(cruxeval), executor, seen) if cruxeval else []
    published = len(tasks)
    if own:
        for found in _proposed(policy(), executor, config, seed, seen):
            tasks = (tasks + found)[: published + own * len(TYPES)]
            programs = (len(tasks) - published) // len(TYPES)
            progress(programs, own)
            if programs == own:
                break
    if not tasks:
        raise UserError(f"{cruxeval} holds no usable program: nothing to hold out")
    random.Random(seed).shuffle(tasks)
    heldout.save(tasks, path)
    return tasks


def cruxeval_requests(path: Path) -> list[ValidationRequest]:
    """Programs and inputs of a CRUXEval file (JSON lines, gzipped or not). Raises UserError for another format."""
    try:
        return [ValidationRequest(row["code"], (row["input"],)) for row in read_rows(path)]
    except KeyError as error:
        raise UserError(f"{path} is no CRUXEval file (no {error}): give its published JSON lines") from None


def make(requests: Sequence[ValidationRequest], executor: Executor, seen: set[str]) -> list[Task]:
    """Deduction and abduction tasks of the valid requests whose shape is new. `seen` is added to."""
    tasks: list[Task] = []
    for request, result in zip(requests, executor.validate(requests), strict=True):
        usable = result.status is Status.OK and not is_trivial(request.program)
        if usable and shape(request.program) not in seen:
            seen.add(shape(request.program))
            tasks += [Task(kind, request.program, result.pairs) for kind in TYPES]
    return tasks


def _proposed(policy: Policy, executor: Executor, config: Config, seed: int, seen: set[str]) -> Iterator[list[Task]]:
    """Tasks of what the model proposes when its buffer holds nothing but the seed, round by round."""
    identity = executor.validate([ValidationRequest(prompts.IDENTITY.program, prompts.IDENTITY.inputs)])[0]
    buffer = Buffer(config.tasks.buffer_size)
    for task in seed_tasks(identity.pairs[0]):
        buffer.add(task, step=-1)
    settings = config.tasks.model_copy(update={"types": TYPES})
    plain = Curriculum(CurriculumConfig(enabled=False), TYPES)
    fruitless = 0
    while fruitless < FRUITLESS_ROUNDS:
        proposals = propose(policy, buffer, plain, settings, seed)
        asked = [ValidationRequest(p.program, p.inputs) for p in proposals if p.program is not None]
        found = make(asked, executor, seen)
        fruitless = 0 if found else fruitless + 1
        seed += 1
        yield found
    raise UserError(
        f"the model proposed no new usable program in {FRUITLESS_ROUNDS} rounds: take fewer --programs, or none"
    )
