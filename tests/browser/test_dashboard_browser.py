"""The dashboard in a real browser: live numbers, resilience, hostile text, accessibility. Skips where there is none."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import made_up_store
import pytest
from browser_support import Dashboard, free_port, made_up_trainer, until

from azr.store import Store

PAINTED = "performance.getEntriesByName('azr-painted')[0]?.startTime"
STATE = "document.querySelector('#status .pill')?.textContent"
STEP = "Number(document.body.dataset.step)"
VIEWS = ("", "learning", "difficulty", "benchmarks", "tasks", "proposals", "runs")
Start = Callable[[Path], Dashboard]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


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


def test_a_run_is_followed_through_a_kill_and_a_resume(page: Any, dashboard: Start, tmp_path: Path) -> None:
    shown = dashboard(tmp_path)
    page.goto(shown.url)
    until(page, f"{STATE} === 'Waiting'")
    until(page, f"document.getElementById('main').textContent.includes('{shown.training_port}')")

    trainer = made_up_trainer(tmp_path, shown.training_port, 60)
    try:
        until(page, f"{STATE} === 'Training' && {STEP} >= 2")
        first = page.evaluate(STEP)
        page.evaluate("window.same_page = true")
        until(page, "document.querySelector('[data-fact=phase]')?.textContent === 'solving'")
        until(page, f"{STEP} >= {first + 2}")
        assert page.evaluate("window.same_page"), "the page was loaded again"
    finally:
        trainer.kill()
        trainer.wait()
    until(page, f"{STATE} === 'Ended without a word'")
    with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
        last = store.query("SELECT MAX(step) AS step FROM steps")[0]["step"]
        until(page, f"{STEP} === {last}")
        compare_with_store(page, store, run=1, step=last)

    trainer = made_up_trainer(tmp_path, shown.training_port, last + 2, resume_after=2)
    trainer.wait(60)
    until(page, f"{STATE} === 'Finished' && {STEP} === {last + 2}")
    assert page.evaluate("window.same_page")
    steps = table_of_steps(page, "Valid proposals")
    assert steps == list(range(last + 2, 0, -1))[:30]  # nothing doubled, nothing missing
    with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
        compare_with_store(page, store, run=1, step=last + 2)


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
        assert text == as_shown(metric, stored.get(metric)), metric


def as_shown(metric: str, value: float | None) -> str:
    """The page's way of writing numbers, in Python."""
    shares = ("propose/valid", "propose/repeated", "propose/cut", "solve/rate", "solve/in_between", "diversity/")
    if value is None:
        return "–"
    if metric.startswith("seconds/"):
        return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    if metric.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    if metric.startswith(shares):
        return f"{100 * value:.1f}%"
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def table_of_steps(page: Any, title: str) -> list[int]:
    figure = page.locator("figure", has=page.get_by_role("heading", name=title, exact=True))
    figure.locator("summary").click()
    return [int(text) for text in figure.locator("tbody th").all_inner_texts()]


