"""The live stream of a training: what it does now, and its store as JSON, on the training port.

`Live` is a view of the training (see `azr.terminal.View`): each call notes a few values and returns, and a daemon
thread serves whoever listens. Nothing that a viewer does is waited for: a slow one loses old events, and reads the
state anew.
"""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from azr.config import DashboardConfig
from azr.dashboard import api
from azr.dashboard.events import EventLog
from azr.dashboard.guard import Guard, bind, check_binding
from azr.dashboard.library import Library
from azr.dashboard.serving import ServerThread
from azr.records import Task

PROGRESS_SECONDS = 0.1  # progress within a phase is noted at most this often
STEPS_FOR_ETA = 20


class Live:
    """Publishes a training on `config.training_port` while the context is open. Raises UserError for a busy port."""

    def __init__(
        self,
        config: DashboardConfig,
        *,
        database: Path,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.database, self.steps = config, database, steps
        self.log = EventLog()
        self._clock = clock
        self._told = 0.0
        self._seconds: deque[float] = deque(maxlen=STEPS_FOR_ETA)
        self._now: dict[str, Any] = {"phase": "starting", "step": 0, "steps": steps, "done": 0, "total": 0}
        self._server: ServerThread | None = None

    def __enter__(self) -> Self:
        check_binding(self.config.host, self.config.token)
        listener = bind(self.config.host, self.config.training_port, "--training-port")
        self._server = ServerThread(self.app(), self.log, listener, "azr-live")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.stop()

    def app(self) -> Guard:
        library = Library(self.database)
        routes = [
            Route("/api/live", self._live),
            Route("/api/stream", api.stream(self.log)),
            *api.routes(library),
        ]
        return Guard(
            Starlette(routes=routes),
            host=self.config.host,
            port=self.config.training_port,
            token=self.config.token,
        )

    def phase(self, step: int, name: str) -> None:
        self._publish(step=step, phase=name, done=0, total=0)

    def progress(self, done: int, total: int) -> None:
        if done >= total or self._clock() - self._told >= PROGRESS_SECONDS:
            self._publish(done=done, total=total)

    def step(self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], newest: Task | None) -> None:
        """The step is in the store."""
        self._seconds.append(timings.get("seconds/step", 0.0))
        self._publish(
            step=step,
            phase="recorded",
            done=0,
            total=0,
            tokens_per_second=timings.get("tokens/s"),
            memory=timings.get("memory/resident_bytes"),
            seconds_left=median(self._seconds) * max(self.steps - step, 0),
        )
        self.log.add("step", {"step": step})

    def note(self, kind: str, text: str) -> None:
        self.log.add("note", {"kind": kind, "text": text, "step": self._now["step"]})

    def _publish(self, **values: Any) -> None:
        self._told = self._clock()
        self._now = self._now | values  # a new dict: the server's thread may be reading the old one
        self.log.add("progress", self._now)

    async def _live(self, request: Request) -> Response:
        """Who trains here. `database` lets a dashboard on this machine read the store itself."""
        who = {"pid": os.getpid(), "host": platform.node(), "database": str(self.database.resolve())}
        return api.answer(who | {"now": self._now})
