"""The whole loop with a scripted policy and the real executor, store and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azr import heldout, train
from azr.config import Config
from azr.errors import UserError
from azr.policy.scripted import ScriptedPolicy
from azr.records import Pair, Task
from azr.store import Store, dump_rows

RESOLVED: dict[str, str | int | float] = {
    "generation_precision": "float32",
    "update_precision": "float32",
    "threads": 1,
}


class Scripted(ScriptedPolicy):
    def describe(self) -> dict[str, str | int | float]:
        return super().describe() | RESOLVED


def clever(prompt: str, number: int) -> str:
    """Proposes `x + n` for ever new n, solves every other task."""
    if prompt.endswith("calls\n1: f("):
        return f"{number})\n2: f(-1)\n# adds something\n```"
    if prompt.startswith("A list of different"):
        return f"x):\n    return x + {number}\n\nf({number})\n```"
    if prompt.endswith("=="):
        source, _, given = prompt.rpartition("\nf(")
        value = int(given.split(")")[0]) + int(source.split()[-1])
        return f" {value if number % 2 else 'wrong'}\n"
    if prompt.endswith("python\ndef f("):
        return "x):\n    return x\n```"
    return "0)\n"


def config(**changes: Any) -> Config:
    values: dict[str, Any] = {
        "train": {"steps": 4, "save_every": 2},
        "tasks": {"prompts": 3, "proposals_per_prompt": 2, "solved": 4, "attempts": 4, "induction_inputs": 2},
        "executor": {"lanes": 1},
    }
    for section, keys in changes.items():
        values[section] = values.get(section, {}) | keys
    return Config.model_validate(values)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, Scripted]]:
    def run(
        script: Any = clever, resume: Path | None = None, place: Path = tmp_path, **changes: Any
    ) -> tuple[int, Scripted]:
        policy = Scripted(script)

        def load(_: Config, checkpoint: Any) -> Scripted:
            if checkpoint:
                policy.load(checkpoint.path)
            return policy

        monkeypatch.setattr(train, "load_policy", load)
        return train.main(config(**changes), resume=resume, workspace=place), policy

    return run


def rows(place: Path) -> dict[str, Any]:
    with Store(place / "data" / "azr.sqlite") as store:
        return dump_rows(store.run())


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


def test_stopped_and_resumed_gives_the_same_rows(play: Any, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    play(place=whole)
    play(place=parts, train={"steps": 2, "save_every": 2})
    play(place=parts, resume=parts / "models" / "checkpoint-0002")
    assert rows(whole) == rows(parts)


def test_resume_refuses_a_changed_configuration_by_name(play: Any, tmp_path: Path) -> None:
    play()
    with pytest.raises(UserError, match=r"tasks\.temperature"):
        play(resume=tmp_path / "models" / "checkpoint-0004", tasks={"temperature": 0.5})


def test_resume_refuses_another_held_out_set(play: Any, tmp_path: Path) -> None:
    play(train={"steps": 2, "save_every": 2})
    heldout.save(
        [Task("deduction", "def f(x): return 1", (Pair("1", "1", b"1"),))], tmp_path / "data" / "heldout.jsonl"
    )
    with pytest.raises(UserError, match="heldout"):
        play(resume=tmp_path / "models" / "checkpoint-0002")


def test_held_out_programs_never_become_tasks(play: Any, tmp_path: Path) -> None:
    task = Task("deduction", "def f(renamed):\n    return renamed + 12345", (Pair("1", "12346", b"1"),))
    heldout.save([task], tmp_path / "data" / "heldout.jsonl")
    play()
    found = rows(tmp_path)
    own = [row for row in found["proposals"] if row["type"] != "induction"]
    assert {row["reason"] for row in own} == {"held out"}
    assert not [row for row in found["tasks"] if row["type"] != "induction"]


def test_garbage_for_twenty_steps_goes_on_and_says_so(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = ["\0" * 50, "\ud800```\n", "x" * 100_000, "```\n```python\n```\n", "def f(:\n", "\n", "", "```"]
    status, _ = play(garbage, train={"steps": 21, "save_every": 30})
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
