"""The executor as its callers see it: validation and grading."""

from __future__ import annotations

import sys
import time

import pytest
from executor_requests import LIMIT, SLOW, induction, validate

from azr.config import ExecutorConfig
from azr.executor import (
    AbductionRequest,
    DeductionRequest,
    Executor,
    InductionRequest,
    Status,
    ValidationRequest,
    decode,
    encode,
)
from azr.records import Pair, Verdict

# Validation


def test_a_valid_program_gives_its_pairs(executor: Executor) -> None:
    found = validate(executor, "def f(a, b=2):\n    print('x')\n    return {a: [b]}", "1, 3", "'x',", "(1, 2)")
    assert found.status is Status.OK and found.reason == "" and found.failed_input is None
    assert [(pair.input, pair.output) for pair in found.pairs] == [
        ("1, 3", "{1: [3]}"), ("'x',", "{'x': [2]}"), ("(1, 2)", "{(1, 2): [2]}"),
    ]  # fmt: skip
    assert [decode(pair.gold) for pair in found.pairs] == [{1: [3]}, {"x": [2]}, {(1, 2): [2]}]
    assert 0 < found.cpu_ms < 1000 * LIMIT


def test_no_argument_and_no_value(executor: Executor) -> None:
    assert validate(executor, "def f(): pass", "").pairs[0].output == "None"


def test_results_come_in_order_whatever_the_lanes_do(executor: Executor) -> None:
    programs = [SLOW if number % 7 == 3 else f"def f(a): return a * {number}" for number in range(30)]
    found = executor.validate([ValidationRequest(program, ("2",)) for program in programs])
    for number, result in enumerate(found):
        if number % 7 == 3:
            assert result.status is Status.TIMEOUT
        else:
            assert result.pairs[0].output == str(2 * number)


def test_results_are_the_same_every_time(executor: Executor) -> None:
    program = "import random\ndef f(a):\n    random.seed(a)\n    return [random.random(), sorted({'x', 'y', str(a)})]"
    results = {validate(executor, program, "3", "4").pairs for _ in range(5)}
    assert len(results) == 1


@pytest.mark.parametrize(
    ("program", "inputs", "status", "reason", "failed_input"),
    [
        ("def f(a): return a", ("1", "f(2)"), Status.BAD_INPUT, None, 1),
        ("def f(a): return a", ("1 2",), Status.BAD_INPUT, None, 0),
        ("def f(a): return a", (), Status.BAD_INPUT, "no input", None),
        ("def f(a) return a", ("1",), Status.SYNTAX_ERROR, "SyntaxError", None),
        ("def g(a): return a", ("1",), Status.NO_FUNCTION, "no_function", None),
        ("def f(a): return [1][a]", ("0", "1"), Status.EXCEPTION, "IndexError", 1),
        ("class E(KeyError): pass\ndef f(a): raise E", ("0",), Status.EXCEPTION, "KeyError", 0),
        ("1 / 0", ("0",), Status.EXCEPTION, "ZeroDivisionError", 0),
        ("def f(a): return 'x' * a", ("3", "99999"), Status.TOO_LARGE, "bytes", 1),
        ("import numpy\ndef f(a): return a", ("0",), Status.EXCEPTION, "ModuleNotFoundError", 0),
        ("def f(a): return f", ("0",), Status.NOT_A_VALUE, "object", 0),
    ],
)
def test_typed_failures(
    executor: Executor,
    program: str,
    inputs: tuple[str, ...],
    status: Status,
    reason: str | None,
    failed_input: int | None,
) -> None:
    [found] = executor.validate([ValidationRequest(program, inputs)])
    assert found.status is status
    assert reason is None or found.reason == reason
    assert found.reason and found.pairs == ()
    assert found.failed_input == failed_input


def test_a_refused_import_is_the_programs_to_catch(executor: Executor) -> None:
    program = "try:\n    import numpy\nexcept ModuleNotFoundError:\n    numpy = None\ndef f(a): return numpy is None"
    assert validate(executor, program).pairs[0].output == "True"


def test_order_of_inputs_may_not_matter(executor: Executor) -> None:
    stateful = "seen = []\ndef f(a):\n    seen.append(a)\n    return len(seen)"
    assert validate(executor, stateful, "1", "2").status is Status.NONDETERMINISTIC


