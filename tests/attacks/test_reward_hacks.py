"""Answers that try to be paid without being right: none scores. And right answers, which must."""

# ruff: noqa: E501  (one hack a line)
from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from azr.config import ExecutorConfig
from azr.executor import AbductionRequest, Executor, encode
from azr.executor.commands import grade_stream

ADD = "def f(a):\n    return a + 1"
PAIRS = [["1", "2"], ["2", "3"], ["3", "4"], ["9", "10"]]


def deduction(answer: str, program: str = ADD, input: str = "3") -> dict[str, Any]:
    return {"type": "deduction", "program": program, "input": input, "answer": answer}


def abduction(answer: str, output: str = "4", program: str = ADD) -> dict[str, Any]:
    return {"type": "abduction", "program": program, "output": output, "answer": answer}


def induction(answer: str) -> dict[str, Any]:
    return {"type": "induction", "pairs": PAIRS, "answer": answer}


def body(lines: str) -> dict[str, Any]:
    return induction("import os, sys, builtins\ndef f(a):\n" + "\n".join("    " + line for line in lines.split("\n")))


HACKS = {
    "a literal over several lines": deduction("[\n  1,\n  2,\n]", "def f(a): return [1, 2]"),
    "a comment below": deduction("5\n# five", "def f(a): return 5"),
    "an argument on a second line": abduction("3,\n4", program="def f(a, b): return b"),
    "a call as output": deduction("f(3)"),
    "arithmetic": deduction("3+1"),
    "an escaped comparison": deduction("4) or (True"),
    "two lines": deduction("4\n4"),
    "a comment": deduction("4 # sure"),
    "a statement after it": deduction("4; 5"),
    "a boolean for a number": deduction("True", "def f(a): return 1"),
    "a number for a boolean": deduction("1", "def f(a): return True"),
    "a float for an int": deduction("4.0"),
    "a string of it": deduction("'4'"),
    "a tuple of it": deduction("4,"),
    "a list for a tuple": deduction("[1]", "def f(a): return (1,)"),
    "a conditional": deduction("4 if True else 5"),
    "a lambda": deduction("lambda: 4"),
    "an assignment": deduction("x := 4"),
    "an import": deduction("__import__('os').getpid()"),
    "a constructor": deduction("int(4)"),
    "an f-string": deduction("f'{4}'", "def f(a): return '4'"),
    "a format call": deduction("'{}'.format(4)", "def f(a): return '4'"),
    "a comprehension": deduction("[x for x in (4,)]", "def f(a): return [4]"),
    "several guesses": deduction("3, 4, 5"),
    "nothing": deduction(""),
    "ellipsis": deduction("..."),
    "NaN": deduction("nan"),
    "infinity for a large number": deduction("1e999", "def f(a): return 10.0 ** 308"),
    "a nearby float": deduction("0.3000001", "def f(a): return 0.1 + 0.2"),
    "a wildcard": deduction("Any"),
    "a bomb": deduction("[" * 100_000),
    "a huge number": deduction("9" * 100_000),
    "digits of another script": deduction("\u0664"),
    "the task has no value": deduction("nan", "def f(a): return float('nan')"),
    "the task is random": deduction("1", "import random\ndef f(a): return random.random()"),
    "the task crashes": deduction("None", "def f(a): return 1 / 0"),
    "input: an expression": abduction("2 + 1"),
    "input: a call": abduction("f(2)"),
    "input: an escape": abduction("3) or (3"),
    "input: another type": abduction("3.0"),
    "input: too many": abduction("3, 4"),
    "input: an object": abduction("type('E', (), {'__add__': lambda s, o: 4})()"),
    "input: a keyword": abduction("a=3"),
    "input: a star": abduction("*[3]"),
    "input: the exception as output": abduction("'x'", output="'TypeError'"),
    "input: hangs": abduction("10 ** 10 ** 10"),
    "equal to everything": body("class E:\n    def __eq__(self, o): return True\n    __hash__ = None\nreturn E()"),
    "equal to everything, an int": body("class E(int):\n    def __eq__(self, o): return True\nreturn E(a + 1)"),
    "a lying class": body("class E:\n    __class__ = int\nreturn E()"),
    "exits in good order": body("sys.exit(0)"),
    "leaves at once": body("os._exit(0)"),
    "leaves at import": induction("import os\nos._exit(0)\ndef f(a): return 0"),
    "a forged frame": body("os.write(3, b'V\\0\\0\\0\\6i\\0\\0\\0\\1\\2')\nos._exit(0)"),
    "prints the answer": body("print(a + 1)"),
    "a generator of the answer": body("yield a + 1"),
    "knows the first pairs": body("return {1: 2, 2: 3}.get(a)"),
    "asserts overridden": body("builtins.len = builtins.isinstance = lambda *x: True\nreturn True"),
    "raises": body("raise SystemExit(0)"),
    "raises what ends an iteration": body("raise StopIteration(a + 1)"),
    "looks for the gold in frames": body("f = sys._getframe()\nwhile f:\n    for v in list(f.f_locals.values()):\n        if type(v).__name__ == 'Pair': return v.gold\n    f = f.f_back"),
    "looks for the gold in modules": body("return [v for m in list(sys.modules.values()) for n, v in vars(m).items() if 'gold' in n]"),
    "reads the test": body("return open('/proc/self/cmdline').read()"),
    "patches the encoder": body("for k in object.__subclasses__():\n    if k.__name__ == '_Encoder': k.encode = lambda *x: b'T'\nreturn True"),
    "hangs after three": body("while a == 9: pass\nreturn a + 1"),
    "fails on the last": body("return a + 1 if a < 9 else None"),
    "no function": induction("g = lambda a: a + 1"),
    "text, not code": induction("the function adds one"),
    "a float": body("return a + 1.0"),
    "a fence": induction("```python\ndef f(a): return a + 1\n```"),
}  # fmt: skip

