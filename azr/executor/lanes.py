"""Lanes: programs run side by side, each lane with its own zygotes (one per world), driven by one loop in the caller.

A piece of work is a generator that yields Jobs and is sent their RunResults; `run` drives many of them over all lanes
and returns what they return, in order. A lane that dies is replaced; its job is tried once more, and then reported as
crashed.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from azr.executor import protocol
from azr.executor.judge import BrokenProtocol, FrameReader, Outcome, Report, RunResult, outcome_of_end
from azr.executor.requests import Status
from azr.executor.zygotes import Zygote, ZygoteDied, send_some

LANE_DIED = "its lane died twice"  # a reason that says nothing of the program
RECYCLE_AFTER = 20_000  # jobs of one zygote
_READ = 1 << 18
# Of a frame. A program may find it, and a random one would be a die of its own: in the other worlds every bit differs.
_TOKENS = {
    "A": bytes(range(8)),
    "B": bytes(255 - byte for byte in range(8)),
    "C": bytes(255 - byte for byte in range(8)),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One process: a program on the inputs (canonical bytes of argument tuples), in one world."""

    program: bytes
    inputs: tuple[bytes, ...]
    cpu_seconds: float
    world: str = "A"
    stop_at_failure: bool = False
    seconds_per_input: float = 0.0  # CPU time; 0 leaves only the limit of the whole process
    wanted: Callable[[int, Outcome], bool] | None = None  # called for each outcome as it comes; False ends the run
    retried: bool = False

    def pack(self, token: bytes) -> bytes:
        flags = protocol.STOP_AT_FAILURE * self.stop_at_failure
        header = protocol.HEADER.pack(token, flags, len(self.program), len(self.inputs), self.seconds_per_input)
        parts = [header, self.program]
        for data in self.inputs:
            parts += (protocol.LENGTH.pack(len(data)), data)
        return b"".join(parts)

    @property
    def wall_seconds(self) -> float:
        """A loose backstop: a loaded machine, or a suspended trainer, must not look like a slow program."""
        return 10.0 + 10.0 * self.cpu_seconds


Work = Generator[Job, RunResult, Any]


class _Task:
    """A piece of work and the job that it waits for."""

    job: Job

    def __init__(self, position: int, work: Work) -> None:
        self.position = position
        self.work = work


class Lane:
    """Runs one job at a time."""

    def __init__(self, memory_mb: int, selector: selectors.BaseSelector) -> None:
        self.memory_mb = memory_mb
        self.selector = selector
        self.zygotes: dict[str, Zygote] = {}
        self.defences: tuple[str, ...] = ()  # of the first zygote; a later one with less is not used
        self.task: _Task | None = None

    def start(self, world: str) -> None:
        """Begin to start a zygote; `ready` waits for it."""
        self.zygotes[world] = Zygote(world, self.memory_mb)

    def ready(self, world: str) -> Zygote:
        if world in self.zygotes and self.zygotes[world].jobs >= RECYCLE_AFTER:
            self.drop(world)
        if world not in self.zygotes:
            self.start(world)
        zygote = self.zygotes[world]
        if not zygote.defences:
            zygote.wait_ready()
            self.defences = self.defences or zygote.defences
            if not set(self.defences) <= set(zygote.defences):
                self.drop(world)
                raise ZygoteDied(f"it has only {', '.join(zygote.defences)} of {', '.join(self.defences)}")
        return zygote

    def drop(self, world: str) -> None:
        self.zygotes.pop(world).stop()

    def begin(self, task: _Task) -> None:
        """Send the task's job to this lane. Raises ZygoteDied if no zygote can be had."""
        job = task.job
        zygote = self.ready(job.world)
        token = os.urandom(8) if job.world == "E" else _TOKENS[job.world]
        self.channel, self.unsent = zygote.send(job.pack(token), job.cpu_seconds, job.wall_seconds)
        self.zygote = zygote
        self.task = task
        self.reader = FrameReader(len(job.inputs), token)
        self.broken = ""
        self.listening = True
        self.selector.register(zygote.control, selectors.EVENT_READ, (self, True))
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        self.selector.register(self.channel, events, (self, False))

    def exchange(self, events: int) -> None:
        """Move bytes on the job's socket."""
        if events & selectors.EVENT_WRITE:
            self.unsent = send_some(self.channel, self.unsent)
            if not self.unsent:
                self.selector.modify(self.channel, selectors.EVENT_READ, (self, False))
        if events & selectors.EVENT_READ:
            self.read()

    def read(self) -> bool:
        """Take what has arrived; False at the end of the stream, or when no more is wanted."""
        assert self.task is not None
        try:
            data = self.channel.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        known = len(self.reader.outcomes)
        try:
            self.reader.feed(data) if data else self.reader.finish()
        except BrokenProtocol as error:
            self.broken = str(error)
        wanted = self.task.job.wanted
        stop = bool(self.broken) or not data
        if wanted is not None and not stop:
            outcomes = self.reader.outcomes
            stop = not all(wanted(position, outcomes[position]) for position in range(known, len(outcomes)))
        if stop:
            self.hang_up()
        return not stop

    def hang_up(self) -> None:
        """Close the job's socket: the zygote kills a program that still runs."""
        if self.listening:
            self.listening = False
            self._forget(self.channel)
            self.channel.close()

    def _forget(self, watched: socket.socket) -> None:
        """Watch it no more, if it was watched: an interrupt may come between any two steps."""
        with suppress(KeyError, ValueError):
            self.selector.unregister(watched)

    def finish(self) -> tuple[_Task, RunResult | None]:
        """Take the zygote's report: the task, and its result or None if the job must be tried again."""
        task = self.task
        assert task is not None
        self._forget(self.zygote.control)
        try:
            report = self.zygote.receive_report()
        except ZygoteDied:
            self.abandon()
            return task, None
        while self.listening and self.read():
            pass
        self.hang_up()
        self.task = None
        if report.cause == protocol.CAUSE_NO_FORK:
            self.drop(task.job.world)
            return task, None
        if report.has_no_sandbox:  # the machine's failure, not the program's
            return task, None
        if report.cause == protocol.CAUSE_WALL and not task.job.retried:
            return task, None  # the machine was busy, or the program blocks: the second time it counts
        return task, self.result(task.job, report)

    def abandon(self) -> None:
        """Forget a zygote that died, or whose job was interrupted, and the job with it."""
        self.task = None
        self._forget(self.zygote.control)
        self.hang_up()
        if self.zygotes.get(self.zygote.world) is self.zygote:
            self.drop(self.zygote.world)

    def result(self, job: Job, report: Report) -> RunResult:
        outcomes = self.reader.outcomes
        if self.broken:
            outcomes.append(Outcome(Status.CRASHED, self.broken))
            outcomes = outcomes[-1:]
        else:
            complete = self.reader.closed or len(outcomes) == len(job.inputs)
            stopped = job.stop_at_failure and outcomes and outcomes[-1].status is not Status.OK
            forbidden = outcomes and outcomes[-1].status is Status.FORBIDDEN
            cancelled = report.cause == protocol.CAUSE_CANCELLED
            if not (complete or stopped or forbidden or cancelled):
                outcomes.append(outcome_of_end(report))
        return RunResult(tuple(outcomes), report)

    def stop(self) -> None:
        for world in list(self.zygotes):
            self.drop(world)


