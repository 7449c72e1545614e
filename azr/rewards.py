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
MISFIT = -0.75  # wrong, and of a kind that cannot be right: see scoring.is_misfit
CORRECT = 1.0


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

    hollow: bool = False  # vacuous, a near copy, or a repeat
    formed: bool = True  # the proposer has learnt the form: hollow is worth no more than invalid
    band: tuple[float, float] | None = None  # solve rates that are paid in full, in place of the learnability's shape


def in_band(rate: float, low: float, high: float) -> float:
    """1 from `low` to `high`, falling in a straight line to 0 at solve rates of 0 and 1."""
    return min(1.0, rate / low, (1.0 - rate) / (1.0 - high))


def shaped_reward(shaping: Shaping, repeated: bool, rate: float | None, shape: LearnabilityShape) -> float | None:
    """Reward of a valid proposal under the curriculum; None for a new task that was not attempted.

    With a band, a task that everybody solves costs as much as a repeat, and once the form is learnt so does one that
    nobody solves; before, it has the form, and that is all there is to learn.
    """
    if shaping.hollow:
        return MALFORMED if shaping.formed else REPEATED
    if repeated:
        return REPEATED
    if rate is None:
        return None
    if shaping.band is None:
        return learnability(rate, shape)
    if rate == 1.0 or (rate == 0.0 and shaping.formed):
        return REPEATED
    return in_band(rate, *shaping.band)


def solver_reward(well_formed: bool, correct: bool, misfit: bool = False) -> float:
    """Composite reward of one answer (Eq. 6; the paper knows no misfits)."""
    if not well_formed:
        return MALFORMED
    if correct:
        return CORRECT
    return MISFIT if misfit else WRONG


def format_reward(well_formed: bool, repeated: bool = False) -> float:
    """The control's reward, blind to correctness: what is learnt under it is form, not reasoning."""
    if not well_formed:
        return MALFORMED
    return REPEATED if repeated else CORRECT
