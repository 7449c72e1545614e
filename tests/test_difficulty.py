"""Minimising, probing and measuring, on the real executor."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from azr.config import ExecutorConfig
from azr.curriculum import reached
from azr.difficulty import difficulty
from azr.executor import Executor, ValidationRequest, encode
from azr.instrument import MOST_STEPS, instrument
from azr.minimise import minimise
from azr.probing import MOST_INPUTS, Probe, changes, probe
from azr.records import Pair

LOOP = (
    "def f(nums):\n    total = 0\n    for n in nums:\n        if n % 2 == 0:\n            total += n\n    return total"
)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(ExecutorConfig(lanes=1)) as found:
        yield found


def minimal(source: str) -> str:
    tree = minimise(source)
    assert tree is not None
    return ast.unparse(tree)


def probed(executor: Executor, program: str, text: str) -> Probe:
    [validated] = executor.validate([ValidationRequest(program, (text,))])
    [found] = probe([(program, validated.pairs[0])], executor)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x):\n    return x\n    x = 3", "def f(x):\n    return x"),
        ("def f(x):\n    y = x + 0\n    return y", "def f(x):\n    return x"),
        ("def f(x):\n    y = [1]\n    y.append(x)\n    return x * 2", "def f(x):\n    return x * 2"),
        ("def f(x):\n    if True:\n        return x\n    return 2", "def f(x):\n    return x"),
        ("def f(x):\n    return 3 if x else 3", "def f(x):\n    return 3"),
        ("def f(x):\n    'doc'\n    x = x\n    pass\n    return -x", "def f(x):\n    return -x"),
        ("def f(x):\n    x.append(1)\n    return x", "def f(x):\n    x.append(1)\n    return x"),
        ("def f(x):\n    y = x.pop()\n    return x", "def f(x):\n    y = x.pop()\n    return x"),
        ("def f(x):\n    for i in x:\n        continue\n    return 1", "def f(x):\n    return 1"),
        (LOOP, LOOP),
    ],
)
def test_idle_code_goes_and_the_rest_stays(source: str, expected: str) -> None:
    assert minimal(source) == expected


def test_an_instrumented_program_counts_by_hand(executor: Executor) -> None:
    # total = 0; for; 3 x (if); 1 x (+=) and 2 x the missing else; return
    found = probed(executor, LOOP, "[1, 2, 3]")
    assert found.steps == 1 + 1 + 3 + 3 + 1
    assert found.dependence == 1.0


def test_recursion_keeps_working_under_instruments(executor: Executor) -> None:
    fibonacci = "def f(n):\n    if n < 2:\n        return n\n    return f(n - 1) + f(n - 2)"
    assert probed(executor, fibonacci, "6").values[0] == probed(executor, "def f(n):\n    return n + 2", "6").values[0]


def test_dependence_is_the_share_of_parts_that_matter(executor: Executor) -> None:
    assert probed(executor, "def f(a, b):\n    return a * 3", "1, 2").dependence == 0.5
    assert probed(executor, "def f(xs):\n    return xs[0] + 1", "[1, 2, 3, 4]").dependence == 0.5
    assert probed(executor, "def f(xs):\n    return 9", "[1, 2, 3, 4]").dependence == 0.0


def test_padding_and_branches_never_taken_do_not_count(executor: Executor) -> None:
    plain = "def f(x):\n    return x * 3"
    padded = (
        "def f(x):\n    y = []\n    for i in range(20):\n        y.append(i)\n"
        "    if x > 10 ** 20:\n        return [x, x, x, x]\n    return x * 3"
    )
    one, other = (difficulty(p, probed(executor, p, "5")) for p in (plain, padded))
    assert one is not None and other is not None
    assert other.structural == one.structural
    assert other.steps == 3  # the test, its missing branch, and the return


def test_what_an_output_repeats_counts_once() -> None:
    one, repeated, calling = (
        difficulty(f"def f(n):\n    return {output}", None)
        for output in ("n * n, n, 10", "n * n, n, 10, n, 10, n * n, n, n", "n * n, n, 10, next(n), next(n)")
    )
    length, lengths = (difficulty(f"def f(n):\n    return {output}", None) for output in ("len(n),", "len(n), len(n)"))
    assert length is not None and length == lengths
    assert one is not None and repeated is not None and calling is not None
    assert repeated == one
    assert calling.nodes == one.nodes + 6


def test_structural_measures_by_hand() -> None:
    found = difficulty(LOOP, None)
    assert found is not None
    assert (found.nesting, found.cyclomatic) == (2, 3)
    assert found.structural == found.nodes + 2 * found.kinds + 4 * 2 + 4 * 2
    assert found.steps is found.dynamic is None


def test_more_of_everything_is_harder() -> None:
    steps = [
        "def f(x):\n    return x + 1",
        "def f(x):\n    return x + 1 if x > 2 else x * x",
        LOOP,
        LOOP.replace("return total", "return [total * k for k in range(total) if k % 3]"),
    ]
    found = [difficulty(source, None) for source in steps]
    values = [d.structural for d in found if d]
    assert values == sorted(set(values)) and len(values) == 4


@pytest.mark.parametrize(
    "arguments",
    [(1, "abc", [1, 2]), ({"a": [1, 2]}, True), (None,), ((), "", {}, set()), ([[1, 2], [3]],), (1.5, b"x")],
)
def test_changed_inputs_keep_their_types_and_differ(arguments: tuple) -> None:
    found = changes(arguments)
    assert len(found) <= MOST_INPUTS
    for change in found:
        assert [type(value) for value in change.arguments] == [type(value) for value in arguments]
        others = [i for i in range(len(arguments)) if i != change.argument]
        assert all(change.arguments[i] == arguments[i] for i in others)


@pytest.mark.parametrize(
    "program",
    ["f = lambda x: x", "def g(x): return x", "def f(x:", "def f(x):\n" + "    x += 1\n" * 500 + "    return x"],
)
def test_what_cannot_be_measured_is_none(executor: Executor, program: str) -> None:
    assert probe([(program, Pair("1", "1", encode(1)))], executor) == [None]


@pytest.mark.parametrize(
    "program",
    [
        "def f(xs):\n    other = xs\n    other.append(1)\n    return xs",
        "def f(xs):\n    ys = [0]\n    zs = ys\n    zs.append(xs[0])\n    return ys",
        "import heapq\ndef f(xs):\n    heap = []\n    heapq.heappush(heap, xs[0])\n    return heap",
        "def g(xs):\n    xs.append(5)\ndef f(xs):\n    g(xs)\n    return xs",
        "def f(xs):\n    ys = xs\n    ys += [1]\n    return xs",
        "def f(xs):\n    list.sort(xs)\n    return xs",
        "def f(s):\n    out = []\n    list(map(out.append, s))\n    return out",
        "log = []\n\ndef g():\n    log.append(1)\n\ndef f(x):\n    g()\n    return len(log)",
        "import random\n\ndef f(s):\n    random.seed(s)\n    return random.random()",
        "class T:\n\n    def go(self, xs):\n        xs.sort()\n\ndef f(xs):\n    T().go(xs)\n    return xs",
        "def f(x):\n    n = 0\n\n    def g():\n        nonlocal n\n        n += 1\n    g()\n    return n + x",
        "def f(xs):\n    ys = xs or []\n    ys.append(1)\n    return xs",
        "def f(d):\n    a = d.setdefault(1, [])\n    a.append(2)\n    return d",
    ],
)
def test_what_changes_a_value_under_another_name_is_not_idle(program: str) -> None:
    core = minimise(program)
    assert core is not None and ast.unparse(core) == ast.unparse(ast.parse(program))


def test_code_that_only_looks_idle_is_left_in_where_the_output_needs_it(executor: Executor) -> None:
    program = (
        "class C:\n    n = 0\n    def __init__(self):\n        C.n += 1\n"
        "def f(x):\n    c = C()\n    return C.n * 0 + x if C.n else None"
    )
    found = probed(executor, program, "3")
    core, folded = found.core(), minimise(program)
    assert not found.folded and core is not None and folded is not None
    assert "c = C()" in ast.unparse(core) and "c = C()" not in ast.unparse(folded)


@pytest.mark.parametrize("forged", ["-9", "10 ** 400", "2.5"])
def test_a_program_cannot_forge_its_counts(executor: Executor, forged: str) -> None:
    program = f"_azr_log = [0, 0]\ndef f(x):\n    _azr_log[0] = {forged}\n    return x * 2"
    assert probe([(program, Pair("3", "6", encode(6)))], executor) == [None]
    hidden = f"def f(x):\n    globals()['_azr' + '_log'][0] = {forged}\n    return x * 2"
    found = probe([(hidden, Pair("3", "6", encode(6)))], executor)[0]
    measured = difficulty(hidden, found)
    assert measured is not None and 0 <= reached(measured, 1.0) <= 1


def test_changed_inputs_are_the_same_in_every_process() -> None:
    code = "from azr.probing import changes; from azr.executor import render\n"
    code += "print([render(c.arguments) for c in "
    code += "changes([{frozenset('az'), frozenset('m'), frozenset('kbq')}, {'a', 'q'}])])"
    shown = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True,
                       text=True, check=True).stdout
        for seed in "0123"
    }  # fmt: skip
    assert len(shown) == 1 and shown != {""}


@pytest.mark.parametrize("signs", range(30, 100, 5))
def test_what_python_reads_and_cannot_write_is_not_measured(executor: Executor, signs: int) -> None:
    """How deep Python can go depends on the stack below, so this is tried at many depths."""
    program = "def f(a):\n    return len(" + "[" * 195 + "-" * signs + "a" + "]" * 195 + ")"
    [found] = probe([(program, Pair("3", "1", encode(1)))], executor)
    assert found is None or found.values


def test_a_run_of_too_many_steps_is_cut_after_the_same_step_every_time(executor: Executor) -> None:
    count = "def f(n):\n    t = 0\n    for i in range(n):\n        t += i % 7\n    return t"
    pairs = [(count, executor.validate([ValidationRequest(count, (text,))])[0].pairs[0]) for text in ("50", "20000")]
    short, long = probe(pairs, executor)
    assert short is not None and short.steps == 53 < MOST_STEPS
    assert long is None


def test_hostile_names_and_forms_still_run(executor: Executor) -> None:
    program = (
        "from __future__ import annotations\n'text'\nK = 2\ndef g(f):\n    return f + K\n"
        "def f(x, *more):\n    '''doc'''\n    def inner():\n        nonlocal x\n        x += 1\n        return x\n"
        "    return g(inner()) + sum(v for v in more if v or x) + (lambda v: v)(1)"
    )
    assert instrument(program) is not None
    assert len(set(probed(executor, program, "1, 2, 3").values)) > 3
