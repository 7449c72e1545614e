"""Evaluation while the loop trains, with a scripted policy and the real executor, store and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_loop import Scripted, rows
from stored_rows import newest_run

from azr import train
from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.records import Group, Sampling
from azr.store import Store

pytest_plugins = ["play_fixture"]


class Examined(Scripted):
    """Solves the benchmark's tasks from the first update on. Answers to a benchmark do not move its counter."""

    failing = False

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        if not prompts[0].startswith("def one"):
            return super().generate(prompts, samples_per_prompt, sampling, progress)
        if self.failing:
            raise RuntimeError("a bug in an evaluation")
        answers = ScriptedPolicy(lambda prompt, _: f"\n    return {prompt[7] if self.count else None}\n")
        return answers.generate(prompts, samples_per_prompt, sampling, progress)


def evaluated(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """Sections of a configuration that evaluates four little tasks every other step."""
    tasks = [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f'def one{n}():\n    """{n}."""\n',
            "entry_point": f"one{n}",
            "canonical_solution": f"    return {n}\n",
            "test": f"def check(candidate):\n    assert candidate() == {n}\n",
        }
        for n in range(4)
    ]
    path = tmp_path / "HumanEval.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return {"evaluation": {"every": 2, "benchmarks": ["humaneval"], "data_dir": str(tmp_path)}, **more}


def scores(place: Path) -> list[tuple[str, int | None, float | None]]:
    with Store(place / "data" / "azr.sqlite") as store:
        found = store.query("SELECT subject, step, json_extract(result, '$.\"pass@1\"') AS score FROM evaluations")
        name = newest_run(store).name
    return [(row["subject"].replace(name, "RUN"), row["step"], row["score"]) for row in found]


def test_a_run_evaluates_before_while_and_after_it_trains(
    play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[tuple[str, int]] = []
    evaluate, save, record = train.evaluate_during_training, train.SelfPlay.save, train.play

    def noted(name: str, step: int, done: Any) -> Any:
        order.append((name, step))
        return done

    monkeypatch.setattr(train, "evaluate_during_training", lambda *a: noted("evaluate", a[3], evaluate(*a)))
    monkeypatch.setattr(train.SelfPlay, "save", lambda s: noted("save", s.step, save(s)))
    monkeypatch.setattr(train, "play", lambda s, step: noted("record", step, record(s, step)))
    assert play(policy_type=Examined, **evaluated(tmp_path, train={"steps": 3, "save_every": 2}))[0] == 0
    assert order == [
        ("evaluate", 0), ("record", 1),
        ("record", 2), ("save", 2), ("evaluate", 2),
        ("record", 3), ("save", 3), ("evaluate", 3),
    ]  # fmt: skip
    assert scores(tmp_path) == [
        ("untrained smollm2-135m", None, 0.0),
        ("RUN/step-0002", 2, 1.0),
        ("RUN/step-0003", 3, 1.0),
    ]
    assert "evaluation: humaneval 100.0% [51.0%, 100.0%] on 4 tasks" in capsys.readouterr().out


def test_no_evaluation_unless_it_is_asked_for(play: Any, tmp_path: Path) -> None:
    play()
    assert scores(tmp_path) == []


def test_a_failing_evaluation_does_not_end_the_run(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Examined, "failing", True)
    assert play(policy_type=Examined, **evaluated(tmp_path))[0] == 0
    found = rows(tmp_path)
    assert len(found["steps"]) == 4
    reasons = [(row["step"], row["text"]) for row in found["events"] if row["kind"] == "evaluation"]
    assert reasons == [(step, "failed: RuntimeError: a bug in an evaluation") for step in (0, 2, 4)]
    assert "evaluation: failed (RuntimeError)" in capsys.readouterr().out


def test_evaluations_of_a_resumed_run_are_those_of_a_whole_one(play: Any, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    play(policy_type=Examined, place=whole, **evaluated(tmp_path))
    play(policy_type=Examined, place=parts, **evaluated(tmp_path, train={"steps": 3, "save_every": 2}))
    play(policy_type=Examined, place=parts, resume=parts / "models" / "checkpoint-0002", **evaluated(tmp_path))
    assert rows(whole) == rows(parts)
    assert scores(whole) == scores(parts)


def test_ctrl_c_in_an_evaluation_ends_it_and_a_resume_goes_on_with_it(
    play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    generate = Examined.generate

    def interrupting(policy: Examined, prompts: Sequence[str], *rest: Any) -> list[Group]:
        if prompts[0].startswith("def one") and policy.count:
            os.kill(os.getpid(), signal.SIGINT)
        return generate(policy, prompts, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Examined, "generate", interrupting)
        assert play(policy_type=Examined, **evaluated(tmp_path, train={"save_every": 10}))[0] == 130
    assert scores(tmp_path)[1:] == [("RUN/step-0002", 2, None)]
    assert len(rows(tmp_path)["steps"]) == 2
    path = tmp_path / "models" / "checkpoint-0002"
    assert play(policy_type=Examined, resume=path, **evaluated(tmp_path, train={"save_every": 10}))[0] == 0
    assert scores(tmp_path)[1:] == [("RUN/step-0002", 2, 1.0), ("RUN/step-0004", 4, 1.0)]
