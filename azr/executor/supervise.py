"""Watching one child: its CPU time, its wall time, its memory where limits do not hold, and the judge's patience."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from typing import Any

from azr.executor import protocol

_MILLISECOND = 0.001


class Supervisor:
    """Watches one child at a time. `wakeup` becomes readable when a child ends."""

    def __init__(self, wakeup: int, sandbox: Any, monotonic: Callable[[], float]) -> None:
        self.wakeup = wakeup
        self.poller = select.poll()
        self.poller.register(wakeup, select.POLLIN)
        self.monotonic = monotonic
        self.cpu_seconds: Callable[[int], float] = sandbox.cpu_seconds
        self.memory_used: Callable[[int], int] | None = getattr(sandbox, "memory_used", None)
        self.memory_bytes: int = sandbox.memory_bytes

    def watch(self, child: int, channel: int, cpu_seconds: float, wall_seconds: float) -> bytes:
        """Wait until `child` has ended, killing it when it must; returns the packed report."""
        poller = self.poller
        poller.register(channel, 0)  # only reports that the judge hung up
        listening = True
        deadline = self.monotonic() + wall_seconds
        cause = protocol.CAUSE_NONE
        pause = cpu_seconds
        while True:
            for descriptor, event in poller.poll(max(1, int(pause * 1000))):
                if descriptor == self.wakeup:
                    os.read(self.wakeup, 4096)
                elif event & (select.POLLHUP | select.POLLERR):
                    poller.unregister(channel)
                    listening = False
                    cause = cause or protocol.CAUSE_CANCELLED
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid:
                if listening:
                    poller.unregister(channel)
                microseconds = round((usage.ru_utime + usage.ru_stime) * 1e6)
                return protocol.REPORT.pack(status, cause, microseconds, usage.ru_maxrss)
            if not cause:
                cause, pause = self._patience(child, cpu_seconds, deadline)
            if cause:
                os.kill(child, signal.SIGKILL)
                pause = 1.0

    def _patience(self, child: int, cpu_seconds: float, deadline: float) -> tuple[int, float]:
        """Why the child must be killed now (or CAUSE_NONE), and how long it may be left alone."""
        left = cpu_seconds - self.cpu_seconds(child)
        wall_left = deadline - self.monotonic()
        if left <= 0:
            return protocol.CAUSE_CPU, 0.0
        if wall_left <= 0:
            return protocol.CAUSE_WALL, 0.0
        if self.memory_used is None:
            return protocol.CAUSE_NONE, min(max(left, _MILLISECOND), wall_left)
        if self.memory_used(child) > self.memory_bytes:
            return protocol.CAUSE_MEMORY, 0.0
        return protocol.CAUSE_NONE, min(left, wall_left, 20 * _MILLISECOND)
