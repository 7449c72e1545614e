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
    assert rewards.solver_reward(False, False) == -1.0
    assert rewards.proposer_reward(False, False, None, "paper") == -1.0
    assert rewards.proposer_reward(True, True, 0.5, "paper") == -0.5  # a repeat, whatever its solve rate
    assert rewards.proposer_reward(True, False, 0.125, "paper") == 0.875
    assert rewards.proposer_reward(True, False, None, "paper") is None  # never attempted: nothing to learn from


def test_a_solve_rate_needs_attempts() -> None:
    assert rewards.solve_rate([True, False, False, False]) == 0.25
    with pytest.raises(ValueError):
        rewards.solve_rate([])
