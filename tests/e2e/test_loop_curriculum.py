"""Adaptive difficulty in the loop, with a scripted policy and the real executor, store and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_loop import MEANS, Scripted, inventive, rows

from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.records import Group, Sampling

pytest_plugins = ["play_fixture"]


def numbers(found: dict[str, Any]) -> list[dict[str, float]]:
    return [json.loads(row["metrics"]) for row in found["steps"]]


def test_with_the_curriculum_hollow_proposals_cost_and_never_become_tasks(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(inventive, curriculum={"enabled": True, "means": MEANS}, train={"steps": 6})[0] == 0
    found = rows(tmp_path)
    hollow = [row for row in found["proposals"] if row["status"] == "vacuous"]
    assert hollow and {row["reward"] for row in hollow} <= {-0.5, -1.0}  # before and after the form is learnt
    assert {"identity: the output is one of the arguments"} <= {row["reason"] for row in hollow}
    tasks = {row["task_id"] for row in found["tasks"]}
    assert tasks and not tasks & {row["task_id"] for row in hollow}
    levels = [m["curriculum/level/abduction"] for m in numbers(found)]
    assert len(set(levels)) > 1 and all(0 <= level <= 10 for level in levels)
    assert all("difficulty/median_structural" in m for m in numbers(found))
    assert "level " in capsys.readouterr().out


def test_the_curriculum_rehearses_buffered_tasks(play: Any, tmp_path: Path) -> None:
    adaptive = {"enabled": True, "means": ["rehearsal"], "rehearsal": 0.5}
    play(inventive, curriculum=adaptive, train={"steps": 4})
    solved = [(m["solve/tasks"], m["solve/new"]) for m in numbers(rows(tmp_path))]
    assert solved[0] == (4, 4)  # the buffer is empty
    assert solved[-1] == (4, 2)
    old = [row for row in rows(tmp_path)["tasks"] if row["origin"] == "buffer"]
    attempts = {(row["step"], row["task_id"]) for row in rows(tmp_path)["attempts"]}
    assert old and all((row["step"], row["task_id"]) in attempts for row in old)  # fresh ones


def test_what_is_rehearsed_is_the_program_with_a_new_input(play: Any, tmp_path: Path) -> None:
    play(
        inventive, curriculum={"enabled": True, "means": ["rehearsal", "renewal"], "rehearsal": 0.5}, train={"steps": 6}
    )
    tasks = rows(tmp_path)["tasks"]
    inputs = {row["program"]: json.loads(row["pairs"])[0] for row in tasks if row["origin"] == "proposed"}
    again = [(inputs[row["program"]], json.loads(row["pairs"])[0]) for row in tasks if row["origin"] == "buffer"]
    assert again and all(old != new for old, new in again)


def test_an_eased_task_is_solved_at_a_shorter_input_and_kept_with_its_own(play: Any, tmp_path: Path) -> None:
    """The level starts where every new task is eased; the store has the input that was solved, the proposal its own."""
    adaptive = {"enabled": True, "means": ["easing"], "start_level": 0.0}
    play(inventive, curriculum=adaptive, train={"steps": 3})
    found = rows(tmp_path)
    proposed = {row["task_id"]: row for row in found["proposals"] if row["task_id"]}
    solved = [row for row in found["tasks"] if row["solve_rate"] is not None]
    eased = [
        (proposed[row["task_id"]], row)
        for row in solved
        if json.loads(row["pairs"])[0]["input"] not in json.loads(proposed[row["task_id"]]["inputs"])
    ]
    assert eased and all(proposal["solve_rate"] == row["solve_rate"] for proposal, row in eased)
    assert all(proposal["reward"] is not None for proposal, _ in eased)
    state = json.loads((tmp_path / "models" / "checkpoint-0003" / "state.json").read_text())
    kept = {entry[0]["program"]: entry for kind in ("deduction", "abduction") for entry in state["buffer"][kind]}
    sizes = []
    for proposal, row in eased:
        own, _, rate, _ = kept[row["program"]]
        sizes.append((len(json.loads(row["pairs"])[0]["input"]), len(own["pairs"][0]["input"])))
        assert [pair["input"] for pair in own["pairs"]] == json.loads(proposal["inputs"])
        assert rate == row["solve_rate"]
    assert all(new <= old for new, old in sizes) and any(new < old for new, old in sizes)


def test_without_any_mean_the_curriculum_only_watches(play: Any, tmp_path: Path) -> None:
    """Its rows are those of the plain loop, apart from its own numbers."""
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    _, one = play(inventive, place=plain)
    _, other = play(inventive, place=watched, curriculum={"enabled": True, "means": []})
    assert one.updates == other.updates
    for table in ("proposals", "tasks", "attempts", "events"):
        assert rows(plain)[table] == rows(watched)[table]
    own = [{k: v for k, v in m.items() if not k.startswith("curriculum/")} for m in numbers(rows(watched))]
    assert own == numbers(rows(plain)) != numbers(rows(watched))


class Remembering(Scripted):
    """Before any training it solves nothing; its answers then do not move its counter."""

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        if not self.is_untrained:
            return super().generate(prompts, samples_per_prompt, sampling, progress)
        return ScriptedPolicy(["nothing\n"]).generate(prompts, samples_per_prompt, sampling, progress)


def test_the_untrained_model_is_asked_now_and_then_and_nothing_else_changes(play: Any, tmp_path: Path) -> None:
    plain, asked = tmp_path / "plain", tmp_path / "asked"
    _, one = play(inventive, place=plain)
    _, other = play(inventive, place=asked, policy_type=Remembering, curriculum={"untrained_every": 2})
    assert one.updates == other.updates
    found = numbers(rows(asked))
    assert [m.get("solve/untrained") for m in found] == [None, 0.0, None, 0.0]
    assert rows(asked)["attempts"] == rows(plain)["attempts"]
