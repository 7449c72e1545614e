"""New inputs for buffered tasks."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.executor import Executor, encode, parse_arguments
from azr.executor.values import TooLarge, render
from azr.records import Pair, Task, TaskType
from azr.renewal import growth, new_input, renew

BAND = (0.4, 0.7)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
literals = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.sets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=8,
)


def task(program: str, arguments: str, value: object, kind: TaskType = "abduction") -> Task:
    return Task(kind, program, (Pair(arguments, repr(value), encode(value)),))


def shape(value: Any) -> Any:
    """What a new value keeps: the type, and of the numbers their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "int", value < 0, len(str(abs(value)))
    return type(value).__name__


@given(st.lists(literals, min_size=1, max_size=3), st.integers(0, 1000))
def test_a_new_input_has_the_same_types_and_the_same_seed_gives_the_same(arguments: list[Any], seed: int) -> None:
    text = ", ".join(map(render, arguments))
    found = new_input(text, 0, random.Random(seed))
    assert found == new_input(text, 0, random.Random(seed))
    assert [shape(value) for value in parse_arguments(found)] == [shape(value) for value in arguments]


def test_what_is_equal_in_an_input_stays_equal() -> None:
    kept = 0
    for seed in range(200):
        word, letter, numbers = parse_arguments(new_input("'banana', 'n', [3, 30, 3]", 0, random.Random(seed)))
        if len(word) == 6 and sorted(map(word.count, set(word))) == [1, 2, 3] and len(letter) == 1:
            kept += word.count(letter) == 2
        if len(numbers) == 3 and len(str(numbers[1])) == 2:
            assert numbers[0] == numbers[2]
    assert kept > 40


def test_inputs_differ_from_draw_to_draw() -> None:
    rng = random.Random(0)
    assert len({new_input("[1, 2, 3]", 0, rng) for _ in range(100)}) > 60
    assert len({new_input("'hello'", 0, rng) for _ in range(100)}) > 80


def test_below_the_band_inputs_are_shorter_and_above_it_longer() -> None:
    assert [growth(rate, BAND) for rate in (None, 0.0, 0.4, 0.5, 0.7, 1.0)] == [0, -1, 0, 0, 0, 1]
    for seed in range(50):
        short, long = (
            parse_arguments(new_input("'hello', [1, 20, 300], {'a': 1, 'b': 2}, 400", way, random.Random(seed)))
            for way in (-1, 1)
        )
        assert 1 <= len(short[0]) < 5 < len(long[0]) and 1 <= len(short[1]) < 3 < len(long[1])
        assert len(short[2]) == 1 and 0 <= short[3] < 1000 and 100 <= long[3] < 1000


def test_the_sandbox_says_what_the_program_returns_for_it(executor: Executor) -> None:
    old = task("def f(s, n):\n    return s.upper() * n", "'ab', 3", "ABABAB")
    [new] = renew([(old, 0)], executor, random.Random(1))
    assert (new.type, new.program) == (old.type, old.program) and new.id != old.id
    word, times = parse_arguments(new.pairs[0].input)
    assert new.pairs[0].gold == encode(word.upper() * times) and new.pairs[0].output == repr(word.upper() * times)


@pytest.mark.parametrize(
    "program",
    [
        "def f(n):\n    return {1: 2}[n]",  # raises on any other
        "import random\ndef f(n):\n    return 7 if n == 1 else random.random()",  # differs from run to run
    ],
)
def test_a_task_that_bears_no_other_input_stays(program: str, executor: Executor) -> None:
    old = task(program, "1", 2)
    seen = {renew([(old, 0)], executor, random.Random(seed))[0].pairs[0].input for seed in range(4)}
    assert seen == {"1"}


@pytest.mark.parametrize(
    ("program", "arguments", "value"),
    [
        ("def f(xs):\n    return sorted(xs)", "[3, 1, 2]", [1, 2, 3]),
        ("def f(xs):\n    return list(dict.fromkeys(xs))", "[1, 1, 2]", [1, 2]),
        ("def f(s):\n    return s[2:]", "'hello'", "llo"),
    ],
)
@pytest.mark.parametrize("growth", [-1, 0])
def test_a_new_input_makes_no_task_hollow(
    program: str, arguments: str, value: object, growth: int, executor: Executor
) -> None:
    old = task(program, arguments, value)
    found = [renew([(old, growth)], executor, random.Random(seed))[0].pairs[0] for seed in range(40)]
    assert len({pair.input for pair in found}) > 5
    assert all(pair.output not in (pair.input, "''") for pair in found)
    assert growth == 0 or all(len(pair.input + pair.output) <= len(arguments + repr(value)) for pair in found)


def test_an_identity_may_stay_one(executor: Executor) -> None:
    old = task("def f(s):\n    return s.strip()", "'hello'", "hello")
    assert len({renew([(old, 0)], executor, random.Random(seed))[0].pairs[0].input for seed in range(9)}) > 5


def test_nested_inputs_grow_within_bounds() -> None:
    text = "[" * 20 + "1, 2]" + ", 3]" * 19
    longest = max(len(new_input(text, 1, random.Random(seed))) for seed in range(20))
    assert longest < 6 * len(text)  # two levels grow, each by a half at most, by items that have grown themselves


def test_an_output_that_runs_away_is_not_taken(executor: Executor) -> None:
    cube = task("def f(n):\n    return [0] * n ** 3", "1", [0])
    found = [renew([(cube, 0)], executor, random.Random(seed))[0].pairs[0] for seed in range(10)]
    assert len({pair.input for pair in found}) > 1 and all(len(pair.output) <= 30 for pair in found)


def test_a_set_that_grows_too_large_to_be_ordered_leaves_the_task(executor: Executor) -> None:
    text = "{('" + "ab" * 30_000 + "', 1), 2}"
    with pytest.raises(TooLarge):
        for seed in range(20):
            new_input(text, 1, random.Random(seed))
    large = task("def f(s):\n    return 1", text, 1)
    assert [t.program for t in renew([(large, 1)], executor, random.Random(0))] == [large.program]


def test_a_number_too_long_to_be_written_out_stays(executor: Executor) -> None:
    old = task("def f(n):\n    return n % 10", "0x" + "f" * 4000, 5)
    assert renew([(old, 0)], executor, random.Random(0)) == [old]


def test_tasks_keep_their_order_and_induction_its_inputs(executor: Executor) -> None:
    one = task("def f(n):\n    return n + 1", "10", 11)
    two = task("def f(n):\n    return n + 2", "10", 12, "induction")
    three = task("def f(n):\n    return -n", "10", -10, "deduction")
    found = renew([(t, 0) for t in (one, two, three)], executor, random.Random(0))
    assert [t.program for t in found] == [t.program for t in (one, two, three)]
    assert found[1] == two and found[0] != one and found[2] != three
    assert renew([(one, None), (three, -1)], executor, random.Random(0))[0] == one
    assert renew([], executor, random.Random(0)) == []
