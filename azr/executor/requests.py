"""What can be asked of the executor, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from azr.records import Pair


class Status(StrEnum):
    """How a program or an answer fared. Anything but OK is no value."""

    OK = "ok"
    SYNTAX_ERROR = "syntax_error"
    NO_FUNCTION = "no_function"  # it defines no function `f`
    EXCEPTION = "exception"  # the reason is the name of the nearest builtin exception
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NONDETERMINISTIC = "nondeterministic"
    FORBIDDEN = "forbidden"  # it tried what no computation needs: files, processes, network, the interpreter's insides
    NOT_A_VALUE = "not_a_value"  # a result, or an answer, that is none of the value types
    TOO_LARGE = "too_large"
    CRASHED = "crashed"  # the process ended otherwise, or broke the protocol
    BAD_INPUT = "bad_input"  # the input is no argument list of literals


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """A program with a function `f`, and the argument lists (literals, "1, [2]") to call it with."""

    program: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """Whether every input gave the same value in every world, and these values."""

    status: Status
    reason: str  # empty if ok
    pairs: tuple[Pair, ...]  # one an input, in order; empty unless ok
    cpu_ms: float  # of the program's process, start-up included, from the kernel
    failed_input: int | None  # position of the input that failed; None if ok, or if the program itself failed


@dataclass(frozen=True, slots=True)
class DeductionRequest:
    """Is `answer` (a literal) the gold output?"""

    gold: bytes
    answer: str


@dataclass(frozen=True, slots=True)
class AbductionRequest:
    """Which of the answers (argument lists) make the program return the gold output?"""

    program: str
    gold: bytes
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InductionRequest:
    """Does the answer (a program) return each pair's gold output for its input?"""

    program: str
    pairs: tuple[Pair, ...]


GradeRequest = DeductionRequest | AbductionRequest | InductionRequest
