"""What the browser tests share: a dashboard in a thread, a training in a process, and waiting."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from azr.config import DashboardConfig
from azr.dashboard.guard import Guard, bind
from azr.dashboard.hub import Hub
from azr.dashboard.server import make_app
from azr.dashboard.serving import ServerThread


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
