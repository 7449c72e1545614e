"""The held-out set with a scripted policy and the real executor: made, scored, compared, through the command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from azr import cli, heldout
from azr.checkpoint import Checkpoints, load_checkpoint
from azr.config import Config, ExecutorConfig
from azr.errors import UserError
from azr.evaluation import command, heldout_scores
from azr.evaluation import heldout as held
from azr.evaluation.copying import copier
from azr.evaluation.evaluate import Subject, untrained
from azr.executor import Executor, ValidationRequest
from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.records import Group, Pair, Sampling, Task, TaskType
from azr.store import Store

CRUX = [{"code": f"def f(x):\n    return x + [{n}] * {n}", "input": "[7]", "output": "?"} for n in range(2)]
CRUX += [
    {"code": "def f(s, n):\n    return s * n + s.upper()", "input": "'ab', 2", "output": "?"},
    {"code": "def f(x):\n    return 1 / 0", "input": "1", "output": "?"},
    {"code": "def f(x):\n    return x", "input": "1", "output": "?"},
]


def proposes(prompt: str, number: int) -> str:
    """Every second proposal is usable; no two of these have one shape."""
    return f"(x):\n    return x{' + x' * number}\n\nf({number})\n```" if number % 2 else "no program"


class Solver(ScriptedPolicy):
    """Answers deduction tasks by the operator's rule, and counts its prompts."""

    def __init__(self, right: Sequence[str] = (), broken: Sequence[str] = ()) -> None:
        super().__init__(self.answer)
        self.right, self.broken, self.asked = right, broken, 0
        self.temperatures: set[float] = set()

    def answer(self, prompt: str, number: int) -> str:
        if prompt.endswith("=="):
            return next((f" {value}\n" for value in self.right if _says(prompt, value)), self._wrong(prompt))
        return "(7)\n"

    def _wrong(self, prompt: str) -> str:
        return " not a literal\n" if any(_says(prompt, value) for value in self.broken) else " 12345\n"

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        self.asked += len(prompts)
        self.temperatures.add(sampling.temperature)
        return super().generate(prompts, samples_per_prompt, sampling, progress)


def _says(prompt: str, value: str) -> bool:
    """Whether the last program of the prompt is `value` more than its input."""
    return f"return x + {value} " in prompt.rpartition("def f(")[2].replace("\n", " \n")


def tasks(count: int) -> list[Task]:
    """Deduction tasks 0 + n; two abduction tasks whose answer is 7 and 8."""
    made = [Task("deduction", f"def f(x):\n    return x + {n}", (Pair("0", str(n), b""),)) for n in range(count)]
    return made + [Task("abduction", "def f(x):\n    return x", (Pair(n, n, b""),)) for n in ("7", "8")]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(ExecutorConfig(lanes=1)) as executor:
        yield executor


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        yield store


@pytest.fixture
def executed(executor: Executor) -> list[Task]:
    """The tasks with the gold bytes of a real run."""
    plain = tasks(10)
    results = executor.validate([ValidationRequest(t.program, (t.pairs[0].input,)) for t in plain])
    return [replace(task, pairs=result.pairs) for task, result in zip(plain, results, strict=True)]


def cruxeval(folder: Path) -> Path:
    path = folder / "cruxeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CRUX))
    return path


def test_the_set_holds_each_usable_shape_once_in_two_tasks(executor: Executor, tmp_path: Path) -> None:
    path = tmp_path / "data" / "heldout.jsonl"
    made = held.build(lambda: ScriptedPolicy(proposes), executor, Config(), path, 5, cruxeval(tmp_path))
    own = [task for task in made if task.program.startswith("def f(x):\n    return x + x")]
    assert len(own) == 2 * 5
    # Of the file: two programs of one shape, one that fails, and the identity, which is trivial.
    assert {task.program for task in made if task not in own} == {CRUX[0]["code"], CRUX[2]["code"]}
    assert sorted(task.type for task in made) == ["abduction"] * 7 + ["deduction"] * 7
    read = heldout.HeldOut.load(path)
    assert read.tasks == tuple(made)
    assert read.covers("def f(other):\n    return other + [55] * 55")
    assert not read.covers("def f(other):\n    return other - 55")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\r"])
