"""The controller's law and its state."""

from __future__ import annotations

import json
import math

import pytest
from curriculum_samples import BAND, CONFIG, PROGRAMS, curriculum, difficulty, proposal, task
from hypothesis import given
from hypothesis import strategies as st

from azr.config import Config
from azr.curriculum import FOLLOWING, TOP, Level, reached, step, target
from azr.records import TASK_TYPES
from azr.rewards import MALFORMED, REPEATED, shaped_reward

RATES = st.floats(0, 1)
LEVELS = st.builds(Level, st.floats(0, TOP), st.none() | RATES)


# --- the law ----------------------------------------------------------------------------------------------------------


@given(LEVELS, st.lists(st.tuples(RATES, RATES), max_size=40))
def test_level_and_rate_stay_in_bounds(now: Level, seen: list[tuple[float, float]]) -> None:
    for rate, reach in seen:
        now = step(now, rate, reach, CONFIG)
        assert 0 <= now.level <= TOP and now.rate is not None and 0 <= now.rate <= 1


@given(LEVELS, RATES, RATES, RATES)
def test_the_law_is_monotone_in_the_solve_rate(now: Level, one: float, other: float, reach: float) -> None:
    low, high = sorted((one, other))
    assert step(now, low, reach, CONFIG).level <= step(now, high, reach, CONFIG).level


@given(LEVELS, RATES, st.floats(0, FOLLOWING, exclude_max=True))
def test_a_level_does_not_run_away_from_what_is_proposed(now: Level, rate: float, reach: float) -> None:
    assert step(now, rate, reach, CONFIG).level <= now.level


@given(st.floats(0, TOP), st.floats(BAND[0], BAND[1]), st.lists(st.floats(BAND[0], BAND[1]), max_size=10))
def test_inside_the_band_the_level_stays(level: float, rate: float, rates: list[float]) -> None:
    now = Level(level, rate)
    for found in rates:
        now = step(now, found, 1.0, CONFIG)
    # The mean of numbers in the band may lie a rounding error outside of it.
    assert now.level == pytest.approx(level)


@given(LEVELS)
def test_all_solved_ends_at_the_top_and_none_at_the_bottom(now: Level) -> None:
    up = down = now
    for _ in range(60):
        up, down = step(up, 1.0, 1.0, CONFIG), step(down, 0.0, 1.0, CONFIG)
    assert (up.level, down.level) == (TOP, 0.0)


@pytest.mark.parametrize(("before", "after", "direction"), [(1.0, 0.0, -1), (0.0, 1.0, 1)])
def test_it_recovers_from_a_long_time_at_an_end(before: float, after: float, direction: int) -> None:
    now = Level(5.0, None)
    for _ in range(500):
        now = step(now, before, 1.0, CONFIG)
    stuck = now.level
    for _ in range(6):
        now = step(now, after, 1.0, CONFIG)
    assert direction * (now.level - stuck) > 0


@given(st.floats(1.5, 8.5), st.floats(0, TOP))
def test_in_a_closed_loop_it_finds_the_level_of_the_solver(skill: float, start: float) -> None:
    """Tasks follow the level with a lag of some steps; the solve rate falls with how far they are above the skill."""
    now, tasks = Level(start, None), start
    rates = []
    for _ in range(120):
        tasks += 0.25 * (now.level - tasks)
        rates.append(1 / (1 + math.exp(tasks - skill)))
        now = step(now, rates[-1], 1.0, CONFIG)
    assert all(0.3 < rate < 0.8 for rate in rates[60:])


@pytest.mark.parametrize(
    ("now", "rate", "level", "smooth"),
    [
        (Level(1.0, None), 0.85, 1.0 + 0.5 * 0.5, 0.85),  # halfway from 0.7 to 1
        (Level(1.0, 0.2), 0.2, 1.0 - 0.5 * 0.5, 0.2),  # half of 0.4
        (Level(1.0, 0.5), 1.0, 1.0, 0.7 * 0.5 + 0.3),  # one step does not make a trend
    ],
)
def test_the_law_by_hand(now: Level, rate: float, level: float, smooth: float) -> None:
    found = step(now, rate, 1.0, CONFIG)
    assert (found.level, found.rate) == (pytest.approx(level), pytest.approx(smooth))


