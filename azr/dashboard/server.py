"""The dashboard's own process: the page, the JSON interface and the event stream on the dashboard port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from azr.config import DashboardConfig
from azr.dashboard import api, queries
from azr.dashboard.guard import Guard, bind, check_binding
from azr.dashboard.hub import Hub
from azr.dashboard.library import Library
from azr.dashboard.serving import make_server
from azr.errors import UserError

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
CHART_FILES = {"uplot.js": "uPlot.iife.js", "uplot.css": "uPlot.min.css"}


def main(config: DashboardConfig, root: Path, *, training_host: str = "127.0.0.1", browser: bool = True) -> int:
    """Serve until Ctrl-C. Raises UserError for a busy port, an open address without a token, or a training host that
    is none.
    """
    check_binding(config.host, config.token)
    hub = Hub(config, root, training_host)
    listener = bind(config.host, config.port, "--dashboard-port")
    announce(config, browser=browser)
    print("Ctrl-C stops it", flush=True)
    serve(listener, config, hub)
    return 0


def beside_training(listener: socket.socket, config: DashboardConfig, root: Path) -> None:
    """What the process that a training starts does: Ctrl-C is for the training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)  # where the cores are few they are the training's
    host = config.host if config.host not in ("0.0.0.0", "::") else "127.0.0.1"
    with contextlib.suppress(KeyboardInterrupt):
        serve(listener, config, Hub(config, root, host))


def serve(listener: socket.socket, config: DashboardConfig, hub: Hub) -> None:
    app = Guard(make_app(hub), host=config.host, port=config.port, token=config.token)
    make_server(app, hub.events).run(sockets=[listener])


def announce(config: DashboardConfig, *, browser: bool) -> None:
    """Print the address, and open the browser if there is one. The token is not printed: logs are passed on."""
    address = f"http://{local_name(config.host)}:{config.port}/"
    print(f"dashboard: {address}{' (asks for dashboard.token)' if config.token else ''}", flush=True)
    if browser and has_display():
        token = f"?{urlencode({'token': config.token})}" if config.token else ""
        opener = threading.Timer(0.5, webbrowser.open, (address + token,))
        opener.daemon = True
        opener.start()


def local_name(host: str) -> str:
    """What to call a bound address from this machine, as it stands in a link."""
    if host in ("0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def has_display() -> bool:
    """Whether a browser can be opened here."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def make_app(hub: Hub) -> Starlette:
    """The application without its guard. While it runs, the hub does."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(hub.run())
        threading.Thread(target=_warm, args=(hub.library,), daemon=True).start()
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await hub.client.aclose()

    async def status(request: Request) -> Response:
        return api.answer(await hub.status())

    routes = [
        Route("/api/status", status),
        Route("/api/stream", api.stream(hub.events)),
        Route("/api/{path:path}", _history(hub)),
        Route("/", _page),
        Route("/{name}", _file),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _history(hub: Hub) -> Any:
    """The store's routes: answered from a store on this machine, or passed on from the training port."""
    local: dict[Path, Any] = {}

    def application(library: Library) -> Any:
        if library.database not in local:
            local[library.database] = GZipMiddleware(Starlette(routes=api.routes(library)), 20_000, compresslevel=1)
        return local[library.database]

    async def remote(request: Request) -> Response:
        try:
            url = httpx.URL(path=request.url.path, query=request.url.query.encode())
            answer = await hub.client.get(url, timeout=30)
        except (httpx.HTTPError, httpx.InvalidURL):
            return api.error(f"the training at {hub.where} does not answer", 503)
        return Response(answer.content, answer.status_code, media_type="application/json")

    class History:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if hub.remote:
                await (await remote(Request(scope)))(scope, receive, send)
            else:
                inner = {**scope, "app": None, "path_params": {}, "root_path": ""}
                await application(hub.library)(inner, receive, send)

    return History()


async def _page(request: Request) -> Response:
    return _static(PAGE / "index.html")


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name in CHART_FILES:
        spec = find_spec("uplot")  # found, not imported: the package is for notebooks, its script is what is needed
        if spec and spec.submodule_search_locations:
            return _static(Path(spec.submodule_search_locations[0]) / "static" / CHART_FILES[name])
    path = PAGE / name
    if path.suffix in TYPES and path.parent == PAGE and name in os.listdir(PAGE):
        return _static(path)
    return Response("not found", 404, media_type="text/plain")


def _static(path: Path) -> Response:
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"cache-control": "no-cache"})


def _warm(library: Library) -> None:
    """Read the newest run's numbers before somebody asks for them."""
    with contextlib.suppress(UserError), library.reading() as store:
        newest = queries.newest_run(store)
        if newest:
            library.names(newest["id"])
