"""Linux defences: Landlock, seccomp, dropped privileges and resource limits, raised from Python through the C library.

The zygote calls `confine_zygote` once, when everything is loaded; each forked child calls `confine_child` before it
runs anything of a program. The list of system calls is an allow-list: what a computation needs, and `write` to one
descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys

from azr.executor.protocol import JOB_DESCRIPTOR

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_NOBODY = 65534
_CAPABILITY_VERSION_3 = 0x20080522
_CPUCLOCK_SCHED = 2  # a process's CPU clock has the id (~pid << 3) | 2

# System calls by name, per architecture (kernel's asm/unistd_64.h and asm-generic/unistd.h).
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SYSCALLS = {
    "x86_64": {
        "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigprocmask": 14, "rt_sigreturn": 15,
        "mremap": 25, "madvise": 28, "setitimer": 38, "exit": 60, "kill": 62, "ptrace": 101, "rt_sigqueueinfo": 129,
        "tkill": 200, "futex": 202, "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "tgkill": 234,
        "rt_tgsigqueueinfo": 297, "process_vm_readv": 310, "process_vm_writev": 311, "seccomp": 317,
        "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "execve": 59, "execveat": 322,
        "fork": 57, "vfork": 58,
    },
    "aarch64": {
        "write": 64, "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214, "rt_sigprocmask": 135,
        "rt_sigreturn": 139, "mremap": 216, "madvise": 233, "setitimer": 103, "exit": 93, "kill": 129, "ptrace": 117,
        "rt_sigqueueinfo": 138, "tkill": 130, "futex": 98, "restart_syscall": 128, "clock_gettime": 113,
        "exit_group": 94, "tgkill": 131,
        "rt_tgsigqueueinfo": 240, "process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277,
        "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "execve": 221, "execveat": 281,
    },
}  # fmt: skip
_ALLOWED = (
    "brk", "munmap", "mremap", "madvise", "rt_sigprocmask", "rt_sigreturn", "restart_syscall", "clock_gettime",
    "setitimer", "exit", "exit_group",
)  # fmt: skip
_WITHOUT_EXEC = ("mmap", "mprotect")  # allowed unless they ask for executable memory
_FATAL = (
    "kill", "tkill", "ptrace", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "process_vm_readv", "process_vm_writev",
    "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "execve", "execveat", "fork", "vfork",
)  # fmt: skip

_RET_KILL, _RET_ERRNO, _RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _JEQ, _JGE, _JSET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH = 0, 4  # offsets in struct seccomp_data
_PROT_EXEC, _X32_BIT = 4, 0x40000000
_FUTEX_COMMANDS, _FUTEX_WAKE = 0x7F, 1


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low half; both machines are little-endian


class UnknownMachine(Exception):
    """There is no system-call table for this architecture."""


def seccomp_program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter as BPF instructions (code, jump if true, jump if false, constant).

    Every child installs it anew, and the kernel then tries it on every number that there is. So it is short (the
    returns are shared) and searches by halves instead of comparing with one number after the other.
    """
    if machine not in _SYSCALLS:
        raise UnknownMachine(machine)
    numbers = _SYSCALLS[machine]
    cases = {numbers[name]: "allow" for name in _ALLOWED}
    cases |= {numbers[name]: "without exec" for name in _WITHOUT_EXEC}
    cases |= {numbers["write"]: "write", numbers["futex"]: "futex"}
    cases |= {numbers[name]: "kill" for name in _FATAL if name in numbers}
    limit = [(_JGE, "kill", "", _X32_BIT)] if machine == "x86_64" else []
    return _assemble([
        (_LOAD, "", "", _ARCH), (_JEQ, "", "kill", _AUDIT_ARCH[machine]), (_LOAD, "", "", _NR), *limit,
        *_search(sorted(cases.items())),
        "without exec", (_LOAD, "", "", _argument(2)), (_JSET, "refuse", "allow", _PROT_EXEC),
        "write", (_LOAD, "", "", _argument(0)), (_JEQ, "allow", "bad file", JOB_DESCRIPTOR),
        # A single thread never waits for a futex, except in a deadlock: tell it that the time is up.
        "futex", (_LOAD, "", "", _argument(1)), (_AND, "", "", _FUTEX_COMMANDS),
        (_JEQ, "allow", "time is up", _FUTEX_WAKE),
        "allow", (_RETURN, "", "", _RET_ALLOW), "kill", (_RETURN, "", "", _RET_KILL),
        "refuse", (_RETURN, "", "", _RET_ERRNO | errno.EPERM), "bad file", (_RETURN, "", "", _RET_ERRNO | errno.EBADF),
        "time is up", (_RETURN, "", "", _RET_ERRNO | errno.ETIMEDOUT),
    ])  # fmt: skip


_Step = tuple[int, str, str, int] | str  # code, where to go if true and if false ("": on), constant; or a label


def _search(cases: list[tuple[int, str]]) -> list[_Step]:
    """Go where the number's case says; any other number is refused."""
    if len(cases) <= 3:
        chain: list[_Step] = [(_JEQ, label, "", number) for number, label in cases[:-1]]
        number, label = cases[-1]
        return [*chain, (_JEQ, label, "refuse", number)]
    middle = len(cases) // 2
    split = cases[middle][0]
    return [
        (_JGE, f"from {split}", "", split), *_search(cases[:middle]), f"from {split}", *_search(cases[middle:])
    ]  # fmt: skip


