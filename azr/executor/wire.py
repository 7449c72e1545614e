"""Python values as JSON, between the process that holds a solution, the process that holds the tests, and the judge.

`pack` runs beside the solution and makes exact builtin types of what it returned: a subclass becomes its base type with
its base content, so that no `__eq__`, `__class__` or `__repr__` of a solution reaches a comparison. What is no data
becomes an `Opaque`, which equals nothing. `unpack` builds the values again from JSON and runs nothing.
Standard library only: the sandbox loads it too.
"""

from __future__ import annotations

import array
import collections
import decimal
import fractions
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable
from typing import Any

MAX_ITEMS = 1_000_000  # of an iterator that is read out
MAX_DEPTH = 200
LARGE = 64 * 1024  # characters of JSON
_INT_BITS = 14_000  # beyond it Python refuses decimal digits


class Opaque:
    """Something that is no data: a function, a match object, an instance of a class. Not None, and equal to nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def pack(value: Any, depth: int = 0) -> Any:
    """`value` as JSON values; floats keep NaN and infinity, as Python's json writes them. Raises RecursionError."""
    if depth > MAX_DEPTH:
        raise RecursionError("nested too deep")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    for base, packer in _PACKERS:
        # The real type's bases: an object can lie about its __class__, not about these.
        if base in type.mro(kind):
            return packer(value, depth)
    if kind in _VIEWS:
        return {_VIEWS[kind]: [pack(item, depth + 1) for item in value]}
    if hasattr(kind, "__next__") and hasattr(kind, "__iter__"):
        return {"i": [pack(item, depth + 1) for item in itertools.islice(value, MAX_ITEMS)]}
    return {"o": str.__str__(kind.__name__)[:50]}


def _int(value: Any, depth: int) -> Any:
    exact = int.__pos__(value)
    return exact if exact.bit_length() <= _INT_BITS else {"x": hex(exact)}


def _items(tag: str, read: Callable[[Any], Any]) -> Callable[[Any, int], Any]:
    return lambda value, depth: {tag: [pack(item, depth + 1) for item in read(value)]}


def _dict(value: Any, depth: int) -> Any:
    return {"d": [[pack(key, depth + 1), pack(item, depth + 1)] for key, item in dict.items(value)]}


_PACKERS: tuple[tuple[type, Callable[[Any, int], Any]], ...] = (
    (int, _int),
    (list, lambda value, depth: [pack(item, depth + 1) for item in list.__iter__(value)]),
    (str, lambda value, depth: str.__str__(value)),
    (float, lambda value, depth: float.__pos__(value)),
    (tuple, _items("t", tuple.__iter__)),
    (dict, _dict),
    (set, _items("s", set.__iter__)),
    (frozenset, _items("f", frozenset.__iter__)),
    (bytes, lambda value, depth: {"b": bytes.decode(value, "latin-1")}),
    (bytearray, lambda value, depth: {"B": bytearray.decode(value, "latin-1")}),
    (complex, lambda value, depth: {"c": [complex.__pos__(value).real, complex.__pos__(value).imag]}),
    (collections.deque, _items("q", collections.deque.__iter__)),
    (range, lambda value, depth: {"r": [value.start, value.stop, value.step]}),
    (array.array, lambda value, depth: {"a": [value.typecode, list(array.array.__iter__(value))]}),
    (decimal.Decimal, lambda value, depth: {"D": decimal.Decimal.__str__(value)}),
    (fractions.Fraction, lambda value, depth: {"F": [int.__pos__(value.numerator), int.__pos__(value.denominator)]}),
)
_VIEWS = {type({}.keys()): "k", type({}.values()): "v", type({}.items()): "m"}


def unpack(packed: Any) -> Any:
    """The value that `pack` wrote. Raises ValueError or TypeError for JSON that `pack` never writes."""
    if isinstance(packed, list):
        return [unpack(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) != 1:
        raise ValueError("not a packed value")
    [(tag, content)] = packed.items()
    if tag not in _UNPACKERS:
        raise ValueError("not a packed value")
    return _UNPACKERS[tag](content)


def _pairs(content: Any) -> Any:
    return {unpack(key): unpack(item) for key, item in content}


_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    "x": lambda content: int(content, 16),
    "t": lambda content: tuple(unpack(content)),
    "d": _pairs,
    "s": lambda content: set(unpack(content)),
    "f": lambda content: frozenset(unpack(content)),
    "b": lambda content: content.encode("latin-1"),
    "B": lambda content: bytearray(content.encode("latin-1")),
    "c": lambda content: complex(*content),
    "q": lambda content: collections.deque(unpack(content)),
    "r": lambda content: range(*content),
    "a": lambda content: array.array(*content),
    "D": decimal.Decimal,
    "F": lambda content: fractions.Fraction(*content),
    "k": lambda content: dict.fromkeys(unpack(content)).keys(),
    "v": lambda content: dict(enumerate(unpack(content))).values(),
    "m": lambda content: dict(unpack(content)).items(),
    "i": lambda content: iter(unpack(content)),
    "o": Opaque,
}


def is_large(packed: Any) -> bool:
    """Whether a packed value is better sent as its digest: a large one without floats, which may be nearly equal."""
    return isinstance(packed, (str, list, dict)) and len(json.dumps(packed)) > LARGE and not _has_floats(packed)


def _has_floats(packed: Any) -> bool:
    if isinstance(packed, dict):
        return any(map(_has_floats, packed.values()))
    return any(map(_has_floats, packed)) if isinstance(packed, list) else type(packed) is float


def digest(packed: Any) -> str:
    """The same for packed values that are equal in Python: 1, 1.0 and True, sets in any order, dicts in any order."""
    return hashlib.sha256(json.dumps(_canonical(packed)).encode()).hexdigest()


def _canonical(packed: Any) -> Any:
    if isinstance(packed, (bool, float)):
        return int(packed) if _is_whole(packed) else packed
    if isinstance(packed, list):
        return [item if type(item) is int or type(item) is str else _canonical(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    [(tag, content)] = packed.items()
    if tag == "d":
        pairs = [(json.dumps(_canonical(key)), _canonical(item)) for key, item in content]
        return {tag: sorted(pairs, key=lambda pair: pair[0])}
    if tag in ("s", "f", "k"):
        return {"s": sorted(json.dumps(_canonical(item)) for item in content)}
    return {tag: _canonical(content)}


def _is_whole(number: float) -> bool:
    return math.isfinite(number) and float(number).is_integer()


sys.setrecursionlimit(max(sys.getrecursionlimit(), 4 * MAX_DEPTH))
