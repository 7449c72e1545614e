"""A browser, pages and dashboards for the tests of this folder. They skip where there is no browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_up_store
import pytest
from browser_support import FLAGS, Dashboard

from azr.store import Store


@pytest.fixture(scope="module")  # it keeps an event loop running, which other modules' tests could not bear
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
    """A page in a context of its own. The test fails on an error in its scripts, a violated policy, or a request to
    another host.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    context.close()
    assert not problems
    away = [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:"))]
    assert not away, "a request left for another host"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs of ten steps each, hostile texts and evaluations included."""
    root = tmp_path_factory.mktemp("workspace")
    with Store(root / "data" / "azr.sqlite") as store:
        for seed in (0, 1):
            run = made_up_store.start(store, steps=10, seed=seed)
            for step in range(1, 11):
                made_up_store.record(run, step)
            run.finish("finished")
        run.record_event(4, "alarm", made_up_store.HOSTILE[0])
        made_up_store.add_evaluations(store, run)
    yield root
