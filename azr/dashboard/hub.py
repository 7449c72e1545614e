"""Which training the dashboard follows, and what state it is in.

The training port is tried all the time, and the workspace's store is watched. A training that runs on this machine is
read from its own store, in whichever workspace it is, so that its history outlives it; one elsewhere is read through
its training port. What the hub finds goes to the page as events:

- `status`: the whole state, whenever it changes; `progress`: what the training does now
- `changed`: the store has something new; the page then asks for what it shows
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import platform
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool

from azr.config import DashboardConfig
from azr.dashboard import queries
from azr.dashboard.events import EventLog
from azr.dashboard.library import Library
from azr.errors import UserError

WATCH_SECONDS = 0.5
RETRY_SECONDS = 1.0
SILENCE_SECONDS = 3.5  # a training port that says nothing for so long is gone: it beats every second
REFUSALS = {
    401: "give it the training's dashboard.token",
    421: "name its host by its own name or address in --training-host",
}
log = logging.getLogger(__name__)


def _address(host: str, port: int) -> httpx.URL:
    """Raises UserError unless `host` is a name or an address and nothing more."""
    try:
        url = httpx.URL(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    except httpx.InvalidURL:
        url = httpx.URL()
    if not host or url.host != host.lower():
        raise UserError(
            f"--training-host {host!r} is no host name or address: give that alone, and the port with --training-port"
        )
    return url


class Hub:
    """Follows the training at `training_host`, and the store of the workspace at `root`.

    Raises UserError for a training host that is no name or address.
    """

    def __init__(self, config: DashboardConfig, root: Path, training_host: str) -> None:
        self.events = EventLog()
        self.root = root
        self.own = Library(root / "data" / "azr.sqlite")
        self.library = self.own
        self.remote = False  # history comes through the training port
        self.connected = False
        self.refusal = ""  # why the training port does not answer this dashboard, for people
        self.now: dict[str, Any] | None = None
        self.where = f"{training_host}:{config.training_port}"
        # Tokens are for the network; a training on loopback has none unless it was configured with the same file.
        headers = {"authorization": f"Bearer {config.token}"} if config.token else {}
        self.client = httpx.AsyncClient(
            base_url=_address(training_host, config.training_port),
            headers=headers,
            timeout=httpx.Timeout(10, connect=2),
            trust_env=False,
            limits=httpx.Limits(max_connections=40),
        )
        self._status: dict[str, Any] = {}
        self._version: Any = None

    @staticmethod
    def workspace(root: Path) -> str:
        """Names a workspace without telling where it lies."""
        return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_training())
            group.create_task(self._watch_store())

    async def status(self) -> dict[str, Any]:
        """`state` is training, finished, interrupted, failed, crashed, lost or waiting; `message` is for people."""
        # Of one moment: the store takes its time.
        connected, remote, refusal = self.connected, self.remote, self.refusal
        found = await run_in_threadpool(self._find_state, connected, remote)
        return found | {
            "now": self.now if connected else None,
            "training": self.where,
            "remote": remote,
            "refusal": refusal,
            "workspace": self.workspace(self.root),
        }

    def _find_state(self, connected: bool, remote: bool) -> dict[str, Any]:
        if remote:
            if connected:
                return {"state": "training", "message": f"training at {self.where}"}
            return {"state": "lost", "message": f"the training at {self.where} does not answer; trying again"}
        try:
            with self.library.reading() as store:
                run = queries.newest_run(store)
        except UserError as problem:
            if self.library.database.exists():
                return {"state": "waiting", "message": str(problem)}
            run = None
        if run is None:
            message = f"no training answers at {self.where}, and this workspace holds no run yet"
            return {"state": "training", "message": "the training is starting"} if connected else {
                "state": "waiting", "message": message
            }  # fmt: skip
        step = run["step"] or 0
        if run["status"] != "running":
            return {"state": run["status"], "message": f"{run['status']} after step {step}", "run": run["id"]}
        if connected or self.library.trainer() is not None:
            return {"state": "training", "message": "training", "run": run["id"]}
        message = f"the training ended without a word after step {step}: go on with ./run.sh --resume"
        return {"state": "crashed", "message": message, "run": run["id"]}

    async def _watch_store(self) -> None:
        while True:
            try:
                version = await run_in_threadpool(self._store_version)
                if version != self._version:
                    self._version = version
                    self.events.add("changed", {})
                await self._tell_status()
            except (UserError, OSError) as problem:  # a database that is being replaced: it is looked at again
                log.warning("%s", problem)
            await asyncio.sleep(WATCH_SECONDS)

    def _store_version(self) -> Any:
        if self.remote:
            return self._version  # the training port tells
        try:
            with self.library.reading() as store:
                return (self.library.database, *queries.version(store))
        except UserError:
            return None

    async def _tell_status(self) -> None:
        status = await self.status()
        shown = {name: value for name, value in status.items() if name != "now"}
        if shown != self._status:
            self._status = shown
            self.events.add("status", status)

    async def _follow_training(self) -> None:
        last_id: str | None = None
        while True:
            try:
                who = (await self.client.get("/api/live")).raise_for_status().json()
                await self._choose_source(who)
                self.now, self.connected, self.refusal = who["now"], True, ""
                await self._tell_status()
                async for event_id, kind, data in self._training_events(last_id):
                    last_id = event_id
                    self._relay(kind, data)
            except Exception as problem:  # whatever listens there must not end the dashboard
                log.debug("training port %s: %r", self.where, problem)
                status = problem.response.status_code if isinstance(problem, httpx.HTTPStatusError) else 0
                advice = REFUSALS.get(status)
                self.refusal = f"{self.where} refuses this dashboard ({status}): {advice}" if advice else ""
            self.connected = False  # the watcher of the store tells it
            await asyncio.sleep(RETRY_SECONDS)

    async def _choose_source(self, who: dict[str, Any]) -> None:
        database = Path(who["database"])
        here = who["host"] == platform.node() and await run_in_threadpool(_is_readable, database)
        self.remote = not here
        if here and database != self.library.database:
            self.library = self.own if database == self.own.database.resolve() else Library(database)
            self.events.add("changed", {})

    async def _training_events(self, last_id: str | None) -> AsyncIterator[tuple[str | None, str, Any]]:
        """(id, kind, data) of the training port's events until the connection ends or falls silent."""
        headers = {"last-event-id": last_id} if last_id else {}
        timeout = httpx.Timeout(10, connect=2, read=SILENCE_SECONDS)
        async with self.client.stream("GET", "/api/stream", headers=headers, timeout=timeout) as response:
            response.raise_for_status()
            kind, data = "", ""
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    last_id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not line and kind:
                    yield last_id, kind, json.loads(data)
                    kind = ""

    def _relay(self, kind: str, data: Any) -> None:
        if kind == "progress":
            self.now = data
            self.events.add("progress", data)
        elif kind in ("step", "note", "reset") and self.remote:
            self.events.add("changed", {})


def _is_readable(database: Path) -> bool:
    """Whether it is there and ours to read: another user's training may listen on the port."""
    try:
        return os.access(database, os.R_OK)
    except (OSError, ValueError):
        return False