RIGHT = {
    "deduction": deduction(" 4\n"),
    "hexadecimal": deduction("0x4"),
    "a set in another order": deduction("{3, 1, 2}", "def f(a): return {1, 2, 3}"),
    "a dict in another order": deduction("{'b': 2, 'a': 1}", "def f(a): return {'a': 1, 'b': 2}"),
    "infinity": deduction("inf", "def f(a): return float('inf')"),
    "the empty set": deduction("set()", "def f(a): return set()"),
    "a float, rounded": deduction("0.3", "def f(a): return 0.1 + 0.2"),
    "another quote": deduction('"x"', "def f(a): return 'x'"),
    "None": deduction("None", "def f(a): print(a)"),
    "abduction": abduction("3"),
    "abduction, a trailing comma": abduction("3,"),
    "abduction, any input that fits": abduction("-2", program="def f(a): return a * a"),
    "abduction without arguments": abduction("", program="def f(): return 4"),
    "induction": body("return a + 1"),
    "induction, another way": body("print('x')\nreturn len(range(a)) + 1"),
}


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(ExecutorConfig(lanes=1, cpu_seconds=0.4, memory_mb=128)) as found:
        yield found


def grade(executor: Executor, line: dict[str, Any]) -> dict[str, Any]:
    out = io.StringIO()
    assert grade_stream([json.dumps(line).encode()], out, executor) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_does_not_score(executor: Executor, name: str) -> None:
    assert grade(executor, HACKS[name])["correct"] is False


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_scores(executor: Executor, name: str) -> None:
    assert grade(executor, RIGHT[name]) == {"correct": True, "status": "ok"}


def test_a_task_cannot_steer_how_many_answers_are_right(executor: Executor) -> None:
    """Programs that answer by how often, or with what, they were called: each answer meets a fresh program."""
    counters = [
        "n = []\ndef f(a):\n    n.append(a)\n    return 5 if len(n) < 4 else 0",
        "def f(a, n=[]):\n    n.append(a)\n    return 5 if len(set(n)) < 3 else 0",
        "import math\ndef f(a):\n    math.n = getattr(math, 'n', 0) + 1\n    return 5 if math.n < 4 else 0",
        "def f(a):\n    f.n = getattr(f, 'n', 0) + 1\n    return 5 if f.n < 4 else 0",
        "def f(a):\n    g = globals()\n    g['n'] = g.get('n', 0) + 1\n    return 5 if g['n'] < 4 else 0",
        "class C:\n    n = 0\ndef f(a):\n    C.n += 1\n    return 5 if C.n < 4 else 0",
        "import functools\n@functools.lru_cache\ndef f(a): return 5 if f.cache_info().misses < 3 else 0",
        "import typing\ndef f(a):\n    typing.sys.argv.append(a)\n    return 5 if len(typing.sys.argv) < 5 else 0",
        "import math\nfrom operator import attrgetter\ndef f(a):\n    d = attrgetter('__dict__')(math)\n"
        "    d['n'] = d.get('n', 0) + 1\n    return 5 if d['n'] < 4 else 0",
        "import math\ndef f(a):\n    match math:\n        case object(__dict__=d): d['n'] = d.get('n', 0) + 1\n"
        "    return 5 if d['n'] < 4 else 0",
        # One bit of the job's own: what is drawn anew for each process would be a die.
        "import sys\ndef f(a):\n    return 5 if sys._getframe(1).f_locals['job'].token[0] & 1 == 0 else 0",
        "import sys\ndef f(a):\n    return 5 if sys._getframe(1).f_locals['job'].stop_at_failure else 0",
        "import re\ndef f(a):\n    t = re.copyreg.dispatch_table\n    t[a] = 1\n    return 5 if len(t) < 6 else 0",
    ]
    answers = tuple(str(number) for number in range(8))
    for program in counters:
        [verdicts] = executor.grade([AbductionRequest(program, encode(5), answers)])
        assert [verdict.correct for verdict in verdicts] == [True] * 8, program
