"""What tests ask of the executor."""

from __future__ import annotations

from typing import Any

from azr.executor import Executor, InductionRequest, Validation, ValidationRequest, encode
from azr.records import Pair

LIMIT = 0.6  # CPU seconds
SLOW = "def f(a):\n    while True: pass"


def validate(executor: Executor, program: str, *inputs: str) -> Validation:
    [found] = executor.validate([ValidationRequest(program, inputs or ("3",))])
    return found


def induction(program: str, *pairs: tuple[str, Any]) -> InductionRequest:
    return InductionRequest(program, tuple(Pair(text, repr(value), encode(value)) for text, value in pairs))
