"""A training and its dashboard: the live stream in the training's process, the dashboard in one of its own.

The dashboard may be closed, killed or slow; the training does not notice. It survives a training that is killed, so
that the page can say so, and ends with one that ends by itself.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from azr.config import Config, DashboardConfig
from azr.dashboard import server
from azr.dashboard.guard import bind, check_binding
from azr.dashboard.hub import Hub
from azr.dashboard.stream import Live
from azr.errors import UserError


@contextmanager
def showing(config: Config, root: Path, *, dashboard: bool, browser: bool) -> Iterator[tuple[Live, ...]]:
    """Views for `azr.train.main`. Raises UserError for a busy port.

    Without `dashboard` the live stream is offered all the same, so that a dashboard can come later; a busy training
    port is then only mentioned.
    """
    settings, database = config.dashboard, root / "data" / "azr.sqlite"
    views: tuple[Live, ...] = ()
    with ExitStack() as stack:
        try:
            views = (stack.enter_context(Live(settings, database=database, steps=config.train.steps)),)
        except UserError as error:
            if dashboard:
                raise
            print(f"no live stream: {error}", file=sys.stderr)
        if not dashboard:
            yield views
            return
        check_binding(settings.host, settings.token)
        process = None
        if not shown_already(settings, root):
            listener = bind(settings.host, settings.port, "--dashboard-port")
            process = multiprocessing.get_context("spawn").Process(
                target=server.beside_training, args=(listener, settings, root), name="azr-dashboard", daemon=True
            )
            process.start()
            listener.close()
            stack.callback(process.terminate)
        server.announce(settings, browser=browser)
        yield views
        if process and sys.stdin.isatty():
            print("the dashboard stays open until Ctrl-C; later: ./run.sh --dashboard-only", flush=True)
            with suppress(KeyboardInterrupt):
                process.join()


def shown_already(config: DashboardConfig, root: Path) -> bool:
    """Whether the dashboard of a training that was killed, or one started by hand, still shows this workspace."""
    address = f"http://{server.local_name(config.host)}:{config.port}/api/status"
    headers = {"authorization": f"Bearer {config.token}"} if config.token else {}
    try:
        answer = httpx.get(address, headers=headers, timeout=2, trust_env=False)
        return bool(answer.json()["workspace"] == Hub.workspace(root))
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
