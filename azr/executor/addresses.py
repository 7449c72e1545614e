"""What a program can see of where its objects lie in memory, and of the order of sets.

Every way to show an address (`id`, the default hash, the default repr) shows a number that was given out in the order
of asking instead: it is the same in every process of a world, and in the other worlds its bits are the opposite.
So even a program that returns one bit of an address is found out, and none is valid by luck. The same holds in world C
for the order of a set whose elements' hashes differ between processes: it is iterated backwards.

Loaded by the zygote only.
"""

from __future__ import annotations

import array
import builtins
import decimal
import fractions
import re
import sys
import threading
import types
import unicodedata
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from azr.executor.slots import SINGLETONS, Model, replace_method, slot

_FIRST = 0x5 << 44  # shown addresses have twelve hexadecimal digits, as real ones have, here and in the opposite
_BITS = (1 << 47) - (1 << 4)  # all that vary: objects lie at multiples of 16
_SCATTER = 0x9E3779B97F  # odd, so that multiplying by it permutes the 40-bit numbers
_address_of = builtins.id
_ADDRESS = re.compile("0x[0-9a-f]+")
_OWNER = re.compile("owner=[1-9][0-9]*")  # a thread's number, which is an address, in the repr of a lock
_FEW = 64  # elements: a larger set is told by its elements' types, or a loop of pops would never end
_SETTLED = 10_000  # more than are asked about before the first program
_STEADY = (int, float, complex, bool, range, decimal.Decimal, fractions.Fraction, *map(type, SINGLETONS))
_STEADY_TYPES = frozenset(_STEADY)
_STEADY_HASHES = frozenset(kind.__hash__ for kind in _STEADY)
_SHOWN_THREAD = 0x7F0012345680  # of the main thread, as a program may ask for it


def hide_addresses(world: str) -> Callable[[], None]:
    """Show numbers instead of addresses: in world B with every bit turned over, in C those of every other object.

    Returns what to call before the first program runs. Until then every object that was asked about is kept: at the
    address of one that has gone a program's own object would get its number, in one world and not in another.
    """
    given: dict[int, int] = {}
    kept: list[object] = []
    offset, starting = [1], [True]
    turned = {"A": (0, 0), "B": (_BITS, _BITS), "C": (_BITS, 0)}[world]

    def shown(address: int) -> int:
        number = given.setdefault(address, len(given) + offset[0])
        return (_FIRST + ((number * _SCATTER & 0xFF_FFFF_FFFF) << 4)) ^ turned[number % 2]

    def address_hash(self: object) -> int:
        if starting:
            kept.append(self)
        return shown(_address_of(self)) >> 4

    def identity(value: object, /) -> int:
        """Return the identity of an object."""
        if starting:
            kept.append(value)
        return shown(_address_of(value))

    # Those whose slot is the object's own follow it; a class that a program makes inherits the new method.
    inherited = slot(object, "__repr__").value
    _hide_in_repr(object, shown)
    for kind in _all_types(object):
        if slot(kind, "__repr__").value == inherited:
            slot(kind, "__repr__").value = slot(Model, "__repr__").value
    for kind in _kinds_that_show_addresses():
        _hide_in_repr(kind, shown)
    replace_method(object, "__hash__", address_hash)
    _hide_elsewhere(world, shown)
    builtins.id = identity
    builtins.hash = _hash(address_hash)
    probe = object()
    if hex(id(probe)) not in repr(probe) or hash(probe) != id(probe) >> 4:
        raise SystemError("this version of Python keeps the slots of its types elsewhere")

    def settle() -> None:
        starting.clear()
        offset[0] = _SETTLED - len(given)  # a program's first object has one number, whatever was asked about before

    return settle


def _hide_elsewhere(world: str, shown: Callable[[int], int]) -> None:
    """The other ways to an address, a process's number, or what else of the interpreter's state is chance."""
    info = array.array.buffer_info

    def buffer_info(self: Any) -> tuple[int, int]:
        address, length = info(self)
        return shown(address), length

    replace_method(array.array, "buffer_info", buffer_info)
    thread = threading.main_thread()
    ident = _SHOWN_THREAD if world == "A" else _SHOWN_THREAD ^ _BITS
    vars(thread).update(_ident=ident, _native_id=ident & 0xFFFF)
    vars(threading)["_active"].clear()
    vars(threading)["_active"][ident] = thread
    for module in (threading, sys.modules["_thread"]):
        vars(module).update(get_ident=lambda: ident, get_native_id=lambda: ident & 0xFFFF)
    vars(threading)["_get_native_id"] = threading.get_native_id


def hide_counts() -> None:
    """Take away what counts the interpreter's own objects: the numbers are chance, and no task is about them."""
    for name in ("getrefcount", "getallocatedblocks", "_debugmallocstats", "getunicodeinternedsize"):
        vars(sys).pop(name, None)


def _hash(address_hash: Callable[[object], int]) -> Callable[[object], int]:
    real_hash = builtins.hash

    def shown_hash(value: object, /) -> int:
        """Return the hash value for the given object."""
        kind = type(value)
        by_address = kind.__hash__ is address_hash or (kind is float and value != value)  # nan's is its address, too
        return address_hash(value) if by_address else real_hash(value)

    return shown_hash


def _hide_in_repr(kind: type, shown: Callable[[int], int]) -> None:
    original: Callable[[object], str] = vars(kind)["__repr__"]
    addresses, owners = _ADDRESS.sub, _OWNER.sub

    def __repr__(self: object) -> str:
        return addresses(lambda found: hex(shown(int(found[0], 16))), owners("owner=1", original(self)))

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
        lambda: 0, generator(), waiting, asynchronous(), [].append, (5).__add__, weakref.ref(Model), memoryview(b""),
        slot.__code__, types.CellType(1), _thread.allocate_lock(), _thread.RLock(),
        sys._getframe(), vars(unicodedata).get("_ucnhash_CAPI", [].append),
    ]  # fmt: skip
    return [*dict.fromkeys(type(sample) for sample in samples), weakref.ProxyType, weakref.CallableProxyType]


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
        own = type(kind.__hash__) is types.FunctionType
        return found if own or kind.__hash__ is object.__hash__ or _is_steady(value) else ~found

    builtins.hash = turned_hash


def _backwards(forwards: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def __iter__(self: Any) -> Iterator[Any]:
        if _looks_steady(self, forwards):
            return forwards(self)
        elements = [*forwards(self)]
        return forwards(self) if all(map(_is_steady, elements)) else reversed(elements)

    return __iter__


def _looks_steady(elements: Any, forwards: Callable[[Any], Iterator[Any]]) -> bool:
    """Of a large set, by its elements' types: they are quick to collect."""
    return len(elements) > _FEW and {*map(type, forwards(elements))} <= _STEADY_TYPES


def _pop(first: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def pop(self: Any) -> Any:
        """Remove and return an arbitrary set element."""
        if not self:
            return first(self)
        if len(self) > _FEW:  # to look at all of a large set at every pop would take forever
            found = first(self)
            if type(found) in _STEADY_TYPES:
                return found
            self.add(found)
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
    if kind in _STEADY:
        return True
    found = kind.__hash__
    if found is tuple.__hash__ or found is frozenset.__hash__:
        return all(map(_is_steady, value))  # type: ignore[call-overload]
    return found in _STEADY_HASHES
