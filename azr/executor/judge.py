"""From a process's frames and the kernel's report to outcomes. Every byte read here may be hostile."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass

from azr.executor import protocol
from azr.executor.requests import Status
from azr.executor.values import MAX_BYTES, Malformed, Value, contains_nan, decode, matches, render

_FAILURES = {
    protocol.EXCEPTION: Status.EXCEPTION,
    protocol.NOT_A_VALUE: Status.NOT_A_VALUE,
    protocol.TOO_LARGE: Status.TOO_LARGE,
    protocol.OUT_OF_MEMORY: Status.OUT_OF_MEMORY,
    protocol.FORBIDDEN: Status.FORBIDDEN,
    protocol.SYNTAX_ERROR: Status.SYNTAX_ERROR,
    protocol.NO_FUNCTION: Status.NO_FUNCTION,
}
_REASON = re.compile(rb"[A-Za-z_][A-Za-z0-9_. ]*")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input came to: canonical bytes if ok, else a status and its reason."""

    status: Status
    reason: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Report:
    """How a process ended, as the kernel and the zygote say."""

    wait_status: int
    cause: int
    cpu_seconds: float
    peak_kib: int

    @classmethod
    def unpack(cls, data: bytes) -> Report:
        status, cause, microseconds, peak = protocol.REPORT.unpack(data)
        return cls(status, cause, microseconds / 1e6, peak)

    @property
    def has_no_sandbox(self) -> bool:
        """Whether the defences could not be raised: nothing of the program was run."""
        ended = os.WIFEXITED(self.wait_status) and self.cause == protocol.CAUSE_NONE
        return ended and os.WEXITSTATUS(self.wait_status) == protocol.EXIT_NO_SANDBOX


@dataclass(frozen=True, slots=True)
class RunResult:
    """Outcomes of the inputs that were run, in order: fewer than sent if the run ended early."""

    outcomes: tuple[Outcome, ...]
    report: Report

    @property
    def ended_well(self) -> bool:
        return self.report.wait_status == 0 and self.report.cause == protocol.CAUSE_NONE


class BrokenProtocol(Exception):
    """The process sent something that no honest run sends."""


class FrameReader:
    """Frames out of a byte stream that may be cut anywhere and hold anything."""

    def __init__(self, inputs: int, token: bytes) -> None:
        self.token = token
        self.inputs = inputs
        self.outcomes: list[Outcome] = []
        self.closed = False  # after a failure of the whole program nothing may follow
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Take what arrived. Raises BrokenProtocol at the first byte that cannot be right."""
        self._buffer = self._buffer + data if self._buffer else data
        size = protocol.FRAME.size
        while len(self._buffer) >= size:
            token, tag, length = protocol.FRAME.unpack_from(self._buffer)
            if token != self.token:
                raise BrokenProtocol("a frame that is not the harness's")
            if length > (MAX_BYTES if tag == protocol.VALUE else protocol.MAX_REASON):
                raise BrokenProtocol("a frame that is too long")
            if len(self._buffer) < size + length:
                break
            payload = self._buffer[size : size + length]
            self._buffer = self._buffer[size + length :]
            self._accept(tag, payload)

    def finish(self) -> None:
        if self._buffer:
            raise BrokenProtocol("a truncated frame")

    def _accept(self, tag: bytes, payload: bytes) -> None:
        if self.closed or len(self.outcomes) >= self.inputs:
            raise BrokenProtocol("more frames than inputs")
        if tag == protocol.VALUE:
            self.outcomes.append(Outcome(Status.OK, data=payload))
        elif tag in _FAILURES and (not payload or _REASON.fullmatch(payload)):
            status = _FAILURES[tag]
            self.closed = status in (Status.SYNTAX_ERROR, Status.NO_FUNCTION)
            self.outcomes.append(Outcome(status, payload.decode("ascii")))
        else:
            raise BrokenProtocol("an unknown frame")


def outcome_of_end(report: Report) -> Outcome:
    """The outcome of the input during which the process ended, from the kernel's word alone."""
    if report.cause in (protocol.CAUSE_CPU, protocol.CAUSE_WALL):
        return Outcome(Status.TIMEOUT, "CPU time" if report.cause == protocol.CAUSE_CPU else "wall time")
    if report.cause == protocol.CAUSE_MEMORY:
        return Outcome(Status.OUT_OF_MEMORY)
    if os.WIFSIGNALED(report.wait_status):
        number = os.WTERMSIG(report.wait_status)
        if number in (signal.SIGPROF, signal.SIGXCPU):
            return Outcome(Status.TIMEOUT, "CPU time")
        if number == signal.SIGSYS:
            return Outcome(Status.FORBIDDEN, "system call")
        if number == signal.SIGKILL:  # not the zygote's: the kernel's, for want of memory
            return Outcome(Status.OUT_OF_MEMORY, "killed by the kernel")
        return Outcome(Status.CRASHED, f"signal {number}")
    if os.waitstatus_to_exitcode(report.wait_status) == protocol.EXIT_OUT_OF_MEMORY:
        return Outcome(Status.OUT_OF_MEMORY)
    return Outcome(Status.CRASHED, "ended before its result")


def decoded(outcome: Outcome) -> tuple[Outcome, Value]:
    """The outcome with its decoded value, or what is wrong with the bytes."""
    if outcome.status is not Status.OK:
        return outcome, None
    try:
        return outcome, decode(outcome.data)
    except Malformed:
        return Outcome(Status.CRASHED, "broke the protocol"), None


def as_gold(outcome: Outcome) -> tuple[Outcome, str]:
    """The outcome and its value as text, if it may be gold: NaN may not, since it equals nothing."""
    outcome, value = decoded(outcome)
    if outcome.status is Status.OK and contains_nan(value):
        return Outcome(Status.NOT_A_VALUE, "nan"), ""
    return outcome, render(value) if outcome.status is Status.OK else ""


def is_gold(outcome: Outcome, gold: bytes) -> tuple[Outcome, bool]:
    """Whether an outcome's value counts as the gold value."""
    if outcome.data == gold and outcome.status is Status.OK:
        return outcome, True
    outcome, value = decoded(outcome)
    return outcome, outcome.status is Status.OK and matches(decode(gold), value)
