"""REWARDED: pure functions from outcomes to rewards.

Sources: Absolute Zero (arXiv 2505.03335), Eq. 4 (learnability), Eq. 5 (correctness), Eq. 6 (composite).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LearnabilityShape = Literal["paper", "repo", "4p(1-p)"]

MALFORMED = -1.0  # Eq. 6; an invalid proposal counts as malformed
WRONG = -0.5  # Eq. 6: well-formed, but wrong
REPEATED = -0.5  # a valid proposal that exists already: 0 would beat an invalid one's -1, and be learnt
CORRECT = 1.0
VALID = 0.5  # what validity alone is worth while the curriculum's level is low


def solve_rate(correct: Sequence[bool]) -> float:
    """Mean correctness of G sampled attempts, in [0, 1]."""
    if not correct:
        raise ValueError("a solve rate needs at least one attempt")
    return sum(correct) / len(correct)


def learnability(rate: float, shape: LearnabilityShape) -> float:
    """The proposer's reward for a valid new task with this solve rate.

    `paper`: 0 if nobody solved it, else 1 - rate (Eq. 4). `repo`: the authors' code, -0.5 at both ends.
    `4p(1-p)`: highest at one half, 0 at both ends.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"solve rate {rate} is outside [0, 1]")
    if shape == "4p(1-p)":
        return 4.0 * rate * (1.0 - rate)
    if shape == "repo":
        return -0.5 if rate in (0.0, 1.0) else 1.0 - rate
    return 0.0 if rate == 0.0 else 1.0 - rate


def proposer_reward(valid: bool, repeated: bool, rate: float | None, shape: LearnabilityShape) -> float | None:
    """Reward of one proposal; None for a valid new task that was not attempted (no rate, so nothing to learn)."""
    if not valid:
        return MALFORMED
    if repeated:
        return REPEATED
    return None if rate is None else learnability(rate, shape)


@dataclass(frozen=True, slots=True)
class Shaping:
    """What the curriculum makes of a proposal's reward (curriculum.py); the defaults leave learnability alone."""

    hollow: bool = False  # vacuous, or a near copy: worth as little as a repeat
    solved_by_all_is_hollow: bool = False  # so is a task that every attempt solved
    merit: float = 1.0  # share of the target difficulty that the task reaches, 0 to 1
    weight: float = 1.0  # of learnability; the rest of it is paid for validity alone
    bonus: float = 0.0  # for diversity


def shaped_reward(shaping: Shaping, rate: float | None, shape: LearnabilityShape) -> float | None:
    """Reward of a valid new task under the curriculum; None if it was not attempted and is not hollow.

    merit (weight x learnability + (1 - weight) x VALID) + bonus. At r = 0 and r = 1 learnability is at most 0.
    """
    if shaping.hollow:
        return REPEATED
    if rate is None:
        return None
    if rate == 1.0 and shaping.solved_by_all_is_hollow:
        return REPEATED
    value = shaping.weight * learnability(rate, shape) + (1.0 - shaping.weight) * VALID
    return shaping.merit * value + shaping.bonus


def solver_reward(well_formed: bool, correct: bool) -> float:
    """Composite reward of one answer (Eq. 6)."""
    if not well_formed:
        return MALFORMED
    return CORRECT if correct else WRONG


def format_reward(well_formed: bool, repeated: bool = False) -> float:
    """The control's reward, blind to correctness: what is learnt under it is form, not reasoning."""
    if not well_formed:
        return MALFORMED
    return REPEATED if repeated else CORRECT
