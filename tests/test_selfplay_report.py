"""The report of a run, on a small store whose numbers are worked out by hand."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stored_rows import newest_run

from azr.config import Config
from azr.errors import UserError
from azr.records import Completion, Pair, Proposal, Task
from azr.rows import ProposalRow, TaskRow
from azr.store import Store

_SPEC = importlib.util.spec_from_file_location(
    "selfplay_report", Path(__file__).parent.parent / "benchmarks" / "selfplay_report.py"
)
assert _SPEC and _SPEC.loader
selfplay_report: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["selfplay_report"] = selfplay_report
_SPEC.loader.exec_module(selfplay_report)

PROGRAM = "def f(x):\n    return x + {n}"


def proposal(program: str | None, task: Task | None = None, **more: Any) -> ProposalRow:
    return ProposalRow(
        Proposal("deduction", (1,), Completion((1,), "t", (-1.0,), "stop"), (), program, task=task, **more)
    )


def record(run: Any, step: int, programs: Sequence[str], metrics: dict[str, float], structural: float) -> None:
    """A step with these valid programs (the first of which becomes a task) and one invalid proposal."""
    tasks = [Task("deduction", program, (Pair("1", "2", b""),)) for program in programs]
    run.record_step(
        step,
        proposals=[*(proposal(task.program, task) for task in tasks), proposal(None, reason="not Python")],
        tasks=[TaskRow(tasks[0], "proposed", 0.5, {"structural": structural, "steps": None})],
        attempts=[],
        metrics=metrics,
        timings={"seconds/step": 2.0},
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """25 steps: two valid proposals of three, alike in every other step; solved half the time, 0.9 from step 24."""
    path = tmp_path / "azr.sqlite"
    with Store(path) as store:
        run = store.start_run(Config(), {}, {})
        for step in range(1, 26):
            one = PROGRAM.format(n=step)
            other = one.replace("x", "renamed") if step % 2 else PROGRAM.format(n=100 + step)
            metrics = {"solve/rate": 0.9 if step >= 24 else 0.5, "tokens/sampled": 100.0}
            record(run, step, [one, other], metrics, 10.0 if step < 16 else 25.0)
    return path


def test_shares_and_goals_are_those_counted_by_hand(database: Path) -> None:
    history = selfplay_report.read(str(database))
    found = {bar.text: bar for bar in selfplay_report.bars(history, 5)}
    values = [bar.value for bar in found.values()]
    assert values[0] == 3 / 5  # steps 21, 22, 23 of 21 to 25
    assert values[1] == 1.0  # every task was solved half the time
    assert values[2] == 25.0 / 10.0  # all of the last ten steps are 16 and later
    assert values[3] is values[4] is values[5] is None  # never measured here
    assert values[6] == 7 / 10  # blocks of five begin with an odd step: three steps with 1 of 2, two with 2 of 2
    assert values[7] == (13 + 12 * 2) / 50
    verdicts = [bar.verdict for bar in found.values()]
    assert verdicts == ["missed", "met", "met", "not measured", "not measured", "not measured", "met", "met"]


def test_the_table_has_blocks_and_leaves_out_what_was_not_measured(database: Path) -> None:
    lines = selfplay_report.table(selfplay_report.read(str(database)), 10).splitlines()
    head = [cell.strip() for cell in lines[0].split("|")[1:-1]]
    assert head == ["steps", "valid", "repeats", "distinct ASTs of valid", "first seen", "solved",
                    "structural difficulty", "tokens so far", "seconds a step"]  # fmt: skip
    last = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    assert last == ["21–25", "67%", "0%", "70%", "70%", "66%", "25", "2k", "2"]


def test_a_store_without_vacuity_is_told_from_one_without_vacuous_proposals(tmp_path: Path) -> None:
    path = tmp_path / "azr.sqlite"
    with Store(path) as store:
        run = store.start_run(Config(), {}, {})
        record(run, 1, [PROGRAM.format(n=1)], {"propose/vacuous": 0.0}, 1.0)
    assert selfplay_report.bars(selfplay_report.read(str(path)), 5)[4].verdict == "met"


def test_the_page_shows_tasks_unedited_and_says_where_there_are_none(tmp_path: Path) -> None:
    path, fence = tmp_path / "azr.sqlite", "```"
    with Store(path) as store:
        run = store.start_run(Config(), {}, {})
        record(run, 1, [f"def f(x):\n    return '{fence}'"], {}, 4.0)
        run.record_step(2, proposals=[], tasks=[], attempts=[], metrics={}, timings={})
    page = selfplay_report.page(selfplay_report.read(str(path)), [1, 2, 3], 5)
    assert f"````text\ndef f(x):\n    return '{fence}'\n\nf(1) == 2\n````" in page
    assert "deduction, solved 50%, structural 4, dynamic –" in page
    assert page.count("No accepted task.") == page.count("Not in this run.") == 1


def test_runs_are_found_by_name_and_carry_a_label(database: Path) -> None:
    with Store(database) as store:
        first = newest_run(store).name
        store.start_run(Config(), {}, {})
    assert selfplay_report.read(f"plain={database}:{first}").label == "plain"
    assert len(selfplay_report.read(f"{database}:{first}").steps) == 25
    assert len(selfplay_report.read(str(database)).steps) == 0
    with pytest.raises(UserError, match=first):
        selfplay_report.read(f"{database}:run-of-another")
    with pytest.raises(UserError, match="no database"):
        selfplay_report.read(str(database.parent / "nowhere.sqlite"))


def test_the_whole_report_prints_and_draws(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curves.png"
    arguments = [str(database), f"again={database}", "--page", "1,15", "--png", str(picture)]
    monkeypatch.setattr(sys, "argv", ["selfplay_report.py", *arguments])
    selfplay_report.main()
    assert "| goal |" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
