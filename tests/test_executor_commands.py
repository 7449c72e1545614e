# ruff: noqa: E501  (tables of cases)
"""The executor's commands: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azr.errors import UserError
from azr.executor import Executor
from azr.executor.commands import _InOrder, grade_stream, open_lines, validate_stream


def run(stream: Any, executor: Executor, *lines: Any) -> tuple[int, list[dict[str, Any]]]:
    out = io.StringIO()
    code = stream([line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines], out, executor)
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def test_validate_lines(executor: Executor) -> None:
    code, found = run(
        validate_stream, executor,
        {"program": "def f(a, b): return [a, b]", "input": "1, [2],", "unknown": 1},
        {"program": "def f(): print(1)", "input": ""},
        b"  \n",
        {"program": "def f(a): return a", "inputs": ["1", "'\\ud800'"]},
        {"program": "def f(a): return id(a)", "input": "[]"},
        {"program": "def f(a): return 1 / a", "inputs": ["1", "0"]},
    )  # fmt: skip
    assert code == 0
    for answer in (found[0], found[1], found[2]):
        assert answer.pop("cpu_ms") > 0
    assert found == [
        {"status": "ok", "output": "[1, [2]]"}, {"status": "ok", "output": "None"},
        {"status": "ok", "outputs": ["1", "'\\ud800'"]},
        {"status": "nondeterministic", "reason": "another result in another world"},
        {"status": "exception", "reason": "ZeroDivisionError", "failed_input": 1},
    ]  # fmt: skip


def test_an_answer_is_written_when_it_and_those_before_it_are_known() -> None:
    def waiting(answer: dict[str, Any]) -> Any:
        yield
        return answer

    out = io.StringIO()
    in_order = _InOrder(out)
    works = [in_order.written(position, waiting({"line": position})) for position in range(3)]
    for work in works:
        next(work)
    for position, lines in ((1, 0), (0, 2), (2, 3)):
        with pytest.raises(StopIteration):
            next(works[position])
        assert out.getvalue().count("\n") == lines
    assert [json.loads(line)["line"] for line in out.getvalue().splitlines()] == [0, 1, 2]


def test_malformed_lines_get_a_line_of_their_own(executor: Executor) -> None:
    good = {"program": "def f(a): return a", "input": "1"}
    bad: list[Any] = [
        b"nonsense", b"[1]", b"\xff", b"[" * 100_000, b"null", {"program": "x"}, {"program": 1, "input": "1"},
        {"program": "x", "inputs": "1"}, {"program": "x", "inputs": []}, {"program": "x", "inputs": [1]}, {"input": "1"},
    ]  # fmt: skip
    code, found = run(validate_stream, executor, good, *bad, good)
    assert code == 1
    assert found[0]["status"] == found[-1]["status"] == "ok"
    assert [answer["line"] for answer in found[1:-1]] == list(range(2, 2 + len(bad)))
    assert all(answer["error"].startswith(f"line {answer['line']}: ") for answer in found[1:-1])


def test_malformed_grade_lines(executor: Executor) -> None:
    bad: list[Any] = [
        {"type": "other", "answer": "1"}, {"answer": "1"}, {"type": "deduction", "program": "x", "answer": "1"},
        {"type": "abduction", "program": "x", "answer": "1"}, {"type": "abduction", "program": "x", "output": "f(1)", "answer": "1"},
        {"type": "induction", "answer": "x"}, {"type": "induction", "pairs": [], "answer": "x"},
        {"type": "induction", "pairs": [["1"]], "answer": "x"}, {"type": "induction", "pairs": [[1, 2]], "answer": "x"},
        {"type": "deduction", "output": "1", "answer": 1}, {"type": "deduction", "output": "nan", "answer": "nan"},
        {"type": "induction", "pairs": [["1", "[nan]"]], "answer": "def f(a): return [float('nan')]"},
    ]  # fmt: skip
    code, found = run(grade_stream, executor, *bad, {"type": "deduction", "output": "1", "answer": "1"})
    assert code == 1
    assert all("error" in answer for answer in found[:-1])
    assert found[-1] == {"correct": True, "status": "ok"}


def test_an_answer_does_not_wait_for_the_next_line(executor: Executor) -> None:
    """As over a pipe, where the other side writes its next line only when it has read the answer to the last."""
    out = io.StringIO()

    def lines() -> Iterator[bytes]:
        for number in range(5):
            yield json.dumps({"program": "def f(a): return a", "input": str(number)}).encode()
            deadline = time.monotonic() + 60
            while out.getvalue().count("\n") <= number:
                assert time.monotonic() < deadline
                time.sleep(0.005)

    assert validate_stream(lines(), out, executor) == 0
    assert [json.loads(line)["output"] for line in out.getvalue().splitlines()] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("command", "line", "answer"),
    [
        ("validate", {"program": "def f(a): return a", "input": "1,"}, {"status": "ok", "output": "1"}),
        ("grade", {"type": "deduction", "output": "4", "answer": "3+1"}, {"correct": False, "status": "not_a_value"}),
    ],
)
def test_the_command_itself(command: str, line: dict[str, Any], answer: dict[str, Any]) -> None:
    text = json.dumps(line) + "\nnonsense\n"
    arguments = [sys.executable, "-m", "azr", command, "-", "--set", "executor.lanes=1"]
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, check=False)
    first, second = map(json.loads, done.stdout.splitlines())
    first.pop("cpu_ms", None)
    assert (done.returncode, first, second["line"]) == (1, answer, 2)
    assert done.stderr.startswith("executor: 1 lanes") and done.stderr.count("\n") == 1


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        open_lines(str(tmp_path / "none.jsonl"))


def test_importing_the_executor_imports_no_torch() -> None:
    code = "import sys, azr.executor, azr.executor.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