def test_a_set_with_other_line_ends_in_its_text_is_read_again(tmp_path: Path, mark: str) -> None:
    task = Task("deduction", f"def f(s):\n    return s + '{mark}'", (Pair(f"'{mark}'", f"'{mark}{mark}'", b"x"),))
    heldout.save([task, task], tmp_path / "heldout.jsonl")
    assert heldout.HeldOut.load(tmp_path / "heldout.jsonl").tasks == (task, task)


def test_making_it_again_gives_the_same_set(executor: Executor, tmp_path: Path) -> None:
    paths = [tmp_path / str(n) / "heldout.jsonl" for n in range(2)]
    for path in paths:
        held.build(lambda: ScriptedPolicy(proposes), executor, Config(), path, 3, cruxeval(tmp_path))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_cannot_be_made_says_so(executor: Executor, tmp_path: Path) -> None:
    path = tmp_path / "heldout.jsonl"

    def build(own: int, file: Path | None = None) -> None:
        held.build(lambda: ScriptedPolicy(["garbage"]), executor, Config(), path, own, file)

    with pytest.raises(UserError, match="give --cruxeval"):
        build(0)
    with pytest.raises(UserError, match="no new usable program in 10 rounds"):
        build(1)
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"task_id": 1}\n')
    with pytest.raises(UserError, match="no CRUXEval file"):
        build(0, wrong)
    assert not path.exists()
    path.write_text("")
    with pytest.raises(UserError, match="made once"):
        build(1)


def scored(
    store: Store, executor: Executor, given: list[Task], policy: ScriptedPolicy, name: str
) -> dict[str, heldout_scores.Score]:
    found = heldout_scores.score(policy, executor, store, given, Config().tasks, Subject(name))
    return {str(kind): score for kind, score in found.items()}


def test_a_score_keeps_the_form_and_the_sense_apart(store: Store, executor: Executor, executed: list[Task]) -> None:
    found = scored(store, executor, executed, Solver(right="123", broken="45678"), "one")
    summary = found["deduction"].summary()
    assert (summary["tasks"], summary["parsed"], summary["correct"]) == (10, 5, 3)
    assert (summary["pass@1"], summary["parse_rate"], summary["of_parsed"]) == (0.3, 0.5, 0.6)
    assert summary["interval"] == pytest.approx((0.1078, 0.6032), abs=1e-4)  # Wilson, 3 of 10
    assert summary["of_parsed_interval"] == pytest.approx((0.2307, 0.8824), abs=1e-4)  # 3 of 5
    assert found["abduction"].summary()["correct"] == 1
    statuses = store.query(
        "SELECT status, COUNT(*) AS n FROM evaluation_samples JOIN evaluations ON id = evaluation "
        "WHERE benchmark = 'heldout-deduction' GROUP BY status ORDER BY status"
    )
    assert statuses == [{"status": "malformed", "n": 5}, {"status": "ok", "n": 3}, {"status": "wrong", "n": 2}]


def test_who_only_copies_is_scored_beside(executor: Executor) -> None:
    given: list[tuple[TaskType, str, str, bool]] = [
        ("abduction", "def f(s):\n    return s.strip()", "' a'", True),  # 'a' gives 'a' too
        ("abduction", "def f(x):\n    return x + 1", "1", False),
        ("abduction", "def f(x, k):\n    return x", "1, 2", False),  # one argument is not enough
        ("deduction", "def f(s, k):\n    return s.strip()", "'a', 3", True),
        ("deduction", "def f(x):\n    return -x", "3", False),
        ("deduction", "def f():\n    return 3", "", False),
    ]
    asked = []
    for kind, program, inputs, _ in given:
        [result] = executor.validate([ValidationRequest(program, (inputs,))])
        asked.append(Task(kind, program, result.pairs))
    assert copier(asked, executor) == {"abduction": (1, 3), "deduction": (1, 3)}
    for task, (*_, right) in zip(asked, given, strict=True):
        assert copier([task], executor) == {task.type: (int(right), 1)}


