"""What the kernel refuses once Python's own guards are gone: `python kernel.py` confines itself and tries.

Each attempt is made in a child of its own through the C library, and reported as the errno, "ok", or the signal.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable

from azr.executor.protocol import JOB_DESCRIPTOR
from azr.executor.sandbox_linux import LinuxSandbox, platform_machine

libc = ctypes.CDLL(None, use_errno=True)
PARENT = os.getpid()
PAGE = ctypes.create_string_buffer(4096)
EXECUTABLE, READABLE, PRIVATE_ANONYMOUS = 4, 1, 0x22
FORK = 57 if platform_machine == "x86_64" else 220  # clone, where there is no fork


def call(name: str, *arguments: object) -> Callable[[], int]:
    return lambda: int(getattr(libc, name)(*arguments))


def mmap(protection: int) -> int:
    libc.mmap.restype = ctypes.c_void_p
    found = libc.mmap(None, 4096, protection, PRIVATE_ANONYMOUS, -1, 0)
    return -1 if found == ctypes.c_void_p(-1).value else 0


ATTEMPTS: dict[str, Callable[[], int]] = {
    "open": call("open", b"/etc/passwd", 0),
    "openat": call("openat", -100, b"/proc/self/environ", 0),
    "create": call("open", b"/tmp/azr-breach", 0o101, 0o600),
    "unlink": call("unlink", b"/tmp/azr-breach"),
    "chmod": call("chmod", b"/tmp", 0o777),
    "stat": call("access", b"/etc/passwd", 0),
    "socket": call("socket", 2, 1, 0),
    "unix socket": call("socket", 1, 1, 0),
    "socketpair": call("socketpair", 1, 1, 0, PAGE),
    "kill parent": call("kill", PARENT, 0),
    "kill all": call("kill", -1, 0),
    "tgkill": call("syscall", 234 if platform_machine == "x86_64" else 131, PARENT, PARENT, 0),
    "fork": call("syscall", FORK, 17, 0, 0, 0, 0),
    "execve": call("execve", b"/bin/true", None, None),
    "ptrace": call("ptrace", 16, PARENT, None, None),
    "process_vm_readv": call("process_vm_readv", PARENT, PAGE, 1, PAGE, 1, 0),
    "pidfd_open": call("syscall", 434, PARENT, 0),
    "prctl": call("prctl", 4, 1, 0, 0, 0),
    "setuid": call("setuid", 0),
    "mount": call("mount", None, b"/", None, 0, None),
    "unshare": call("unshare", 0x10000000),
    "chroot": call("chroot", b"/"),
    "bpf": call("syscall", 321 if platform_machine == "x86_64" else 280, 0, PAGE, 64),
    "io_uring": call("syscall", 425, 4, PAGE),
    "userfaultfd": call("syscall", 323 if platform_machine == "x86_64" else 282, 0),
    "perf_event_open": call("syscall", 298 if platform_machine == "x86_64" else 241, PAGE, 0, -1, -1, 0),
    "memfd_create": call("memfd_create", b"x", 0),
    "shmget": call("shmget", 0, 4096, 0o1600),
    "executable memory": lambda: mmap(EXECUTABLE | READABLE),
    "memory made executable": call("mprotect", ctypes.c_void_p(ctypes.addressof(PAGE) & ~4095), 4096, 7),
    "write elsewhere": call("write", 1, b"x", 1),
    "read the job socket": call("read", JOB_DESCRIPTOR, PAGE, 1),
    "close the job socket": call("close", JOB_DESCRIPTOR),
    "sleep": call("usleep", 1000),
    "raise its limits": call("setrlimit", 0, PAGE),
    # What a computation needs:
    "plain memory": lambda: mmap(READABLE),
    "write the result": call("write", JOB_DESCRIPTOR, b"", 0),
}


def attempt(sandbox: LinuxSandbox, action: Callable[[], int]) -> str:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        os.dup2(theirs.fileno(), JOB_DESCRIPTOR)
        sandbox.limit_child(1.0)
        sandbox.confine_child()
        found = "ok" if action() >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")
        os.write(JOB_DESCRIPTOR, found.encode())
        os._exit(0)
    theirs.close()
    status = os.waitpid(child, 0)[1]
    said = ours.recv(100).decode() if not os.WIFSIGNALED(status) else f"signal {os.WTERMSIG(status)}"
    ours.close()
    return said


if __name__ == "__main__":
    channel = os.dup(1)
    sandbox = LinuxSandbox(64 * 2**20)
    sandbox.confine_zygote()
    results = {name: attempt(sandbox, action) for name, action in ATTEMPTS.items()}
    print(json.dumps(results))
    sys.stdout.flush()
