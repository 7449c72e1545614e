"""Types of arguments and outputs."""

from __future__ import annotations

import pytest

from azr.datatypes import first_argument, same_kind, signature, suits
from azr.records import Pair, Task


def task(given: str, output: str) -> Task:
    return Task("deduction", "def f(*a): ...", (Pair(given, output, b""),))


@pytest.mark.parametrize(
    ("given", "output", "expected"),
    [
        ("1, 'a'", "[1]", "int, str -> list"),
        ("", "None", " -> NoneType"),
        ("{'a': (1, 2)},", "{1, 2}", "dict -> set"),
        ("True, 1.5", "frozenset({1})", "bool, float -> frozenset"),
        ("1", "<no literal>", "?"),
    ],
)
def test_signatures(given: str, output: str, expected: str) -> None:
    assert signature(task(given, output)) == expected


@pytest.mark.parametrize(
    ("argument", "inputs", "expected"),
    [
        ("text", "'a', 3", True),
        ("text", "3, 'a'", False),
        ("nums", "[1], 'a'", True),
        ("nums", "(1,), 'a'", False),
        ("d", "{'a': 1}", True),
        ("d", "{'a'}", False),
        ("n", "1.5", True),
        ("n", "-1", True),
        ("n", "True", False),
        ("n", "", False),
        ("n", "x", False),
    ],
)
def test_the_name_of_an_argument_stands_for_its_type(argument: str, inputs: str, expected: bool) -> None:
    assert suits(argument, inputs) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1", "2.5", True),
        ("'a'", '"b"', True),
        ("[1]", "(1,)", False),
        ("True", "1", False),
        ("None", "'None'", False),
        ("<no literal>", "1", True),
    ],
)
def test_kinds_of_literals(one: str, other: str, expected: bool) -> None:
    assert same_kind(one, other) is same_kind(other, one) is expected


def test_a_first_argument_is_written_alike_in_every_process() -> None:
    assert first_argument("{'c', 'a', 'b'}, 1") == "{'a', 'b', 'c'}"  # whatever the order of hashes
    assert first_argument("[1,2]") == "[1, 2]" and first_argument("") == ""
