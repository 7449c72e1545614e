"""Methods of builtin types, replaced. Loaded by the zygote only.

CPython does not let methods of builtin types be replaced, so this edits their dictionaries and points their slots at
the interpreter's own function for classes written in Python.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
from collections.abc import Callable, Iterator
from typing import Any

_OFFSETS = {"__repr__": 88, "__hash__": 120, "__iter__": 216}  # in PyTypeObject (CPython 3.8 to 3.13, 64 bits)
_address_of = builtins.id
SINGLETONS = {None: 0xFCA86420, ...: 0x0E111B51, NotImplemented: 0x071A9E3D}  # and the hashes that they get


class Model:
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
    if name in _OFFSETS:
        slot(kind, name).value = slot(Model, name).value


def slot(kind: type, name: str) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(_address_of(kind) + _OFFSETS[name])


def steady_singletons() -> None:
    """Give `None`, `...` and `NotImplemented` hashes of their own, as Python 3.12 does for `None`.

    Their address would decide them, and with them the order of sets that hold them, another in every process. To be
    called before modules are loaded: a set that holds one of them already could not find it again.
    """
    for singleton, number in SINGLETONS.items():
        replace_method(type(singleton), "__hash__", _constant(number))


def _constant(number: int) -> Callable[[object], int]:
    def __hash__(self: object) -> int:
        return number

    return __hash__