def test_interrupted_it_asks_nothing_twice(
    store: Store, executor: Executor, executed: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heldout_scores, "CHUNK", 4)

    class Dies(Solver):
        def generate(self, *arguments: Any, **options: Any) -> list[Group]:
            if self.asked == 8:
                raise KeyboardInterrupt
            return super().generate(*arguments, **options)

    with pytest.raises(KeyboardInterrupt):
        scored(store, executor, executed, Dies(right="123"), "one")
    second = Solver(right="123")
    found = scored(store, executor, executed, second, "one")
    assert second.asked == 12 - 8
    assert len(found["deduction"].correct) == 3
    third = Solver()
    assert scored(store, executor, executed, third, "one") == found
    assert third.asked == 0


def test_a_comparison_pairs_the_tasks(store: Store, executor: Executor, executed: list[Task]) -> None:
    scored(store, executor, executed, Solver(right="12", broken="3456789"), "before")
    scored(store, executor, executed, Solver(right="13456789"), "after")
    found = heldout_scores.compare(store, "deduction", "before", "after").summary()
    assert (len(found["gained"]), len(found["lost"])) == (7, 1)
    assert found["p_value"] == 2 * (1 + 8) / 2**8
    both = found["parsed_by_both"]  # all that was gained was gained by form
    assert (both["tasks"], len(both["gained"]), len(both["lost"]), both["p_value"]) == (3, 0, 1, 1.0)
    text = heldout_scores.compare(store, "deduction", "before", "after").text()
    assert "right 2/10 = 20.0%" in text and "parsed 10/10 = 100.0%" in text
    assert "gained 7, lost 1; exact McNemar p = 0.07: not significant" in text


def test_a_score_belongs_to_what_it_was_made_with(store: Store, executor: Executor, executed: list[Task]) -> None:
    class Quantised(Solver):
        def describe(self) -> dict[str, str | int | float]:
            return super().describe() | {"quantization": "NF4"}

    chat = Solver()
    chat.style, chat.thinking_tokens = "chat", 100
    scored(store, executor, executed, Solver(right="12"), "one")
    assert len(scored(store, executor, executed, Quantised(right="123"), "one")["deduction"].correct) == 3
    found = scored(store, executor, executed, chat, "two")["deduction"].protocol
    assert found["max_new_tokens"] == Config().tasks.proposal_tokens + 100


def test_drawn_answers_are_a_score_of_their_own(store: Store, executor: Executor, executed: list[Task]) -> None:
    config, subject = Config().tasks, Subject("one")
    greedy, drawn = Solver(right="12"), Solver(right="123")
    scored(store, executor, executed, greedy, "one")
    found = heldout_scores.score(drawn, executor, store, executed, config, subject, temperature=1.0)
    assert (greedy.temperatures, drawn.temperatures) == ({0.0}, {1.0})
    assert len(found["deduction"].correct) == 3 and found["deduction"].protocol["temperature"] == 1.0
    for temperature, right in ((0.0, 2), (1.0, 3)):
        compared = heldout_scores.compare(store, "deduction", "one", "one", temperature)
        assert len(compared.before.correct) == right
    with pytest.raises(UserError, match=r"at temperature 0\.5: run"):
        heldout_scores.compare(store, "deduction", "one", "one", 0.5)


