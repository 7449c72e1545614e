"""The kernel's half of the sandbox, and the filters' logic for machines that the tests do not run on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from azr.executor import sandbox_linux
from azr.executor.sandbox_linux import UnknownMachine, seccomp_program

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"plain memory", "write the result"}
FATAL = {"kill parent", "kill all", "execve", "ptrace", "process_vm_readv", "pidfd_open"}
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


@pytest.mark.skipif(sys.platform != "linux", reason="the Linux defences")
def test_the_kernel_refuses_what_a_computation_does_not_need() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "attacks" / "kernel.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {name for name, said in found.items() if said == "ok"} == ALLOWED
    assert {name for name in FATAL if found[name] != "signal 31"} == set()
    assert not Path("/tmp/azr-breach").exists()


def run_filter(machine: str, number: int, arguments: tuple[int, ...] = (), architecture: int | None = None) -> int:
    """A little BPF interpreter: the filter's answer to one system call."""
    words = {0: number, 4: ARCHITECTURES[machine] if architecture is None else architecture}
    words |= {16 + 8 * index: argument for index, argument in enumerate(arguments)}
    program = seccomp_program(machine)
    accumulator, position = 0, 0
    while True:
        code, yes, no, constant = program[position]
        position += 1
        if code == 0x20:
            accumulator = words.get(constant, 0)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return constant
        else:
            test = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            position += yes if test[code] else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_allows_and_refuses(machine: str) -> None:
    numbers = sandbox_linux._SYSCALLS[machine]
    for name in ("brk", "munmap", "exit_group", "rt_sigreturn"):
        assert run_filter(machine, numbers[name]) == ALLOW
    assert run_filter(machine, numbers["write"], (3,)) == ALLOW
    assert run_filter(machine, numbers["write"], (1,)) == ERRNO | errno.EBADF
    for name in ("mmap", "mprotect"):
        assert run_filter(machine, numbers[name], (0, 4096, 3)) == ALLOW
        assert run_filter(machine, numbers[name], (0, 4096, 5)) == ERRNO | errno.EPERM
    assert run_filter(machine, numbers["futex"], (0, 129)) == ALLOW  # FUTEX_WAKE | FUTEX_PRIVATE_FLAG
    assert run_filter(machine, numbers["futex"], (0, 128)) == ERRNO | errno.ETIMEDOUT
    for name in ("kill", "ptrace", "execve", "pidfd_open", "process_vm_readv"):
        assert run_filter(machine, numbers[name]) == KILL
    assert run_filter(machine, 4000) == ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_allows_nothing_but_its_list(machine: str) -> None:
    numbers = sandbox_linux._SYSCALLS[machine]
    allowed = {number for number in range(600) if run_filter(machine, number, (3, 1)) == ALLOW}
    names = {*sandbox_linux._ALLOWED, "mmap", "mprotect", "write", "futex"}
    assert allowed == {numbers[name] for name in names}


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_another_architecture_is_fatal(machine: str) -> None:
    for architecture in (0x40000003, 0x40000028, 0):  # i386, arm
        assert run_filter(machine, 4, architecture=architecture) == KILL


def test_the_x32_interface_is_fatal() -> None:
    assert run_filter("x86_64", 0x40000000 + 1, (3,)) == KILL


def test_jumps_stay_inside_the_filter() -> None:
    for machine in ARCHITECTURES:
        program = seccomp_program(machine)
        assert len(program) < 4096
        assert all(position + 1 + max(yes, no) < len(program) or code == 6
                   for position, (code, yes, no, _) in enumerate(program))  # fmt: skip


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(UnknownMachine):
        seccomp_program("riscv64")
