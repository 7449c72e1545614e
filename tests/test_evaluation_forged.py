"""Forged answers: a solution's process may send anything in place of what the harness would have sent."""

from __future__ import annotations

from typing import Any

import pytest
from driven_sandbox import Driven, one_problem

from azr.evaluation.scoring import Scorer
from azr.executor.programs import Program, ProgramResult


@pytest.mark.parametrize(
    "answers",
    [5, "ab", {"v": 1}, [5], ["v"], [[]], [{}], [{"v": {"s": [1]}}], [{"v": 1, "e": 2}], [{"e": {"e": 1}}], [],
     [{"v": 1}], [{"v": 1}, {"v": [[[]]]}], [{"v": 10**4000}, {"v": 2}], [{"v": 1}, {"h": 7}], [{"v": "1"}, {"v": 2}]],
)  # fmt: skip
def test_forged_answers_fail_and_stop_nothing(answers: Any) -> None:
    def forge(program: Program) -> ProgramResult:
        if program.mode == "compare":
            return ProgramResult("crashed", "the comparison's process takes no such answers")
        solution = "stop" in program.job  # else the reference
        return ProgramResult("ok", value={"answers": answers if solution else [{"v": 1}, {"v": 2}]})

    problem = one_problem("return x", [[1], [2]], [])
    [score] = Scorer(Driven(forge)).score([(problem, "def one(x): return x")])
    assert not score.correct