def test_small_sets_that_agree_by_luck_in_two_worlds_are_found(executor: Executor) -> None:
    """Two elements come in the same order in half of all pairs of hash seeds: the third world turns A's order over."""
    words = [("ab", "cd"), ("x", "y"), ("left", "right"), ("red", "blue"), ("north", "south"), ("a", "b"), ("q", "r")]
    programs = [f"def f(a): return list({{'{one}', '{other}'}})[0]" for one, other in words]
    found = executor.validate([ValidationRequest(program, ("1",)) for program in programs])
    least = len(words) if sys.version_info < (3, 13) else len(words) // 2  # a third seed there, for all it is worth
    assert sum(result.status is Status.NONDETERMINISTIC for result in found) >= least


@pytest.mark.parametrize(
    "program", ["def f(a): return list(a)", "def f(a): return ' '.join(a)", "def f(a): return str(a)"]
)
def test_the_order_of_a_set_that_comes_as_an_input_is_chance(executor: Executor, program: str) -> None:
    inputs = ("{'x', 'y'}", "{'red', 'blue'}", "{'c', 'd'}", "{'left', 'right'}")
    found = executor.validate([ValidationRequest(program, (text,)) for text in inputs])
    assert [result.status for result in found] == [Status.NONDETERMINISTIC] * 4


def test_singletons_in_sets_have_one_order_in_every_process() -> None:
    """Their hashes were their addresses, so that the gold of one process was wrong in the next."""
    programs = [f"def f(a): return [x for x, _ in {{(a, {one}), (a + 5, {two}), (a * 7, 0)}}]" for one, two in (
        ("None", "None"), ("None", "..."), ("NotImplemented", "None"), ("(None,)", "frozenset([None])"),
    )]  # fmt: skip
    found = []
    for _ in range(3):
        with Executor(ExecutorConfig(lanes=1)) as executor:
            results = executor.validate([ValidationRequest(program, ("3",)) for program in programs])
        found.append([(result.status, [pair.gold for pair in result.pairs]) for result in results])
    assert found[0] == found[1] == found[2]
    assert {status for status, _ in found[0]} == {Status.OK}


@pytest.mark.parametrize(
    "body",
    ["s = set(range(20000))\n    t = 0\n    while s: t += s.pop()\n    return t",
     "s = set(range(2000))\n    t = 0\n    while s:\n        x = next(iter(s))\n        s.remove(x)\n"
     "        t += x\n    return t",
     "s = {(i, i + 1) for i in range(3000)}\n    return sum(x + y for x, y in s)"],
)  # fmt: skip
def test_large_sets_of_numbers_stay_quick_in_every_world(executor: Executor, body: str) -> None:
    assert validate(executor, f"def f(a):\n    {body}", "1").status is Status.OK


def test_a_program_near_the_limit_is_no_task(executor: Executor) -> None:
    """It uses less than the limit, and more than a quarter of it."""
    program = f"def f(a):\n    n = 0\n    for _ in range({_loops(0.6 * LIMIT)}): n += 1\n    return 1"
    assert validate(executor, program).status is Status.TIMEOUT


def test_the_input_that_another_world_runs_twice_has_time_for_it(executor: Executor) -> None:
    program = f"def f(a):\n    n = 0\n    for _ in range({_loops(0.15 * LIMIT)}): n += 1\n    return 1"
    assert validate(executor, program).status is Status.OK


# Grading


def test_deduction(executor: Executor) -> None:
    gold = encode([1, 2])
    answers = ["[1, 2]", "[2, 1]", "x", "[1, 2.0]", "9" * 9000]
    found = executor.grade([DeductionRequest(gold, answer) for answer in answers])
    assert found == [
        (Verdict(True, "ok"),), (Verdict(False, "ok"),), (Verdict(False, "not_a_value"),), (Verdict(False, "ok"),),
        (Verdict(False, "not_a_value"),),
    ]  # fmt: skip


def test_abduction_answers(executor: Executor) -> None:
    request = AbductionRequest(
        "def f(a):\n    return a * a", encode(4), ("2", "-2", "3", "2.0", "2", "'x'", "f(2)", "2,", "2,\n", "(2\n)")
    )
    [verdicts] = executor.grade([request])
    assert [verdict.correct for verdict in verdicts] == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert [verdict.status for verdict in verdicts] == ["ok"] * 5 + [
        "exception",
        "not_a_value",
        "ok",
        "ok",
        "not_a_value",
    ]


def test_an_answer_to_a_program_that_is_none(executor: Executor) -> None:
    for program, status in (("def f(a) return", "syntax_error"), ("g = 1", "no_function")):
        [verdicts] = executor.grade([AbductionRequest(program, encode(4), ("1", "2"))])
        assert verdicts == (Verdict(False, status),) * 2


