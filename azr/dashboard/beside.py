"""A training and its dashboard: the live stream in the training's process, the dashboard in one of its own.

The dashboard may be closed, killed or slow; the training does not notice. It survives a training that is killed, so
that the page can say so, and ends with one that ends by itself.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from azr.config import Config
from azr.dashboard import server
from azr.dashboard.guard import bind, check_binding
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
        listener = bind(settings.host, settings.port, "--dashboard-port")
        process = multiprocessing.get_context("spawn").Process(
            target=server.beside_training, args=(listener, settings, root), name="azr-dashboard", daemon=True
        )
        process.start()
        listener.close()
        stack.callback(process.terminate)
        server.announce(settings, browser=browser)
        yield views
        if sys.stdin.isatty():
            print("the dashboard stays open until Ctrl-C; later: ./run.sh --dashboard-only", flush=True)
            process.join()
