"""The controller's law, and each of its means, on and off."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.buffer import Buffer
from azr.config import Config, CurriculumConfig, Mean
from azr.constructs import CONSTRUCTS, constructs
from azr.curriculum import FOLLOWING, TOP, Curriculum, Level, reached, step, target
from azr.errors import UserError
from azr.prompts import NO_WISH
from azr.records import TASK_TYPES, Completion, Difficulty, Pair, Proposal, Task, TaskType
from azr.rewards import MALFORMED, REPEATED, shaped_reward

CONFIG = CurriculumConfig(enabled=True)
BAND = (CONFIG.band_low, CONFIG.band_high)
RATES = st.floats(0, 1)
LEVELS = st.builds(Level, st.floats(0, TOP), st.none() | RATES)
MEANS = get_args(Mean)


def curriculum(*means: str, **keys: Any) -> Curriculum:
    """The controller with these means only."""
    return Curriculum(CurriculumConfig.model_validate({"enabled": True, "means": means, **keys}))


def difficulty(structural: float = 20.0, dynamic: float | None = 1.0, variety: float = 1.0) -> Difficulty:
    measured = dynamic is not None
    return Difficulty(4, 8, 0, 1, structural, *((1, 1.0, variety, dynamic) if measured else (None,) * 4))


def task(program: str, kind: TaskType = "deduction", text: str = "1") -> Task:
    return Task(kind, program, (Pair(text, "2", b"x"),))


def proposal(t: Task | None, hard: Difficulty | None = None, **more: Any) -> Proposal:
    kind = t.type if t else "deduction"
    references = more.pop("references", ())
    program = t.program if t else None
    return Proposal(
        kind, (1,), Completion((1,), "", (-1.0,), "stop"), references, program, task=t, difficulty=hard, **more
    )


PROGRAMS = (
    "def f(x):\n    return x + 1",
    "def f(xs):\n    return sorted(xs)[::-1]",
    "def f(s):\n    return s.upper().split()",
    "def f(n):\n    t = 0\n    for i in range(n):\n        t += i\n    return t",
    "def f(d):\n    return {v: k for k, v in d.items()}",
    "def f(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
)


def filled(rate: float | None = 0.5, kind: TaskType = "deduction") -> Buffer:
    """PROGRAMS, ever harder: 20, 30, 40, … points of structure."""
    buffer = Buffer(64)
    for i, program in enumerate(PROGRAMS):
        buffer.add(task(program, kind), i, rate, difficulty(20.0 + 10 * i))
    return buffer


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


def test_the_form_is_learnt_when_half_of_the_proposals_are_valid_for_some_steps() -> None:
    found = curriculum()
    hollow, invalid = proposal(task(PROGRAMS[0]), vacuous="identity"), proposal(None)
    for _ in range(3):
        found.observe([hollow, hollow, hollow, invalid], [], {})
        assert not found.levels["deduction"].formed  # 3/4 x (0.3, 0.51, then 0.657)
    found.observe([hollow, hollow, hollow, invalid], [], {})
    assert found.levels["deduction"].valid == pytest.approx(0.75 * (1 - 0.7**4)) and found.levels["deduction"].formed
    assert not found.levels["abduction"].formed
    for _ in range(3):
        found.observe([invalid], [], {})
    assert not found.levels["deduction"].formed


def test_until_the_form_is_learnt_nothing_is_wished_and_hollow_costs_less() -> None:
    hollow = proposal(task(PROGRAMS[0]), vacuous="identity")
    for valid, cost in ((0.49, REPEATED), (0.5, MALFORMED)):
        found = curriculum("vacuity", "prompt")
        found.levels["deduction"] = Level(1.0, None, valid)
        [shape] = found.shape([hollow], Buffer(16))
        assert shape and shape.hollow and shaped_reward(shape, False, None, "paper") == cost
        assert (found.wish("deduction", Buffer(16), random.Random(0)) == NO_WISH) == (cost == REPEATED)


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


# --- the means, on and off --------------------------------------------------------------------------------------------


def test_switched_off_it_is_the_plain_loop() -> None:
    off = Curriculum(CurriculumConfig())
    buffer, t = filled(), task(PROGRAMS[0])
    assert not any(off.uses(mean) for mean in MEANS)
    assert off.deal(5) == ["deduction", "abduction", "induction", "deduction", "abduction"]
    assert off.wish("deduction", buffer, random.Random(0)) == NO_WISH
    assert (
        off.references("deduction", buffer, 3, random.Random(7)) == buffer.sample("deduction", 4, random.Random(7))[:3]
    )
    assert off.program(buffer, random.Random(7)) == buffer.sample_program(random.Random(7))
    assert off.shape([proposal(t)], buffer) == [None]
    assert off.rehearse(buffer, 16, random.Random(0)) == []
    off.observe([proposal(t)], [proposal(t)], {t.id: 1.0})
    assert off.levels["deduction"] == Level(1.0, None)
    assert off.metrics() == {}


@pytest.mark.parametrize("mean", MEANS)
def test_each_mean_can_be_left_out_alone(mean: str) -> None:
    rest = curriculum(*(other for other in MEANS if other != mean))
    assert [other for other in MEANS if rest.uses(other)] == [other for other in MEANS if other != mean]
    with pytest.raises(UserError, match=r"curriculum\.means"):
        from azr.config import load_config

        load_config(None, ["curriculum.means=[vanity]"])


def test_vacuity_refuses_hollow_tasks_and_repeats() -> None:
    hollow, copy = proposal(task(PROGRAMS[0]), vacuous="identity"), proposal(task(PROGRAMS[1]), repeated=True)
    good, invalid = proposal(task(PROGRAMS[2])), proposal(None)
    for means, expected in ((("vacuity",), [True, True, False, False]), ((), [False] * 4)):
        shapes = curriculum(*means).shape([hollow, copy, good, invalid], Buffer(16))
        assert [shape is not None and shape.hollow for shape in shapes] == expected


def test_band_is_paid() -> None:
    [on] = curriculum("band").shape([proposal(task(PROGRAMS[0]))], Buffer(16))
    assert on and on.band == BAND
    [off] = curriculum().shape([proposal(task(PROGRAMS[0]))], Buffer(16))
    assert off and off.band is None


def test_floor_and_weight_follow_the_level() -> None:
    p = proposal(task(PROGRAMS[0]), difficulty(20.0, 1.0))
    for level, merit, weight in ((0.0, 1.0, 1.0), (10.0, reached(p.difficulty, 10.0), 2.0)):
        found = curriculum("floor", "weight", start_level=level)
        [shape] = found.shape([p], Buffer(16))
        assert shape and (shape.merit, shape.weight) == (merit, weight)
    [off] = curriculum(start_level=10.0).shape([p], Buffer(16))
    assert off and (off.merit, off.weight) == (1.0, 1.0)


def test_induction_is_not_paid_for_a_program_that_it_borrows() -> None:
    borrowed = proposal(task(PROGRAMS[0], "induction"), difficulty(5.0, 0.1))
    [shape] = curriculum(*MEANS).shape([borrowed], Buffer(16))
    assert shape and (shape.merit, shape.bonus) == (1.0, 0.0)


def test_diversity_is_summed_and_capped_by_hand() -> None:
    buffer = Buffer(64)
    for i in range(4):  # "for" in two of the four, "modulo" in one of them
        extra = f"    for i in x:\n        pass\n    return {i}" if i < 2 else f"    return x + {i}"
        buffer.add(task(f"def f(x):\n{extra}" + (" % 3" if i == 0 else "")), i)
    program = "def f(y):\n    for v in y:\n        return v % 5"
    t = task(program)
    found = curriculum("diversity", diversity_cap=0.4)

    def bonus(**more: Any) -> float:
        [shape] = found.shape([proposal(t, **more)], buffer)
        assert shape
        return shape.bonus

    rarity = (1 - 1 / 4) / 2  # "modulo"; the data are numbers, as everywhere
    assert bonus(references=(program,)) == pytest.approx(0.4 * rarity / 2)  # no distance, no wish
    assert bonus(references=(program,), wish=("for", "zip")) == pytest.approx(0.4 * (rarity + 0.5) / 2)
    assert bonus(references=(PROGRAMS[1],), wish=("for",)) == 0.4
    t = task(program, text="'ab'")
    assert bonus(references=(program,)) == pytest.approx(0.4 * (rarity + 1 / 2) / 2)  # text is new
    [off] = curriculum().shape([proposal(t)], buffer)
    assert off and off.bonus == 0.0


def test_mix_takes_prompts_from_types_that_are_too_easy_and_leaves_one_to_each() -> None:
    found = curriculum("mix")
    assert found.deal(6) == ["deduction", "abduction", "induction", "deduction", "abduction", "induction"]
    found.levels |= {"deduction": Level(0, 0.0), "abduction": Level(0, 0.5), "induction": Level(0, 1.0)}
    dealt = found.deal(9)
    assert {kind: dealt.count(kind) for kind in TASK_TYPES} == {"deduction": 4, "abduction": 4, "induction": 1}
    assert len(found.deal(2)) == 2
    off = curriculum()
    off.levels |= found.levels
    assert off.deal(9).count("deduction") == 3


@given(st.integers(1, 30), st.lists(RATES, min_size=3, max_size=3))
def test_every_type_gets_a_prompt_where_there_is_room(prompts: int, rates: list[float]) -> None:
    found = curriculum("mix")
    found.levels |= {kind: Level(1.0, rate) for kind, rate in zip(TASK_TYPES, rates, strict=True)}
    dealt = found.deal(prompts)
    assert len(dealt) == prompts and len(set(dealt)) == min(prompts, 3)


def test_wishes_grow_with_the_level_and_prefer_what_is_rare() -> None:
    buffer, rng = Buffer(512), random.Random(0)
    for i in range(100):
        buffer.add(task(f"def f(x):\n    for i in x:\n        if i % {i}:\n            return i"), i)
    low, high = curriculum("prompt", start_level=0.0), curriculum("prompt", start_level=10.0)
    for found in (low, high):
        found.levels["deduction"] = replace(found.levels["deduction"], valid=1.0)
    small = [low.wish("deduction", buffer, rng) for _ in range(200)]
    large = [high.wish("deduction", buffer, rng) for _ in range(200)]
    assert {len(wish.constructs) for wish in small} == {1} and {len(wish.constructs) for wish in large} == {3}
    assert {wish.lines for wish in small} == {2, 3} and min(wish.lines for wish in large) >= 6
    wished = [name for wish in large for name in wish.constructs]
    assert set(wished) <= set(CONSTRUCTS)
    assert max(map(wished.count, ("for", "if", "modulo"))) < min(map(wished.count, ("zip", "sort", "dict")))
    assert low.wish("induction", buffer, rng) == curriculum().wish("deduction", buffer, rng) == NO_WISH


def test_references_lie_near_the_target_and_differ() -> None:
    buffer = filled()
    shown = {level: [0] * len(PROGRAMS) for level in (0.0, 8.0)}
    for level, counts in shown.items():
        found = curriculum("references", start_level=level)
        for seed in range(200):
            tasks = found.references("deduction", buffer, 1, random.Random(seed))
            counts[PROGRAMS.index(tasks[0].program)] += 1
    assert shown[0.0][0] > shown[8.0][0] and shown[0.0][5] < shown[8.0][5]
    many = curriculum("references").references("deduction", buffer, 4, random.Random(0), avoid=PROGRAMS[0])
    assert len({t.program for t in many}) == 4 and PROGRAMS[0] not in {t.program for t in many}
    assert len(curriculum("references").references("deduction", buffer, 9, random.Random(0))) == len(PROGRAMS)


def test_references_are_chosen_to_be_unlike_each_other() -> None:
    buffer = Buffer(64)
    for i in range(3):
        buffer.add(task(f"def f(x):\n    return x + {i}"), 0, 0.5, difficulty(26.0))
    buffer.add(task(PROGRAMS[3]), 0, 0.5, difficulty(26.0))
    for seed in range(20):
        shown = curriculum("references").references("deduction", buffer, 2, random.Random(seed))
        assert PROGRAMS[3] in [t.program for t in shown]


def test_references_show_every_type_of_data_alike() -> None:
    buffer = Buffer(64)
    for i in range(24):
        buffer.add(task(f"def f(x):\n    return x + {i}"), 0, 0.5, difficulty(26.0))
    for i in range(3):
        buffer.add(task(f"def f(x):\n    return x[{i}:]", text=f"'{i}bcd'"), 0, 0.5, difficulty(26.0))
    found = curriculum("references")
    texts = sum("[" in found.references("deduction", buffer, 1, random.Random(seed))[0].program for seed in range(400))
    assert 140 < texts < 260  # half, although 3 of 27 are about text


def test_very_old_references_do_no_harm() -> None:
    buffer = filled()
    buffer.add(task("def f(x):\n    return -x"), 1_000_000, 0.5, difficulty())
    assert len(curriculum("references").references("deduction", buffer, 4, random.Random(0))) == 4


def test_the_seed_is_shown_by_the_plain_loop_only() -> None:
    buffer = Buffer(16)
    buffer.add(task("def f(a):\n    return a"), -1)
    assert curriculum("references").references("deduction", buffer, 4, random.Random(0)) == []
    assert curriculum("references").program(buffer, random.Random(0)) is None
    assert len(curriculum().references("deduction", buffer, 4, random.Random(0))) == 1


def test_rehearsed_are_buffered_tasks_that_were_in_the_band() -> None:
    buffer = Buffer(64)
    rates = (0.0, 0.25, 0.375, 0.5, 0.875, None)
    for i, (program, rate) in enumerate(zip(PROGRAMS, rates, strict=True)):
        buffer.add(task(program), i, rate)
    found = curriculum("rehearsal", rehearsal=0.5).rehearse(buffer, 16, random.Random(0))
    assert {t.program for t in found} == {PROGRAMS[2], PROGRAMS[3]}  # 0.275 to 0.825
    assert len(curriculum("rehearsal", rehearsal=0.0625).rehearse(buffer, 16, random.Random(0))) == 1
    assert curriculum().rehearse(buffer, 16, random.Random(0)) == []


# --- state ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, TOP), st.none() | RATES, RATES), min_size=3, max_size=3))
def test_the_state_comes_back_exactly_through_json(levels: list[tuple[float, float | None, float]]) -> None:
    found, other = curriculum(), curriculum()
    found.levels = {kind: Level(*value) for kind, value in zip(TASK_TYPES, levels, strict=True)}
    other.restore(json.loads(json.dumps(found.state())))
    assert other.levels == found.levels and other.metrics() == found.metrics()


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


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("def f(x): return x + 1", set()),
        ("def f(xs): return [x % 2 for x in sorted(xs)]", {"comprehension", "modulo", "sort"}),
        ("def f(s): return ''.join(c.upper() for c in s[::2])", {"comprehension", "slice", "string"}),
        ("def f(n):\n    for i in n:\n        while i:\n            i -= 1", {"for", "while", "nested loop"}),
        ("def f(n): return 1 if n < 2 else f(n - 1)", {"if", "recursion"}),
        ("def f(d): return {k: v for k, v in d.items()}", {"dict", "tuple"}),
        ("def f(:", set()),
    ],
)
def test_constructs_by_hand(program: str, expected: set[str]) -> None:
    assert constructs(program) == expected <= set(CONSTRUCTS)
