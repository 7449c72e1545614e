"""The whole loop with a scripted policy and the real executor, store and checkpoints."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from scripted_loop import MEANS, Scripted, clever, inventive, rows, typed

from azr import heldout, proposer
from azr.errors import UserError
from azr.records import Pair, Task
from azr.store import Store

pytest_plugins = ["play_fixture"]


def test_a_run_proposes_solves_learns_and_is_recorded(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, policy = play()
    assert status == 0
    found = rows(tmp_path)
    assert [len(found[name]) for name in ("steps", "proposals")] == [4, 24]
    solved = [row for row in found["attempts"] if row["step"] == 1]
    assert {row["correct"] for row in solved} == {0, 1}
    assert {row["type"] for row in found["tasks"]} == {"deduction", "abduction", "induction"}
    assert any(sample.advantage > 0 for update in policy.updates for sample in update)
    samples = sum(row["reward"] is not None for row in found["proposals"]) + len(found["attempts"])
    assert samples == sum(len(update) for update in policy.updates)
    metrics = (
        json.loads(found["steps"][0]["metrics"])
        if isinstance(found["steps"][0]["metrics"], str)
        else found["steps"][0]["metrics"]
    )
    assert metrics["propose/valid"] == 1.0
    shown = capsys.readouterr().out
    assert "step    4/4" in shown and "checkpoint-0004" in shown


@pytest.mark.parametrize(
    ("script", "curriculum"),
    [
        (inventive, {"enabled": False}),
        (inventive, {"means": MEANS, "untrained_every": 3}),
        (typed, {"untrained_every": 3}),
    ],
)
def test_stopped_and_resumed_gives_the_same_rows(
    play: Any, tmp_path: Path, script: Any, curriculum: dict[str, Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    adaptive = {"curriculum": {"enabled": True} | curriculum}
    play(script, place=whole, **adaptive)
    play(script, place=parts, train={"steps": 2, "save_every": 2}, **adaptive)
    play(script, resume=parts / "models" / "checkpoint-0002", place=parts, **adaptive)
    assert rows(whole) == rows(parts)
    written = [json.loads(row["metrics"]).get("curriculum/written/list", 0.0) for row in rows(whole)["steps"]]
    assert (written[-1] > written[1] > 0) == (script is typed)


def test_a_resume_that_is_refused_leaves_every_checkpoint_where_it_was(play: Any, tmp_path: Path) -> None:
    play(train={"steps": 4, "save_every": 2})
    for name in ("azr.sqlite", "azr.sqlite-wal", "azr.sqlite-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="does not know"):
        play(resume=tmp_path / "models" / "checkpoint-0002")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["checkpoint-0002", "checkpoint-0004"]


def test_what_is_proposed_again_is_not_measured_again(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    probe = proposer.probe

    def counting(programs: Any, executor: Any) -> Any:
        measured.extend(program for program, _ in programs)
        return probe(programs, executor)

    monkeypatch.setattr(proposer, "probe", counting)
    play(lambda prompt, number: clever(prompt, 7), tasks={"types": ["deduction", "abduction"], "prompts": 2})
    assert sorted(measured) == ["def f(x):\n    return x + 7"] * 2  # once a type


def test_resume_refuses_a_changed_configuration_by_name(play: Any, tmp_path: Path) -> None:
    play()
    with pytest.raises(UserError, match=r"tasks\.answer_temperature"):
        play(resume=tmp_path / "models" / "checkpoint-0004", tasks={"answer_temperature": 0.7})


def test_what_a_resume_needs_is_said(play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the end of the run as a command, and where it was left out."""
    place = tmp_path / "a place"
    play(place=place, train={"steps": 2, "seed": 5}, dashboard={"token": "secret"})
    [line] = [line for line in capsys.readouterr().out.splitlines() if "go on with" in line]
    path = place / "models" / "checkpoint-0002"
    assert f"./run.sh --resume '{path}'" in line
    assert "--set train.steps=4" in line and "--set train.seed=5" in line and "secret" not in line
    play(place=place, resume=path, train={"steps": 1, "seed": 5})  # whose last step it is past
    assert "--set train.steps=4" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"train\.seed changed; resume with --set train\.seed=5, or start a new run"):
        play(resume=path, place=place, train={"steps": 4})


def test_a_checkpoint_that_was_rolled_back_is_not_resumed(play: Any, tmp_path: Path) -> None:
    play(train={"save_every": 2})
    play(resume=tmp_path / "models" / "checkpoint-0002", train={"save_every": 2})
    [old] = (tmp_path / "models").glob("run-*/rolled-back/checkpoint-0004")
    with pytest.raises(UserError, match="went on from an earlier step, without it"):
        play(resume=old)


