"""Forged answers: a solution's process may send anything in place of what the harness would have sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from test_benchmarks import HUMANEVAL

from azr.evaluation.benchmarks import evalplus
from azr.evaluation.scoring import Scorer, Work
from azr.executor.programs import ProgramResult


class Forging:
    """A sandbox whose solutions send whatever they like in place of the harness's answers."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers

    def drive(self, works: Iterable[Work]) -> list[Any]:
        return [self.driven(work) for work in works]

    def driven(self, work: Work) -> Any:
        result = None
        while True:
            try:
                program = work.send(result)  # type: ignore[arg-type]
            except StopIteration as end:
                return end.value
            if program.mode == "compare":
                result = ProgramResult("crashed", "the comparison's process takes no such answers")
            elif "stop" in program.job:  # a solution, not the reference
                result = ProgramResult("ok", value={"answers": self.answers})
            else:
                result = ProgramResult("ok", value={"answers": [{"v": 1}, {"v": 2}]})


@pytest.mark.parametrize(
    "answers",
    [5, "ab", {"v": 1}, [5], ["v"], [[]], [{}], [{"v": {"s": [1]}}], [{"v": 1, "e": 2}], [{"e": {"e": 1}}], [],
     [{"v": 1}], [{"v": 1}, {"v": [[[]]]}], [{"v": 10**4000}, {"v": 2}], [{"v": 1}, {"h": 7}], [{"v": "1"}, {"v": 2}]],
)  # fmt: skip
def test_forged_answers_fail_and_stop_nothing(answers: Any) -> None:
    row = {
        **HUMANEVAL,
        "prompt": "def one(x):\n",
        "canonical_solution": "    return x\n",
        "contract": "",
        "atol": 0,
    }
    problem = evalplus.parse_humaneval({**row, "base_input": [[1], [2]], "plus_input": []})
    [score] = Scorer(Forging(answers)).score([(problem, "def one(x): return x")])
    assert not score.correct
