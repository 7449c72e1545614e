"""The zygote's memory, laid out so that a fork and the end of a child cost little.

A fork copies the page table and the end of the child takes it down: that is where much of the time of a short program
goes. So the heap lies side by side, in huge pages. Nothing here is a defence: where the kernel refuses (it must be
Linux 6.1 or newer), programs run as well, only slower. Loaded by the zygote only.
"""

from __future__ import annotations

import ctypes
import sys

_MADV_COLLAPSE = 25  # of Linux
_HUGE = 2 * 2**20
_RESERVED = 8 * 2**20  # bytes; what the modules of the standard library need
_ARENA = 2**20  # of Python's allocator
_BLOCK = 496  # bytes; the allocator is for blocks of up to 512


def reserve() -> list[bytes]:
    """Make Python's allocator ask for its arenas now, so that they lie side by side. The caller keeps the result."""
    blocks = [bytes(_BLOCK - bytes.__basicsize__) for _ in range(_RESERVED // _BLOCK)]
    return blocks[:: _ARENA // _BLOCK // 2]  # something in each arena, so that none is given back


def use_huge_pages() -> None:
    """When everything is loaded: the heap into huge pages."""
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    for start, end in _heap():
        for address in range(-(-start // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
            advise(ctypes.c_void_p(address), ctypes.c_size_t(_HUGE), _MADV_COLLAPSE)


def _heap() -> list[tuple[int, int]]:
    """Start and end of each writable mapping that is no file's."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            span, rights, _, _, _, *name = line.split()
            if rights == "rw-p" and name in ([], ["[heap]"]):
                start, end = (int(number, 16) for number in span.split("-"))
                found.append((start, end))
    return found
