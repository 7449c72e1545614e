"""Diversity of a step's proposals, by hand, and when the alarms speak."""

from __future__ import annotations

import pytest
from curriculum_samples import proposal, task

from azr.diversity import ALARM_WINDOW, FEWEST, DiversityAlarm, GarbageAlarm, measure
from azr.vacuity import grams, similarity

ADD, SAME, OTHER_CONSTANT = (
    "def f(x):\n    return x + 1",
    "def f(y):\n    return y + 1",
    "def f(x):\n    return x + 2",
)
IDENTITY, LOOP = "def f(x):\n    return x", "def f(x):\n    for i in x:\n        x = i\n    return x"


def test_shares_of_the_valid_proposals() -> None:
    programs = (ADD, SAME, OTHER_CONSTANT, IDENTITY, LOOP)
    found = measure([proposal(task(p), references=(ADD, LOOP)) for p in programs] + [proposal(None)])
    assert found["diversity/measured"] == 5
    assert found["diversity/unique_programs"] == 4 / 5  # names alone make no difference
    assert found["diversity/unique_shapes"] == 3 / 5  # nor do constants
    assert found["diversity/trivial"] == 1 / 5
    nearest = [1 - max(similarity(grams(p), grams(r)) for r in (ADD, LOOP)) for p in programs]
    assert nearest[0] == nearest[1] == nearest[4] == 0.0 < nearest[3] and found[
        "diversity/reference_distance"
    ] == pytest.approx(sum(nearest) / 5)


def test_what_could_not_be_measured_is_absent() -> None:
    assert measure([]) == measure([proposal(None)]) == measure([proposal(task(ADD, "induction"))]) == {}
    assert "diversity/reference_distance" not in measure([proposal(task(ADD))])  # nothing was shown
    some = measure([proposal(task(ADD)), proposal(task(LOOP), references=(LOOP,))])
    assert some["diversity/reference_distance"] == 0.0


def poor(shapes: float = 0.3, trivial: float = 0.0, measured: float = FEWEST) -> dict[str, float]:
    return {"diversity/measured": measured, "diversity/unique_shapes": shapes, "diversity/trivial": trivial}


@pytest.mark.parametrize("metrics", [poor(shapes=0.39), poor(shapes=1.0, trivial=0.51)])
def test_the_alarm_speaks_from_the_third_poor_step_on(metrics: dict[str, float]) -> None:
    alarm = DiversityAlarm()
    said = [alarm.observe(metrics) for _ in range(ALARM_WINDOW + 1)]
    assert said[: ALARM_WINDOW - 1] == [None] * (ALARM_WINDOW - 1)
    assert all(text and "collapsing" in text for text in said[ALARM_WINDOW - 1 :])
    assert alarm.observe(poor(shapes=0.4, trivial=0.5)) is None and alarm.streak == 0


def test_few_proposals_say_nothing_about_diversity() -> None:
    alarm = DiversityAlarm()
    for _ in range(ALARM_WINDOW - 1):
        alarm.observe(poor())
    assert alarm.observe(poor(measured=FEWEST - 1)) is None and alarm.observe({}) is None
    assert alarm.observe(poor())  # the streak has outlived them


def test_garbage_is_told_of_every_twenty_steps() -> None:
    alarm = GarbageAlarm()
    said = [step for step in range(1, 61) if alarm.observe(valid=int(step == 45))]
    assert said == [20, 40]