class Lanes:
    """All lanes and the loop that feeds them."""

    def __init__(self, count: int, memory_mb: int, worlds: Iterable[str]) -> None:
        self.selector = selectors.PollSelector()  # for few sockets that change often, quicker than epoll
        self.lanes = [Lane(memory_mb, self.selector) for _ in range(count or available_cores())]
        worlds = tuple(worlds)
        try:
            for lane in self.lanes:
                for world in worlds:
                    lane.start(world)
            for lane in self.lanes:
                for world in worlds:
                    lane.ready(world)
        except BaseException:
            self.stop()
            raise

    @property
    def defences(self) -> tuple[str, ...]:
        """Those that every zygote raised."""
        found = [zygote.defences for lane in self.lanes for zygote in lane.zygotes.values()]
        return tuple(name for name in found[0] if all(name in defences for defences in found))

    def run(self, works: Iterable[Work]) -> list[Any]:
        """Drive every piece of work to its end; their return values, in order."""
        works = iter(works)
        results: dict[int, Any] = {}
        waiting: deque[_Task] = deque()
        started = 0
        exhausted = False
        try:
            while True:
                for lane in self.lanes:
                    while lane.task is None and not (exhausted and not waiting):
                        if not waiting:
                            work = next(works, None)
                            if work is None:
                                exhausted = True
                                break
                            self._advance(_Task(started, work), None, waiting, results)
                            started += 1
                            continue
                        self._begin(lane, waiting.popleft(), waiting, results)
                if not any(lane.task for lane in self.lanes):
                    return [results[position] for position in range(started)]
                self._listen(waiting, results)
        except BaseException:
            self._abandon_all()
            raise

    def _begin(self, lane: Lane, task: _Task, waiting: deque[_Task], results: dict[int, Any]) -> None:
        try:
            lane.begin(task)
        except ZygoteDied:
            if task.job.world in lane.zygotes:
                lane.drop(task.job.world)
            self._retry(task, waiting, results)

    def _listen(self, waiting: deque[_Task], results: dict[int, Any]) -> None:
        for key, events in self.selector.select():
            lane, is_control = key.data
            if not is_control:
                if lane.listening and key.fileobj is lane.channel:
                    lane.exchange(events)
            elif lane.task is not None:
                task, result = lane.finish()
                if result is None:
                    self._retry(task, waiting, results)
                else:
                    self._advance(task, result, waiting, results)

    def _retry(self, task: _Task, waiting: deque[_Task], results: dict[int, Any]) -> None:
        if task.job.retried:
            crashed = Outcome(Status.CRASHED, LANE_DIED)
            report = Report(1, protocol.CAUSE_NONE, 0.0, 0)
            return self._advance(task, RunResult((crashed,), report), waiting, results)
        task.job = replace(task.job, retried=True)
        waiting.appendleft(task)

    def _advance(self, task: _Task, result: RunResult | None, waiting: deque[_Task], results: dict[int, Any]) -> None:
        """Hand a result to the task's work, and queue the next job that it yields."""
        try:
            task.job = next(task.work) if result is None else task.work.send(result)
        except StopIteration as end:
            results[task.position] = end.value
        else:
            waiting.appendleft(task)  # finish what is begun first

    def _abandon_all(self) -> None:
        """After an exception (Ctrl-C): no job may report into the next call."""
        for lane in self.lanes:
            if lane.task is not None:
                lane.abandon()

    def stop(self) -> None:
        self._abandon_all()
        for lane in self.lanes:
            lane.stop()
        self.selector.close()


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
