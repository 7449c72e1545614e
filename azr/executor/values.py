"""The values that a task may take and return, their canonical bytes, and when two of them are the same.

Values: None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset and dict, of exactly these types (a
subclass is no value, True is not 1, a tuple is not a list). The encoding is type-tagged and length-prefixed; a set is
sorted by its elements' bytes, a dict keeps its order, NaN has one form and is no set element or key.
Budgets: 64 KiB, 20,000 nodes, depth 64, integers of 14,000 bits (Python itself refuses to print many more).

`encode` runs in the sandbox on what a program returned, and in the judge on literals; `decode` and `matches` run in the
judge on what a sandbox sent. This module imports nothing but the standard library: the zygote loads it too.
"""

from __future__ import annotations

import math
import struct
from typing import Any

MAX_BYTES = 64 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 64
MAX_INT_BITS = 14_000
RELATIVE_TOLERANCE = 1e-9  # of floats at grading; validation compares bytes

_identity = id  # the zygote gives programs an `id` that shows no addresses; this one is quicker
Value = Any  # one of the types named above

_LENGTH = struct.Struct(">I")
_FLOAT = struct.Struct(">d")
_NAN = struct.pack(">Q", 0x7FF8000000000000)


class NotAValue(Exception):
    """The object, or a part of it, is none of the value types; the message says what it is."""


class TooLarge(Exception):
    """The value exceeds a budget; the message says which."""


class Malformed(Exception):
    """Bytes that no `encode` could have produced."""


class _Encoder:
    def __init__(self) -> None:
        self.nodes = 0
        self.size = 0
        self.open_containers: set[int] = set()

    def claim(self, size: int) -> None:
        self.size += size
        if self.size > MAX_BYTES:
            raise TooLarge("bytes")

    def encode(self, value: object, depth: int) -> bytes:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise TooLarge("nodes")
        kind = type(value)
        if kind is str:
            return self.text(value)  # type: ignore[arg-type]
        if kind is int:
            return self.integer(value)  # type: ignore[arg-type]
        if kind is bool or value is None:
            self.claim(1)
            return b"N" if value is None else b"T" if value else b"F"
        if kind is float:
            self.claim(9)
            return b"d" + _encode_float(value)  # type: ignore[arg-type]
        if kind in _CONTAINER_TAGS:
            return self.container(value, kind, depth)
        if kind is bytes:
            self.claim(5 + len(value))  # type: ignore[arg-type]
            return b"b" + _LENGTH.pack(len(value)) + value  # type: ignore[arg-type,operator]
        if kind is complex:
            self.claim(17)
            # + 0.0: zeros lose their sign, which neither repr nor a literal of a complex number keeps.
            return b"c" + _encode_float(value.real + 0.0) + _encode_float(value.imag + 0.0)  # type: ignore[attr-defined]
        raise NotAValue("object")

    def text(self, value: str) -> bytes:
        self.claim(5 + len(value))
        data = value.encode("utf-8", "surrogatepass")
        self.claim(len(data) - len(value))
        return b"s" + _LENGTH.pack(len(data)) + data

    def integer(self, value: int) -> bytes:
        if value.bit_length() > MAX_INT_BITS:
            raise TooLarge("integer")
        length = value.bit_length() // 8 + 1
        self.claim(5 + length)
        return b"i" + _LENGTH.pack(length) + value.to_bytes(length, "big", signed=True)

    def container(self, value: Any, kind: type, depth: int) -> bytes:
        if _identity(value) in self.open_containers:
            raise NotAValue("cycle")
        if depth >= MAX_DEPTH:
            raise TooLarge("depth")
        if len(value) > MAX_NODES:
            raise TooLarge("nodes")
        self.claim(5)
        self.open_containers.add(_identity(value))
        if kind is dict:
            parts = []
            for key, item in value.items():
                parts.append(self.key(key, depth + 1))
                parts.append(self.encode(item, depth + 1))
        elif kind is list or kind is tuple:
            parts = [self.encode(item, depth + 1) for item in value]
        else:
            parts = sorted([self.key(item, depth + 1) for item in value])
        self.open_containers.discard(_identity(value))
        return _CONTAINER_TAGS[kind] + _LENGTH.pack(len(value)) + b"".join(parts)

    def key(self, value: object, depth: int) -> bytes:
        if _holds_nan(value):
            raise NotAValue("nan as a key or set element")
        return self.encode(value, depth)


_CONTAINER_TAGS: dict[type, bytes] = {list: b"[", tuple: b"(", set: b"{", frozenset: b"<", dict: b":"}
_CONTAINER_TYPES = {tag[0]: kind for kind, tag in _CONTAINER_TAGS.items()}


def _encode_float(value: float) -> bytes:
    return _NAN if value != value else _FLOAT.pack(value)


