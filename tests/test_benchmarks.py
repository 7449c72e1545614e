"""Reading the benchmarks: every published format, and what is wrong with a file in one line."""

from __future__ import annotations

import gzip
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from azr.errors import UserError
from azr.evaluation import benchmarks
from azr.evaluation.benchmarks import NAMES, load, mbpp, names_of, source
from azr.evaluation.benchmarks.evalplus import restore_types
from azr.evaluation.problems import Assertions, CheckProgram, FunctionCalls, Inputs, StandardInput
from azr.executor.wire import unpack

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def one():\n    """One."""\n',
    "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}
MBPP = {
    "task_id": 11,
    "text": "Add.",
    "code": "import math\ndef add(a, b):\r\n    return a + b",
    "test_list": ["assert add(1, add(1, 1)) == 3", "assert math.isclose(add(0.1, 0.2), 0.3)"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
SANITIZED = {
    "task_id": 12,
    "prompt": "Add.",
    "code": "def add(a, b):\n    return a + b",
    "test_list": ["assert add(1, 2) == 3"],
    "test_imports": ["import math"],
}
PLUS = {**HUMANEVAL, "base_input": [[]], "plus_input": [[]], "atol": 0, "contract": ""}
CRUX = {"id": "sample_0", "code": "def f(a): return a", "input": "1", "output": "1"}
APPS = {
    "id": 4,
    "question": "Echo.",
    "solutions": json.dumps(["print(input())"]),
    "input_output": json.dumps({"inputs": ["1\n"], "outputs": ["1\n"]}),
    "difficulty": "introductory",
    "starter_code": "",
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "file", "row", "task", "kind"),
    [
        ("humaneval", "HumanEval.jsonl.gz", HUMANEVAL, "HumanEval/0", CheckProgram),
        ("humaneval", "HumanEval.jsonl", HUMANEVAL, "HumanEval/0", CheckProgram),
        ("humaneval+", "HumanEvalPlus.jsonl.gz", PLUS, "HumanEval/0", Inputs),
        ("humaneval+", "HumanEvalPlus.jsonl", HUMANEVAL, "HumanEval/0", CheckProgram),  # the hub's format
        ("mbpp", "mbpp.jsonl", MBPP, "11", Assertions),
        ("mbpp", "sanitized-mbpp.json", SANITIZED, "12", Assertions),
        ("cruxeval-i", "cruxeval.jsonl", CRUX, "sample_0", object),
        ("cruxeval-o", "cruxeval.jsonl", CRUX, "sample_0", object),
        ("apps", "test.jsonl", APPS, "4", StandardInput),
    ],
)
def test_each_format_as_a_file_and_in_a_folder(
    name: str, file: str, row: dict[str, Any], task: str, kind: type, tmp_path: Path
) -> None:
    path = write(tmp_path / file, [row])
    for given in (path, tmp_path):
        benchmark = load(name, given)
        assert [problem.id for problem in benchmark.problems] == [task]
        assert isinstance(benchmark.problems[0].checks[0], kind)
        assert benchmark.source == str(path)
    other = write(tmp_path / ("copy" + path.suffix if path.suffix != ".gz" else "copy.jsonl.gz"), [row])
    assert load(name, other).digest == benchmark.digest


def test_calls_of_the_solution_are_taken_out_of_the_asserts() -> None:
    [check] = mbpp.parse(MBPP).checks
    assert isinstance(check, Assertions)
    assert check.calls == ("add(1, add(1, 1))", "add(0.1, 0.2)")
    assert check.tests == ("assert __answers__[0] == 3", "assert math.isclose(__answers__[1], 0.3)")
    assert "import math" in check.prelude


def test_apps_with_values_instead_of_json_text_and_with_a_function() -> None:
    tests = {"fn_name": "g", "inputs": [[{"1": 2}]], "outputs": [[3]]}
    problem = benchmarks.apps.parse({**APPS, "input_output": tests, "problem_id": 9})
    [check] = problem.checks
    assert isinstance(check, FunctionCalls)
    assert (problem.id, unpack(check.args[0])) == ("9", [{1: 2}])


def test_integers_of_any_length_are_read(tmp_path: Path) -> None:
    row = {**APPS, "input_output": '{"inputs": [["' + "1" * 9000 + '"]], "outputs": [' + "1" * 9000 + "]}"}
    [problem] = load("apps", write(tmp_path / "test.jsonl", [row])).problems
    assert problem.checks


def test_a_bare_number_of_any_length_is_read_too(tmp_path: Path) -> None:
    row = json.dumps({**APPS, "input_output": 0}).replace('"input_output": 0', f'"input_output": {"1" * 9000}')
    (tmp_path / "test.jsonl").write_text(row + "\n")
    with pytest.raises(UserError, match="record 1"):
        load("apps", tmp_path / "test.jsonl")
    assert benchmarks._digest([{"a": 10**9000}]) != benchmarks._digest([{"a": 10**9000 + 1}])


def test_ids_are_text_and_an_output_that_is_no_literal_is_left_out(tmp_path: Path) -> None:
    [problem] = load("humaneval", write(tmp_path / "HumanEval.jsonl", [{**HUMANEVAL, "task_id": 7}])).problems
    assert problem.id == "7"
    rows = [CRUX, {**CRUX, "id": "sample_x", "output": "<object>"}]
    for name in ("cruxeval-i", "cruxeval-o"):
        found = load(name, write(tmp_path / "cruxeval.jsonl", rows))
        assert ([p.id for p in found.problems], found.untested) == ([CRUX["id"]], ("sample_x",))


def test_evalplus_types() -> None:
    assert restore_types(2, [[1, 2], [3]]) == [(1, 2), (3,)]
    assert restore_types(63, [[[1, 2], [3]]]) == [[(1, 2), (3,)]]
    assert restore_types(252, ["1j"]) == [1j]
    assert restore_types(580, [[1, [2, [3]]]]) == [(1, (2, (3,)))]
    assert restore_types(1, [[1]]) == [[1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no problem"),
        (b"not json\n", "line 1 is not JSON"),
        (b'{"task_id": 1}\n', "record 1 lacks 'prompt'"),
        (b"[1]\n", "record 1 is no JSON object"),
        (b"\xff\xfe", "cannot be read"),
        (b"\x1f\x8bgarbage", "cannot be read"),
        (gzip.compress(b"[]" * 999)[:-20] + b"\0" * 20, "cannot be read"),
        (gzip.compress(bytes(range(256)) * 9)[:40] + b"\xff" * 40, "cannot be read"),
        (b'{"a": ' + b"[" * 100_000, "line 1 is not JSON"),
        ((json.dumps(HUMANEVAL) + "\n").encode() * 2, "comes twice (record 2)"),
    ],
)
def test_a_file_in_another_format_is_named_with_the_record(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load("humaneval", path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_without_a_network_the_local_option_is_named() -> None:
    with pytest.raises(UserError, match=r"--benchmark-path FILE\|FOLDER"):
        load("cruxeval-o")


@pytest.mark.parametrize("reachable", [True, False])
def test_the_hubs_client_does_not_retry_where_the_hub_does_not_answer(
    reachable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = types.SimpleNamespace(HF_HUB_OFFLINE=None)

    def load_dataset(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        assert clients.HF_HUB_OFFLINE is not reachable
        return [CRUX]

    monkeypatch.setattr(source, "hub_reachable", lambda: reachable)
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    for name in ("datasets.config", "huggingface_hub.constants"):
        monkeypatch.setitem(sys.modules, name, clients)
    assert len(load("cruxeval-o").problems) == 1


def test_the_hubs_mbpp_holds_the_shots_and_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        asked.append((arguments, options))
        return [{**MBPP, "task_id": number} for number in (1, 2, 3, 4, 11)]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    problems = load("mbpp").problems
    assert asked == [(("google-research-datasets/mbpp", "full"), {"split": "prompt+test"})]
    assert [problem.id for problem in problems if problem.tags["split"] == "test"] == ["11"]


def test_an_empty_folder_names_the_files_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"looked for mbpp\.jsonl"):
        load("mbpp", tmp_path)


def test_names() -> None:
    assert names_of("all") == NAMES
    assert names_of("MBPP, humaneval,mbpp") == ("mbpp", "humaneval")
    for wrong in ("", "mbp", "humaneval,mbp"):
        with pytest.raises(UserError, match="choose among"):
            names_of(wrong)
