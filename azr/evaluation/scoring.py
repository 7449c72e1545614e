"""Is a solution right? Problems and solutions in, scores out, by way of the sandbox.

A solution runs in one sandboxed process, which returns what its calls gave; the benchmark's tests run on these values
in another, which never held the solution; plain answers of the EvalPlus sets, data that cost nothing to compare, are
compared here. So no expected value is within a solution's reach, and nothing that it does
to its own process (an `__eq__` that is always true, `sys.exit(0)`, a forged message) can make a test pass.

CPU time is limited, not wall time. What ran out of time is run again, alone, before it counts.
"""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from azr.config import ExecutorConfig
from azr.evaluation.extraction import put_before
from azr.evaluation.problems import (
    Assertions,
    Check,
    CheckProgram,
    FunctionCalls,
    InputPrediction,
    Inputs,
    OutputPrediction,
    Problem,
    StandardInput,
)
from azr.executor import Executor, NotALiteral, parse_arguments, parse_literal
from azr.executor.comparison import are_plain, compare
from azr.executor.programs import Program, ProgramResult
from azr.executor.wire import pack

CPU_SECONDS = 5.0  # of one process with a solution; for StandardInput, of each test
REFERENCE_SECONDS = 60.0
REFERENCE_FACTOR = 4.0  # a solution may take this many times the reference's time, as in EvalPlus
CALL_SECONDS = 1.0  # of one call in the EvalPlus sets, as EvalPlus limits it; four times the reference's if more
FIRST_INPUTS = 8
MEMORY_MB = 1024  # some inputs of the EvalPlus sets make millions of values
LIMITS = {
    "cpu_seconds": CPU_SECONDS,
    "reference_factor": REFERENCE_FACTOR,
    "call_seconds": CALL_SECONDS,
    "memory_mb": MEMORY_MB,
}
RULES = 4  # version of extraction and judging: raise it when a change can alter a score
MAX_SOLUTION = 256 * 1024  # characters
_OWN_FAILURES = ("syntax_error", "no_function", "exception")
_RELATIVE, _ABSOLUTE = 1e-05, 1e-08  # numpy.allclose's, as APPS compares floats

Work = Generator[Program, ProgramResult, Any]


def evaluation_executor(config: ExecutorConfig) -> Executor:
    """An executor with the evaluation's own limits, so that a score does not depend on the training's."""
    return Executor(config.model_copy(update={"memory_mb": MEMORY_MB}))


class Sandbox(Protocol):
    """What of the executor is used here."""

    def drive(self, works: Iterable[Work]) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Score:
    """`status` is ok, wrong, or the kind of failure."""

    correct: bool
    status: str
    detail: str = ""
    seconds: float = 0.0  # CPU time in the sandbox


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the reference solution's run showed: the tests' calls, their answers, the CPU time."""

    calls: Any
    answers: Any
    seconds: float


class Scorer:
    """Scores solutions. Keeps what it learnt from the reference solutions it has run."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._recorded: dict[tuple[str, str], _Recorded | str] = {}

    def score(
        self, items: Sequence[tuple[Problem, str]], progress: Callable[[int, int], None] | None = None
    ) -> list[Score]:
        """One score an item, in order; all cores are used. Timeouts are then run again one by one."""
        done = 0

        def counted(problem: Problem, solution: str) -> Work:
            nonlocal done
            score = yield from self._score(problem, solution)
            done += 1
            if progress is not None:
                progress(done, len(items))
            return score

        self._record([problem for problem, _ in items])
        scores: list[Score] = self.sandbox.drive(counted(problem, solution) for problem, solution in items)
        for position, score in enumerate(scores):
            if score.status == "timeout":
                [scores[position]] = self.sandbox.drive([self._score(*items[position])])
        return scores

    def _record(self, problems: Iterable[Problem]) -> None:
        """Run the reference solutions whose answers the checks need, each once."""
        missing = {_key(p): p for p in problems if _key(p) not in self._recorded and _needs_reference(p)}
        found = self.sandbox.drive(_record(problem.checks[0]) for problem in missing.values())
        self._recorded.update(zip(missing, found, strict=True))

    def _score(self, problem: Problem, solution: str) -> Work:
        if len(solution) > MAX_SOLUTION:
            return Score(False, "too_large")
        score = Score(True, "ok")
        for check in problem.checks:
            part = yield from self._check(problem, check, solution)
            score = replace(part, seconds=score.seconds + part.seconds)
            if not score.correct:
                break
        return score

    def _check(self, problem: Problem, check: Check, solution: str) -> Work:
        if isinstance(check, OutputPrediction):
            return _predicted_output(check, solution)
        if isinstance(check, InputPrediction):
            return (yield from _predicted_input(check, solution))
        if isinstance(check, StandardInput):
            return (yield from _standard_input(check, solution))
        if isinstance(check, FunctionCalls):
            return (yield from _function_calls(check, solution))
        if isinstance(check, Assertions):
            return (yield from _assertions(check, solution))
        recorded = self._recorded[_key(problem)]
        if isinstance(recorded, str):
            return Score(False, "no_reference", recorded)
        if isinstance(check, Inputs):
            return (yield from _inputs(check, solution, recorded))
        return (yield from _tests(check, solution, recorded))