def _assemble(steps: list[_Step]) -> list[tuple[int, int, int, int]]:
    """Labels become distances."""
    positions: dict[str, int] = {}
    instructions: list[tuple[int, str, str, int]] = []
    for step in steps:
        if isinstance(step, str):
            positions[step] = len(instructions)
        else:
            instructions.append(step)

    def distance(label: str, position: int) -> int:
        return positions[label] - position - 1 if label else 0

    return [(code, distance(yes, i), distance(no, i), constant) for i, (code, yes, no, constant) in
            enumerate(instructions)]  # fmt: skip


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class LinuxSandbox:
    """Raises the defences, and knows which of them this kernel has."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.defences: list[str] = []
        self.filter: _FilterProgram | None = None
        self._cpu_limit = (ctypes.c_ulong * 2)()
        self._moment = _Timespec()
        self._moment_reference = ctypes.byref(self._moment)
        self._instructions: ctypes.Array[ctypes.c_char] | None = None  # keeps the filter's memory alive

    def confine_zygote(self) -> None:
        """Everything that children inherit. Nothing needs a file after this."""
        self._be_killed_first()
        self._limit_resources()
        self._drop_root()
        self._drop_capabilities()
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            self.defences.append("no-new-privileges")
        self._landlock()
        self._prepare_seccomp()

    def limit_child(self, cpu_seconds: float) -> None:
        """A child's own limits: it dies with the zygote, and its CPU time ends."""
        _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
        limit = int(cpu_seconds) + 2  # the zygote's own timer is exact; this is for a zygote that died
        self._cpu_limit[0] = self._cpu_limit[1] = limit
        _libc.setrlimit(resource.RLIMIT_CPU, self._cpu_limit)  # the C library is cheaper to a child than the module

    def confine_child(self) -> None:
        """The last step before a program runs. Raises OSError if a prepared defence cannot be raised."""
        if self.filter is None:
            return
        # Flag 4 (SPEC_ALLOW): without it, old kernels slow down every program by their speculation guards.
        if _syscall(self._seccomp, 1, 4, self._filter_reference) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")

    def _be_killed_first(self) -> None:
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")

    def _limit_resources(self) -> None:
        with open("/proc/self/statm") as file:
            base = int(file.read().split()[0]) * resource.getpagesize()
        limits = {
            resource.RLIMIT_AS: base + self.memory_bytes,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: 64,
            resource.RLIMIT_MEMLOCK: 0,
        }
        for kind, value in limits.items():
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        self.defences.append("rlimits")

    def _drop_root(self) -> None:
        """Root becomes nobody; an ordinary user stays as it is."""
        if os.geteuid() != 0:
            return
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError:  # a container without CAP_SETUID
            return
        self.defences.append("unprivileged user")

    def _drop_capabilities(self) -> None:
        """Whatever an ordinary user, or root in a container that could not become nobody, may still hold."""
        if _libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)) == 0:
            self.defences.append("no capabilities")

    def cpu_seconds(self, child: int) -> float:
        """CPU time of a process so far, from its own kernel clock."""
        _libc.clock_gettime((~child << 3) | _CPUCLOCK_SCHED, self._moment_reference)
        return float(self._moment.seconds + self._moment.nanoseconds * 1e-9)

    def _landlock(self) -> None:
        """A ruleset that handles every right of this kernel and grants none."""
        version = _syscall(_LANDLOCK_CREATE, None, 0, 1)
        if version < 1:
            return
        file_rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
        network_rights = 2 if version >= 4 else 0
        scopes = 1 if version >= 6 else 0  # abstract sockets; signals stay, the zygote must kill its children
        attributes = struct.pack("QQQ", (1 << file_rights) - 1, (1 << network_rights) - 1, scopes)
        size = 8 if version < 4 else 16 if version < 6 else 24
        descriptor = _syscall(_LANDLOCK_CREATE, attributes, size, 0)
        if descriptor >= 0:
            if _syscall(_LANDLOCK_RESTRICT, descriptor, 0) == 0:
                self.defences.append(f"Landlock v{version}")
            os.close(descriptor)

    def _prepare_seccomp(self) -> None:
        try:
            program = seccomp_program(platform_machine)
        except UnknownMachine:
            return
        if "no-new-privileges" not in self.defences:
            return
        kill = ctypes.c_uint32(_RET_KILL)
        number = _SYSCALLS[platform_machine]["seccomp"]
        if _syscall(number, 2, 0, ctypes.byref(kill)) != 0:  # SECCOMP_GET_ACTION_AVAIL
            return
        data = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
        self._instructions = ctypes.create_string_buffer(data, len(data))
        self._seccomp = number
        self.filter = _FilterProgram(len(program), ctypes.cast(self._instructions, ctypes.c_void_p))
        self._filter_reference = ctypes.byref(self.filter)
        self.defences.append(f"seccomp ({platform_machine})")


platform_machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
assert sys.byteorder == "little" or platform_machine not in _SYSCALLS, "the filter reads low halves of arguments"