@pytest.mark.slow
def test_a_real_training_is_shown_while_it_runs(page: Any, tmp_path: Path) -> None:
    """The whole command on the embedded model: progress moves, and what is shown is what is stored."""
    port, training_port, last = free_port(), free_port(), 3
    sizes = {"tasks.prompts": 3, "tasks.proposals_per_prompt": 4, "tasks.solved": 4, "tasks.attempts": 2}
    options = [f"--set={key}={value}" for key, value in {"train.steps": last, **sizes}.items()]
    ports = ["--dashboard-port", str(port), "--training-port", str(training_port)]
    training = subprocess.Popen(
        [sys.executable, "-m", "azr", "train", "--dashboard", "--no-browser", *ports, *options],
        env=os.environ | {"AZR_WORKSPACE": str(tmp_path)},
        stdin=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        page.goto(f"http://127.0.0.1:{port}/")
        phases = set()
        while not page.evaluate(f"{STEP} >= {last - 1}"):
            phases.add(page.evaluate("document.querySelector('[data-fact=phase]')?.textContent"))
            page.wait_for_timeout(200)
            assert training.poll() is None
        assert "proposing" in phases
        step = page.evaluate(STEP)
        with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
            compare_with_store(page, store, run=1, step=step)
        assert training.wait(300) == 0
    finally:
        for _ in range(2):  # twice: stop now, and take the dashboard along
            training.terminate()
            time.sleep(0.5)
        training.wait(60)


def test_the_page_outlives_the_dashboards_server(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(shown.url)
    until(page, PAINTED)
    shown.stop()
    until(page, "document.getElementById('connection').textContent.includes('does not answer')")
    assert page.evaluate(STEP) == 10
    with Store(workspace / "data" / "azr.sqlite") as store:
        made_up_store.record(store.run(), 11)
        shown.start()
        until(page, f"{STEP} === 11")
        with store.transaction() as connection:
            connection.execute("DELETE FROM steps WHERE step = 11")
    assert page.inner_text("#connection") == "● live"


def test_what_the_model_wrote_is_text(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for view in ("tasks", "proposals", "runs"):
        page.goto(f"{shown.url}?view={view}")
        until(page, "document.querySelectorAll('main tbody tr').length")
        check_layout(page)
        until(page, "document.getElementById('main').textContent.includes('onerror=')")
    for step in range(1, 11):
        hostile = made_up_store.HOSTILE[step % len(made_up_store.HOSTILE)]
        page.goto(f"{shown.url}?view=tasks&step={step}")
        until(page, "document.querySelectorAll('main tbody tr').length")
        page.locator("tr", has_text="def f(x)").first.locator("a").first.click()
        until(page, "document.querySelectorAll('.attempt').length")
        check_layout(page)
        text = page.evaluate("[...document.querySelectorAll('.attempt .code')].map((node) => node.textContent).join()")
        assert text.startswith(as_text(hostile)[:200])
    assert all(url.startswith(shown.url) for url in asked), "a request left for another host"


def as_text(text: str) -> str:
    """The beginning of what the page shows for it."""
    for sign, shown in (("\x1b", "ESC"), ("\0", "NUL"), ("\x07", "BEL"), ("\r", "CR"), ("\b", "BS")):
        text = text.replace(sign, f"‹{shown}›")
    for code in (0x202E, 0x202C, 0x2066, 0x2069, 0x200B, 0xD800):
        text = text.replace(chr(code), f"‹{code:04X}›")
    return text


def check_layout(page: Any) -> None:
    assert (
        page.evaluate("document.querySelectorAll('main img, main script, main svg:not(.interval), iframe').length") == 0
    )
    assert "owned" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert page.evaluate("document.body.scrollHeight") < 60_000


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_every_view_is_accessible(browser: Any, dashboard: Start, workspace: Path, theme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    shown = dashboard(workspace)
    # bypass_csp is for axe, which is put into the page as a script; the other tests keep the policy.
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    task = "task"
    for view in (*VIEWS, task):
        page.goto(f"{shown.url}?view={'tasks' if view == task else view}&compare=1")
        until(page, PAINTED)
        if view == task:
            page.locator("main tbody a").first.click()
            until(page, "document.querySelectorAll('.attempt').length")
        page.wait_for_timeout(100)
        found = axe.run(page).response["violations"]
        serious = [
            (one["id"], [node["html"][:150] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} scrolls sideways"
    context.close()


def test_the_view_is_in_the_address_and_the_keyboard_reaches_it(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(shown.url)
    until(page, PAINTED)
    page.get_by_role("link", name="Tasks", exact=True).focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('main tbody tr').length")
    page.get_by_label("Outcome").select_option("all_solved")
    page.get_by_label("Type").select_option("deduction")
    until(page, "location.search.includes('type=deduction') && location.search.includes('outcome=all_solved')")
    page.wait_for_timeout(300)
    rows = page.inner_text("main tbody")
    other = page.context.new_page()
    other.goto(page.url)
    until(other, "document.querySelectorAll('main tbody tr').length")
    assert other.inner_text("main tbody") == rows
    assert "abduction" not in rows
    page.go_back()
    until(page, "document.querySelector('h1').textContent === 'Overview'")
    page.locator("#run").select_option("1")
    until(page, "location.search.includes('run=1')")


def test_two_runs_and_their_differences(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(f"{shown.url}?view=runs&run=2&compare=1")
    until(page, "document.querySelectorAll('tr.differs').length")
    differing = page.locator("tr.differs th").all_inner_texts()
    assert differing == ["train.seed"]


def test_hovers_explain_every_number(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    for view in VIEWS:
        page.goto(f"{shown.url}?view={view}")
        until(page, PAINTED)
        names = page.evaluate("[...document.querySelectorAll('[data-help]')].map((node) => node.dataset.help)")
        known = page.evaluate(
            """async (names) => { const { explain } = await import('./help.js');
            await new Promise((done) => setTimeout(done, 100)); return names.filter((name) => !explain(name)); }""",
            names,
        )
        assert not known, f"{view}: not in docs/metrics.md"
    page.goto(shown.url)
    until(page, PAINTED)
    page.locator("main [data-help='solve/rate']").first.focus()
    until(page, "!document.getElementById('tip').hidden")
    assert "solve/rate" in page.inner_text("#tip")


def test_benchmark_scores_are_counts_of_stored_samples(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(f"{shown.url}?view=benchmarks&run=2&evaluation=2")
    until(page, "document.querySelectorAll('.problem').length")
    shown_scores = page.evaluate(
        "[...document.querySelectorAll('[data-evaluation]')].map((node) => [node.dataset.evaluation, node.textContent])"
    )
    with Store.open_readonly(workspace / "data" / "azr.sqlite") as store:
        rows = store.query("SELECT evaluation, AVG(correct) AS score FROM evaluation_samples GROUP BY evaluation")
    assert dict(shown_scores) == {str(row["evaluation"]): f"{100 * row['score']:.1f}%" for row in rows}
    assert "EvalPlus leaderboard" in page.inner_text("main")
    assert page.locator(".problem").count() == 20