def test_a_hang_costs_one_timeout_whatever_the_program_does_to_its_timers(executor: Executor) -> None:
    program = "import signal\ndef f(a):\n    while True: signal.setitimer(signal.ITIMER_PROF, 0)"
    used = _cpu_seconds_of_children()
    executor.grade([AbductionRequest(program, encode(4), tuple(map(str, range(6))))])
    assert _cpu_seconds_of_children() - used < 2 * LIMIT


@pytest.mark.parametrize(("end", "status"), [("while True: pass", "timeout"), ("__import__('os')._exit(7)", "crashed")])
def test_a_value_before_a_hang_or_a_crash_is_no_answer(executor: Executor, end: str, status: str) -> None:
    """A program may send its own frame; how its process ended counts all the same, as in validation and induction."""
    program = f"import sys\ndef f(a):\n    sys._getframe(1).f_locals['send'](b'V', {encode(5)!r})\n    {end}"
    used = _cpu_seconds_of_children()
    [verdicts] = executor.grade([AbductionRequest(program, encode(5), tuple(map(str, range(6))))])
    assert {(verdict.correct, verdict.status) for verdict in verdicts} == {(False, status)}
    assert _cpu_seconds_of_children() - used < 2 * LIMIT
    [verdict] = executor.grade([InductionRequest(program, (Pair("1", "5", encode(5)),))])
    assert not verdict[0].correct


@pytest.mark.parametrize("answer", ["3,\r4", "3,\n4"])
def test_an_answer_is_one_line(executor: Executor, answer: str) -> None:
    program = "def f(a, b):\n    return a + b"
    [verdicts] = executor.grade([AbductionRequest(program, encode(7), (answer, "3, 4"))])
    assert [verdict.correct for verdict in verdicts] == [False, True]
    [deduced] = executor.grade([DeductionRequest(encode([1]), f"[{answer[2]}1]")])
    assert not deduced[0].correct


def test_one_hanging_answer_harms_no_other_and_costs_one_timeout(executor: Executor) -> None:
    program = "def f(a):\n    while a % 2: pass\n    return a"
    answers = tuple(str(number) for number in range(12))
    used = _cpu_seconds_of_children()
    [verdicts] = executor.grade([AbductionRequest(program, encode(4), answers)])
    assert [verdict.status for verdict in verdicts] == ["ok", "timeout"] * 6
    assert [verdict.correct for verdict in verdicts] == [answer == "4" for answer in answers]
    assert _cpu_seconds_of_children() - used < 2 * LIMIT


def _cpu_seconds_of_children() -> float:
    """CPU time of every program so far, through the zygotes that waited for them."""
    import psutil

    return float(sum(sum(child.cpu_times()[:4]) for child in psutil.Process().children()))


def test_induction_stops_at_the_first_failure(executor: Executor) -> None:
    program = "def f(a):\n    while a == 3: pass\n    return a + 1"
    before = _cpu_seconds_of_children()
    [[verdict]] = executor.grade([induction(program, ("1", 2), ("2", 4), ("3", 4))])
    assert verdict == Verdict(False, "ok")
    assert _cpu_seconds_of_children() - before < LIMIT / 2


def test_induction(executor: Executor) -> None:
    right = induction("def f(a, b): return a + b", ("1, 2", 3), ("'x', 'y'", "xy"))
    nearly = induction("def f(a): return a / 3 * 3 if a else 1e-300", ("0.1", 0.1), ("0.0", 0.0))
    crash = induction("import os\ndef f(a): os._exit(0)", ("1", 1))
    late = induction("def f(a):\n    if a == 2: raise ValueError\n    return a", ("1", 1), ("2", 2))
    found = [verdicts[0] for verdicts in executor.grade([right, nearly, crash, late])]
    assert found == [Verdict(True, "ok"), Verdict(False, "ok"), Verdict(False, "crashed"), Verdict(False, "exception")]


def test_induction_without_pairs_proves_nothing(executor: Executor) -> None:
    assert executor.grade([induction("def f(a): return a")]) == [(Verdict(False, "ok"),)]


def test_an_answer_may_use_the_whole_limit_where_a_task_may_not(executor: Executor) -> None:
    program = f"import time\ndef f(a):\n    n = 0\n    for _ in range({_loops(0.35 * LIMIT)}): n += 1\n    return 1"
    [[verdict]] = executor.grade([induction(program, ("1", 1))])
    assert verdict == Verdict(True, "ok")


def _loops(seconds: float) -> int:
    """How often an empty loop runs in this CPU time here and now."""
    start = time.process_time()
    sum(1 for _ in range(1_000_000))
    return int(1_000_000 * seconds / (time.process_time() - start))