def _key(problem: Problem) -> tuple[str, str]:
    return problem.benchmark, problem.id


def _needs_reference(problem: Problem) -> bool:
    return isinstance(problem.checks[0], (CheckProgram, Inputs))


def _record(check: Check) -> Work:
    """The reference's answers, or why there are none."""
    if isinstance(check, Inputs):
        calls: Any = [{"args": args} for args in check.args]
        job = {"source": check.reference, "entry": check.entry, "calls": calls, "digest": _by_digest(check)}
        result: ProgramResult = yield Program("answer", job, REFERENCE_SECONDS)
    else:
        assert isinstance(check, CheckProgram)
        job = {"prelude": check.prelude, "tests": check.source, "entry": check.entry, "reference": check.reference}
        result = yield Program("record", job, REFERENCE_SECONDS)
        calls = result.value.get("calls")
    if not result.ok or "answers" not in result.value:
        return f"the reference solution fails here: {result.status} {result.reason or result.value.get('reason', '')}"
    answers = result.value["answers"]
    if isinstance(check, Inputs):
        # An input on which the reference itself fails here (out of memory, say) can judge nobody.
        judged = [position for position, answer in enumerate(answers) if "e" not in answer]
        calls, answers = [calls[position] for position in judged], [answers[position] for position in judged]
    if not calls:
        return "nothing is judged: the reference solution answers no call of the tests here"
    return _Recorded(calls, answers, result.cpu_seconds)


def _answers(job: dict[str, Any], seconds: float = CPU_SECONDS) -> Generator[Program, ProgramResult, tuple[Any, Score]]:
    """Run a solution's calls: (answers, score so far), the answers None if there are none."""
    result = yield Program("answer", job, seconds)
    if not result.ok:
        return None, Score(False, result.status, result.reason, result.cpu_seconds)
    if not isinstance(result.value.get("answers"), list):
        return None, _failed(result.value, result.cpu_seconds)
    return result.value["answers"], Score(True, "ok", "", result.cpu_seconds)


def _failed(value: dict[str, Any], seconds: float) -> Score:
    """What a solution's process says of its own failure: only known words are taken over."""
    kind, reason = value.get("failed"), str(value.get("reason", ""))[:100]
    return Score(False, kind if kind in _OWN_FAILURES else "crashed", reason, seconds)


def _verdict(mode: str, job: dict[str, Any], so_far: Score) -> Work:
    """Run tests on answers, in a process without the solution."""
    result = yield Program(mode, job, max(CPU_SECONDS, REFERENCE_FACTOR * so_far.seconds))
    seconds = so_far.seconds + result.cpu_seconds
    if not result.ok:
        return Score(False, result.status, f"while its answers were compared: {result.reason}", seconds)
    return _verdict_of(result.value, seconds)


def _verdict_of(compared: dict[str, Any], seconds: float) -> Score:
    if compared.get("passed") is True:
        return Score(True, "ok", "", seconds)
    return Score(False, str(compared["kind"])[:100], str(compared["reason"])[:200], seconds)


def _tests(check: CheckProgram, solution: str, recorded: _Recorded) -> Work:
    job = {"source": solution, "entry": check.entry, "calls": recorded.calls}
    answers, so_far = yield from _answers(job, _limit(recorded))
    if answers is None:
        return so_far
    tests = {"prelude": check.prelude, "tests": check.source, "entry": check.entry}
    return (yield from _verdict("check", {**tests, "calls": recorded.calls, "answers": answers}, so_far))


def _inputs(check: Inputs, solution: str, recorded: _Recorded) -> Work:
    """Some inputs first: most wrong solutions fail there, and a set has up to thousands, some of them large."""
    first = Score(True, "ok")
    if len(recorded.calls) > 2 * FIRST_INPUTS:
        first = yield from _agrees(check, solution, recorded, FIRST_INPUTS)
        if not first.correct:
            return first
    score = yield from _agrees(check, solution, recorded, len(recorded.calls))
    return replace(score, seconds=first.seconds + score.seconds)


def _agrees(check: Inputs, solution: str, recorded: _Recorded, count: int) -> Work:
    """Whether the solution agrees with the reference on the first `count` inputs."""
    calls, expected = recorded.calls[:count], recorded.answers[:count]
    job = {"source": solution, "entry": check.entry, "calls": calls, "stop": True, "digest": _by_digest(check)}
    job["call_seconds"] = max(CALL_SECONDS, REFERENCE_FACTOR * recorded.seconds)
    answers, so_far = yield from _answers(job, _limit(recorded))
    if answers is None or (answers == expected and not check.oracle):
        return so_far
    compared = {"calls": calls, "answers": answers, "expected": expected, "atol": check.atol, "oracle": check.oracle}
    if are_plain(answers):
        return _verdict_of(compare(compared), so_far.seconds)
    return (yield from _verdict("compare", compared, so_far))


