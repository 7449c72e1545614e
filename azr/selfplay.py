"""One self-play step: propose, validate, solve, grade, score, update, record. Each room has its own file.

Everything random in a step follows from `train.seed`, the step and the phase, so that a checkpoint needs no hidden
random state: a run that is killed and resumed writes the same rows as one that was not.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from azr import metrics
from azr.buffer import Buffer
from azr.config import Config
from azr.curriculum import Curriculum
from azr.diversity import DiversityAlarm, GarbageAlarm
from azr.executor import Executor
from azr.heldout import HeldOut
from azr.policy.base import Policy
from azr.proposer import propose, validate
from azr.records import Attempt, Proposal, Task, Verdict
from azr.renewal import renew
from azr.rewards import Shaping
from azr.rows import AttemptRow, ProposalRow, TaskRow
from azr.scoring import Scored, score
from azr.solver import grade, solve
from azr.store import Run
from azr.terminal import Clock, View
from azr.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SelfPlay:
    """Everything that a step needs, and what a checkpoint has to hold of it."""

    config: Config
    workspace: Workspace
    run: Run
    policy: Policy
    executor: Executor
    held_out: HeldOut
    resolved: dict[str, Any]  # precision, threads and micro-batch, as they were resolved when the run began
    buffer: Buffer
    views: Sequence[View]
    step: int = 0  # the last finished step
    diversity_alarm: DiversityAlarm = field(default_factory=DiversityAlarm)
    garbage_alarm: GarbageAlarm = field(default_factory=GarbageAlarm)
    curriculum: Curriculum = field(init=False)

    def __post_init__(self) -> None:
        self.curriculum = Curriculum(self.config.curriculum, self.config.tasks.types)

    def seed(self, step: int, phase: str) -> int:
        """The seed of one phase of one step: a function of the run's seed alone."""
        digest = hashlib.sha256(f"{self.config.train.seed}/{step}/{phase}".encode()).digest()
        return int.from_bytes(digest[:6], "big")

    def phase(self, step: int, name: str) -> None:
        for view in self.views:
            view.phase(step, name)

    def progress(self, done: int, total: int) -> None:
        for view in self.views:
            view.progress(done, total)

    def alarm(self, step: int, text: str | None) -> None:
        if text is None:
            return
        log.warning("step %d: %s", step, text)
        self.run.record_event(step, "alarm", text)
        for view in self.views:
            view.note("alarm", text)

    def state(self) -> dict[str, Any]:
        return {
            "buffer": self.buffer.state(),
            "curriculum": self.curriculum.state(),
            "alarms": {"diversity": self.diversity_alarm.streak, "garbage": self.garbage_alarm.streak},
            "held_out": self.held_out.digest,
            "resolved": self.resolved,
        }

    def restore(self, step: int, state: dict[str, Any]) -> None:
        self.step = step
        self.buffer.restore(state["buffer"])
        self.curriculum.restore(state["curriculum"])
        self.diversity_alarm.streak = state["alarms"]["diversity"]
        self.garbage_alarm.streak = state["alarms"]["garbage"]

    def save(self) -> None:
        path = self.workspace.checkpoints.save(self.run, self.step, self.policy.save, self.state())
        log.info("step %d: saved %s", self.step, path)


def play(s: SelfPlay, step: int) -> None:
    """One self-play step: the model proposes, solves and learns; the store gets every row."""
    clock, tasks_config = Clock(), s.config.tasks
    s.phase(step, "propose")
    proposals = propose(s.policy, s.buffer, s.curriculum, tasks_config, s.seed(step, "propose"), s.progress)
    clock.lap("propose")
    s.phase(step, "validate")
    proposals = validate(proposals, s.executor, s.buffer, s.held_out.covers)
    clock.lap("validate")
    s.phase(step, "solve")
    shapings = s.curriculum.shape(proposals)
    accepted = [i for i, shaping in enumerate(shapings) if is_accepted(proposals[i], shaping)]
    as_proposed = [proposals[i] for i in accepted]
    proposals, tasks, fresh = tasks_to_solve(s, step, proposals, accepted)
    attempts = solve(s.policy, tasks, tasks_config, s.seed(step, "solve"), s.progress)
    clock.lap("solve")
    s.phase(step, "grade")
    verdicts = grade(attempts, s.executor)
    scored = score(proposals, tasks, attempts, verdicts, s.config, shapings)
    clock.lap("grade")
    untrained = untrained_rates(s, step, tasks[:fresh], clock)
    s.phase(step, "update")
    updated = s.policy.update(scored.samples, s.progress)
    clock.lap("update")
    taken = [proposals[i] for i in accepted]
    s.curriculum.observe(proposals, taken, scored.rates)
    for own in as_proposed:
        if own.task is not None:
            s.buffer.add(own.task, step, difficulty=own.difficulty)
    for task in tasks:
        s.buffer.observe(task, scored.rates[task.id])
    numbers = (
        metrics.propose_metrics(proposals)
        | metrics.solve_metrics(tasks, fresh, attempts, verdicts, scored)
        | metrics.reward_metrics(scored, proposals, attempts)
        | metrics.buffer_metrics(s.buffer)
        | metrics.difficulty_metrics(taken)
        | s.curriculum.metrics()
        | untrained
        | {f"update/{name}": value for name, value in updated.items()}
    )
    record(s, step, proposals, taken, tasks, attempts, verdicts, scored, numbers, clock)


