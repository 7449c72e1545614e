"""macOS defences: a seatbelt profile, resource limits, and a watch on memory. Not yet run on a Mac: see docs/safety.md.

The profile denies everything and is applied once, to the zygote; children inherit it. It must let the zygote fork, so a
child's RLIMIT_NPROC of 0 keeps programs from forking. RLIMIT_AS does nothing there, so the zygote watches memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct

PROFILE = """(version 1)
(deny default)
(allow process-fork)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
"""
_NOBODY = 4_294_967_294  # -2
_RUSAGE_INFO_V2 = 2
_RUSAGE_BYTES = 512  # more than any version of the structure
_USER, _SYSTEM, _FOOTPRINT = 16, 24, 72  # offsets in struct rusage_info_v2 (sys/resource.h)


def parse_usage(data: bytes, numerator: int, denominator: int) -> tuple[float, int]:
    """CPU seconds and bytes of footprint out of a rusage_info_v2; its times count ticks of the Mach time base."""
    ticks = struct.unpack_from("<Q", data, _USER)[0] + struct.unpack_from("<Q", data, _SYSTEM)[0]
    return ticks * numerator / denominator / 1e9, struct.unpack_from("<Q", data, _FOOTPRINT)[0]


class MacSandbox:
    """Raises the defences, and knows which of them this system has."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.defences: list[str] = []
        self._system = ctypes.CDLL("/usr/lib/libSystem.B.dylib", use_errno=True)
        base = (ctypes.c_uint32 * 2)()
        self._system.mach_timebase_info(base)
        self._numerator, self._denominator = int(base[0]) or 1, int(base[1]) or 1
        self._buffer = ctypes.create_string_buffer(_RUSAGE_BYTES)

    def confine_zygote(self) -> None:
        """Everything that children inherit. Nothing needs a file after this."""
        for kind, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64)):
            resource.setrlimit(kind, (value, value))
        self.defences.append("rlimits")
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
                self.defences.append("unprivileged user")
        error = ctypes.c_char_p()
        if self._system.sandbox_init(PROFILE.encode(), ctypes.c_uint64(0), ctypes.byref(error)) == 0:
            self.defences.append("seatbelt")
        if self.memory_used(os.getpid()) > 0:
            self.defences.append("memory watch")

    def limit_child(self, cpu_seconds: float) -> None:
        """A child's own limit of CPU time."""
        limit = int(cpu_seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

    def confine_child(self) -> None:
        """The last step before a program runs."""
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    def cpu_seconds(self, child: int) -> float:
        """CPU time of a process so far; 0 if the system does not say."""
        return self._usage(child)[0]

    def memory_used(self, child: int) -> int:
        """Bytes of a process's footprint; 0 if the system does not say."""
        return self._usage(child)[1]

    def _usage(self, child: int) -> tuple[float, int]:
        if self._system.proc_pid_rusage(child, _RUSAGE_INFO_V2, self._buffer) != 0:
            return 0.0, 0
        return parse_usage(self._buffer.raw, self._numerator, self._denominator)
