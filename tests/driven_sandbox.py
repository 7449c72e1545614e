"""A sandbox whose every program goes through a function of the test's own, and a problem to try it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from test_benchmarks import HUMANEVAL

from azr.evaluation.benchmarks import evalplus
from azr.evaluation.problems import Problem
from azr.evaluation.scoring import Sandbox, Work
from azr.executor.programs import Program, ProgramResult


class Driven:
    """Answers each program with what `run` returns for it."""

    def __init__(self, run: Callable[[Program], ProgramResult]) -> None:
        self.run = run

    def drive(self, works: Iterable[Work]) -> list[Any]:
        return [self._driven(work) for work in works]

    def _driven(self, work: Work) -> Any:
        result = None
        while True:
            try:
                program = work.send(result)  # type: ignore[arg-type]
            except StopIteration as end:
                return end.value
            result = self.run(program)


def run_alone(sandbox: Sandbox, program: Program) -> ProgramResult:
    def alone() -> Work:
        return (yield program)

    [result] = sandbox.drive([alone()])
    assert isinstance(result, ProgramResult)
    return result


def one_problem(body: str, base: Sequence[Sequence[Any]], plus: Sequence[Sequence[Any]]) -> Problem:
    """EvalPlus' format: `one(x)` with a reference and its inputs."""
    row = {**HUMANEVAL, "prompt": "def one(x):\n", "canonical_solution": f"    {body}\n", "contract": "", "atol": 0}
    return evalplus.parse_humaneval({**row, "base_input": base, "plus_input": plus})