def test_a_log_that_cannot_be_written_is_one_line(
    play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own, which hide what goes to the terminal
    monkeypatch.setattr("azr.workspace.Workspace.log_file", lambda place, run: place.logs / "none" / run)
    with pytest.raises(UserError, match=r"logs.*cannot be written"):
        play()
    assert "Traceback" not in capfd.readouterr().err
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        assert store.query("SELECT status FROM runs")[0]["status"] == "failed"


def test_resume_refuses_a_checkpoint_of_an_older_format(
    play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("azr.checkpoint.FORMAT", 1)
    play(train={"steps": 1})
    monkeypatch.undo()
    with pytest.raises(UserError, match="another AZR: it can be evaluated, but not resumed"):
        play(train={"steps": 2}, resume=tmp_path / "models" / "checkpoint-0001")


def test_a_finished_run_that_was_put_away_says_where_to_go_on(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play()
    play()  # moves the first run's checkpoints away
    [old] = [path for path in (tmp_path / "models").glob("run-*/checkpoint-0004")]
    capsys.readouterr()
    play(resume=old)
    assert f"--resume {old}" in capsys.readouterr().out


def test_a_gradient_that_is_not_finite_is_told_apart_from_no_signal(play: Any, tmp_path: Path) -> None:
    class Broken(Scripted):
        def update(self, *arguments: Any, **more: Any) -> dict[str, float]:
            return super().update(*arguments, **more) | {"skipped": 1.0, "trained_tokens": 5.0}

    play(policy_type=Broken, train={"steps": 1})
    assert any("the gradient is not finite" in row["text"] for row in rows(tmp_path)["events"])


def test_resume_refuses_another_held_out_set(play: Any, tmp_path: Path) -> None:
    play(train={"steps": 2, "save_every": 2})
    heldout.save(
        [Task("deduction", "def f(x): return 1", (Pair("1", "1", b"1"),))], tmp_path / "data" / "heldout.jsonl"
    )
    with pytest.raises(UserError, match="heldout"):
        play(resume=tmp_path / "models" / "checkpoint-0002")


@pytest.mark.parametrize("enabled", [False, True])
def test_held_out_programs_never_become_tasks(play: Any, tmp_path: Path, enabled: bool) -> None:
    task = Task("deduction", "def f(renamed):\n    return renamed + 12345", (Pair("1", "12346", b"1"),))
    heldout.save([task], tmp_path / "data" / "heldout.jsonl")
    play(curriculum={"enabled": enabled, "means": MEANS})
    found = rows(tmp_path)
    own = [row for row in found["proposals"] if row["type"] != "induction"]
    assert {row["reason"] for row in own} == {"held out"}
    assert not [row for row in found["tasks"] if row["type"] != "induction"]


@pytest.mark.parametrize("enabled", [False, True])
def test_garbage_for_twenty_steps_goes_on_and_says_so(
    play: Any, tmp_path: Path, enabled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = ["\0" * 50, "\ud800```\n", "x" * 100_000, "```\n```python\n```\n", "def f(:\n", "\n", "", "```"]
    status, _ = play(garbage, train={"steps": 21, "save_every": 30}, curriculum={"enabled": enabled})
    assert status == 0
    events = [row["text"] for row in rows(tmp_path)["events"]]
    assert any("no valid proposal for 20 steps" in text for text in events)
    assert any("no signal" in text for text in events)
    assert "no valid proposal for 20 steps" in capsys.readouterr().out


def test_a_second_run_on_the_workspace_is_refused(play: Any, tmp_path: Path) -> None:
    from azr.workspace import Workspace

    with Workspace(tmp_path).lock(), pytest.raises(UserError, match="in use"):
        play()


def test_ctrl_c_finishes_the_step_and_saves(play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os
    import signal

    def interrupting(prompt: str, number: int) -> str:
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return clever(prompt, number)

    status, _ = play(interrupting)
    assert status == 130
    assert len(rows(tmp_path)["steps"]) == 1
    assert (tmp_path / "models" / "checkpoint-0001" / "manifest.json").exists()
    assert "--resume" in capsys.readouterr().out
    assert play(resume=tmp_path / "models" / "checkpoint-0001")[0] == 0
    assert len(rows(tmp_path)["steps"]) == 4


def test_ctrl_c_twice_stops_at_once(play: Any, tmp_path: Path) -> None:
    import os
    import signal

    def impatient(prompt: str, number: int) -> str:
        if number in (3, 4):
            os.kill(os.getpid(), signal.SIGINT)
        return clever(prompt, number)

    with pytest.raises(KeyboardInterrupt):
        play(impatient)
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        assert store.query("SELECT status FROM runs")[0]["status"] == "interrupted"


def test_every_number_of_a_run_is_explained(play: Any, tmp_path: Path) -> None:
    from azr.dashboard.columns import Columns
    from azr.dashboard.explanations import explanations

    play(inventive, curriculum={"enabled": True, "means": MEANS, "untrained_every": 2})
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        columns = Columns(1)
        columns.update(store)
    known = explanations()
    families = {name.removesuffix("*") for name in known if name.endswith("/*")}
    unknown = [name for name in columns.values if name not in known and not name.startswith(tuple(families))]
    assert not unknown and "difficulty/median_dynamic/abduction" in columns.values
