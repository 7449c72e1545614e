import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.advantages import baseline, leave_one_out, whiten

REWARDS = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=40)


def test_whiten_by_hand() -> None:
    # mean 0, unbiased variance (1 + 1 + 0) / 2 = 1
    assert whiten([1.0, -1.0, 0.0], std_floor=0.1) == [1.0, -1.0, 0.0]


def test_token_weights_by_hand() -> None:
    # rewards over tokens: 1 three times, -1 once; mean 0.5, unbiased variance (3 * 0.25 + 2.25) / 3 = 1
    b = baseline([1.0, -1.0], [3, 1])
    assert (b.mean, b.std) == (0.5, 1.0)
    assert whiten([1.0, -1.0], 0.1, [3, 1]) == [0.5, -1.5]


def test_the_floor_keeps_a_small_gap_small() -> None:
    # without a floor the single 1.1 among 1.2s becomes a gulf of more than two standard deviations
    found = whiten([1.2] * 7 + [1.1], std_floor=0.5)
    assert math.isclose(found[-1], -0.0875 / 0.5)
    assert whiten([1.2] * 7 + [1.1], std_floor=0.0)[-1] < -2.2


def test_no_variance_is_no_signal() -> None:
    assert whiten([0.3, 0.3, 0.3], 0.0) == [0.0, 0.0, 0.0]
    assert baseline([0.3, 0.3, 0.3]).silent
    assert whiten([], 0.1) == []
    assert whiten([1.0], 0.0) == [0.0]


def test_leave_one_out_by_hand() -> None:
    # task a: 1, -1 -> baselines -1 and 1; task b: 1, 1 -> 0; c alone -> 0. std of (1, -1, 1, 1, 1) = sqrt(0.8)
    found = leave_one_out([1.0, -1.0, 1.0, 1.0, 1.0], ["a", "a", "b", "b", "c"], 0.0)
    assert found == pytest.approx([2 / math.sqrt(0.8), -2 / math.sqrt(0.8), 0.0, 0.0, 0.0])


@given(st.floats(-1, 1), st.integers(1, 12))
def test_equal_rewards_of_a_prompt_teach_exactly_nothing(reward: float, count: int) -> None:
    rewards, prompts = [reward] * count + [0.3, -0.7], ["a"] * count + ["b", "b"]
    assert leave_one_out(rewards, prompts, 0.1)[:count] == [0.0] * count
    assert whiten([reward] * count, 0.1) == [0.0] * count


@given(REWARDS)
def test_whitened_advantages_sum_to_zero_and_keep_the_order(values: list[float]) -> None:
    found = whiten(values, 0.1)
    assert math.isclose(sum(found), 0.0, abs_tol=1e-9)
    assert all(
        (a - b) * (x - y) >= 0 for a, x in zip(values, found, strict=True) for b, y in zip(values, found, strict=True)
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([-1.0, -0.5, 1.0])), min_size=1, max_size=30))
def test_leave_one_out_sums_to_zero_within_each_task(rows: list[tuple[str, float]]) -> None:
    tasks, values = [t for t, _ in rows], [r for _, r in rows]
    found = leave_one_out(values, tasks, 0.1)
    for task in "abc":
        assert math.isclose(sum(a for a, t in zip(found, tasks, strict=True) if t == task), 0.0, abs_tol=1e-9)