def _by_digest(check: Inputs) -> bool:
    """Whether large answers may come as digests, which only tell equal from different."""
    return not check.oracle and check.atol == 0


def _limit(recorded: _Recorded) -> float:
    return max(CPU_SECONDS, REFERENCE_FACTOR * recorded.seconds)


def _assertions(check: Assertions, solution: str) -> Work:
    job = {"source": solution, "setup": check.setup, "calls": [{"expr": call} for call in check.calls]}
    answers, so_far = yield from _answers(job)
    if answers is None:
        return so_far
    job = {"prelude": check.prelude, "tests": list(check.tests), "answers": answers}
    return (yield from _verdict("check", job, so_far))


def _function_calls(check: FunctionCalls, solution: str) -> Work:
    calls = [{"args": args} for args in check.args]
    job = {
        "source": put_before(solution, _COMMON_IMPORTS),
        "entry": check.entry,
        "class": "Solution",
        "calls": calls,
        "stop": True,
        "call_seconds": CPU_SECONDS,
    }
    answers, so_far = yield from _answers(job, CPU_SECONDS * len(calls))
    if answers is None:
        return so_far
    expected = [{"v": pack(output)} for output in check.outputs]
    job = {"calls": calls, "answers": answers, "expected": expected, "atol": 0.0, "oracle": "apps"}
    return (yield from _verdict("compare", job, so_far))


# LeetCode's own preamble, on which its starter code relies (`List[int]`); APPS's runner adds the same names.
_COMMON_IMPORTS = "\n".join(
    ["from typing import *", "import bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, "
     "random, re, string, sys", "from bisect import *", "from collections import *", "from functools import *",
     "from heapq import *", "from itertools import *", "from math import *", "from operator import *", ""]
)  # fmt: skip


def _standard_input(check: StandardInput, solution: str) -> Work:
    seconds = 0.0
    for text, expected in zip(check.inputs, check.outputs, strict=True):
        result: ProgramResult = yield Program("run_stdin", {"source": solution, "stdin": text}, CPU_SECONDS)
        seconds += result.cpu_seconds
        if not result.ok:
            return Score(False, result.status, result.reason, seconds)
        if "stdout" not in result.value:
            return _failed(result.value, seconds)
        if error := result.value.get("error"):  # whatever was printed before it, as in APPS
            return Score(False, "exception", str(error)[:200], seconds)
        if not same_output(str(result.value["stdout"]), expected):
            return Score(False, "wrong", "", seconds)
    return Score(True, "ok", "", seconds)


def same_output(given: str, expected: str) -> bool:
    """Whether a program's output counts, as APPS compares: line by line, without empty lines and the white space around
    words. Where every word is a number, numbers that are no integers may differ as numpy.allclose allows; where lines
    have several, they have to agree in three decimals too.

    Left out: APPS's last resort, which takes the output's lines and words as sets, in any order; and its tolerance for
    integers.
    """
    given_lines, expected_lines = _lines(given), _lines(expected)
    if given_lines == expected_lines:
        return True
    if [len(line) for line in given_lines] != [len(line) for line in expected_lines]:
        return False
    close = _close if all(len(line) == 1 for line in expected_lines) else _close_and_rounded
    pairs = zip(itertools.chain(*given_lines), itertools.chain(*expected_lines), strict=True)
    try:
        return all(close(given_word, expected_word) for given_word, expected_word in pairs)
    except (ValueError, decimal.InvalidOperation):  # a word is no number
        return False


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def _close(given: str, expected: str) -> bool:
    """Raises ValueError or InvalidOperation where one is no number."""
    a, b = float(given), float(expected)
    if expected.lstrip("+-").isdecimal():
        return decimal.Decimal(given) == decimal.Decimal(expected)  # 1.0 is 1, 100000.9 is not 100000
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= _ABSOLUTE + _RELATIVE * abs(b)


def _close_and_rounded(given: str, expected: str) -> bool:
    return _close(given, expected) and round(float(given), 3) == round(float(expected), 3)


def _predicted_output(check: OutputPrediction, solution: str) -> Score:
    try:
        answer = parse_literal(solution)
    except NotALiteral as error:
        return Score(False, "not_a_literal", str(error))
    gold = parse_literal(check.output)
    return Score(True, "ok") if answer == gold else Score(False, "wrong")


def _predicted_input(check: InputPrediction, solution: str) -> Work:
    """The program is the benchmark's; the answer is data. Only the benchmark's own input may be an expression."""
    call: dict[str, Any]
    if solution.strip() == check.input.strip():
        call = {"expr": f"f({check.input})"}
    else:
        try:
            call = {"args": pack(list(parse_arguments(solution)))}
        except NotALiteral as error:
            return Score(False, "not_a_literal", str(error))
    answers, so_far = yield from _answers({"source": check.program, "entry": "f", "calls": [call]})
    if answers is None:
        return so_far
    expected = [{"v": pack(parse_literal(check.output))}]
    job = {"calls": [{"args": []}], "answers": answers, "expected": expected, "atol": 0.0, "oracle": "equal"}
    return (yield from _verdict("compare", job, so_far))