def test_observe_takes_the_means_of_attempted_tasks_per_type() -> None:
    found = curriculum()
    easy, unknown = task(PROGRAMS[0]), task(PROGRAMS[1])
    other = task(PROGRAMS[2], "abduction")
    hard = difficulty(60.0, 9.0)
    proposals = [proposal(t, hard) for t in (easy, unknown, other)]
    found.observe(proposals, proposals, {easy.id: 1.0, other.id: 0.0, "buffered": 0.5})
    assert found.levels["deduction"] == Level(1.5, 1.0, 0.3)
    assert found.levels["abduction"] == Level(0.5, 0.0, 0.3)
    assert found.levels["induction"] == Level(1.0, None)


def test_the_form_is_learnt_when_two_fifths_of_the_proposals_are_valid_for_some_steps() -> None:
    found = curriculum()
    hollow, invalid = proposal(task(PROGRAMS[0]), vacuous="identity"), proposal(None)
    for _ in range(2):
        found.observe([hollow, hollow, hollow, invalid], [], {})
        assert not found.levels["deduction"].formed  # 3/4 x (0.3, then 0.51)
    found.observe([hollow, hollow, hollow, invalid], [], {})
    assert found.levels["deduction"].valid == pytest.approx(0.75 * (1 - 0.7**3)) and found.levels["deduction"].formed
    assert not found.levels["abduction"].formed
    for _ in range(3):
        found.observe([invalid], [], {})
    assert not found.levels["deduction"].formed


def test_until_the_form_is_learnt_hollow_costs_less() -> None:
    hollow = proposal(task(PROGRAMS[0]), vacuous="identity")
    for valid, cost in ((0.39, REPEATED), (0.4, MALFORMED)):
        found = curriculum("vacuity")
        found.levels["deduction"] = Level(1.0, None, valid)
        [shape] = found.shape([hollow])
        assert shape and shape.hollow and shaped_reward(shape, False, None, "paper") == cost


def test_observe_compares_the_median_task_with_the_target() -> None:
    behind, ahead = difficulty(5.0, 0.2), difficulty(60.0, 9.0)
    for measures, level in (([behind, behind, ahead], 1.0), ([behind, ahead, ahead], 1.5)):
        found = curriculum()
        tasks = [task(program) for program in PROGRAMS[:3]]
        pairs = zip(tasks, measures, strict=True)
        proposals = [proposal(t, d) for t, d in pairs]
        found.observe(proposals, proposals, {t.id: 1.0 for t in tasks})
        assert found.levels["deduction"].level == level


def test_the_target_rises_and_reaching_it_is_counted_by_hand() -> None:
    assert target(0) == (20.0, 1.0)
    assert all(a < b for a, b in zip(target(3), target(4), strict=True))
    assert reached(difficulty(20.0, 1.0), 0) == reached(difficulty(90.0, 9.0), 0) == 1.0
    assert reached(difficulty(5.0, 1.0), 0) == 0.5  # the root of a quarter
    assert reached(difficulty(20.0, 1.0, variety=0.15), 0) == 0.5  # few outputs: half of what cannot be guessed
    assert reached(difficulty(10.0, None), 0) == 0.5  # what could not be run is measured by its structure
    assert reached(None, 0) == 0.5


# --- state ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, TOP), st.none() | RATES, RATES), min_size=3, max_size=3))
def test_the_state_comes_back_exactly_through_json(levels: list[tuple[float, float | None, float]]) -> None:
    found, other = curriculum(), curriculum()
    found.levels = {kind: Level(*value) for kind, value in zip(TASK_TYPES, levels, strict=True)}
    found.written = dict.fromkeys(found.written, levels[0][2])
    other.restore(json.loads(json.dumps(found.state())))
    assert other.levels == found.levels and other.written == found.written and other.metrics() == found.metrics()


def test_metrics_are_the_levels_and_the_measured_rates() -> None:
    found = curriculum()
    found.levels["deduction"] = Level(2.5, 0.5, 0.25)
    assert found.metrics() == {
        "curriculum/level/deduction": 2.5,
        "curriculum/rate/deduction": 0.5,
        "curriculum/valid/deduction": 0.25,
        "curriculum/level/abduction": 1.0,
        "curriculum/valid/abduction": 0.0,
        "curriculum/level/induction": 1.0,
        "curriculum/valid/induction": 0.0,
    }


def test_full_fine_tuning_has_no_untrained_model() -> None:
    assert Config.model_validate({"curriculum": {"untrained_every": 5}}).curriculum.untrained_every == 5
    with pytest.raises(ValueError, match="untrained_every"):
        Config.model_validate({"curriculum": {"untrained_every": 5}, "model": {"adapter": "full"}})
