"""Statistics of an evaluation: pass@k, the interval of a score, and the paired test of two models.

Pure functions on counts. What was left out: bootstrap intervals (the Wilson interval needs no resampling and keeps its
coverage at 0 and at n) and the unpaired test of two scores (two models answer the same tasks, so the test is paired).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k samples is right: 1 - C(n - c, k) / C(n, k).

    Chen et al. 2021 (arXiv 2107.03374), equation 1. Raises ValueError unless 0 <= correct <= samples and
    1 <= k <= samples.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@k needs 0 <= correct <= samples and 1 <= k <= samples, got {samples=} {correct=} {k=}")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def mean_pass_at_k(counts: Iterable[tuple[int, int]], k: int) -> float:
    """Mean of `pass_at_k` over tasks, each given as (samples, correct). 0.0 without tasks."""
    values = [pass_at_k(samples, correct, k) for samples, correct in counts]
    return math.fsum(values) / len(values) if values else 0.0


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion, (low, high) in [0, 1]; (0, 1) where n is 0.

    Wilson 1927, J. Am. Stat. Assoc. 22: (p + z²/2n ± z·sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n, got {successes=} {n=}")
    if n == 0:
        return 0.0, 1.0
    return interval(successes / n, n, confidence)


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a mean of per-task scores in [0, 1]: Wilson's, with the mean as its proportion.

    For 0/1 scores it is the Wilson interval. For fractions it is conservative: no distribution on [0, 1] has a larger
    variance than 0/1 scores of the same mean. (0, 1) without tasks.
    """
    scores = list(values)
    n = len(scores)
    if n == 0:
        return 0.0, 1.0
    return interval(min(1.0, math.fsum(scores) / n), n, confidence)


def interval(p: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a mean p of n > 0 scores."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # At the ends the formula is exactly 0 or 1; rounding must not say otherwise.
    return (0.0 if p == 0 else max(0.0, centre - half)), (1.0 if p == 1 else min(1.0, centre + half))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value from the discordant pairs; 1.0 where there are none.

    McNemar 1947, Psychometrika 12, with the exact binomial tail: 2·P(X <= min(gained, lost)) for
    X ~ Bin(gained + lost, 1/2).
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative, got {gained=} {lost=}")
    discordant = gained + lost
    tail = sum(math.comb(discordant, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def smallest_significant_gain(discordant: int, alpha: float = 0.05) -> int | None:
    """Smallest gained - lost that `mcnemar` calls significant among so many discordant tasks; None if none can be."""
    for lost in range(discordant // 2, -1, -1):
        if mcnemar(discordant - lost, lost) < alpha:
            return discordant - 2 * lost
    return None


def smallest_detectable_effect(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference of two scores, in [0, 1], that McNemar's test on n tasks finds with that power.

    `discordance` is the share of tasks on which the two models differ. Solves Connor 1987 (Biometrics 43),
    n = ((z_alpha/2·sqrt(psi) + z_power·sqrt(psi - d²)) / d)², for d; where the discordance is
    too small for any effect to be found, the smallest one that would be, with every differing task gained.
    """
    if n < 1 or not 0 <= discordance <= 1:
        raise ValueError(f"need n >= 1 and a discordance in [0, 1], got {n=} {discordance=}")
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)

    def needed(effect: float) -> float:
        psi = max(discordance, effect)  # an effect cannot exceed the share of tasks that differ
        return ((z_alpha * math.sqrt(psi) + z_power * math.sqrt(psi - effect * effect)) / effect) ** 2

    low, high = 0.0, 1.0
    for _ in range(60):  # halving to below 1e-17: `needed` falls as the effect grows
        effect = (low + high) / 2
        if needed(effect) <= n:
            high = effect
        else:
            low = effect
    return high
