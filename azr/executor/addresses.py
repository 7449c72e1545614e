"""What a program can see of where its objects lie in memory, and of the order of sets.

Every way to show an address (`id`, the default hash, the default repr) shows a number that was given out in the order
of asking instead: it is the same in every process of a world, and in the other worlds its bits are the opposite.
So even a program that returns one bit of an address is found out, and none is valid by luck. The same holds in world C
for the order of a set whose elements' hashes differ between processes: it is iterated backwards.

CPython does not let methods of builtin types be replaced, so this edits their dictionaries and points their slots at
the interpreter's own function for classes written in Python. Loaded by the zygote only.
"""

from __future__ import annotations

import builtins
import ctypes
import decimal
import fractions
import gc
import re
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_SLOTS = {"__repr__": 88, "__hash__": 120, "__iter__": 216}  # offsets in PyTypeObject (CPython 3.8 to 3.13, 64 bits)
_FIRST = 0x5 << 44  # shown addresses have twelve hexadecimal digits, as real ones have, here and in the opposite
_BITS = (1 << 47) - (1 << 4)  # all that vary: objects lie at multiples of 16
_SCATTER = 0x9E3779B97F  # odd, so that multiplying by it permutes the 40-bit numbers
_FEW = 64  # elements: the order of a larger set differs between hash seeds anyway
_address_of = builtins.id
_ADDRESS = re.compile("0x[0-9a-f]+")
_HEAP_TYPE = 1 << 9  # flag of a class that was made at run time
_STEADY = (int, float, complex, bool, range, decimal.Decimal, fractions.Fraction)


class _Model:
    """A class of Python's own, whose slots lead to methods written in Python."""

    def __repr__(self) -> str:
        return ""

    def __hash__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def replace_method(kind: type, name: str, function: Callable[..., Any]) -> None:
    """Make `function` the method `name` of a builtin type, for Python and (if there is a slot for it) for C."""
    [attributes] = [found for found in gc.get_referents(kind.__dict__) if type(found) is dict]
    attributes[name] = function
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
    if name in _SLOTS:
        _slot(kind, name).value = _slot(_Model, name).value


def _slot(kind: type, name: str) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(_address_of(kind) + _SLOTS[name])


def hide_addresses(world: str) -> None:
    """Show numbers instead of addresses: in world B with every bit turned over, in C those of every other object."""
    given: dict[int, int] = {}
    turned = {"A": (0, 0), "B": (_BITS, _BITS), "C": (_BITS, 0)}[world]

    def shown(address: int) -> int:
        number = given.setdefault(address, len(given) + 1)
        return (_FIRST + ((number * _SCATTER & 0xFF_FFFF_FFFF) << 4)) ^ turned[number % 2]

    def address_hash(self: object) -> int:
        return shown(_address_of(self)) >> 4

    def identity(value: object, /) -> int:
        """Return the identity of an object."""
        return shown(_address_of(value))

    # Those whose slot is the object's own follow it; a class that a program makes inherits the new method.
    inherited = _slot(object, "__repr__").value
    _hide_in_repr(object, shown)
    for kind in _all_types(object):
        if _slot(kind, "__repr__").value == inherited:
            _slot(kind, "__repr__").value = _slot(_Model, "__repr__").value
    for kind in _kinds_that_show_addresses():
        _hide_in_repr(kind, shown)
    replace_method(object, "__hash__", address_hash)
    builtins.id = identity
    builtins.hash = _hash(address_hash)
    probe = object()
    if hex(id(probe)) not in repr(probe) or hash(probe) != id(probe) >> 4:
        raise SystemError("this version of Python keeps the slots of its types elsewhere")


def _hash(address_hash: Callable[[object], int]) -> Callable[[object], int]:
    real_hash = builtins.hash

    def shown_hash(value: object, /) -> int:
        """Return the hash value for the given object."""
        return address_hash(value) if type(value).__hash__ is address_hash else real_hash(value)

    return shown_hash


def _hide_in_repr(kind: type, shown: Callable[[int], int]) -> None:
    original: Callable[[object], str] = vars(kind)["__repr__"]
    substitute = _ADDRESS.sub

    def __repr__(self: object) -> str:
        return substitute(lambda found: hex(shown(int(found[0], 16))), original(self))

    replace_method(kind, "__repr__", __repr__)


def _all_types(kind: type) -> set[type]:
    found: set[type] = set()
    pending = [kind]
    while pending:
        subclasses: list[type] = type.__subclasses__(pending.pop())
        pending += [subclass for subclass in subclasses if subclass not in found]
        found.update(subclasses)
    return found


def _kinds_that_show_addresses() -> list[type]:
    """Builtin types with a repr of their own that shows an address."""
    import _thread

    def generator() -> Any:
        yield

    async def coroutine() -> None: ...

    async def asynchronous() -> Any:
        yield

    waiting = coroutine()
    waiting.close()
    samples = [
        lambda: 0, generator(), waiting, asynchronous(), [].append, (5).__add__, weakref.ref(_Model), memoryview(b""),
        _slot.__code__, types.CellType(1), _thread.allocate_lock(), _thread.RLock(),
    ]  # fmt: skip
    return [type(sample) for sample in samples]


def reverse_chance() -> None:
    """World C: where it has world A's hash seed, turn over what depends on that seed.

    Sets whose order it decides are iterated backwards, and hashes that it decides have every bit turned over.
    """
    for kind in (set, frozenset):
        replace_method(kind, "__iter__", _backwards(kind.__iter__))
    replace_method(set, "pop", _pop(set.pop))
    replace_method(dict, "fromkeys", classmethod(_fromkeys(vars(dict)["fromkeys"])))  # type: ignore[arg-type]
    shown_hash = builtins.hash

    def turned_hash(value: object, /) -> int:
        """Return the hash value for the given object."""
        kind, found = type(value), shown_hash(value)
        # A class's own __hash__ calls this function itself.
        is_fixed = kind.__flags__ & _HEAP_TYPE or kind.__hash__ is object.__hash__ or _is_steady(value)
        return found if is_fixed else ~found

    builtins.hash = turned_hash


def _backwards(forwards: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def __iter__(self: Any) -> Iterator[Any]:
        if len(self) > _FEW:
            return forwards(self)
        elements = [*forwards(self)]
        return forwards(self) if all(map(_is_steady, elements)) else reversed(elements)

    return __iter__


def _pop(first: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def pop(self: Any) -> Any:
        """Remove and return an arbitrary set element."""
        if not self or len(self) > _FEW:
            return first(self)
        element = next(iter(self))
        self.remove(element)
        return element

    return pop


def _fromkeys(original: Any) -> Callable[..., Any]:
    def fromkeys(cls: type, iterable: Any, value: Any = None, /) -> Any:
        """Create a new dictionary with keys from iterable and values set to value."""
        return original.__get__(None, cls)(iter(iterable), value)

    return fromkeys


def _is_steady(value: object) -> bool:
    """Whether the hash of a value is the same in every process."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return all(map(_is_steady, value))  # type: ignore[call-overload]
    return kind in _STEADY