def _holds_nan(key: object) -> bool:
    """Whether a hashable value contains NaN (in a tuple or a frozenset, at any depth that can be encoded)."""
    pending, seen = [key], 0
    while pending and seen <= MAX_NODES:
        seen += 1
        item = pending.pop()
        kind = type(item)
        if (kind is float or kind is complex) and item != item:
            return True
        if kind is tuple or kind is frozenset:
            pending.extend(item)  # type: ignore[arg-type]
    return False


def encode(value: object) -> bytes:
    """The canonical bytes of `value`. Raises NotAValue or TooLarge."""
    return _Encoder().encode(value, 0)


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.nodes = 0

    def take(self, size: int) -> bytes:
        start = self.position
        self.position = start + size
        if self.position > len(self.data):
            raise Malformed("truncated")
        return self.data[start : self.position]

    def length(self) -> int:
        (length,) = _LENGTH.unpack(self.take(4))
        if length > len(self.data) - self.position:  # every element takes a byte at least
            raise Malformed("truncated")
        return int(length)

    def decode(self, depth: int) -> Value:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise Malformed("over budget")
        tag = self.take(1)[0]
        if tag == 0x69:  # i
            return int.from_bytes(self.take(self.length()), "big", signed=True)
        if tag == 0x73:  # s
            return self.take(self.length()).decode("utf-8", "surrogatepass")
        if tag in _CONTAINER_TYPES:
            return self.container(_CONTAINER_TYPES[tag], depth)
        if tag == 0x64:  # d
            return _FLOAT.unpack(self.take(8))[0]
        if tag == 0x62:  # b
            return self.take(self.length())
        if tag == 0x63:  # c
            return complex(_FLOAT.unpack(self.take(8))[0], _FLOAT.unpack(self.take(8))[0])
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        raise Malformed("unknown tag")

    def container(self, kind: type, depth: int) -> Value:
        count = self.length()
        if kind is dict:
            return {self.decode(depth + 1): self.decode(depth + 1) for _ in range(count)}
        return kind([self.decode(depth + 1) for _ in range(count)])


_CONSTANTS = {ord("N"): None, ord("T"): True, ord("F"): False}


def decode(data: bytes) -> Value:
    """The value whose canonical bytes are exactly `data`. Raises Malformed for anything else."""
    if len(data) > MAX_BYTES:
        raise Malformed("over budget")
    decoder = _Decoder(data)
    try:
        value = decoder.decode(0)
        canonical = encode(value)
    except (NotAValue, TooLarge, UnicodeDecodeError, TypeError) as error:  # TypeError: an unhashable key
        raise Malformed(type(error).__name__) from None
    if canonical != data:  # also catches what follows the value, and keys that fall together
        raise Malformed("not canonical")
    return value


def contains_nan(value: Value) -> bool:
    """Whether NaN occurs anywhere in a decoded value."""
    kind = type(value)
    if kind is float or kind is complex:
        return bool(value != value)
    if kind is dict:
        return any(contains_nan(item) for item in value.values())
    if kind is list or kind is tuple:
        return any(contains_nan(item) for item in value)
    return False  # keys and set elements are never NaN


def matches(gold: Value, answer: Value) -> bool:
    """Whether a decoded answer counts as the gold value: Python's ==, but types must agree at every level.

    Floats may differ by a relative 1e-9 (keys and set elements by nothing); the order of a dict does not count.
    """
    kind = type(gold)
    if type(answer) is not kind:
        return False
    if kind is float:
        return math.isclose(gold, answer, rel_tol=RELATIVE_TOLERANCE)
    if kind is complex:
        return matches(gold.real, answer.real) and matches(gold.imag, answer.imag)
    if kind is list or kind is tuple:
        return len(gold) == len(answer) and all(map(matches, gold, answer))
    if kind is dict:
        if len(gold) != len(answer) or _key_bytes(gold) != _key_bytes(answer):
            return False
        return all(matches(item, answer[key]) for key, item in gold.items())
    return encode(gold) == encode(answer)


def _key_bytes(mapping: dict[Any, Any]) -> list[bytes]:
    return sorted(encode(key) for key in mapping)  # 1, 1.0 and True are equal keys of different types


def render(value: Value) -> str:
    """`repr` of a decoded value, but the same in every process: sets are written in a fixed order."""
    kind = type(value)
    if kind is list:
        return "[" + ", ".join(map(render, value)) + "]"
    if kind is tuple:
        return "(" + ", ".join(map(render, value)) + (",)" if len(value) == 1 else ")")
    if kind is dict:
        return "{" + ", ".join(f"{render(key)}: {render(item)}" for key, item in value.items()) + "}"
    if kind is set:
        return "{" + ", ".join(map(render, _ordered(value))) + "}" if value else "set()"
    if kind is frozenset:
        return "frozenset({" + ", ".join(map(render, _ordered(value))) + "})" if value else "frozenset()"
    return repr(value)


def _ordered(elements: set[Any] | frozenset[Any]) -> list[Any]:
    kinds = {type(element) for element in elements}
    if len(kinds) == 1 and kinds <= {int, float, str, bytes, bool}:
        return sorted(elements)
    return sorted(elements, key=encode)
