"""Each of the curriculum's means, on and off."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from curriculum_samples import BAND, MEANS, PROGRAMS, curriculum, difficulty, filled, proposal, task
from hypothesis import given
from hypothesis import strategies as st

from azr import datatypes
from azr.buffer import Buffer, Entry
from azr.config import CurriculumConfig
from azr.curriculum import Curriculum, Level
from azr.errors import UserError
from azr.executor import Executor
from azr.records import TaskType
from azr.selfplay import tasks_to_solve


def test_switched_off_it_is_the_plain_loop() -> None:
    off = Curriculum(CurriculumConfig(enabled=False))
    buffer, t = filled(), task(PROGRAMS[0])
    assert not any(off.uses(mean) for mean in MEANS)
    assert off.argument("deduction", random.Random(0)) == ""
    assert (
        off.references("deduction", buffer, 3, random.Random(7)) == buffer.sample("deduction", 4, random.Random(7))[:3]
    )
    assert off.program(buffer, random.Random(7)) == buffer.sample_program(random.Random(7))
    assert off.shape([proposal(t)]) == [None]
    assert off.rehearse(buffer, 16, 16, random.Random(0)) == []
    assert off.growths(["deduction"] * 3, buffer.entries("deduction")[:1], random.Random(0)) == [None] * 4
    assert len(off.rehearse(buffer, 4, 1, random.Random(0))) == 3  # a step with too few new tasks is filled up
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
        shapes = curriculum(*means).shape([hollow, copy, good, invalid])
        assert [shape is not None and shape.hollow for shape in shapes] == expected


def test_band_is_paid() -> None:
    [on] = curriculum("band").shape([proposal(task(PROGRAMS[0]))])
    assert on and on.band == BAND
    [off] = curriculum().shape([proposal(task(PROGRAMS[0]))])
    assert off and off.band is None


def test_arguments_of_all_types_of_data_are_asked_for_alike_from_the_first_step_on() -> None:
    rng = random.Random(0)
    found = [curriculum("data").argument("abduction", rng) for _ in range(400)]
    counts = [found.count(name) for name in datatypes.ARGUMENTS]
    assert sum(counts) == 400 and min(counts) > 20
    assert curriculum("data").argument("induction", rng) == curriculum().argument("abduction", rng) == ""


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


def test_references_show_every_input_alike() -> None:
    buffer = Buffer(64)
    for i in range(30):
        buffer.add(task(f"def f(x):\n    return x[{i}:]", text="[1, 2, 3]"), 0, 0.5, difficulty(26.0))
    for i in range(3):
        buffer.add(task(f"def f(x):\n    return x + [{i}] * {i}", text=f"[{i}]"), 0, 0.5, difficulty(26.0))
    found = curriculum("references")
    seen = [found.references("deduction", buffer, 1, random.Random(seed))[0].pairs[0].input for seed in range(400)]
    assert 60 < seen.count("[1, 2, 3]") < 140  # a quarter: four inputs


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


def rehearsing(share: float, *types: TaskType) -> Curriculum:
    config = CurriculumConfig(enabled=True, means=("rehearsal",), rehearsal=share)
    return Curriculum(config, types)


def test_rehearsed_are_buffered_tasks_that_were_in_the_band() -> None:
    buffer = Buffer(64)
    rates = (0.0, 0.25, 0.375, 0.5, 0.875, None)
    for i, (program, rate) in enumerate(zip(PROGRAMS, rates, strict=True)):
        buffer.add(task(program), i, rate)
    found = rehearsing(0.125, "deduction").rehearse(buffer, 16, 16, random.Random(0))
    assert {e.task.program for e in found} == {PROGRAMS[2], PROGRAMS[3]}  # 0.275 to 0.825
    found = rehearsing(0.5, "deduction").rehearse(buffer, 16, 16, random.Random(0))
    assert {e.task.program for e in found} == set(PROGRAMS[1:5])  # too few of those: the others between 0 and 1
    assert len(rehearsing(0.0625, "deduction").rehearse(buffer, 16, 16, random.Random(0))) == 1
    assert curriculum().rehearse(buffer, 16, 16, random.Random(0)) == []


def test_each_type_has_its_part_of_the_rehearsals() -> None:
    buffer = Buffer(64)
    counts: dict[TaskType, int] = {"deduction": 3, "abduction": 20}
    for kind, count in counts.items():
        for i in range(count):
            buffer.add(task(f"def f(x):\n    return x + {i}", kind), 1, 0.5)
    found = rehearsing(0.5, "deduction", "abduction").rehearse(buffer, 16, 16, random.Random(0))
    assert Counter(e.task.type for e in found) == {"deduction": 3, "abduction": 5}  # what one lacks the other gets


@pytest.mark.parametrize("means", [(), ("rehearsal",)])
@given(new=st.integers(0, 12), solved=st.integers(1, 12), seed=st.integers(0, 99))
def test_a_step_solves_as_many_tasks_as_it_should_where_there_are_so_many(
    means: tuple[str, ...], new: int, solved: int, seed: int
) -> None:
    buffer = Buffer(64)
    for i, program in enumerate(PROGRAMS):
        buffer.add(task(program), i, i / (len(PROGRAMS) - 1))
    again = curriculum(*means).rehearse(buffer, solved, new, random.Random(seed))
    assert len({e.task.id for e in again}) == len(again) <= solved
    assert len(again) + min(new, solved - len(again)) == min(solved, new + len(PROGRAMS))


def test_what_fills_up_a_step_is_seldom_hopeless_and_of_all_types_of_data() -> None:
    buffer, found = Buffer(256), curriculum("rehearsal", rehearsal=0.0)
    for i in range(60):
        buffer.add(task(f"def f(x):\n    return x + {i}"), 0, 0.0 if i < 30 else 0.5)
    for i in range(6):
        buffer.add(task(f"def f(x):\n    return x[{i}:]", text=f"'{i}bcd'"), 0, 0.5)
    drawn = [e.task for seed in range(200) for e in found.rehearse(buffer, 6, 0, random.Random(seed))]
    rates = {entry.task.id: entry.solve_rate for entry in buffer.entries("deduction")}
    hopeless = sum(rates[t.id] == 0.0 for t in drawn) / len(drawn)
    texts = sum("[" in t.program for t in drawn) / len(drawn)
    assert 0.02 < hopeless < 0.12  # 45% of the buffer
    assert 0.25 < texts < 0.5  # 9% of the buffer


def test_new_tasks_are_drawn_at_random_for_the_room_that_rehearsals_leave(executor: Executor) -> None:
    kinds: tuple[TaskType, ...] = ("deduction", "abduction")
    fresh = [proposal(task(program, kind)) for kind in kinds for program in PROGRAMS]
    buffer, found = Buffer(64), rehearsing(0.5, *kinds)
    for kind in kinds:
        for i in range(4):
            buffer.add(task(f"def f(x):\n    return x + {i}", kind), 1, 0.5)
    chosen: Counter[str] = Counter()
    for seed in range(40):
        play: Any = SimpleNamespace(
            seed=lambda *_, seed=seed: seed,
            config=SimpleNamespace(tasks=SimpleNamespace(solved=8)),
            curriculum=found,
            buffer=buffer,
            executor=executor,
        )
        _, tasks, new = tasks_to_solve(play, 1, fresh, range(len(fresh)))
        assert len(tasks) == 8 and new == 4
        chosen.update(one.id for one in tasks[:new])
    assert len(chosen) == len(fresh) and max(chosen.values()) < 30  # 13 of 40 each


def test_new_tasks_are_eased_the_likelier_the_lower_the_level() -> None:
    found, rng = curriculum("easing"), random.Random(0)
    for level, low, high in ((0.0, 1000, 1000), (0.3, 600, 800), (1.0, 0, 0), (5.0, 0, 0)):
        found.levels["deduction"] = Level(level, 0.1)
        growths = found.growths(["deduction"] * 1000, [], rng)
        assert low <= growths.count(-1) <= high and growths.count(-1) + growths.count(None) == 1000
    found.levels["deduction"] = Level(0.0, 0.1)
    old = [Entry(task(PROGRAMS[0]), 1, rate) for rate in (0.0, 0.5, 1.0)]
    assert found.growths(["deduction"], old, rng) == [-1, None, None, None]
    assert curriculum("renewal").growths(["deduction"], old, rng) == [None, -1, 0, 1]


def test_types_of_data_that_the_model_cannot_write_about_are_asked_for_less() -> None:
    found, rng = curriculum("data"), random.Random(0)
    valid = [proposal(task(PROGRAMS[0]), argument=name) for name in ("text", "words", "n")]
    for _ in range(20):
        found.observe([*valid, proposal(None, argument="d")], [], {})
    asked = [datatypes.ARGUMENTS[found.argument("deduction", rng)] for _ in range(2000)]
    assert found.written["dict"] == 0.0 and found.written["str"] > 0.99
    assert 0.01 < asked.count("dict") / 2000 < 0.05  # 0.2 of 8.2
    found.written |= {"list": 0.25, "dict": 0.1}  # a fifth is enough; half of that gives 0.6
    asked = [datatypes.ARGUMENTS[found.argument("deduction", rng)] for _ in range(2000)]
    assert asked.count("list") == pytest.approx(asked.count("str"), rel=0.15)
    assert 0.05 < asked.count("dict") / 2000 < 0.1  # 0.6 of 8.6
    assert found.metrics()["curriculum/written/dict"] == 0.1
    assert "curriculum/written/dict" not in curriculum("band").metrics()


def test_references_are_seldom_tasks_that_nobody_or_everybody_solved() -> None:
    buffer = Buffer(64)
    for i, rate in enumerate((0.0, 0.5, 1.0)):
        buffer.add(task(f"def f(x):\n    return x + {i}"), 0, rate, difficulty(26.0))
    found = curriculum("references")
    shown = [found.references("deduction", buffer, 1, random.Random(seed))[0].program[-1] for seed in range(600)]
    assert shown.count("1") > 450 and min(shown.count("0"), shown.count("2")) > 20
