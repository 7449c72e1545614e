"""Trainings side by side: what is run, what is left to run, and what the scores say. `azr` itself is not started."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from azr.records import TaskType
from azr.rows import EvaluationSampleRow
from azr.store import Evaluation, Store

_SPEC = importlib.util.spec_from_file_location("arms", Path(__file__).parent.parent / "benchmarks" / "arms.py")
assert _SPEC and _SPEC.loader
arms: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["arms"] = arms
_SPEC.loader.exec_module(arms)

KINDS: tuple[TaskType, ...] = ("deduction", "abduction")
COMMAND = [
    "--steps",
    "20",
    "--score",
    "10,20",
    "--seeds",
    "0,1",
    "--set",
    "tasks.prompts=2",
    "ours",
    "plain:a.b=1;c.d=2",
]


def answer(place: Path, step: int | None, right: str) -> None:
    """A score of four tasks a type, of which these are right; task 3 never parses."""
    with Store(place / "data" / "azr.sqlite") as store:
        for kind in KINDS:
            protocol = {"name": "heldout", "temperature": 0.0}
            record = Evaluation.open(store, f"subject {step}", f"heldout-{kind}", protocol, "key", run=None, step=step)
            rows = [
                EvaluationSampleRow(
                    task_id=str(i), sample=0, completion="", solution=None if i == 3 else "1", status="ok",
                    correct=str(i) in right, tokens=1, stop_reason="stop", seconds=0.1,
                )
                for i in range(4)
            ]  # fmt: skip
            record.record(rows)
            record.finish({"pass@1": 0.0})


class Azr:
    """In place of the command: leaves checkpoints and scores behind, and remembers how it was called."""

    def __init__(self, right: dict[str, str]) -> None:
        self.right, self.calls = right, list[tuple[str, ...]]()

    def __call__(self, training: Any, *arguments: str) -> None:
        self.calls.append((training.place.name, *arguments))
        if arguments[0] == "train":
            for step in (10, 20):
                (training.place / "models" / f"checkpoint-{step:04}").mkdir(parents=True, exist_ok=True)
                (training.place / "models" / f"checkpoint-{step:04}" / "manifest.json").write_text("{}")
        elif "--resume" in arguments:
            answer(training.place, int(arguments[-1][-4:]), self.right[training.place.name])
        else:
            answer(training.place, None, "0")


class FourTasks:
    """In place of the held-out set: the tasks that `answer` scores, task i with the program `program i`."""

    tasks = tuple(SimpleNamespace(id=str(i), program=f"program {i}") for i in range(4))

    @classmethod
    def load(cls, path: Path) -> FourTasks:
        return cls()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "heldout.jsonl").write_text("{}\n")
    return tmp_path


def test_every_arm_and_seed_is_trained_and_scored_once_and_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    azr = Azr({"ours-0": "01", "ours-1": "012", "plain-0": "0", "plain-1": "1"})
    monkeypatch.setattr(arms.Training, "azr", lambda *given: azr(*given))
    assert arms.main([str(folder), *COMMAND]) == 0
    trained = [call for call in azr.calls if call[1] == "train"]
    assert [call[0] for call in trained] == ["ours-0", "plain-0", "ours-1", "plain-1"]
    assert {"train.seed=1", "train.steps=20", "tasks.prompts=2", "a.b=1", "c.d=2"} <= set(trained[-1])
    assert "a.b=1" not in trained[0]
    printed = capsys.readouterr().out
    assert "| untrained | | | 1/4 = 25.0%, parsed 75% |" in printed
    assert "| ours | 1 | 20 | 3/4 = 75.0%, parsed 75%, gained 2, lost 0, p = 0.5; both in form 1 → 3 of 3: " in printed
    pooled = (
        "step 20, deduction: ours against untrained, seeds 0, 1: gained 3, lost 0, p = 0.25; both in form 2 → 5 of 6"
    )
    assert pooled in printed
    assert "step 20, deduction: ours against plain, seeds 0, 1: gained 3, lost 0, p = 0.25" in printed
    assert "step 20, deduction: plain against untrained, seeds 0, 1: gained 1, lost 1, p = 1" in printed
    before = len(azr.calls)
    assert arms.main([str(folder), *COMMAND]) == 0
    assert len(azr.calls) == before, "something was done twice"
    assert capsys.readouterr().out == printed


def test_what_is_cruxevals_is_counted_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    azr = Azr({"ours-0": "012"})
    monkeypatch.setattr(arms.Training, "azr", lambda *given: azr(*given))
    monkeypatch.setattr(arms, "HeldOut", FourTasks)
    file = folder / "cruxeval.jsonl"
    file.write_text("".join(f'{{"code": "program {i}", "input": "1", "output": "1"}}\n' for i in (0, 1, 3)))
    assert arms.main([str(folder), "--steps", "20", "--cruxeval", str(file), "ours"]) == 0
    printed = capsys.readouterr().out
    untrained, trained = (
        "1/3, 1.00 times; parsed 67%, right of parsed 50.0%",
        "2/3, 2.00 times; parsed 67%, right of parsed 100.0%",
    )
    assert f"| untrained | | | {untrained} | {untrained} |" in printed
    assert f"| ours | 0 | 20 | {trained} | {trained} |" in printed
    file.write_text("{}\n")
    assert arms.main([str(folder), "--steps", "20", "--cruxeval", str(file), "ours"]) == 2
    assert "is no CRUXEval file" in capsys.readouterr().err


def test_a_killed_training_goes_on_from_its_newest_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    azr = Azr({"ours-0": "0"})
    monkeypatch.setattr(arms.Training, "azr", lambda *given: azr(*given))
    checkpoint = folder / "ours-0" / "models" / "checkpoint-0010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    assert arms.main([str(folder), "--steps", "20", "ours"]) == 0
    assert azr.calls[0][-2:] == ("--resume", str(checkpoint))


@pytest.mark.parametrize(
    ("arguments", "message"), [(["a/b"], "no arm"), ([":x=1"], "no arm"), (["--seeds", "x", "ours"], "invalid literal")]
)
def test_bad_input_is_one_line(
    folder: Path, arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert arms.main([str(folder), "--steps", "2", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_failed_command_ends_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert arms.main([str(folder), "--steps", "2", "ours:no.such=key"]) == 2
    assert "output.log" in capsys.readouterr().err
    (folder / "heldout.jsonl").unlink()
    assert arms.main([str(folder), "--steps", "2", "ours"]) == 2
    assert "azr heldout make" in capsys.readouterr().err
