# ruff: noqa: E501  (a program in one line)
"""The executor agrees with published results: outputs of CRUXEval, solutions of HumanEval and MBPP."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from typing import Any

from executor_requests import induction

from azr.config import ExecutorConfig
from azr.executor import Executor, Status, ValidationRequest, encode


def _lines(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def test_cruxeval_validates_with_its_own_outputs(executor: Executor, benchmark_data: Path) -> None:
    """The problems whose input is a literal: 389, and one more that is so but for its trailing comma."""
    problems = [
        problem for problem in _lines(benchmark_data / "cruxeval_half.jsonl.gz") if _is_literal(problem["input"])
    ]
    assert len(problems) == 390
    found = executor.validate([ValidationRequest(problem["code"], (problem["input"],)) for problem in problems])
    for problem, result in zip(problems, found, strict=True):
        assert result.status is Status.OK, (problem, result)
        gold = ast.literal_eval(problem["output"])
        assert result.pairs[0].gold == encode(gold), (problem, result)
        assert result.pairs[0].output == problem["output"]


def _is_literal(arguments: str) -> bool:
    try:
        ast.literal_eval(f"({arguments.rstrip(',')},)")
    except (ValueError, SyntaxError):
        return False
    return True


def test_humaneval_solutions_run(executor: Executor, benchmark_data: Path) -> None:
    requests = []
    for problem in _lines(benchmark_data / "HumanEval.jsonl.gz"):
        call = (
            f"\n\ndef _run():\n    check(_solution)\n    return True\n_solution, f = {problem['entry_point']}, _run\n"
        )
        program = problem["prompt"] + problem["canonical_solution"] + "\n" + problem["test"] + call
        requests.append(induction(program, ("", True)))
    with Executor(ExecutorConfig(lanes=2, cpu_seconds=20.0)) as patient:  # a few tests compute for seconds
        found = patient.grade(requests)
    assert len(found) == 164
    assert [position for position, (verdict,) in enumerate(found) if not verdict.correct] == []


def test_mbpp_solutions_run(executor: Executor, benchmark_data: Path) -> None:
    requests = []
    for problem in _lines(benchmark_data / "mbpp.jsonl"):
        tests = "\n    ".join(problem["test_list"])
        program = f"{problem['code']}\n{problem['test_setup_code']}\n_tests = lambda: None\ndef _run():\n    {tests}\n    return True"
        requests.append(induction(program.replace("def f(", "def f_(") + "\nf = _run", ("", True)))
    with Executor(ExecutorConfig(lanes=2, cpu_seconds=20.0)) as patient:
        found = patient.grade(requests)
    failed = {requests[i].program: verdict.status for i, (verdict,) in enumerate(found) if not verdict.correct}
    assert len(found) == 974
    assert failed == {}
