"""Advantages: rewards minus a baseline, in units of their spread. Pure functions.

TRR++ (arXiv 2505.03335, Eq. 8): one baseline per task type and role, six in all, A = (r - mean) / std. The authors
take the statistics over response tokens, so that long responses weigh more; `weights` are then the lengths. The
leave-one-out variant (RLOO, arXiv 2402.14740) compares a sample with the others of its prompt: an attempt with the
other attempts at its task, a proposal with those that the same prompt asked for; there `weights` touch the spread only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Baseline:
    mean: float
    std: float  # unbiased
    silent: bool  # no variance: every advantage of the group is 0


def baseline(rewards: Sequence[float], weights: Sequence[float] | None = None) -> Baseline:
    """Weighted mean and unbiased standard deviation (frequency weights: a weight of 3 is three equal samples)."""
    w = [1.0] * len(rewards) if weights is None else list(weights)
    total = sum(w)
    if not rewards or total <= 0:
        return Baseline(0.0, 0.0, True)
    mean = sum(r * n for r, n in zip(rewards, w, strict=True)) / total
    if max(rewards) == min(rewards) or total <= 1:
        return Baseline(mean, 0.0, True)
    variance = sum(n * (r - mean) ** 2 for r, n in zip(rewards, w, strict=True)) / (total - 1)
    return Baseline(mean, math.sqrt(variance), False)


def whiten(rewards: Sequence[float], std_floor: float, weights: Sequence[float] | None = None) -> list[float]:
    """(r - mean) / max(std, floor), one a reward. The floor keeps small gaps small."""
    b = baseline(rewards, weights)
    return [0.0] * len(rewards) if b.silent else [(r - b.mean) / max(b.std, std_floor, 1e-4) for r in rewards]


def leave_one_out(
    rewards: Sequence[float], prompts: Sequence[str], std_floor: float, weights: Sequence[float] | None = None
) -> list[float]:
    """(r - mean of the same prompt's other rewards) / max(std of the whole group, floor).

    `prompts` names the prompt of each reward. One with a single reward has nothing to compare with: advantage 0.
    """
    spread = max(baseline(rewards, weights).std, std_floor, 1e-4)
    of_prompt: dict[str, list[float]] = {}
    for reward, prompt in zip(rewards, prompts, strict=True):
        of_prompt.setdefault(prompt, []).append(reward)
    advantages = []
    for reward, prompt in zip(rewards, prompts, strict=True):
        same = of_prompt[prompt]
        equal = max(same) == min(same)  # exactly 0 then, whatever their sum is rounded to
        advantages.append(0.0 if equal else (reward - (sum(same) - reward) / (len(same) - 1)) / spread)
    return advantages
