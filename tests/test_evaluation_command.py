"""`azr eval` as it is called: a model, ready-made solutions, comparison, self-test, contamination."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_up_store
import pytest
from test_benchmarks import MBPP, write
from test_evaluation import CountingPolicy, row

from azr import cli
from azr.checkpoint import Checkpoints
from azr.config import Config
from azr.errors import UserError
from azr.evaluation import benchmarks, command
from azr.evaluation.problems import Benchmark
from azr.evaluation.solutions import read_solutions
from azr.records import Pair, Task
from azr.rows import EvaluationSampleRow, TaskRow
from azr.store import Evaluation, Store


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    path = tmp_path_factory.mktemp("data") / "HumanEval.jsonl"
    return benchmarks.load("humaneval", write(path, [row(number) for number in range(4)]))


def azr(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    return int(done.value.code or 0)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AZR_WORKSPACE", str(tmp_path))
    write(tmp_path / "HumanEval.jsonl", [row(number) for number in range(4)])
    return tmp_path


def test_solutions_in_every_form(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        workspace / "mine.jsonl",
        [
            {"task_id": "HumanEval/0", "solution": "def one0(): return 0"},
            {"task_id": "HumanEval/1", "completion": "    return 1"},
            {"task_id": 2, "completion": "    return 'no'", "solution": "def one2(): return 2"},
        ],
    )
    data = str(workspace / "HumanEval.jsonl")
    samples = workspace / "samples.jsonl"
    options = ["--benchmark", "humaneval", "--benchmark-path", data, "--solutions", str(file), "--json"]
    for _ in range(2):  # the same command twice gives the same score
        assert azr("eval", *options, "--jsonl", str(samples)) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["pass@1"] == 0.75 and found["tasks"] == 4 and found["excluded"] == 0
        assert found["failures"] == {"missing": 1}
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [(line["task_id"], line["correct"], line["status"]) for line in lines] == [
        ("HumanEval/0", True, "ok"),
        ("HumanEval/1", True, "ok"),
        ("HumanEval/2", True, "ok"),
        ("HumanEval/3", False, "missing"),
    ]


def test_solutions_exclude_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(workspace / "bad.jsonl", [row(0), {**row(1), "canonical_solution": "    return 5\n"}])
    file = write(
        workspace / "mine.jsonl", [{"task_id": f"HumanEval/{n}", "completion": f"    return {n}"} for n in (0, 1)]
    )
    options = ["--benchmark", "humaneval", "--benchmark-path", str(data), "--solutions", str(file), "--json"]
    assert azr("eval", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tasks"], found["excluded"]) == (2, 0)
    assert azr("eval", *options[:-1], "--k", "1,10") == 2
    assert "pass@10 needs as many solutions of a task" in capsys.readouterr().err


def test_solutions_of_problems_without_tests_are_ignored(
    workspace: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tests = {"inputs": ["1\n"], "outputs": ["1\n"]}
    rows: list[dict[str, Any]] = [
        {"problem_id": 0, "question": "Echo.", "input_output": tests, "solutions": ["print(input())"]},
        *({"problem_id": n, "question": "", "input_output": none} for n, none in enumerate(("", "{}", {}), 1)),
    ]
    data = write(workspace / "test.jsonl", rows)
    file = write(workspace / "mine.jsonl", [{"problem_id": n, "solution": "print(input())"} for n in range(4)])
    assert azr("eval", "--benchmark", "apps", "--benchmark-path", str(data), "--solutions", str(file), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tasks"], found["pass@1"]) == (1, 1.0)
    assert "3 problems have no tests and are left out: 1, 2, 3" in caplog.text


def test_the_own_prefix_or_none_names_a_task(tmp_path: Path) -> None:
    mbpp = benchmarks.load("mbpp", write(tmp_path / "mbpp.jsonl", [MBPP]))
    for given in (11, "11", "Mbpp/11", "MBPP/11"):
        file = write(tmp_path / "mine.jsonl", [{"task_id": given, "solution": "a = 1"}])
        assert read_solutions(file, mbpp) == {"11": ["a = 1"]}
    with pytest.raises(UserError, match="'HumanEval/11' is no task of mbpp"):
        read_solutions(write(tmp_path / "mine.jsonl", [{"task_id": "HumanEval/11", "solution": ""}]), mbpp)


def test_several_solutions_a_task_are_samples(benchmark: Benchmark, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", [{"id": "HumanEval/1", "solution": text} for text in ("a = 1", "b = 2")])
    assert read_solutions(file, benchmark) == {"HumanEval/1": ["a = 1", "b = 2"]}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"task_id": "HumanEval/99", "solution": ""}, "'HumanEval/99' is no task of humaneval"),
        ({"task_id": "Mbpp/1", "solution": ""}, "'Mbpp/1' is no task of humaneval"),
        ({"solution": "x"}, "no id is no task"),
        ({"task_id": "HumanEval/1"}, "give the program as text"),
        ({"task_id": "HumanEval/1", "solution": 5}, "give the program as text"),
    ],
)
def test_solutions_that_cannot_be_read(
    record: dict[str, Any], message: str, benchmark: Benchmark, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="record 1") as error:
        read_solutions(write(tmp_path / "mine.jsonl", [record]), benchmark)
    assert message in str(error.value)


def test_selftest_and_its_exit_status(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(workspace / "HumanEval.jsonl")
    assert azr("eval", "selftest", "--benchmark", "humaneval", "--benchmark-path", data) == 0
    assert "4 of 4 reference solutions pass" in capsys.readouterr().out
    write(workspace / "bad.jsonl", [{**row(0), "canonical_solution": "    return 7\n"}])
    bad = str(workspace / "bad.jsonl")
    assert azr("eval", "selftest", "--benchmark", "humaneval", "--benchmark-path", bad, "--json") == 1
    assert json.loads(capsys.readouterr().out)["humaneval"]["passed"] == 0


def test_a_model_and_the_same_command_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = CountingPolicy({0, 1, 2})
    monkeypatch.setattr(command, "_load", lambda config: policy)
    options = ["eval", "--benchmark", "humaneval", "--benchmark-path", str(workspace / "HumanEval.jsonl")]
    found = []
    for more in ([], [], ["--rescore"]):
        assert azr(*options, "--json", *more) == 0
        found.append(json.loads(capsys.readouterr().out))
        with Store(workspace / "data" / "azr.sqlite") as store, store.transaction() as connection:
            if len(found) == 2:  # what --rescore has to mend
                connection.execute("UPDATE evaluation_samples SET correct = 0, status = 'wrong'")
    assert found[0] == found[1] == found[2]
    assert len(policy.prompts) == 4  # nothing was generated twice
    first = found[0]
    assert (first["pass@1"], first["tasks"], first["excluded"], first["failures"]) == (0.75, 4, 0, {"wrong": 1})
    assert first["subject"] == "untrained smollm2-135m" and first["protocol"]["name"] == "completion"
    assert first["interval"][0] < 0.75 < first["interval"][1] and len(first["protocol_hash"]) == 16
    assert azr(*options) == 0
    assert "beside it, same protocol" not in capsys.readouterr().out  # four tasks are not HumanEval


def test_samples_are_written_as_they_count(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_load", lambda config: CountingPolicy({0, 1, 2}))
    options = ["eval", "--benchmark", "humaneval", "--benchmark-path", str(workspace / "HumanEval.jsonl")]
    options += ["--temperature", "0.5"]
    assert azr(*options, "--samples", "2") == 0
    assert azr(*options, "--max-tasks", "2", "--jsonl", str(workspace / "samples.jsonl")) == 0
    lines = [json.loads(line) for line in (workspace / "samples.jsonl").read_text().splitlines()]
    assert [(line["benchmark"], line["sample"]) for line in lines] == [("humaneval", 0)] * 2


def test_the_base_of_a_checkpoint_is_the_model_that_it_began_with(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Named(CountingPolicy):
        def save(self, folder: Path) -> None:
            super().save(folder)
            (folder / "policy.json").write_text(json.dumps({"count": 0, "fingerprint": "aa"}))

    options = ["--benchmark", "humaneval", "--benchmark-path", str(workspace / "HumanEval.jsonl")]
    for fingerprint, solved in (("aa", {0}), ("bb", {0, 1, 2})):
        policy = Named(solved)
        policy.more = {"fingerprint": fingerprint}
        monkeypatch.setattr(command, "_load", lambda config, policy=policy: policy)
        assert azr("eval", *options, "--set", "model.name=other") == 0
    with Store(workspace / "data" / "azr.sqlite") as store:
        run = store.start_run(Config.model_validate({"model": {"name": "other"}}), {}, {"fingerprint": "aa"})
        run.record_step(3, proposals=[], tasks=[], attempts=[], metrics={}, timings={})
        Checkpoints(workspace / "models").save(run, 3, Named(set()).save, {"resolved": {}})
    monkeypatch.setattr(command, "_load", lambda config: Named({0, 1}))
    assert azr("eval", *options, "--resume", "models/checkpoint-0003") == 0
    capsys.readouterr()
    for checkpoint in ("models/checkpoint-0003", f"{run.name}/step-0003"):  # found from the workspace; in the store
        assert azr("eval", "compare", "base", checkpoint, "--benchmark", "humaneval", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["first"], found["gained"], found["lost"]) == ("untrained other aa", ["HumanEval/1"], [])
    named = ["eval", "compare", "base", "untrained other aa", "--benchmark", "humaneval", "--set", "model.name=other"]
    assert azr(*named) == 2
    assert "base is not one model: untrained other aa, untrained other bb" in capsys.readouterr().err


def test_two_models_are_compared(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--benchmark", "humaneval", "--benchmark-path", str(workspace / "HumanEval.jsonl")]
    for name, solved in (("smollm2-135m", {0, 1}), ("other", {1, 2, 3})):
        policy = CountingPolicy(solved)
        monkeypatch.setattr(command, "_load", lambda config, policy=policy: policy)
        assert azr("eval", *options, "--set", f"model.name={name}") == 0
    capsys.readouterr()
    assert azr("eval", "compare", "base", "untrained other", "--benchmark", "humaneval", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["gained"], found["lost"]) == (["HumanEval/2", "HumanEval/3"], ["HumanEval/0"])
    assert (found["p_value"], found["significant"], found["tasks"]) == (1.0, False, 4)
    assert azr("eval", "compare", "base", "nobody", "--benchmark", "humaneval") == 2
    assert "never evaluated" in capsys.readouterr().err


def test_contamination_shows_the_scores_with_and_without(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "def total(values):\n    result = 0\n    for value in values:\n        result += value % 2\n    return result"
    )
    rows = [{**MBPP, "code": source, "test_list": ["assert total([1]) == 1"]}, {**MBPP, "task_id": 12}]
    data = write(workspace / "mbpp.jsonl", rows)
    with Store(workspace / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        task = Task("deduction", source.replace("value", "x"), (Pair("[1]", "1", b""),))
        run.record_step(1, proposals=[], tasks=[TaskRow(task, "proposed", 1.0)], attempts=[], metrics={}, timings={})
        evaluation = Evaluation.open(store, "untrained x", "mbpp", {}, "ab", run=None)
        samples = [EvaluationSampleRow(n, 0, "", "", "ok", n == "11", 1, "stop", 0.1) for n in ("11", "12")]
        evaluation.record(samples)
        evaluation.finish({"samples": 2})
    options = ["eval", "contamination", "--benchmark", "mbpp", "--benchmark-path", str(data)]
    assert azr(*options) == 0
    text = capsys.readouterr().out
    assert "1 of 2 tasks overlap with 1 self-play programs" in text
    assert "untrained x: 50.0% with them, 0.0% without" in text
    assert azr(*options, "--json") == 0
    assert {hit["task"] for hit in json.loads(capsys.readouterr().out)["mbpp"]["hits"]} == {"11"}


def test_progress_tells_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(command.time, "monotonic", lambda: now)
    with command.showing() as progress:
        for second, done in ((0.0, 0), (10.0, 1), (60.0, 5), (120.0, 10)):
            now = second
            progress("generating", done, 20)
    assert capsys.readouterr().err == (
        "generating: 5 of 20, about 3 min left\ngenerating: 10 of 20, about 2 min left\n"
    )


def test_what_cannot_be_written_is_told_before_anything_runs(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "load_subject", None)
    data = str(workspace / "HumanEval.jsonl")
    assert (
        azr("eval", "--benchmark", "humaneval", "--benchmark-path", data, "--jsonl", str(workspace / "no" / "x")) == 2
    )
    assert "choose another file for the samples" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "selftest", "contamination"])
def test_options_that_would_be_dropped_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("base", "other") if command == "compare" else ()
    assert azr("eval", "--benchmark", "humaneval", "--k", "banana", command, *names) == 2
    assert f"--benchmark before {command} has no effect: write it after" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["~nosuchuser/x", "a" * 300])
def test_a_path_that_cannot_be_looked_for_is_one_line(path: str, workspace: Path, capsys: Any) -> None:
    for arguments in (
        ["--resume", path],
        ["--benchmark", "humaneval", "--benchmark-path", path],
        ["compare", "base", path],
    ):
        with Store(workspace / "data" / "azr.sqlite"):
            assert azr("eval", *arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
