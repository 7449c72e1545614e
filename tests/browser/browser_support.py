"""What the browser tests share: a dashboard in a thread, a training in a process, waiting, numbers as shown."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from azr.config import DashboardConfig
from azr.dashboard.guard import Guard, bind
from azr.dashboard.hub import Hub
from azr.dashboard.server import make_app
from azr.dashboard.serving import ServerThread
from azr.store import Store

PAINTED = "performance.getEntriesByName('azr-painted')[0]?.startTime"
STATE = "document.querySelector('#status .pill')?.textContent"
STEP = "Number(document.body.dataset.step)"
VIEWS = ("", "learning", "difficulty", "benchmarks", "tasks", "proposals", "runs")
SOON = 10.0  # seconds: what the page says within five, with room for a machine that is busy
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Dashboard:
    """A dashboard in a thread of this process, which can be stopped and started on the same port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.training_port = free_port(), free_port()
        self.start()

    def start(self) -> None:
        config = DashboardConfig(port=self.port, training_port=self.training_port)
        hub = Hub(config, self.root, "127.0.0.1")
        app = Guard(make_app(hub), host="127.0.0.1", port=self.port)
        self.server = ServerThread(app, hub.events, bind("127.0.0.1", self.port, "--dashboard-port"), "dashboard")
        self.url = f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(page: Any, expression: str, seconds: float = 60.0) -> Any:
    """Wait until the expression is truthy in the page; its value. (The policy forbids `wait_for_function`.)"""
    end = time.monotonic() + seconds
    while True:
        value = page.evaluate(expression)
        if value:
            return value
        assert time.monotonic() < end, f"{expression} stayed {value!r} for {seconds} s; page: {page.inner_text('body')}"
        page.wait_for_timeout(50)


def made_up_trainer(root: Path, port: int, last: int, *, pause: float = 0.3, resume_after: int = -1) -> Any:
    """A process that behaves like a training (see made_up_trainer.py); the caller ends it."""
    script = Path(__file__).parents[1] / "made_up_trainer.py"
    return subprocess.Popen([sys.executable, script, root, *map(str, (port, last, pause, resume_after))])


def compare_with_store(page: Any, store: Store, run: int, step: int) -> None:
    """Every number on the page that says which metric and step it is, against the store's row."""
    row = store.query("SELECT metrics, timings FROM steps WHERE run = ? AND step = ?", run, step)[0]
    stored = json.loads(row["metrics"]) | json.loads(row["timings"])
    numbers = page.evaluate(
        """[...document.querySelectorAll('[data-metric][data-step]')].map(
            (node) => [node.dataset.metric, node.dataset.step, node.textContent])"""
    )
    assert len(numbers) > 20
    for metric, at, text in numbers:
        assert at == str(step), metric
        value = stored.get(metric)
        rounded = None if value is None else float(f"{value:.6g}")  # as the columns of /series are
        assert text in (as_shown(metric, value), as_shown(metric, rounded)), metric


def as_shown(metric: str, value: float | None) -> str:
    """The page's way of writing numbers, in Python."""
    shares = ("propose/valid", "propose/repeated", "propose/cut", "solve/rate", "solve/in_between", "diversity/")
    if value is None:
        return "–"
    if metric.startswith("seconds/"):
        return f"{fixed(1000 * value, 0)} ms" if value < 1 else f"{fixed(value, 1 if value < 10 else 0)} s"
    if metric.endswith("_bytes"):
        return f"{fixed(value / 2**30, 2)} GiB" if value >= 2**30 else f"{fixed(value / 2**20, 0)} MiB"
    if metric.startswith(shares):
        return f"{fixed(100 * value, 1)}%"
    if value == int(value) and metric != "tokens/s":
        return f"{int(value):,}"
    return fixed(value, 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3)


def fixed(value: float, digits: int) -> str:
    """JavaScript's toFixed: of two that are as near it takes the larger, Python's format the even one."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def table_of_steps(page: Any, title: str) -> list[int]:
    figure = page.locator("figure", has=page.get_by_role("heading", name=title, exact=True))
    figure.locator("summary").click()
    figure.locator("tbody").wait_for()  # the page fills it when the browser tells that it was opened: soon, not at once
    return [int(text) for text in figure.locator("tbody th").all_inner_texts()]


Start = Callable[[Path], Dashboard]
