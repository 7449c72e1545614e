import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr import rewards


@pytest.mark.parametrize(
    ("rate", "shape", "expected"),
    [
        (0.0, "paper", 0.0),
        (0.25, "paper", 0.75),
        (1.0, "paper", 0.0),
        (0.0, "repo", -0.5),
        (1.0, "repo", -0.5),
        (0.5, "repo", 0.5),
        (0.5, "4p(1-p)", 1.0),
        (0.25, "4p(1-p)", 0.75),
        (1.0, "4p(1-p)", 0.0),
    ],
)
def test_learnability_by_hand(rate: float, shape: rewards.LearnabilityShape, expected: float) -> None:
    assert rewards.learnability(rate, shape) == expected


@given(st.floats(), st.sampled_from(["paper", "repo", "4p(1-p)"]))
def test_learnability_is_bounded_and_refuses_what_is_no_rate(rate: float, shape: rewards.LearnabilityShape) -> None:
    if 0 <= rate <= 1:
        assert -0.5 <= rewards.learnability(rate, shape) <= 1
    else:
        with pytest.raises(ValueError):
            rewards.learnability(rate, shape)


def test_the_composite_orders_outcomes() -> None:
    assert rewards.solver_reward(True, True) == 1.0
    assert rewards.solver_reward(True, False) == -0.5
    assert rewards.solver_reward(True, False, misfit=True) == -0.75
    assert rewards.solver_reward(True, True, misfit=True) == 1.0
    assert rewards.solver_reward(False, False) == -1.0
    assert rewards.proposer_reward(False, False, None, "paper") == -1.0
    assert rewards.proposer_reward(True, True, 0.5, "paper") == -0.5  # a repeat, whatever its solve rate
    assert rewards.proposer_reward(True, False, 0.125, "paper") == 0.875
    assert rewards.proposer_reward(True, False, None, "paper") is None  # never attempted: nothing to learn from


def test_a_solve_rate_needs_attempts() -> None:
    assert rewards.solve_rate([True, False, False, False]) == 0.25
    with pytest.raises(ValueError):
        rewards.solve_rate([])


BAND = (0.4, 0.7)


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (0.55, 1.0), (0.7, 1.0), (0.85, 0.5), (1.0, 0.0)]
)
def test_the_band_by_hand(rate: float, expected: float) -> None:
    assert rewards.in_band(rate, *BAND) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("shaping", "rate", "expected"),
    [
        ({}, 0.25, 0.75),  # the paper's learnability, untouched
        ({"hollow": True}, 0.5, -1.0),
        ({"hollow": True, "formed": False}, 0.5, -0.5),
        ({"hollow": True}, None, -1.0),  # it need not be attempted to be known as hollow
        ({}, None, None),
        ({"band": BAND}, 1.0, -0.5),
        ({"band": BAND, "formed": False}, 0.0, 0.0),
        ({"band": BAND}, 0.0, -0.5),
        ({"band": BAND}, 0.2, 0.5),
        ({"band": BAND}, 0.5, 1.0),
        ({"band": BAND}, 0.85, 0.5),
    ],
)
def test_shaped_rewards_by_hand(shaping: dict, rate: float | None, expected: float | None) -> None:
    found = rewards.shaped_reward(rewards.Shaping(**shaping), False, rate, "paper")
    assert found == (None if expected is None else pytest.approx(expected))


def test_shaping_of_repeats_and_of_negative_learnability() -> None:
    plain = rewards.Shaping()
    assert rewards.shaped_reward(plain, True, 0.5, "paper") == rewards.REPEATED
    assert rewards.shaped_reward(rewards.Shaping(hollow=True), True, None, "paper") == rewards.MALFORMED
    assert rewards.shaped_reward(plain, False, 1.0, "repo") == -0.5


RATES = st.sampled_from([i / 8 for i in range(9)])


@given(RATES)
def test_nothing_valid_earns_less_than_a_repeat_and_nothing_solved_by_all_more(rate: float) -> None:
    shaping = rewards.Shaping(band=BAND)
    found = rewards.shaped_reward(shaping, False, rate, "paper")
    assert found is not None and rewards.REPEATED <= found <= 1.0
    assert (found == rewards.REPEATED) == (rate in (0.0, 1.0))