def test_scores_of_other_tasks_or_settings_do_not_compare(
    store: Store, executor: Executor, executed: list[Task]
) -> None:
    scored(store, executor, executed, Solver(), "before")
    scored(store, executor, executed[1:], Solver(), "after")
    with pytest.raises(UserError, match=r"scored differently on deduction \(data "):
        heldout_scores.compare(store, "deduction", "before", "after")
    with pytest.raises(UserError, match="nobody has no score"):
        heldout_scores.compare(store, "deduction", "before", "nobody")


def test_no_score_is_compared_without_its_answers(store: Store, executor: Executor, executed: list[Task]) -> None:
    for name in ("before", "after"):
        scored(store, executor, executed, Solver(), name)
    assert heldout_scores.compare(store, "deduction", "before", "after")
    with store.transaction() as connection:
        connection.execute("DELETE FROM evaluation_samples WHERE task_id = ?", (executed[0].id,))
    with pytest.raises(UserError, match="1 of 10 samples behind its score are missing"):
        heldout_scores.compare(store, "deduction", "before", "after")


# --- through the command ----------------------------------------------------------------------------------------------


def azr(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    return int(done.value.code or 0)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AZR_WORKSPACE", str(tmp_path))
    return tmp_path


def test_make_score_and_compare(
    workspace: Path, executed: list[Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert azr("heldout", "score") == 2
    assert "azr heldout make" in capsys.readouterr().err
    assert azr("heldout", "make", "--programs", "0", "--cruxeval", str(cruxeval(workspace))) == 0
    assert "2 held-out programs (2 deduction, 2 abduction tasks)" in capsys.readouterr().out
    heldout.save(executed, workspace / "data" / "heldout.jsonl")
    with Store(workspace / "data" / "azr.sqlite") as store:
        run = store.start_run(Config.model_validate({"model": {"name": "smollm2-135m"}}), {}, {})
        run.record_step(3, proposals=[], tasks=[], attempts=[], metrics={}, timings={})
        policy = Solver(right="1234567")
        path = Checkpoints(workspace / "models").save(run, 3, policy.save, {"resolved": {}})
    monkeypatch.setattr(command, "_load", lambda config: Solver(right="12"))
    assert azr("heldout", "score") == 0
    printed = capsys.readouterr().out
    assert "deduction: right 2/10 = 20.0%" in printed
    assert "; who only copies: 1/10 = 10.0%" in printed  # 0 + 0
    monkeypatch.setattr(command, "_load", lambda config: policy)
    assert azr("heldout", "score", "--resume", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["deduction"]["correct"] == 7
    assert azr("heldout", "compare", "base", str(path)) == 0
    assert "gained 5, lost 0; exact McNemar p = 0.062" in capsys.readouterr().out
    assert azr("heldout", "compare", "base", f"{run.name}/step-0003", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["deduction"]["gained"]) == 5


def test_a_model_is_evaluated_in_a_precision_that_nobody_measured(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Config] = []

    def load(config: Config) -> ScriptedPolicy:
        loaded.append(config)
        return ScriptedPolicy([""])

    monkeypatch.setattr(command, "_load", load)
    trained = Config.model_validate({"model": {"lora_rank": 4}})
    run = store.start_run(trained, {}, {})
    state = {"resolved": {"generation_precision": "bfloat16", "update_precision": "bfloat16", "threads": 1}}
    checkpoint = load_checkpoint(Checkpoints(tmp_path / "models").save(run, 1, ScriptedPolicy([""]).save, state))
    command.load_subject(Config(), store, None)
    _, subject = command.load_subject(Config(), store, checkpoint)
    asked = Config.model_validate({"model": {"generation_precision": "bfloat16"}})
    command.load_subject(asked, store, checkpoint)
    precisions = [(config.model.generation_precision, config.model.update_precision) for config in loaded]
    assert precisions == [("float32", "float32")] * 2 + [("bfloat16", "bfloat16")]
    assert [config.model.lora_rank for config in loaded] == [16, 4, 4]
    assert subject != untrained(trained.model.name)
