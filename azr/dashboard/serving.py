"""Running an ASGI application on a socket: in this thread until stopped, or in a thread beside the training."""

from __future__ import annotations

import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from azr.dashboard.events import EventLog


class Server(uvicorn.Server):
    """Ends the event streams before it waits for open connections: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, events: EventLog) -> None:
        super().__init__(config)
        self.events = events

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.events.close()
        await super().shutdown(sockets)


def make_server(app: ASGIApp, events: EventLog) -> Server:
    """No access log, and no proxy headers (they would let a client choose its address)."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        limit_concurrency=500,
    )
    return Server(config, events)


class ServerThread:
    """Serves `app` on `listener` from a daemon thread. Signals stay with the main thread."""

    def __init__(self, app: ASGIApp, events: EventLog, listener: socket.socket, name: str) -> None:
        self._server = make_server(app, events)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """Give the port back; returns within about two seconds."""
        self._server.should_exit = True
        self._thread.join(timeout=3)
        self._listener.close()
