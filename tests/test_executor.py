# ruff: noqa: E501  (tables of cases)
"""The executor as its callers see it: validation, grading, lanes, the commands."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azr.config import ExecutorConfig
from azr.errors import UserError
from azr.executor import (
    AbductionRequest,
    DeductionRequest,
    Executor,
    InductionRequest,
    Status,
    Validation,
    ValidationRequest,
    decode,
    encode,
    lanes,
)
from azr.executor.commands import grade_stream, open_lines, validate_stream
from azr.executor.lanes import Work
from azr.executor.validation import validation_work
from azr.records import Pair, Verdict

LIMIT = 0.6  # CPU seconds
SLOW = "def f(a):\n    while True: pass"


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(ExecutorConfig(lanes=2, cpu_seconds=LIMIT, memory_mb=128)) as found:
        yield found


def validate(executor: Executor, program: str, *inputs: str) -> Validation:
    [found] = executor.validate([ValidationRequest(program, inputs or ("3",))])
    return found


def induction(program: str, *pairs: tuple[str, Any]) -> InductionRequest:
    return InductionRequest(program, tuple(Pair(text, repr(value), encode(value)) for text, value in pairs))


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
    """Two elements come in the same order in half of all pairs of worlds: a third hash seed finds more of them."""
    words = [("ab", "cd"), ("x", "y"), ("left", "right"), ("red", "blue"), ("north", "south"), ("a", "b"), ("q", "r")]
    programs = [f"def f(a): return list({{'{one}', '{other}'}})[0]" for one, other in words]
    found = executor.validate([ValidationRequest(program, ("1",)) for program in programs])
    assert sum(result.status is Status.NONDETERMINISTIC for result in found) >= len(words) // 2


def test_a_program_near_the_limit_is_no_task(executor: Executor) -> None:
    """It uses less than the limit, and more than a quarter of it."""
    program = "import itertools\ndef f(a):\n    n = 0\n    while n < 10 ** 8: n += 1\n    return n"
    assert validate(executor, program).status is Status.TIMEOUT


# Grading


def test_deduction(executor: Executor) -> None:
    gold = encode([1, 2])
    answers = ["[1, 2]", "[2, 1]", "x", "[1, 2.0]", "9" * 9000]
    found = executor.grade([DeductionRequest(gold, answer) for answer in answers])
    assert found == [
        (Verdict(True, "ok"),), (Verdict(False, "ok"),), (Verdict(False, "not_a_value"),), (Verdict(False, "ok"),),
        (Verdict(False, "not_a_value"),),
    ]  # fmt: skip


def test_abduction_answers_share_runs(executor: Executor) -> None:
    request = AbductionRequest(
        "def f(a):\n    return a * a", encode(4), ("2", "-2", "3", "2.0", "2", "'x'", "f(2)", "2,")
    )
    [verdicts] = executor.grade([request])
    assert [verdict.correct for verdict in verdicts] == [True, True, False, False, True, False, False, True]
    assert [verdict.status for verdict in verdicts] == ["ok"] * 5 + ["exception", "not_a_value", "ok"]


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


def test_an_answer_may_use_the_whole_limit_where_a_task_may_not(executor: Executor) -> None:
    program = f"import time\ndef f(a):\n    n = 0\n    for _ in range({_loops(0.35 * LIMIT)}): n += 1\n    return 1"
    [[verdict]] = executor.grade([induction(program, ("1", 1))])
    assert verdict == Verdict(True, "ok")


def _loops(seconds: float) -> int:
    """How often an empty loop runs in this CPU time here and now."""
    start = time.process_time()
    sum(1 for _ in range(1_000_000))
    return int(1_000_000 * seconds / (time.process_time() - start))


# Lanes


def _zygotes(executor: Executor) -> list[int]:
    return [zygote.process.pid for lane in executor._lanes.lanes for zygote in lane.zygotes.values()]


def test_a_hung_program_delays_its_own_lane_only(executor: Executor) -> None:
    finished: list[int] = []

    def work(position: int) -> Work:
        program = SLOW if position == 0 else f"def f(a): return a + {position}"
        found = yield from validation_work(ValidationRequest(program, ("1",)), LIMIT)
        finished.append(position)
        return found

    found = executor.run(work(position) for position in range(10))
    assert found[0].status is Status.TIMEOUT
    assert all(result.status is Status.OK for result in found[1:])
    assert finished[-1] == 0  # all the others were through before it was given up


def test_a_lane_that_dies_is_replaced_and_the_run_goes_on(executor: Executor) -> None:
    programs = [f"def f(a):\n    n = 0\n    while n < 200_000: n += 1\n    return a + {i}" for i in range(40)]
    victims = [zygote.process.pid for zygote in executor._lanes.lanes[0].zygotes.values()]

    def kill() -> None:
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Timer(0.15, kill)
    killer.start()
    found = executor.validate([ValidationRequest(program, ("1",)) for program in programs])
    killer.join()
    assert [result.pairs[0].output for result in found] == [str(1 + i) for i in range(40)]
    executor.validate([ValidationRequest("def f(a): return {a}", (str(i),)) for i in range(60)])
    assert not set(victims) & set(_zygotes(executor))


def test_a_lane_that_dies_twice_reports_its_job(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    original = lanes.Lane.begin

    def begin(lane: lanes.Lane, task: Any) -> None:
        original(lane, task)
        if b"unlucky" in task.job.program:
            os.kill(lane.zygote.process.pid, signal.SIGKILL)

    monkeypatch.setattr(lanes.Lane, "begin", begin)
    requests = [ValidationRequest(program, ("1",)) for program in ("def f(a): return 1", "def f(a): return 'unlucky'")]
    found = executor.validate([*requests, requests[0]])
    assert [result.status for result in found] == [Status.OK, Status.CRASHED, Status.OK]


def test_zygotes_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RECYCLE_AFTER", 5)
    with Executor(ExecutorConfig(lanes=1, cpu_seconds=LIMIT)) as executor:
        before = _zygotes(executor)
        found = executor.validate([ValidationRequest("def f(a): return a", (str(i),)) for i in range(12)])
        assert [result.pairs[0].output for result in found] == [str(i) for i in range(12)]
        assert not set(before) & set(_zygotes(executor))


def test_a_call_that_is_interrupted_leaves_no_trace(executor: Executor) -> None:
    def requests() -> Iterator[ValidationRequest]:
        yield ValidationRequest("def f(a): return 'old'", ("1",))
        yield ValidationRequest(SLOW, ("1",))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.validate(requests())
    assert validate(executor, "def f(a): return 'new'").pairs[0].output == "'new'"


def test_nothing_is_left_behind() -> None:
    import psutil

    process = psutil.Process()
    descriptors, children = process.num_fds(), len(process.children(recursive=True))
    with Executor(ExecutorConfig(lanes=2, cpu_seconds=LIMIT)) as executor:
        executor.validate([ValidationRequest("def f(a): return {a}", (str(i),)) for i in range(20)])
        busy = process.num_fds()
        executor.validate([ValidationRequest(SLOW if i == 5 else "def f(a): return {a}", ("1",)) for i in range(60)])
        assert process.num_fds() == busy
    assert process.num_fds() == descriptors
    assert len(process.children(recursive=True)) == children


def test_programs_die_with_the_trainer() -> None:
    code = (
        "from azr.config import ExecutorConfig\nfrom azr.executor import *\nimport os, threading\n"
        "executor = Executor(ExecutorConfig(lanes=1, cpu_seconds=400))\n"
        "print(*[z.process.pid for l in executor._lanes.lanes for z in l.zygotes.values()], flush=True)\n"
        "executor.validate([ValidationRequest('def f(a):\\n    while True: pass', ('1',))])\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    zygotes = [int(word) for word in trainer.stdout.readline().split()]
    time.sleep(0.3)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in zygotes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in zygotes)


def test_the_executor_says_what_defends_it(executor: Executor) -> None:
    line = executor.describe()
    assert "\n" not in line
    assert "2 lanes" in line and "fork per program" in line
    if sys.platform == "linux":
        assert "seccomp" in line


def test_without_seccomp_it_refuses_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes.Lanes, "defences", ("rlimits",))
    with pytest.raises(UserError, match="allow_weaker_isolation"):
        Executor(ExecutorConfig(lanes=1))
    with Executor(ExecutorConfig(lanes=1, allow_weaker_isolation=True)) as executor:
        assert "WEAKER ISOLATION" in executor.describe()


def test_importing_the_executor_imports_no_torch() -> None:
    code = "import sys, azr.executor, azr.executor.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Commands


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
        {"type": "deduction", "output": "1", "answer": 1},
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


# Agreement with published results


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
