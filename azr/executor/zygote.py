"""The zygote: a small process that is exec'd once and forks one child for every program.

It is blind: a program travels on a socket of its own, which the zygote hands to the child unread. It owns the clock
and the kill: CPU time and the way a child ended come from the kernel.
Usage: python -s -S -P -B zygote.py WORLD MEMORY_MB, with the control socket as standard input. It says hello with one
JSON line and ends when the control socket closes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import struct
import sys
import time
from types import ModuleType
from typing import Any


def _make_importable() -> None:
    """Let `azr.executor.x` be imported from this folder without running the packages' own `__init__`."""
    folder = os.path.dirname(os.path.abspath(__file__))
    for name, path in (("azr", os.path.dirname(folder)), ("azr.executor", folder)):
        package = ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package


def main(world: str, memory_mb: int) -> None:
    _make_importable()
    from azr.executor import slots, worlds

    slots.steady_singletons()
    monotonic = time.monotonic
    evaluating = world == "E"
    world = "A" if evaluating else world
    worlds.freeze_clock(world)
    worlds.preload()
    if evaluating:
        from azr.executor import harness
    from azr.executor import program, protocol, supervise  # last: what every child uses lies close together

    control = socket.socket(fileno=0)
    sandbox = _sandbox(memory_mb)
    supervisor = supervise.Supervisor(_wake_on_child(), sandbox, monotonic)
    worlds.freeze_dates()
    worlds.seed_randomness(world)
    kept = worlds.scatter_addresses(world)
    from azr.executor import addresses

    sandbox.confine_zygote()
    runner = program.Runner(sandbox)
    worlds.close_imports()
    if evaluating:
        sys.modules["harness"] = harness
    settle = addresses.hide_addresses(world)
    if not evaluating:  # a benchmark's solution may look: it has one world only
        addresses.hide_counts()
    if world == "C":
        addresses.reverse_chance()
    runner.prepare()
    settle()
    gc.collect()
    gc.freeze()
    control.sendall(json.dumps({"defences": sandbox.defences}).encode() + b"\n")
    _serve(control, supervisor, runner, protocol)
    del kept


def _sandbox(memory_mb: int) -> Any:
    if sys.platform == "darwin":
        from azr.executor.sandbox_macos import MacSandbox

        return MacSandbox(memory_mb * 2**20)
    from azr.executor.sandbox_linux import LinuxSandbox

    return LinuxSandbox(memory_mb * 2**20)


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return readable


def _serve(control: socket.socket, supervisor: Any, runner: Any, protocol: Any) -> None:
    unpack, descriptor_of = protocol.ORDER.unpack, struct.Struct("i").unpack
    space = socket.CMSG_LEN(4)
    # The C library's fork: Python's own repairs locks for threads, which there are none of, in pages copied for that.
    fork = ctypes.PyDLL(None).fork
    while True:
        order, attached, _, _ = control.recvmsg(protocol.ORDER.size, space)
        if not order or not attached:
            return
        cpu_seconds, wall_seconds = unpack(order)
        (channel,) = descriptor_of(attached[0][2])
        child = fork()
        if child == 0:
            runner.run(channel, cpu_seconds)
        elif child < 0:
            report = protocol.REPORT.pack(0, protocol.CAUSE_NO_FORK, 0, 0)
        else:
            report = supervisor.watch(child, channel, cpu_seconds, wall_seconds)
        os.close(channel)  # before the report: the judge then reads to the end without waiting
        control.sendall(report)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
