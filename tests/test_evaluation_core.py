"""The statistics of an evaluation, against numbers worked by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from azr.evaluation.core import (
    mcnemar,
    mean_interval,
    mean_pass_at_k,
    pass_at_k,
    smallest_detectable_effect,
    smallest_significant_gain,
    wilson,
)


@pytest.mark.parametrize(
    ("samples", "correct", "k", "expected"),
    [
        (1, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (5, 2, 1, 2 / 5),
        (5, 2, 2, 1 - 3 / 10),  # C(3,2) = 3 of C(5,2) = 10 pairs hold no right sample
        (4, 1, 3, 1 - 1 / 4),
        (10, 9, 2, 1.0),  # any two of ten hold a right one
    ],
)
def test_pass_at_k_by_hand(samples: int, correct: int, k: int, expected: float) -> None:
    assert pass_at_k(samples, correct, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample() -> None:
    for n, c, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if c <= n and k <= n:
            subsets = list(itertools.combinations(range(n), k))
            share = sum(any(i < c for i in subset) for subset in subsets) / len(subsets)
            assert pass_at_k(n, c, k) == pytest.approx(share)


@pytest.mark.parametrize(("samples", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_pass_at_k_refuses_impossible_counts(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(samples, correct, k)


def test_mean_pass_at_k_averages_over_tasks() -> None:
    assert mean_pass_at_k([(2, 1), (2, 0), (2, 2)], 1) == pytest.approx(0.5)
    assert mean_pass_at_k([], 1) == 0.0


def test_wilson_by_hand() -> None:
    # z² = 3.841459; n = 10, p = 0.5: centre 0.5, half = 1.959964·sqrt(0.025 + 0.00960365) / 1.3841459 = 0.263408
    low, high = wilson(5, 10)
    assert low == pytest.approx(0.5 - 0.263408, abs=2e-6)
    assert high == pytest.approx(0.5 + 0.263408, abs=2e-6)
    assert wilson(0, 10) == (0.0, pytest.approx(3.841459 / 13.841459, abs=1e-6))
    assert wilson(10, 10) == (pytest.approx(10 / 13.841459, abs=1e-6), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_widens_with_confidence_and_narrows_with_tasks() -> None:
    assert wilson(20, 100, 0.99)[0] < wilson(20, 100)[0] < wilson(200, 1000)[0] < 0.2
    assert wilson(20, 100, 0.99)[1] > wilson(20, 100)[1] > wilson(200, 1000)[1] > 0.2
    with pytest.raises(ValueError):
        wilson(5, 4)


def test_interval_of_a_mean_equals_wilson_on_zero_one_scores() -> None:
    assert mean_interval([1, 0, 0, 1, 0]) == pytest.approx(wilson(2, 5))
    assert mean_interval([0.0] * 4) == wilson(0, 4)
    assert mean_interval([]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (8, 1, 2 * (1 + 9) / 512),
        (9, 2, 2 * (1 + 11 + 55) / 2048),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_by_hand(gained: int, lost: int, expected: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_mcnemar_stands_large_counts() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(6000, 3000) < 1e-100
    with pytest.raises(ValueError):
        mcnemar(-1, 0)


def test_a_gain_of_two_on_humaneval_is_not_significant() -> None:
    assert mcnemar(2, 0) == 0.5
    assert mcnemar(12, 10) > 0.8


def test_smallest_significant_gain() -> None:
    assert smallest_significant_gain(5) is None  # even 5 to 0 has p = 1/16
    assert smallest_significant_gain(6) == 6
    assert smallest_significant_gain(9) == 7  # 8 to 1: p = 0.039; 7 to 2: p = 0.18
    assert smallest_significant_gain(100) == 22  # 61 to 39: p = 0.035; 60 to 40: p = 0.057


def test_smallest_detectable_effect_solves_connors_formula() -> None:
    n, psi = 164, 0.2
    effect = smallest_detectable_effect(n, psi)
    needed = ((1.959964 * math.sqrt(psi) + 0.841621 * math.sqrt(psi - effect**2)) / effect) ** 2
    assert needed == pytest.approx(n, rel=1e-4)
    assert 0.09 < effect < 0.1
    assert smallest_detectable_effect(1000, psi) < effect < smallest_detectable_effect(164, 0.5)


def test_smallest_detectable_effect_needs_at_least_that_discordance() -> None:
    # 164 tasks, no discordance seen: an effect d needs d = psi, so n·d = (1.96 + 0.84·sqrt(1 - d))²
    effect = smallest_detectable_effect(164, 0.0)
    assert 164 * effect == pytest.approx((1.959964 + 0.841621 * math.sqrt(1 - effect)) ** 2, rel=1e-4)
