"""Whole programs in the sandbox: solutions of benchmark problems, and the tests of these problems (see harness.py).

A program's job and its result are JSON, of up to `MAX_RESULT` bytes. The result comes from a process that may have held
a hostile program: it is data, and proves nothing but what that process says.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from azr.executor.executor import Executor
from azr.executor.judge import Outcome, RunResult, decoded
from azr.executor.lanes import Job
from azr.executor.requests import Status
from azr.executor.values import encode

MAX_RESULT = 16 * 2**20
_PIECE = 48_000  # characters of one frame; escaped JSON is ASCII
_PIECES = tuple(encode((piece,)) for piece in range(MAX_RESULT // _PIECE))
_ASK = f"""
import harness, json

def f(piece):
    global _result
    if piece == 0:
        _result = json.dumps(harness.MODES[_mode](json.loads(_job)))
    if piece * {_PIECE} >= len(_result): raise StopIteration
    return _result[piece * {_PIECE}:(piece + 1) * {_PIECE}]
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One process: a mode of the harness, and its job."""

    mode: str
    job: dict[str, Any]
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """`status` is ok if the process ended well and sent a result; `value` is that result."""

    status: str
    reason: str = ""
    value: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "ok"


ProgramWork = Generator[Program, ProgramResult, Any]


class ProgramSandbox:
    """Drives works over an executor's lanes. A work yields Programs and is sent their ProgramResults."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def drive(self, works: Iterable[ProgramWork]) -> list[Any]:
        """What every work returns, in order."""
        with self.executor._lock:
            return self.executor._lanes.run(_jobs(work) for work in works)


def _jobs(work: ProgramWork) -> Generator[Job, RunResult, Any]:
    """The work in the executor's own terms."""
    result: ProgramResult | None = None
    while True:
        try:
            program = next(work) if result is None else work.send(result)
        except StopIteration as end:
            return end.value
        run = yield _pack(program)
        result = _result(run)


def _pack(program: Program) -> Job:
    source = f"_job = {json.dumps(program.job)!r}\n_mode = {program.mode!r}\n{_ASK}"
    return Job(source.encode(), _PIECES, program.cpu_seconds, world="E", stop_at_failure=True)


def _result(run: RunResult) -> ProgramResult:
    seconds = run.report.cpu_seconds
    pieces: list[str] = []
    last = Outcome(Status.CRASHED, "no result")
    for outcome in run.outcomes:
        last, value = decoded(outcome)
        if last.status is not Status.OK or not isinstance(value, str):
            break
        pieces.append(value)
    if last.status is Status.EXCEPTION and last.reason == "StopIteration" and pieces:
        try:
            found = json.loads("".join(pieces))
        except (ValueError, RecursionError):
            return ProgramResult("crashed", "broke the protocol", cpu_seconds=seconds)
        if isinstance(found, dict):
            return ProgramResult("ok", value=found, cpu_seconds=seconds)
    return ProgramResult(str(last.status), last.reason, cpu_seconds=seconds)
