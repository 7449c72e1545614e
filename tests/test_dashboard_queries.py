"""What the dashboard tells of a store: which run is the newest, columns, tasks, alarms, scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_up_store
import pytest

from azr.dashboard import queries
from azr.dashboard.columns import Columns
from azr.evaluation.core import mean_interval
from azr.records import Pair, Task
from azr.store import Evaluation, Store


def test_the_newest_run_is_the_one_that_was_started_or_resumed_last(tmp_path: Path) -> None:
    with Store(tmp_path / "azr.sqlite") as store:
        assert queries.newest_run(store) is None
        first = made_up_store.start(store)
        made_up_store.record(first, 1, tasks=1, attempts=1)
        first.finish("interrupted")
        second = made_up_store.start(store)
        made_up_store.record(second, 1, tasks=1, attempts=1)
        second.finish("finished")
        assert queries.newest_run(store) == {"id": second.id, "status": "finished", "step": 1}
        assert [row["id"] for row in queries.runs(store)] == [second.id, first.id]
        again = store.resume_run(first.id, 1, name=first.name, config=first.config, versions={}, describe={})
        assert queries.newest_run(store) == {"id": first.id, "status": "running", "step": 1}
        assert [row["id"] for row in queries.runs(store)] == [first.id, second.id]
        for change in (
            lambda: made_up_store.record(again, 2, tasks=1, attempts=1),
            lambda: again.finish("finished"),
        ):
            before = queries.version(store)
            change()
            assert queries.version(store) != before


@pytest.mark.parametrize("pairs", [1, 5, 6])
def test_a_task_says_how_many_pairs_the_solver_is_shown(tmp_path: Path, pairs: int) -> None:
    made = made_up_store.task_of("induction", 2)
    task = Task(made.type, made.program, made.pairs[:pairs], made.message)
    with Store(tmp_path / "azr.sqlite") as store:
        run = made_up_store.start(store)
        made_up_store.record_tasks(run, 1, [task])
        found = queries.task(store, run.id, task.id, None)
    assert found and found["shown"] == len(task.shown)


def test_alarms_and_the_executor_are_told_however_much_follows(tmp_path: Path) -> None:
    with Store(tmp_path / "azr.sqlite") as store:
        run = made_up_store.start(store)
        assert queries.events(store, run.id) == {"alarms": 0, "newest_alarm": None, "executor": None, "rows": []}
        run.record_event(0, "executor", "zygotes, seccomp")
        with store.transaction() as connection:
            for kind, steps in (("alarm", range(1, 251)), ("note", range(251, 501))):
                rows = [(run.id, step, kind, f"{kind} {step}") for step in steps]
                connection.executemany(
                    "INSERT INTO events (run, step, recorded, kind, text) VALUES (?, ?, '2026', ?, ?)", rows
                )
        found = queries.events(store, run.id)
    assert (found["alarms"], found["newest_alarm"]["text"]) == (250, "alarm 250")
    assert found["executor"] == "zygotes, seccomp"
    assert [row["step"] for row in found["rows"]] == list(range(500, 300, -1))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("return", True),
        ("a hint", True),
        ("alpha", True),
        ("beta", True),
        ('"quoted"', True),
        ("gold", False),
        ("input", False),
        ("output", False),
        ("c0ffee", False),  # what the judge compares with, which may be that of a hidden pair
        ("pha%bet", False),
    ],
)
def test_tasks_are_searched_by_what_their_page_shows(tmp_path: Path, text: str, found: bool) -> None:
    pairs = (Pair("['alpha']", "'beta'", bytes.fromhex("c0ffee")), Pair("""['"quoted"']""", "1", b""))
    with Store(tmp_path / "azr.sqlite") as store:
        run = made_up_store.start(store)
        made_up_store.record_tasks(run, 1, [Task("induction", "def f(a):\n    return 1", pairs, "a hint")])
        assert len(queries.tasks(store, run.id, {"q": text})["rows"]) == found


def test_columns_forget_what_a_resume_rolled_back(tmp_path: Path) -> None:
    with Store(tmp_path / "azr.sqlite") as store:
        run = made_up_store.start(store)
        for step in range(1, 6):
            made_up_store.record(run, step, tasks=1, attempts=1)
        columns = Columns(run.id)
        columns.update(store)
        before = json.loads(columns.json(["solve/rate"], -1))
        again = store.resume_run(run.id, 3, name=run.name, config=run.config, versions={}, describe={})
        again.record_step(
            4, proposals=[], tasks=[], attempts=[], metrics={"solve/rate": 0.25, "new/one": 1}, timings={}
        )
        columns.update(store)
        after = json.loads(columns.json(["solve/rate", "new/one"], -1))
    assert before["steps"] == [1, 2, 3, 4, 5]
    assert after["steps"] == [1, 2, 3, 4]
    assert after["start"] > before["start"]
    assert after["columns"]["solve/rate"] == [*before["columns"]["solve/rate"][:3], 0.25]
    assert after["columns"]["new/one"] == [None, None, None, 1]


def test_a_score_stands_on_executed_samples_only(tmp_path: Path) -> None:
    with Store(tmp_path / "azr.sqlite") as store:
        run = made_up_store.start(store)
        evaluation = Evaluation.open(store, "a", "humaneval", {"name": "completion"}, "ab12", run=run.id, step=1)

        def row() -> dict[str, Any]:
            [found] = queries.evaluations(store, run.id)
            return found

        assert (row()["samples"], row()["score"]) == (0, None)
        samples = [made_up_store.evaluation_sample(number, False, status="unscored") for number in range(4)]
        evaluation.record(samples)  # generated, and not executed yet
        assert (row()["samples"], row()["score"]) == (0, None)
        assert queries.evaluation_problems(store, evaluation.id) == []
        # Two samples of the first problem, one right, and one of the second: each problem weighs the same.
        evaluation.record([made_up_store.evaluation_sample(0, True), made_up_store.evaluation_sample(0, False, 1)])
        evaluation.record([made_up_store.evaluation_sample(1, False)])
        assert (row()["samples"], row()["problems"], row()["score"]) == (3, 2, 0.25)
        assert [row()["low"], row()["high"]] == list(mean_interval([0.5, 0.0]))
        evaluation.finish({"pass@1": 0.25, "samples": 5})
        assert row()["missing"] == 2


def test_evaluations_of_other_runs_are_left_out(tmp_path: Path) -> None:
    with Store(tmp_path / "azr.sqlite") as store:
        first, second = made_up_store.start(store), made_up_store.start(store)
        made_up_store.add_evaluations(store, first)
        made_up_store.add_evaluations(store, second)
        subjects = [row["subject"] for row in queries.evaluations(store, second.id)]
        name = second.name
        assert subjects == ["untrained smollm2-135m", f"{name}/step-0010", f"{name}/step-0020"]
