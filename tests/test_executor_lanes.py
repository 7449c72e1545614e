"""The executor's processes: lanes and zygotes that hang, die, are recycled and end, and what defends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_requests import LIMIT, SLOW, validate

from azr.config import ExecutorConfig
from azr.errors import UserError
from azr.executor import Executor, Status, ValidationRequest, lanes, protocol
from azr.executor.judge import Report
from azr.executor.lanes import Work
from azr.executor.validation import validation_work
from azr.executor.zygotes import Zygote


def _zygotes(executor: Executor) -> list[int]:
    return [zygote.process.pid for lane in executor._lanes.lanes for zygote in lane.zygotes.values()]


def test_a_hung_program_delays_its_own_lane_only(executor: Executor) -> None:
    finished: list[int] = []

    def work(position: int) -> Work:
        program = SLOW if position == 0 else f"def f(a): return a + {position}"
        found = yield from validation_work(ValidationRequest(program, ("1",)), LIMIT)
        finished.append(position)
        return found

    found = executor.run(work(position) for position in range(10))
    assert found[0].status is Status.TIMEOUT
    assert all(result.status is Status.OK for result in found[1:])
    assert finished[-1] == 0  # all the others were through before it was given up


def test_a_lane_that_dies_is_replaced_and_the_run_goes_on(executor: Executor) -> None:
    programs = [f"def f(a):\n    n = 0\n    while n < 200_000: n += 1\n    return a + {i}" for i in range(40)]
    victims = [zygote.process.pid for zygote in executor._lanes.lanes[0].zygotes.values()]

    def kill() -> None:
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Timer(0.15, kill)
    killer.start()
    found = executor.validate([ValidationRequest(program, ("1",)) for program in programs])
    killer.join()
    assert [result.pairs[0].output for result in found] == [str(1 + i) for i in range(40)]
    executor.validate([ValidationRequest("def f(a): return {a}", (str(i),)) for i in range(60)])
    assert not set(victims) & set(_zygotes(executor))


def test_a_lane_that_dies_twice_reports_its_job(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    original = lanes.Lane.begin

    def begin(lane: lanes.Lane, task: Any) -> None:
        original(lane, task)
        if b"unlucky" in task.job.program:
            os.kill(lane.zygote.process.pid, signal.SIGKILL)

    monkeypatch.setattr(lanes.Lane, "begin", begin)
    requests = [ValidationRequest(program, ("1",)) for program in ("def f(a): return 1", "def f(a): return 'unlucky'")]
    found = executor.validate([*requests, requests[0]])
    assert [result.status for result in found] == [Status.OK, Status.CRASHED, Status.OK]


def test_zygotes_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RECYCLE_AFTER", 5)
    with Executor(ExecutorConfig(lanes=1, cpu_seconds=LIMIT)) as executor:
        before = _zygotes(executor)
        found = executor.validate([ValidationRequest("def f(a): return a", (str(i),)) for i in range(12)])
        assert [result.pairs[0].output for result in found] == [str(i) for i in range(12)]
        assert not set(before) & set(_zygotes(executor))


def test_a_later_zygote_with_weaker_defences_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RECYCLE_AFTER", 1)
    with Executor(ExecutorConfig(lanes=1, cpu_seconds=LIMIT)) as executor:
        ready = Zygote.wait_ready

        def weaker(self: Zygote) -> None:
            ready(self)
            self.defences = tuple(name for name in self.defences if not name.startswith(("seccomp", "seatbelt")))

        monkeypatch.setattr(Zygote, "wait_ready", weaker)
        assert validate(executor, "def f(a): return a", "1").status is Status.CRASHED
        monkeypatch.setattr(Zygote, "wait_ready", ready)
        assert validate(executor, "def f(a): return a", "1").status is Status.OK


def test_a_call_that_is_interrupted_leaves_no_trace(executor: Executor) -> None:
    def requests() -> Iterator[ValidationRequest]:
        yield ValidationRequest("def f(a): return 'old'", ("1",))
        yield ValidationRequest(SLOW, ("1",))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.validate(requests())
    assert validate(executor, "def f(a): return 'new'").pairs[0].output == "'new'"


def test_an_interrupt_while_a_result_is_taken_leaves_no_trace() -> None:
    def interrupted(position: int, outcome: Any) -> bool:
        raise KeyboardInterrupt

    def work() -> Work:
        yield lanes.Job(b"def f(a): return a", (b"(\0\0\0\1i\0\0\0\1\5",), 1.0, wanted=interrupted)

    with Executor(ExecutorConfig(lanes=2)) as executor:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                executor.run(work() for _ in range(4))
            assert validate(executor, "def f(a): return 'new'").pairs[0].output == "'new'"
        ended = _zygotes(executor)
    assert not any(Path(f"/proc/{pid}").exists() for pid in ended)


def test_a_machine_that_offers_no_sandbox_is_no_fault_of_the_program(executor: Executor) -> None:
    assert Report(97 << 8, protocol.CAUSE_NONE, 0.0, 0).has_no_sandbox
    assert not Report(96 << 8, protocol.CAUSE_NONE, 0.0, 0).has_no_sandbox
    assert not Report(97, protocol.CAUSE_NONE, 0.0, 0).has_no_sandbox  # a signal
    assert validate(executor, "def f(a): __import__('os')._exit(97)").reason == lanes.LANE_DIED  # and says so itself
    assert validate(executor, "def f(a): return 'new'").pairs[0].output == "'new'"


def test_nothing_is_left_behind() -> None:
    import psutil

    process = psutil.Process()
    descriptors, children = process.num_fds(), len(process.children(recursive=True))
    with Executor(ExecutorConfig(lanes=2, cpu_seconds=LIMIT)) as executor:
        executor.validate([ValidationRequest("def f(a): return {a}", (str(i),)) for i in range(20)])
        busy = process.num_fds()
        executor.validate([ValidationRequest(SLOW if i == 5 else "def f(a): return {a}", ("1",)) for i in range(60)])
        assert process.num_fds() == busy
    assert process.num_fds() == descriptors
    assert len(process.children(recursive=True)) == children


def test_programs_die_with_the_trainer() -> None:
    code = (
        "from azr.config import ExecutorConfig\nfrom azr.executor import *\nimport os, threading\n"
        "executor = Executor(ExecutorConfig(lanes=1, cpu_seconds=400))\n"
        "print(*[z.process.pid for l in executor._lanes.lanes for z in l.zygotes.values()], flush=True)\n"
        "executor.validate([ValidationRequest('def f(a):\\n    while True: pass', ('1',))])\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    zygotes = [int(word) for word in trainer.stdout.readline().split()]
    time.sleep(0.3)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in zygotes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in zygotes)


def test_the_executor_says_what_defends_it(executor: Executor) -> None:
    line = executor.describe()
    assert "\n" not in line
    assert "2 lanes" in line and "fork per program" in line
    if sys.platform == "linux":
        assert "seccomp" in line


def test_without_seccomp_it_refuses_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes.Lanes, "defences", ("rlimits",))
    with pytest.raises(UserError, match="allow_weaker_isolation"):
        Executor(ExecutorConfig(lanes=1))
    with Executor(ExecutorConfig(lanes=1, allow_weaker_isolation=True)) as executor:
        assert "WEAKER ISOLATION" in executor.describe()
