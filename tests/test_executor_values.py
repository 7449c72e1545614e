# ruff: noqa: E501  (tables of cases)
"""The canonical encoding, the comparison, and literals."""

from __future__ import annotations

import ast
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr.executor.literals import NotALiteral, parse_arguments, parse_literal
from azr.executor.values import (
    MAX_BYTES,
    Malformed,
    NotAValue,
    TooLarge,
    contains_nan,
    decode,
    encode,
    matches,
    render,
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**9000), 2**9000) | st.floats() | st.complex_numbers()
    | st.text(st.characters(exclude_categories=())) | st.binary()
)  # fmt: skip
KEYS = st.recursive(
    SCALARS.filter(lambda value: value == value),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=5,
)
VALUES = st.recursive(
    SCALARS | KEYS,
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple) | st.sets(KEYS, max_size=5)
    | st.frozensets(KEYS, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)  # fmt: skip
ANYTHING = st.recursive(
    VALUES | st.builds(object) | st.builds(bytearray) | st.dates() | st.fractions() | st.just(int) | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def identical(a: Any, b: Any) -> bool:
    """Equal in type and content at every level, floats by their bits (one NaN), dicts in their order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a != a and b != b) or struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return identical(a.real + 0.0, b.real + 0.0) and identical(a.imag + 0.0, b.imag + 0.0)  # zeros lose their sign
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(identical(x, y) for y in b) for x in a)
    return bool(a == b)


@given(VALUES)
@settings(max_examples=600)
def test_decode_is_the_exact_inverse_of_encode(value: Any) -> None:
    data = encode(value)
    found = decode(data)
    assert identical(found, value)
    assert encode(found) == data


@given(ANYTHING)
@settings(max_examples=300)
def test_encode_is_total(value: Any) -> None:
    try:
        data = encode(value)
    except (NotAValue, TooLarge):
        return
    assert identical(decode(data), value)


@given(VALUES, VALUES)
@settings(max_examples=300)
def test_different_values_have_different_bytes(a: Any, b: Any) -> None:
    assert (encode(a) == encode(b)) == identical(a, b)


@given(VALUES)
@settings(max_examples=300)
def test_a_value_matches_itself_and_its_text(value: Any) -> None:
    if contains_nan(value):
        assert not matches(value, value)
        return
    assert matches(value, decode(encode(value)))
    assert matches(value, parse_literal(render(value)))


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        (1, True, False), (1, 1.0, False), (True, True, True), ((1,), [1], False), ([1, [2]], [1, [2]], True),
        (0.1 + 0.2, 0.3, True), (1.0, 1.0 + 1e-8, False), (1e300, 1e300 * (1 + 1e-12), True), (0.0, -0.0, True),
        (0.0, 1e-300, False), (math.inf, math.inf, True), (math.inf, 1e308, False), (math.nan, math.nan, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ({1: "x"}, {True: "x"}, False), ({1: "x"}, {1.0: "x"}, False),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, True), ({1, 2}, {2, 1}, True), ({1}, {True}, False), ({1}, frozenset({1}), False),
        ("a", b"a", False), (2j, 2j, True), ([], (), False), (set(), {}, False), (None, False, False),
        ([0.1 + 0.2, "x"], [0.3, "y"], False), ({(1, 2): 3}, {(1, 2): 3}, True), ({(1, 2): 3}, {(1, 2.0): 3}, False),
    ],
)  # fmt: skip
def test_matches(gold: Any, answer: Any, same: bool) -> None:
    assert matches(gold, answer) is same


def test_a_dicts_order_counts_in_the_bytes_and_not_in_the_comparison() -> None:
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert encode(one) != encode(other)
    assert matches(one, other)


def test_sets_are_sorted() -> None:
    assert encode({"a", "b", "c"}) == encode({"c", "b", "a"})
    assert render({3, 1, 2}) == "{1, 2, 3}"
    assert render({"b", 1}) == render({1, "b"})


@pytest.mark.parametrize("value", [object(), bytearray(b"x"), range(3), iter([]), int, len, ..., NotImplemented])
def test_what_is_no_value(value: Any) -> None:
    with pytest.raises(NotAValue):
        encode([value])


def test_subclasses_are_no_values() -> None:
    class Number(int):
        pass

    class Text(str):
        pass

    for value in (Number(1), Text("x"), {Text("x"): 1}, [Number(1)]):
        with pytest.raises(NotAValue):
            encode(value)


def test_cycles_are_no_values_and_sharing_is_no_cycle() -> None:
    cycle: list[Any] = [1]
    cycle.append({"x": (cycle,)})
    with pytest.raises(NotAValue):
        encode(cycle)
    shared = [1]
    assert decode(encode([shared, shared])) == [[1], [1]]


def test_nan_is_one_value_and_no_key() -> None:
    other = struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0]
    assert encode(math.nan) == encode(-math.nan) == encode(other)
    for value in ({math.nan}, {math.nan: 1}, {(1, (math.nan,))}, {frozenset({complex(1, math.nan)})}):
        with pytest.raises(NotAValue):
            encode(value)


def test_budgets() -> None:
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    assert decode(encode(deep)) == deep
    assert decode(encode(2**14_000 - 1)) == 2**14_000 - 1
    assert decode(encode("x" * (MAX_BYTES - 5))) == "x" * (MAX_BYTES - 5)
    for value in (
        [deep],
        2**14_000,
        "x" * (MAX_BYTES - 4),
        "é" * 40_000,
        b"x" * MAX_BYTES,
        [None] * 20_000,
        [1] * 12_000,
    ):
        with pytest.raises(TooLarge):
            encode(value)
    assert encode([None] * 19_999)


LITERALS = [
    "1", "-1", "+1", "1_000", "0x1F", "0o17", "0b101", "00", "1.5", ".5", "5.", "1e3", "1E-3", "1_0.0_1", "2j", "1+2j",
    "-1-2j", "1.5 + .5J", "'a'", '"a"', "'''a\nb'''", "'a' 'b'", r"'\n\x41\u00e9\N{BULLET}\''", r"r'\n'", "b'a'", r"b'\xff'",
    "u'x'", r"rb'\d'", "[]", "[1, 2,]", "()", "(1)", "(1,)", "1, 2", "1,", "{}", "{1}", "{1, 2,}", "{1: 2}", "{1: 2, 'a': [3],}",
    "set()", "None", "True", "False", "[\n1,\n2\n]", "('a'\n'b')", "{(1, 2): {3}}", " 1 ", "\n1\n", "'#'", "'é'", "[[[[]]]]",
    r"'\ud800'", "-0.0", "1e999", "-1e999", "0_0", "'\\\n'",
]  # fmt: skip
NOT_LITERALS = [
    "", " ", "f(3)", "3+1", "1+1j+1", "1j+2j", "1-1", "a", "1 2", "1\n2", "'a'\n'b'", "[1", "1]", "(1, 2", "{1: }", "{1, 2: 3}",
    "{**{}}", "[*[]]", "1;2", "x=1", "lambda: 1", "f'a'", "'a' b'b'", "01", "1__0", "_1", "1_", "0x", "1e", "'", "'a", "--1",
    "~1", "not True", "{[]}", "{[]: 1}", "1 if 2 else 3", "[x for x in y]", "__import__('os')", "1.real", "1 .real", "a.b",
    f"{'9' * 400}+1j", f"0x{'f' * 257}-1j", "[,]", "(,)", ",", "{,}", "set(1)", "b'é'", "\0", "'\0'", "'\\x4'", "1 # c", "...", "True.x", "'a'[0]", "١",
]  # fmt: skip


@pytest.mark.parametrize("text", LITERALS)
def test_literals_are_read_as_python_does(text: str) -> None:
    assert identical(parse_literal(text), ast.literal_eval(text.strip()))


@pytest.mark.parametrize("text", NOT_LITERALS)
def test_what_is_no_literal(text: str) -> None:
    with pytest.raises(NotALiteral):
        parse_literal(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("inf", math.inf), ("-inf", -math.inf), ("[inf, 1]", [math.inf, 1]), ("frozenset()", frozenset()),
     ("frozenset({1, 2})", frozenset({1, 2})), ("nan+1j", None)],
)  # fmt: skip
def test_what_python_prints_is_a_literal(text: str, value: Any) -> None:
    found = parse_literal(text)
    assert value is None or found == value


@given(
    st.lists(st.sampled_from(LITERALS + NOT_LITERALS + list("[](){},:+-'\"\\ \n") + ["1", "'a'", "b", "j", "e", "."]))
)
@settings(max_examples=1500)
def test_no_text_is_read_otherwise_than_python_reads_it(parts: list[str]) -> None:
    text = "".join(parts).strip()
    try:
        value = parse_literal(text)
    except NotALiteral:
        return
    if not any(name in text for name in ("inf", "nan", "frozenset")):
        assert identical(value, ast.literal_eval(text))


@given(VALUES)
@settings(max_examples=400)
def test_whatever_python_prints_is_read(value: Any) -> None:
    text = repr(value)
    try:
        expected = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return
    assert identical(parse_literal(text), expected)


def test_argument_lists() -> None:
    assert parse_arguments("") == ()
    assert parse_arguments("1, [2],") == (1, [2])
    assert parse_arguments("(1, 2)") == ((1, 2),)
    assert parse_arguments("\n 'a',\n 2\n") == ("a", 2)
    for text in (",", "1,,2", "a=1", "*[1]", "1) or (2", "1;2"):
        with pytest.raises(NotALiteral):
            parse_arguments(text)


def test_hostile_literals_end_quickly() -> None:
    for text in (
        "[" * 200_000,
        "(" * 65 + ")" * 65,
        "-" * 100_000 + "1",
        "9" * 100_000,
        "'" + "\\" * 99_999,
        "1," * 200_000,
    ):
        with pytest.raises(NotALiteral):
            parse_literal(text)


@pytest.mark.parametrize(
    "data",
    [b"", b"?", b"i\0\0\0\2\0\1", b"i\0\0\0\0", b"i\xff\xff\xff\xff", b"N" * 2, b"s\0\0\0\1\xff", b"[\0\0\0\2N", b"{\0\0\0\2TF",
     b"{\0\0\0\2NN", b":\0\0\0\1[\0\0\0\0N", b"{\0\0\0\1[\0\0\0\0", b"d\x7f\xf8\0\0\0\0\0\1", b"[\0\0\0\1" * 70 + b"N",
     b"N" * (MAX_BYTES + 1), b":\0\0\0\2TNi\0\0\0\1\1N"],
)  # fmt: skip
def test_malformed_bytes(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)
