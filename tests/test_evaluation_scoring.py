"""Scoring in the sandbox: reference solutions pass, solutions that are wrong on purpose do not, whatever they try."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from driven_sandbox import Driven, one_problem, run_alone
from evaluation_attacks import FUNCTIONS, PROGRAMS

from azr import cli
from azr.config import ExecutorConfig
from azr.evaluation import benchmarks
from azr.evaluation.benchmarks import apps, evalplus, mbpp
from azr.evaluation.evaluate import select, selftest
from azr.evaluation.problems import Assertions, CheckProgram, FunctionCalls, Inputs, Problem, StandardInput
from azr.evaluation.scoring import (
    CPU_SECONDS,
    FIRST_INPUTS,
    Score,
    Scorer,
    evaluation_executor,
    same_output,
)
from azr.executor.lanes import available_cores
from azr.executor.programs import Program, ProgramResult, ProgramSandbox
from azr.executor.wire import pack

FULL = {
    "humaneval": 164,
    "mbpp": 974,
    "apps": 73,
    "cruxeval-i": 400,
    "cruxeval-o": 400,
    "humaneval+": 164,
    "mbpp+": 378,
}


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with evaluation_executor(ExecutorConfig()) as executor:
        yield Scorer(ProgramSandbox(executor))


def asserts(*tests: str, reference: str, setup: str = "") -> Problem:
    return Problem("mbpp", "1", "", (mbpp.split_assertions(tests, reference, setup),), reference, entry="f")


def stdin(*pairs: tuple[str, str]) -> Problem:
    inputs, outputs = zip(*pairs, strict=True)
    return Problem("apps", "1", "", (StandardInput(inputs, outputs),), "")


def score(scorer: Scorer, problem: Problem, solution: str) -> Score:
    [found] = scorer.score([(problem, solution)])
    return found


@pytest.mark.parametrize(("name", "count"), FULL.items())
def test_reference_solutions_of_a_subset_pass(name: str, count: int, scorer: Scorer, benchmark_data: Path) -> None:
    benchmark = benchmarks.load(name, benchmark_data)
    assert len(benchmark.problems) == count
    few = 6 if name.endswith("+") else 30
    kept, excluded = selftest(scorer, select(benchmark, few, "all"))
    assert excluded == {}
    assert len(kept) == few


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [*FULL.items(), ("sanitized", 427)])
def test_all_reference_solutions_pass_through_the_command(
    name: str,
    count: int,
    benchmark_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AZR_WORKSPACE", str(tmp_path))
    path = benchmark_data / "sanitized-mbpp.json" if name == "sanitized" else benchmark_data
    name = "mbpp" if name == "sanitized" else name
    lines = [{"task_id": p.id, "solution": p.reference} for p in benchmarks.load(name, path).problems]
    file = tmp_path / "references.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    options = ["--benchmark", name, "--benchmark-path", str(path), "--solutions", str(file), "--json"]
    with pytest.raises(SystemExit):
        cli.main(["eval", *options])
    found = json.loads(capsys.readouterr().out)
    assert (found["correct"], found["tasks"], found["excluded"], found["failures"]) == (count, count, 0, {})


def attacks(problem: Problem) -> list[str]:
    if isinstance(problem.checks[0], StandardInput):
        return list(PROGRAMS.values())
    return [source.format(entry=problem.entry) for source in FUNCTIONS.values()]


def scored(scorer: Scorer, problems: Sequence[Problem]) -> list[tuple[str, str]]:
    items = [(problem, solution) for problem in problems for solution in attacks(problem)]
    return [(p.id, s) for (p, s), found in zip(items, scorer.score(items), strict=True) if found.correct]


@pytest.mark.parametrize(("name", "count"), [("humaneval", 12), ("mbpp", 12), ("apps", 12), ("mbpp+", 2)])
def test_solutions_that_are_wrong_on_purpose_score_nothing(
    name: str, count: int, scorer: Scorer, benchmark_data: Path
) -> None:
    assert scored(scorer, select(benchmarks.load(name, benchmark_data), count, "all")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["humaneval", "mbpp", "apps"])
def test_no_task_is_solved_by_a_solution_that_is_wrong_on_purpose(
    name: str, scorer: Scorer, benchmark_data: Path
) -> None:
    assert scored(scorer, benchmarks.load(name, benchmark_data).problems) == []


@pytest.mark.parametrize(
    ("solution", "status"),
    [
        ("def f(x): return x + 1", "ok"),
        ("def f(x): return x", "wrong"),
        ("def f(x): return str(x + 1)", "wrong"),
        ("def f(x): return 1 / 0", "exception"),
        ("def g(x): return x + 1", "exception"),  # NameError in the call
        ("def f(x) return x", "syntax_error"),
        ("1 / 0\ndef f(x): return x + 1", "exception"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x): return [0] * 10**10", "exception"),  # MemoryError
        ("import os\ndef f(x): os.abort()", "crashed"),
        ("import os\ndef f(x): os.kill(1, 9)", "forbidden"),
        ("open('/etc/passwd').read()\ndef f(x): return x + 1", "forbidden"),
        ("#" * 300_000 + "\ndef f(x): return x + 1", "too_large"),
    ],
)
def test_kinds_of_failure_are_kept_apart(solution: str, status: str, scorer: Scorer) -> None:
    problem = asserts("assert f(1) == 2", "assert f(2) == 3", reference="def f(x): return x + 1")
    found = score(scorer, problem, solution)
    assert (found.status, found.correct) == (status, status == "ok")


def test_expected_values_are_not_in_the_solutions_process(scorer: Scorer) -> None:
    problem = asserts("assert f(1) == 'a-secret'", reference="def f(x): return 'a-secret'")
    check = problem.checks[0]
    assert isinstance(check, Assertions)
    assert not any("a-secret" in text for text in (*check.calls, check.setup))


@pytest.mark.parametrize(
    ("solution", "correct"),
    [
        ("from collections import Counter\ndef f(x): return Counter('aab')", True),  # equal to the dict in Python
        ("from collections import OrderedDict\ndef f(x): return OrderedDict(b=1, a=2)", True),
        ("def f(x): return {'a': 2.0, 'b': True}", True),
        ("def f(x): return [('a', 2), ('b', 1)]", False),
        ("def f(x): return iter({'a': 2, 'b': 1})", False),
    ],
)
def test_pythons_own_equality_decides(solution: str, correct: bool, scorer: Scorer) -> None:
    problem = asserts("assert f(0) == {'a': 2, 'b': 1}", reference="def f(x): return {'a': 2, 'b': 1}")
    assert score(scorer, problem, solution).correct is correct


def test_generators_are_read_out_for_the_tests_that_read_them(scorer: Scorer) -> None:
    problem = asserts("assert list(f(3)) == [0, 1, 2]", reference="def f(n): return range(n)")
    assert score(scorer, problem, "def f(n):\n    yield from range(n)").correct
    assert score(scorer, problem, "def f(n):\n    while True: yield 0").status != "ok"


def test_setup_runs_after_the_solution(scorer: Scorer) -> None:
    tree = "class Node:\n    def __init__(self, v): self.v, self.left = v, None\ndef f(n): return n.v if n else 0"
    problem = asserts("assert f(root) == 5", reference=tree, setup="root = Node(5)")
    assert score(scorer, problem, tree).correct


def test_a_program_that_reads_standard_input(scorer: Scorer) -> None:
    problem = stdin(("2\n3 4\n5 6\n", "7\n11\n"), ("1\n1 1\n", "2\n"))
    for solution in (
        "for _ in range(int(input())):\n    print(sum(map(int, input().split())))",
        "import sys\nn, *rows = sys.stdin.read().splitlines()\nfor r in rows: print(eval(r.replace(' ', '+')), ' ')",
        "import sys\ndata = sys.stdin.buffer.read().split()[1:]\n"
        "for a, b in zip(*[iter(data)] * 2): sys.stdout.write(f'{int(a) + int(b)}\\n')",
        "import os\nrows = os.read(0, os.fstat(0).st_size).decode().split('\\n')[1:-1]\n"
        "for r in rows: os.write(1, b'%d\\n' % sum(map(int, r.split())))",
        "rows = open(0).read().split('\\n')[1:-1]\nfor r in rows: print(sum(map(int, r.split())))\nexit()",
        "import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef main():\n"
        "    for _ in range(int(input())):\n        print(sum(map(int, input().split())))\n"
        "t = threading.Thread(target=main)\nt.start()\nt.join()",
        "def main():\n    for _ in range(int(input())):\n        print(sum(map(int, input().split())))\n"
        "if __name__ == '__main__':\n    main()",
    ):
        assert score(scorer, problem, solution).status == "ok", solution
    assert score(scorer, problem, "print(7)\nprint(11)").status == "wrong"
    failed = score(scorer, problem, "print(1 / 0)")
    assert (failed.status, failed.detail) == ("exception", "ZeroDivisionError")
    right = "for _ in range(int(input())):\n    print(sum(map(int, input().split())))\n"
    assert score(scorer, problem, right + "1 / 0").status == "exception"


def test_large_inputs_and_outputs(scorer: Scorer) -> None:
    text = " ".join(map(str, range(200_000)))
    problem = stdin((text, "\n".join(map(str, range(200_000)))))
    assert score(scorer, problem, "for word in input().split(): print(word)").correct


def test_functions_and_methods_of_apps(scorer: Scorer) -> None:
    row = {"id": 3, "question": "", "difficulty": "interview", "starter_code": "class Solution: ..."}
    row["input_output"] = '{"fn_name": "pair", "inputs": [[1, {"2": 3}]], "outputs": [[[1, 3]]]}'
    row["solutions"] = '["def pair(a, d): return [a, d[2]]"]'
    problem = apps.parse(row)
    assert problem.reference.startswith("def pair")
    assert score(scorer, problem, problem.reference).correct
    assert score(
        scorer, problem, "class Solution:\n    def pair(self, a: int, d) -> List[int]: return (a, d[2])"
    ).correct
    assert score(scorer, problem, "class Solution:\n    def pair(self, a, d): return [a, 4]").status == "wrong"
    assert score(scorer, problem, "def other(a, d): pass").status == "no_function"
    row["input_output"] = '{"fn_name": "pair", "inputs": [[1], [2], [3]], "outputs": [1, 2, 3]}'
    hanging = score(scorer, apps.parse(row), "def pair(a):\n    while True: pass")
    assert hanging.status == "timeout" and hanging.seconds < 2 * CPU_SECONDS  # the first call's time, not all calls'


@pytest.mark.parametrize(
    ("given_text", "expected", "same"),
    [
        ("1 2\n", "1 2", True),
        ("1 2 \n\n 3", "1 2\n3\n", True),
        ("1  2", "1 2", True),
        ("1 2 3", "1\n2\n3", False),  # the same words on other lines
        ("1\n2 3", "1 2\n3", False),
        ("0.3333333", "0.33333333", True),
        ("1.0", "1", True),
        ("100001", "100000", False),  # integers are not floats
        ("100000.9", "100000", False),
        ("100000000000000000001.0", "100000000000000000000", False),
        ("3 0.3333333", "3 0.33333333", True),
        ("1 12345.67", "1 12345.68", False),  # lines of several numbers agree in three decimals
        ("YES 0.3333333", "YES 0.33333333", False),  # words are no numbers
        ("0.334", "0.333", False),
        ("NO", "no", False),
        ("2 1", "1 2", False),
        ("nan", "nan", True),  # the same text
        ("nan", "1.0", False),
        ("5", "inf", False),
        ("", "0", False),
    ],
)
def test_outputs_compare_as_in_apps(given_text: str, expected: str, same: bool) -> None:
    assert same_output(given_text, expected) is same


def test_some_inputs_are_tried_before_all_of_them(scorer: Scorer) -> None:
    problem = one_problem("return x + 1", [[n] for n in range(9)], [[99]] * 91)
    calls: list[int] = []

    def watch(program: Program) -> ProgramResult:
        calls.append(len(program.job["calls"]))
        return run_alone(scorer.sandbox, program)

    watched = Scorer(Driven(watch))
    assert score(watched, problem, problem.reference).correct
    assert calls == [100, FIRST_INPUTS, 100]  # the first: what the reference answers
    for solution, status, runs in (
        ("return x", "wrong", [FIRST_INPUTS]),  # plain answers are compared here, others in a process of their own
        ("return {x}", "wrong", [FIRST_INPUTS, FIRST_INPUTS]),
        ("return 1 / 0", "exception", [FIRST_INPUTS]),
        ("return x + 1 if x < 99 else 0", "wrong", [FIRST_INPUTS, 100]),
        ("return 'y' * 2000", "wrong", [FIRST_INPUTS, FIRST_INPUTS]),
    ):
        calls.clear()
        assert score(watched, problem, f"def one(x): {solution}").status == status
        assert calls == runs


def test_a_hanging_call_ends_after_a_second_as_in_evalplus(scorer: Scorer) -> None:
    problem = one_problem("return x + 1", [[n] for n in range(4)], [])
    found = score(scorer, problem, "def one(x):\n    while x == 2: pass\n    return x + 1")
    assert found.status == "timeout" and found.seconds < CPU_SECONDS / 2  # CPU time, so a busy machine does not matter


def test_a_test_program_with_loops_and_helpers(scorer: Scorer) -> None:
    prelude = "def encode(text):\n    return text[::-1]\ndef decode(text):\n    '''Undo encode.'''\n"
    source = (
        "def check(candidate):\n    import random\n    for _ in range(20):\n"
        "        text = ''.join(random.choice('abc') for _ in range(5))\n"
        "        assert candidate(encode(text)) == text\n"
    )
    reference = prelude + "    import random\n    random.random()\n    return text[::-1]"
    check = CheckProgram(prelude, source, "decode", reference)
    problem = Problem("humaneval", "x", "", (check,), reference, entry="decode")
    assert score(scorer, problem, reference).correct
    assert score(scorer, problem, "def decode(text): return text").status == "wrong"


def test_the_hubs_test_programs_of_the_evalplus_sets_run(scorer: Scorer) -> None:
    row = {
        "task_id": 7,
        "prompt": "Halve it.",
        "code": "def half(x): return x / 2",
        "test_imports": [],
        "test_list": ["assert half(4) == 2"],
        "test": "import numpy as np\ninputs = [[1], [3]]\nresults = [0.5, 1.5]\n"
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
        "    np.testing.assert_allclose(half(*inp), exp, rtol=1e-07, atol=1e-06)\n",
    }
    problem = evalplus.parse_mbpp(row)
    assert score(scorer, problem, "def half(x): return x * 0.5000000001").correct
    assert score(scorer, problem, "def half(x): return x * 0.51").status == "wrong"


def test_a_timeout_is_run_again_alone() -> None:
    class Slow:
        """Says timeout the first time that a solution runs."""

        def __init__(self) -> None:
            self.batches: list[int] = []

        def drive(self, works):  # type: ignore[no-untyped-def]
            works = list(works)
            self.batches.append(len(works))
            first = len(self.batches) == 2  # the first batch holds no reference solutions
            found = []
            for number, work in enumerate(works):
                program = next(work)
                assert isinstance(program, Program)
                status = "timeout" if first and number == 1 else "ok"
                value = {"stdout": "1"} if status == "ok" else {}
                try:
                    work.send(ProgramResult(status, value=value))
                except StopIteration as end:
                    found.append(end.value)
            return found

    sandbox = Slow()
    problem = stdin(("", "1"))
    scores = Scorer(sandbox).score([(problem, "a"), (problem, "b"), (problem, "c")])
    assert [found.status for found in scores] == ["ok", "ok", "ok"]
    assert sandbox.batches == [0, 3, 1]


def test_the_score_is_the_same_twice_and_under_load(scorer: Scorer) -> None:
    problem = asserts("assert f(2) == 3", reference="def f(x): return x + 1")
    busy = "import time\ndef f(x):\n    while time.process_time() < {seconds}: pass\n    return x + 1"
    solutions = [busy.format(seconds=seconds) for seconds in (1.0, 1.5, 2.0)]  # CPU seconds; the limit is 5
    solutions += ["def f(x): return x + 1", "def f(x): return x", "def f(x): return 1 / 0", "def f(x) return"]
    items = [(problem, solution) for solution in solutions]

    def statuses() -> list[str]:
        return [found.status for found in scorer.score(items)]

    idle = statuses()
    assert idle == ["ok"] * 4 + ["wrong", "exception", "syntax_error"]
    assert statuses() == idle
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * available_cores())]
    try:
        assert statuses() == idle
    finally:
        for process in load:
            process.kill()
            process.wait()


def inputs(source: str, args: list[list[Any]], *, oracle: str = "", atol: float = 0.0) -> Problem:
    check = Inputs("f", tuple(pack(one) for one in args), source, atol, oracle)
    return Problem("humaneval+", source, "", (check,), source, entry="f")


def test_a_reference_that_answers_nothing_judges_nobody(scorer: Scorer) -> None:
    fails = inputs("def f(x):\n    import missing_module\n    return x", [[1], [2]])
    nothing = CheckProgram("", "def check(candidate):\n    pass", "f", "def f(x):\n    return x")
    silent = Problem("humaneval", "silent", "", (nothing,), nothing.reference, entry="f")
    for problem in (fails, silent, inputs("def f(x):\n    return x", [])):
        for solution in (problem.reference, "def f(x):\n    return 'nonsense'"):
            found = score(scorer, problem, solution)
            assert (found.correct, found.status) == (False, "no_reference"), problem


def test_large_answers_have_the_same_tolerance_as_small_ones(scorer: Scorer) -> None:
    for count in (5, 20_000):
        problem = inputs(f"def f(x):\n    return [0.3] * {count}", [[1]])
        assert score(scorer, problem, f"def f(x):\n    return [0.1 + 0.2] * {count}").correct
        assert not score(scorer, problem, f"def f(x):\n    return [0.1 + 0.3] * {count}").correct
        same = inputs(f"def f(x):\n    return list(range({count}))", [[1]], oracle="set")
        assert score(scorer, same, f"def f(x):\n    return list(range({count}))[::-1]").correct
        whole = inputs(f"def f(x):\n    return list(range({count}))", [[1]])
        assert not score(scorer, whole, f"def f(x):\n    return list(range({count}))[::-1]").correct


def test_a_function_of_apps_may_begin_with_a_future_import(scorer: Scorer) -> None:
    problem = Problem("apps", "f", "", (FunctionCalls("f", ([1],), (2,)),), "", entry="f")
    solution = "from __future__ import annotations\n\ndef f(x: List[int]):\n    return x + 1"
    assert score(scorer, problem, solution).status == "ok"
