"""The executor: which programs are deterministic functions, and which answers are right.

Covered: the host's files, processes, network and environment; memory, CPU and wall time; what one program does to
the next; forged results. Not covered: bugs of the kernel, side channels (timing, caches). docs/safety.md has the list
per operating system.

Gold values never enter a sandbox, and no model-written text is evaluated outside one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from azr.config import ExecutorConfig
from azr.errors import UserError
from azr.executor.grading import grading_work
from azr.executor.lanes import Lanes, Work
from azr.executor.requests import GradeRequest, Validation, ValidationRequest
from azr.executor.validation import WORLDS, validation_work
from azr.executor.zygotes import ZygoteDied
from azr.records import Verdict


class Executor:
    """Owns the lanes. One call at a time: calls from several threads wait for each other."""

    def __init__(self, config: ExecutorConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        try:
            self._lanes = Lanes(config.lanes, config.memory_mb, WORLDS)
        except ZygoteDied as error:
            raise UserError(f"the executor could not start its sandbox: {error}") from None
        self.defences = self._lanes.defences
        if self.is_weak and not config.allow_weaker_isolation:
            self.close()
            raise UserError(
                "this kernel offers no seccomp, so programs cannot be confined; run azr in a container or a virtual "
                "machine of its own and set executor.allow_weaker_isolation: true"
            )
        self._check()

    def _check(self) -> None:
        """Run one program: a sandbox that cannot even do that must not be trusted with verdicts."""
        [validation] = self.validate([ValidationRequest("def f(a):\n    return [a, len(a)]", ("'check'",))])
        if validation.status != "ok" or validation.pairs[0].output != "['check', 5]":
            self.close()
            raise UserError(f"the executor fails its own check ({validation.status}: {validation.reason})")

    @property
    def is_weak(self) -> bool:
        """Whether the defence that everything rests on is missing."""
        return not any(name.startswith(("seccomp", "seatbelt")) for name in self.defences)

    def describe(self) -> str:
        """One line: lanes, limits, and the defences that are active."""
        return (
            f"{len(self._lanes.lanes)} lanes, {self.config.cpu_seconds:g} s CPU and {self.config.memory_mb} MiB "
            f"a program; fork per program, empty environment, {', '.join(self.defences)}"
            + ("; WEAKER ISOLATION, as configured" if self.is_weak else "")
        )

    def validate(self, requests: Iterable[ValidationRequest]) -> list[Validation]:
        """For each request, in order: its values, or why it has none."""
        return self.run(validation_work(request, self.config.cpu_seconds) for request in requests)

    def grade(self, requests: Iterable[GradeRequest]) -> list[tuple[Verdict, ...]]:
        """For each request, in order: one verdict for each of its answers (one for deduction and induction)."""
        return self.run(grading_work(request, self.config.cpu_seconds) for request in requests)

    def run(self, works: Iterable[Work]) -> list[Any]:
        """Drive pieces of work (generators that yield Jobs and are sent RunResults); what they return, in order."""
        with self._lock:
            return self._lanes.run(works)

    def close(self) -> None:
        """End every process. Nothing can be asked afterwards."""
        with self._lock:
            self._lanes.stop()

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
