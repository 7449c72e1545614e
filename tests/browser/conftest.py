"""A headless Chromium, and a dashboard for it to look at. The tests skip, with a reason, where either is missing."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azr.config import DashboardConfig
from azr.dashboard.guard import Guard, bind
from azr.dashboard.hub import Hub
from azr.dashboard.server import make_app
from azr.dashboard.serving import ServerThread

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("AZR_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium found: install one (on Debian: apt install chromium), or set AZR_CHROMIUM")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()


class Dashboard:
    """A dashboard in a thread of this process, which can be stopped and started on the same port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.training_port = free_port(), free_port()
        self.start()

    def start(self) -> None:
        config = DashboardConfig(port=self.port, training_port=self.training_port)
        app = Guard(make_app(Hub(config, self.root, "127.0.0.1")), host="127.0.0.1", port=self.port)
        self.server = ServerThread(app, bind("127.0.0.1", self.port, "--dashboard-port"), "dashboard")
        self.url = f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.server.stop()


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Callable[[Path], Dashboard]]:
    started: list[Dashboard] = []

    def start(root: Path) -> Dashboard:
        started.append(Dashboard(root))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page in a context of its own. The test fails on an error in the page's scripts or a violated policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    yield opened
    context.close()
    assert not problems


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(page: Any, expression: str, seconds: float = 10.0) -> Any:
    """Wait until the expression is truthy in the page; its value. (`wait_for_function` needs eval, which is forbidden.)"""
    end = time.monotonic() + seconds
    while True:
        value = page.evaluate(expression)
        if value:
            return value
        assert time.monotonic() < end, f"{expression} stayed {value!r} for {seconds} s; page: {page.inner_text('body')}"
        page.wait_for_timeout(50)
