"""The whole loop with a scripted policy and the real executor, store and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from azr import heldout, train
from azr.config import Config
from azr.errors import UserError
from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.records import Group, Pair, Sampling, Task
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


STATEMENTS = (
    "for i in range(3):\n        x += i",
    "x = x * 2 if x % 2 else x - 1",
    "y = [x, x + 1]\n    x = sum(y)",
    "while x > 40:\n        x -= 7",
    "s = str(x)\n    x = len(s) + x",
    "x = max(x, 9 - x)",
    "d = {x: 2}\n    x = x + d[x]",
    "x = sorted((x, 5))[0] + x",
)


def inventive(prompt: str, number: int) -> str:
    """As `clever`, but no two programs are alike: statements chosen by the number's digits. Every third is hollow."""
    if not prompt.startswith("A list of different") and not prompt.endswith("=="):
        return clever(prompt, number)
    if prompt.endswith("=="):  # our own program: it may run here
        source, _, given = prompt[prompt.rindex("\ndef f(") :].rpartition("\nf(")
        names: dict[str, Any] = {}
        exec(source, names)
        return f" {names['f'](int(given.split(')')[0])) if number % 2 else 'wrong'}\n"
    if number % 3 == 0:
        return f"x):\n    return x if x != {99 + number} else x\n\nf({number})\n```"
    chosen = [STATEMENTS[number // 8**place % 8] for place in (0, 1, 2)]
    return f"x):\n    {chr(10).join(chosen).replace(chr(10), chr(10) + '    ')}\n    return x\n\nf({number})\n```"


def config(**changes: Any) -> Config:
    values: dict[str, Any] = {
        "model": {"name": "smollm2-135m"},
        "train": {"steps": 4, "save_every": 2},
        "tasks": {
            "prompts": 3,
            "proposals_per_prompt": 2,
            "solved": 4,
            "attempts": 4,
            "induction_inputs": 2,
            "proposal_tokens": 200,
        },
        "executor": {"lanes": 1},
    }
    for section, keys in changes.items():
        values[section] = values.get(section, {}) | keys
    return Config.model_validate(values)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, Scripted]]:
    def run(
        script: Any = clever,
        resume: Path | None = None,
        place: Path = tmp_path,
        policy_type: type[Scripted] = Scripted,
        **changes: Any,
    ) -> tuple[int, Scripted]:
        policy = policy_type(script)

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


@pytest.mark.parametrize("enabled", [False, True])
def test_stopped_and_resumed_gives_the_same_rows(play: Any, tmp_path: Path, enabled: bool) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    adaptive = {"curriculum": {"enabled": enabled, "untrained_every": 3 * enabled}}
    play(inventive, place=whole, **adaptive)
    play(inventive, place=parts, train={"steps": 2, "save_every": 2}, **adaptive)
    play(inventive, resume=parts / "models" / "checkpoint-0002", place=parts, **adaptive)
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


@pytest.mark.parametrize("enabled", [False, True])
def test_held_out_programs_never_become_tasks(play: Any, tmp_path: Path, enabled: bool) -> None:
    task = Task("deduction", "def f(renamed):\n    return renamed + 12345", (Pair("1", "12346", b"1"),))
    heldout.save([task], tmp_path / "data" / "heldout.jsonl")
    play(curriculum={"enabled": enabled})
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


# --- evaluation while training ----------------------------------------------------------------------------------------


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
        name = store.run().name
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


# --- adaptive difficulty ----------------------------------------------------------------------------------------------


def numbers(found: dict[str, Any]) -> list[dict[str, float]]:
    return [json.loads(row["metrics"]) for row in found["steps"]]


def test_with_the_curriculum_hollow_proposals_cost_and_never_become_tasks(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(inventive, curriculum={"enabled": True}, train={"steps": 6})[0] == 0
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


def test_a_checkpoint_without_a_curriculum_is_refused(
    play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        state = train.SelfPlay.state
        patch.setattr(train.SelfPlay, "state", lambda s: {k: v for k, v in state(s).items() if k != "curriculum"})
        play()
    with pytest.raises(UserError, match="adaptive difficulty"):
        play(resume=tmp_path / "models" / "checkpoint-0004")


def test_every_number_of_a_run_is_explained(play: Any, tmp_path: Path) -> None:
    from azr.dashboard.columns import Columns
    from azr.dashboard.explanations import explanations

    play(inventive, curriculum={"enabled": True, "untrained_every": 2})
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        columns = Columns(1)
        columns.update(store)
    known = explanations()
    families = {name.removesuffix("*") for name in known if name.endswith("/*")}
    unknown = [name for name in columns.values if name not in known and not name.startswith(tuple(families))]
    assert not unknown and "difficulty/median_dynamic/abduction" in columns.values
