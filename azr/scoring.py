"""From outcomes to training samples: rewards, then advantages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from azr import advantages, datatypes, rewards
from azr.config import Config, TasksConfig, TrainConfig
from azr.records import ROLES, TASK_TYPES, Attempt, Proposal, Role, Sample, Task, TaskType, Verdict
from azr.rewards import Shaping


@dataclass(frozen=True, slots=True)
class Scored:
    """Rewards and advantages, aligned with proposals and attempts; None where there is no sample."""

    samples: tuple[Sample, ...]
    rates: dict[str, float]  # solve rate per task id
    proposal_rewards: tuple[float | None, ...]
    proposal_advantages: tuple[float | None, ...]
    attempt_rewards: tuple[float, ...]
    attempt_advantages: tuple[float, ...]
    silent_groups: int  # type x role groups that have samples but no variance


def solve_rates(tasks: Sequence[Task], attempts: Sequence[Attempt], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Mean correctness per task id, over that task's attempts."""
    correct: dict[str, list[bool]] = {task.id: [] for task in tasks}
    for attempt, verdict in zip(attempts, verdicts, strict=True):
        correct[attempt.task.id].append(verdict.correct)
    return {task: rewards.solve_rate(flags) for task, flags in correct.items() if flags}


def score(
    proposals: Sequence[Proposal],
    tasks: Sequence[Task],
    attempts: Sequence[Attempt],
    verdicts: Sequence[Verdict],
    config: Config,
    shapings: Sequence[Shaping | None] | None = None,
) -> Scored:
    """Reward every proposal and attempt, and whiten within each of the six type x role groups.

    `shapings`: what the curriculum makes of each proposal's reward; None leaves it alone.
    """
    rates = solve_rates(tasks, attempts, verdicts)
    shapings = shapings or [None] * len(proposals)
    proposal_rewards = [_proposal_reward(p, rates, config, s) for p, s in zip(proposals, shapings, strict=True)]
    attempt_rewards = [_attempt_reward(a, v, config.train) for a, v in zip(attempts, verdicts, strict=True)]
    proposal_advantages: list[float | None] = [None] * len(proposals)
    attempt_advantages = [0.0] * len(attempts)
    silent = 0
    for kind in TASK_TYPES:
        for role in ROLES:
            chosen, values, lengths, owners = _group(kind, role, proposals, proposal_rewards, attempts, attempt_rewards)
            if not chosen:
                continue
            weights = lengths if config.train.baseline_weighting == "token" else None
            if config.train.baseline == "leave_one_out":
                found = advantages.leave_one_out(values, owners, config.train.std_floor, weights)
            else:
                found = advantages.whiten(values, config.train.std_floor, weights)
            silent += not any(found)
            for index, advantage in zip(chosen, found, strict=True):
                if role == "propose":
                    proposal_advantages[index] = advantage
                else:
                    attempt_advantages[index] = advantage
    samples = _samples(
        proposals, proposal_rewards, proposal_advantages, attempts, attempt_rewards, attempt_advantages, config.tasks
    )
    return Scored(
        tuple(samples),
        rates,
        tuple(proposal_rewards),
        tuple(proposal_advantages),
        tuple(attempt_rewards),
        tuple(attempt_advantages),
        silent,
    )


def _proposal_reward(
    proposal: Proposal,
    rates: dict[str, float],
    config: Config,
    shaping: Shaping | None,
) -> float | None:
    rate = rates.get(proposal.task.id) if proposal.task else None
    learnability = config.tasks.proposer_reward
    if shaping is not None and proposal.task is not None:
        reward = rewards.shaped_reward(shaping, proposal.repeated, rate, learnability)
    else:
        reward = rewards.proposer_reward(proposal.task is not None, proposal.repeated, rate, learnability)
    if config.train.reward == "format" and reward is not None:
        return rewards.format_reward(proposal.task is not None, proposal.repeated)
    return reward


def _attempt_reward(attempt: Attempt, verdict: Verdict, config: TrainConfig) -> float:
    if config.reward == "format":
        return rewards.format_reward(attempt.answer is not None)
    misfit = config.reward == "graded" and attempt.answer is not None and is_misfit(attempt, verdict)
    return rewards.solver_reward(attempt.answer is not None, verdict.correct, misfit)


def is_misfit(attempt: Attempt, verdict: Verdict) -> bool:
    """Whether an answer has the wrong kind of data: another type than the output (deduction), or one on which the
    program raises (abduction). Says more often than rightness does where a model that is mostly wrong should turn."""
    if attempt.task.type == "abduction":
        return verdict.status == "exception"
    if attempt.task.type == "deduction":
        return not datatypes.same_kind(attempt.answer or "", attempt.task.pairs[0].output)
    return False


def _group(
    kind: TaskType,
    role: Role,
    proposals: Sequence[Proposal],
    proposal_rewards: Sequence[float | None],
    attempts: Sequence[Attempt],
    attempt_rewards: Sequence[float],
) -> tuple[list[int], list[float], list[float], list[str]]:
    """Indices, rewards, lengths in tokens and prompts of one type x role group."""
    rows: list[tuple[int, float, float, str]] = []
    if role == "propose":
        for i, (proposal, reward) in enumerate(zip(proposals, proposal_rewards, strict=True)):
            if proposal.type == kind and reward is not None:
                rows.append((i, reward, len(proposal.completion.token_ids), str(proposal.prompt_ids)))
    else:
        for i, (attempt, value) in enumerate(zip(attempts, attempt_rewards, strict=True)):
            if attempt.task.type == kind:
                rows.append((i, value, len(attempt.completion.token_ids), attempt.task.id))
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [r[3] for r in rows]


def _samples(
    proposals: Sequence[Proposal],
    proposal_rewards: Sequence[float | None],
    proposal_advantages: Sequence[float | None],
    attempts: Sequence[Attempt],
    attempt_rewards: Sequence[float],
    attempt_advantages: Sequence[float],
    config: TasksConfig,
) -> list[Sample]:
    samples = []
    for p, reward, advantage in zip(proposals, proposal_rewards, proposal_advantages, strict=True):
        if reward is not None and advantage is not None:
            c, drawn_at = p.completion, config.proposal_temperature
            samples.append(
                Sample("propose", p.type, p.prompt_ids, c.token_ids, c.logprobs, reward, advantage, drawn_at, c.forced)
            )
    for a, reward, advantage in zip(attempts, attempt_rewards, attempt_advantages, strict=True):
        c, drawn_at = a.completion, config.answer_temperature
        kind = a.task.type
        samples.append(
            Sample("solve", kind, a.prompt_ids, c.token_ids, c.logprobs, reward, advantage, drawn_at, c.forced)
        )
    return samples