def tasks_to_solve(
    s: SelfPlay, step: int, proposals: Sequence[Proposal], accepted: Sequence[int]
) -> tuple[list[Proposal], list[Task], int]:
    """The tasks to solve, new ones first, and how many those are; the proposals with their tasks as they are solved."""
    rng = random.Random(s.seed(step, "choose"))
    solved = s.config.tasks.solved
    again = s.curriculum.rehearse(s.buffer, solved, len(accepted), rng)
    chosen = rng.sample(accepted, len(accepted))[: max(0, solved - len(again))]
    own = [task for task in (proposals[i].task for i in chosen) if task is not None]
    growths = s.curriculum.growths([task.type for task in own], again, rng)
    tasks = renew(list(zip([*own, *(e.task for e in again)], growths, strict=True)), s.executor, rng)
    as_solved = list(proposals)
    for i, task in zip(chosen, tasks[: len(chosen)], strict=True):
        as_solved[i] = replace(proposals[i], task=task)
    return as_solved, tasks, len(chosen)


def is_accepted(proposal: Proposal, shaping: Shaping | None) -> bool:
    """Whether a proposal becomes a task of the buffer: valid, new, and not hollow where that counts."""
    return proposal.task is not None and not proposal.repeated and not (shaping is not None and shaping.hollow)


def untrained_rates(s: SelfPlay, step: int, tasks: Sequence[Task], clock: Clock) -> dict[str, float]:
    """How the model before any training does on these tasks, where the configuration says so; nothing is learnt."""
    every = s.config.curriculum.untrained_every
    if not (every and tasks and step % every == 0):
        return {}
    s.phase(step, "untrained")
    with s.policy.untrained():
        attempts = solve(s.policy, tasks, s.config.tasks, s.seed(step, "untrained"), s.progress)
    found = metrics.rates("solve/untrained", attempts, grade(attempts, s.executor))
    clock.lap("untrained")
    return found


def _task_rows(accepted: Sequence[Proposal], solved: Sequence[Task], rates: Mapping[str, float]) -> list[TaskRow]:
    """Rows of the tasks that were accepted in this step, then of the buffered ones that were solved."""
    rows = [
        TaskRow(p.task, "proposed", rates.get(p.task.id), asdict(p.difficulty) if p.difficulty else {})
        for p in accepted
        if p.task is not None
    ]
    fresh = {row.task.id for row in rows}
    return rows + [TaskRow(task, "buffer", rates[task.id]) for task in solved if task.id not in fresh]


def record(
    s: SelfPlay,
    step: int,
    proposals: Sequence[Proposal],
    accepted: Sequence[Proposal],
    tasks: Sequence[Task],
    attempts: Sequence[Attempt],
    verdicts: Sequence[Verdict],
    scored: Scored,
    numbers: dict[str, float],
    clock: Clock,
) -> None:
    """Write the step's rows in one transaction, raise alarms, tell the views."""
    sampled = sum(len(p.completion.token_ids) for p in proposals) + sum(len(a.completion.token_ids) for a in attempts)
    seconds = clock.seconds["seconds/propose"] + clock.seconds["seconds/solve"]
    numbers["tokens/sampled"] = float(sampled)
    timings = clock.seconds | {
        "seconds/step": clock.total(),
        "tokens/s": sampled / max(seconds, 1e-9),
        "memory/resident_bytes": float(clock.resident),
    }
    s.run.record_step(
        step,
        proposals=[
            ProposalRow(p, scored.rates.get(p.task.id) if p.task and not p.repeated else None, reward, advantage)
            for p, reward, advantage in zip(proposals, scored.proposal_rewards, scored.proposal_advantages, strict=True)
        ],
        tasks=_task_rows(accepted, tasks, scored.rates),
        attempts=[
            AttemptRow(a, v if a.answer is not None else None, reward, advantage)
            for a, v, reward, advantage in zip(
                attempts, verdicts, scored.attempt_rewards, scored.attempt_advantages, strict=True
            )
        ],
        metrics=numbers,
        timings=timings,
    )
    s.alarm(step, s.diversity_alarm.observe(numbers))
    s.alarm(step, s.garbage_alarm.observe(sum(p.task is not None for p in proposals)))
    if numbers.get("update/skipped") == 1.0:
        silent = not numbers.get("update/trained_tokens")
        reason = "no signal: every advantage is zero" if silent else "the gradient is not finite"
        s.alarm(step, f"{reason}, the weights stay as they are")
    for view in s.views:
        view.step(step, numbers, timings, accepted[-1].task if accepted else None)
