"""How the C library hands out memory to a process that computes: huge pages, and freed memory kept.

A step allocates and frees gigabytes of large temporaries. With glibc's defaults each of them is mapped and cleared
anew, one small page fault at a time, which is slow on some virtual machines (docs/results.md). glibc reads these
settings once, when a process starts; so the command starts over with them in its environment.

PyTorch asks for aligned memory: glibc cuts it out of a larger piece and frees what is left on both sides. Kept apart
for the next small object (tcache, fastbins), that never joins its neighbour again, and the piece is too small for the
same request ever after.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GLIBC_TUNABLES"  # ignored by other C libraries
SETTINGS = {
    "glibc.malloc.hugetlb": 1,  # transparent huge pages: one fault for 2 MiB
    "glibc.malloc.mmap_threshold": 32 << 20,  # the most that glibc allows; below it freed memory is used again
    "glibc.malloc.trim_threshold": 1 << 40,
    "glibc.malloc.top_pad": 64 << 20,
    "glibc.malloc.tcache_count": 0,
    "glibc.malloc.mxfast": 0,
}


def tuned(current: str) -> str:
    """The variable's value with our settings added; those that somebody has chosen stay."""
    chosen = [setting for setting in current.split(":") if setting]
    names = {setting.partition("=")[0] for setting in chosen}
    return ":".join(chosen + [f"{name}={value}" for name, value in SETTINGS.items() if name not in names])


def tune() -> None:
    """Start this command over with the settings, unless it runs with them. Call it before anything is imported."""
    current = os.environ.get(VARIABLE, "")
    wanted = tuned(current)
    if sys.platform == "linux" and wanted != current and sys.executable:
        os.environ[VARIABLE] = wanted
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
