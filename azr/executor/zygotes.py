"""The judge's handle on one zygote process: start it, send it a job, take its report, replace it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from azr.executor import protocol, worlds
from azr.executor.judge import Report

START_SECONDS = 60.0  # a loaded machine may take long to start an interpreter
_SCRIPT = Path(__file__).with_name("zygote.py")
_BUFFER = 256 * 1024  # macOS's own socket buffers are small


class ZygoteDied(Exception):
    """The zygote ended, or never came up."""


class Zygote:
    """A running zygote. Its process starts in the constructor; `wait_ready` must follow."""

    def __init__(self, world: str, memory_mb: int) -> None:
        self.world = world
        self.jobs = 0
        self.defences: tuple[str, ...] = ()
        self.control, theirs = socket.socketpair()
        with theirs:
            # -I and -E would ignore PYTHONHASHSEED. LD_BIND_NOW saves every child the lookup of its symbols.
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", str(_SCRIPT), world, str(memory_mb)],
                env={"PYTHONHASHSEED": str(worlds.HASH_SEEDS[world]), "LD_BIND_NOW": "1"},
                cwd="/",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in the terminal is the trainer's
            )

    def wait_ready(self) -> None:
        """Read the hello. Raises ZygoteDied with the interpreter's last words."""
        deadline = time.monotonic() + START_SECONDS
        hello = b""
        try:
            while not hello.endswith(b"\n"):
                self.control.settimeout(max(0.01, deadline - time.monotonic()))
                data = self.control.recv(4096)
                if not data:
                    raise ZygoteDied(self._last_words())
                hello += data
        except OSError as error:
            self.process.kill()
            raise ZygoteDied(f"{error}; {self._last_words()}") from None
        self.control.settimeout(None)
        self.defences = tuple(json.loads(hello)["defences"])

    def _last_words(self) -> str:
        assert self.process.stderr is not None
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def send(self, data: bytes, cpu_seconds: float, wall_seconds: float) -> tuple[socket.socket, bytes]:
        """Order a job. Returns the job's socket (non-blocking) and what of `data` did not fit yet."""
        ours, theirs = socket.socketpair()
        with theirs:
            if sys.platform == "darwin":
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            ours.setblocking(False)
            rest = send_some(ours, data)
            try:
                socket.send_fds(self.control, [protocol.ORDER.pack(cpu_seconds, wall_seconds)], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise ZygoteDied(str(error)) from None
        self.jobs += 1
        return ours, rest

    def receive_report(self) -> Report:
        """The report of the job that was ordered. Raises ZygoteDied."""
        try:
            data = self.control.recv(protocol.REPORT.size, socket.MSG_WAITALL)
        except OSError as error:
            raise ZygoteDied(str(error)) from None
        if len(data) < protocol.REPORT.size:
            raise ZygoteDied("closed")
        return Report.unpack(data)

    def stop(self) -> None:
        """End the process; a program that it runs dies with it."""
        self.control.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


def send_some(channel: socket.socket, data: bytes) -> bytes:
    """Send what fits; returns the rest. A program that hung up gets nothing more."""
    try:
        return data[channel.send(data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""
