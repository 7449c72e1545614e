"""One problem of a benchmark: what the model is told, and how a solution is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CheckProgram:
    """The benchmark's own test program, which calls the candidate: HumanEval's `check`, or a script."""

    prelude: str  # helper functions that the tests use
    source: str
    entry: str
    reference: str  # a whole program


@dataclass(frozen=True, slots=True)
class Assertions:
    """Statements such as `assert f(1) == 2`. The calls of the solution are apart: they run beside the solution."""

    calls: tuple[str, ...]  # expressions
    tests: tuple[str, ...]  # the statements, with `__answers__[i]` in place of call i
    prelude: str  # imports and definitions that the statements use
    setup: str  # runs after the solution, before the calls


@dataclass(frozen=True, slots=True)
class Inputs:
    """Argument lists on which a solution must agree with the reference solution (EvalPlus)."""

    entry: str
    args: tuple[Any, ...]  # packed argument lists
    reference: str
    atol: float
    oracle: str = ""  # a rule of its own in comparison.py


@dataclass(frozen=True, slots=True)
class StandardInput:
    """A program reads text and writes text (APPS)."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FunctionCalls:
    """A function, or a method of `Solution`, called with arguments (APPS)."""

    entry: str
    args: tuple[Any, ...]  # packed argument lists
    outputs: tuple[Any, ...]  # JSON values


@dataclass(frozen=True, slots=True)
class OutputPrediction:
    """The answer is the literal that `program` returns (CRUXEval-O)."""

    program: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class InputPrediction:
    """The answer is an argument list, as literals, for which `program` returns `output` (CRUXEval-I)."""

    program: str
    input: str  # the benchmark's own; an expression
    output: str


Check = CheckProgram | Assertions | Inputs | StandardInput | FunctionCalls | OutputPrediction | InputPrediction


@dataclass(frozen=True, slots=True)
class Problem:
    """`checks` must all pass. `text` is the task in words, `stub` the code that a completion continues, if any."""

    benchmark: str
    id: str  # the benchmark's own
    text: str
    checks: tuple[Check, ...]
    reference: str  # a solution, in the form of the model's answer
    stub: str = ""
    entry: str = ""
    examples: tuple[str, ...] = ()  # asserts that the prompt may show
    tags: Mapping[str, str] = field(default_factory=dict)  # such as the difficulty


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A loaded benchmark. `digest` is the sha256 of its data, so that a protocol names it."""

    name: str
    problems: tuple[Problem, ...]
    digest: str
    source: str  # where it was read from
    untested: tuple[str, ...] = ()  # ids of problems that were published without tests: nobody is judged by them


class Untested(Exception):
    """A row without tests. Its text is the problem's id."""
