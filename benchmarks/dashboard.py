"""What the dashboard costs, with 10,000 steps and 100,000 tasks in the store: paint, updates, memory, CPU time.

`python benchmarks/dashboard.py` (needs Chromium and the test extra; about three minutes). The rows are made up by
tests/made_up_store.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PORT, TRAINING_PORT = 18080, 18081
VIEWERS = 20
STEP_SECONDS = 10.0  # a fast training: the embedded model takes about three times as long on two cores
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--enable-precise-memory-info")  # fmt: skip


def start_dashboard(root: Path) -> tuple[subprocess.Popen[bytes], float]:
    """The process, and the seconds until it answered."""
    environment = os.environ | {"AZR_WORKSPACE": str(root)}
    command = [sys.executable, "-m", "azr", "dashboard", "--no-browser"]
    command += ["--dashboard-port", str(PORT), "--training-port", str(TRAINING_PORT)]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{PORT}/api/status").raise_for_status()
            return process, time.perf_counter() - began
        except httpx.HTTPError:
            time.sleep(0.01)


def first_paints(page: Page, count: int = 5) -> list[float]:
    """Milliseconds from navigation to the drawn overview, each in a fresh load."""
    found = []
    for _ in range(count):
        page.goto(f"http://127.0.0.1:{PORT}/")
        while not (mark := page.evaluate("performance.getEntriesByName('azr-painted')[0]?.startTime")):
            page.wait_for_timeout(20)
        found.append(mark)
    return found


def main_thread(session: Any) -> float:
    """Seconds that the page's main thread has been busy."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def heap(session: Any) -> float:
    """MiB of live JavaScript objects."""
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 2**20


def live(session: Any) -> dict[str, int]:
    """Nodes and listeners that the page holds."""
    metrics = {one["name"]: int(one["value"]) for one in session.send("Performance.getMetrics")["metrics"]}
    return {"nodes": metrics["Nodes"], "listeners": metrics["JSEventListeners"]}


def watch_updates(page: Page, root: Path, updates: int, pause: float, server: psutil.Process) -> dict[str, Any]:
    """A process adds a step and its progress every `pause` seconds; what an update costs the page, and what stays."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    shown = page.evaluate("Number(document.body.dataset.step)")
    trainer = subprocess.Popen(
        [
            sys.executable,
            ROOT / "tests" / "made_up_trainer.py",
            root,
            *map(str, (TRAINING_PORT, shown + updates, pause, shown)),
        ]
    )
    while page.evaluate("Number(document.body.dataset.step)") < shown + 3:
        page.wait_for_timeout(100)
    memory, resident, kept = heap(session), server.memory_info().rss / 2**20, live(session)
    began = time.monotonic()
    busy, first = main_thread(session), page.evaluate("Number(document.body.dataset.step)")
    trainer.wait()
    page.wait_for_timeout(1500)
    last = page.evaluate("Number(document.body.dataset.step)")
    return {
        "updates": last - first,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "main thread per update, ms": 1000 * (main_thread(session) - busy) / (last - first),
        "page heap before, MiB": memory,
        "page heap after, MiB": heap(session),
        "page holds before": kept,
        "page holds after": live(session),
        "server resident before, MiB": resident,
        "server resident after, MiB": server.memory_info().rss / 2**20,
    }


def until_told(page: Page, root: Path, last: int) -> list[float]:
    """Seconds from the kill of a training to the page's word for it, thrice."""
    found = []
    for _ in range(3):
        command = [sys.executable, str(ROOT / "tests" / "made_up_trainer.py"), str(root)]
        trainer = subprocess.Popen([*command, *map(str, (TRAINING_PORT, last + 99, 0.5, last))])
        state = "document.querySelector('#status .pill')?.textContent"
        while page.evaluate(state) != "Training":
            page.wait_for_timeout(50)
        page.wait_for_timeout(3000)
        trainer.kill()
        began = time.monotonic()
        while page.evaluate(state) != "Ended without a word":
            page.wait_for_timeout(10)
        found.append(round(time.monotonic() - began, 2))
        trainer.wait()
    return found


async def viewers(base: str, run: int, seconds: float, count: int) -> None:
    """Viewers of the overview: each follows the stream and asks what the page asks when the store has changed."""
    names = (ROOT / "azr" / "dashboard" / "page" / "panels.js").read_text()
    wanted = sorted({part for part in names.split('"') if "/" in part and " " not in part})
    paths = ("runs", f"runs/{run}/steps?limit=1", f"runs/{run}/events", f"runs/{run}/tasks?limit=6")

    async def one(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", f"{base}/api/stream") as stream:
            async for line in stream.aiter_lines():
                if line == "event: changed":
                    newest = (await client.get(f"{base}/api/runs/{run}/steps?limit=1")).json()[0]["step"]
                    for path in (*paths, f"runs/{run}/series?names={','.join(wanted)}&after={newest - 1}"):
                        await client.get(f"{base}/api/{path}")

    async with httpx.AsyncClient(timeout=30) as client:
        tasks = [asyncio.create_task(one(client)) for _ in range(count)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def cost_of_viewers(root: Path, server: psutil.Process, last: int) -> dict[str, float]:
    """CPU time of the trainer's process and of the dashboard's as a share of all cores, with and without viewers.

    The made-up trainer sleeps instead of computing, so what it uses is its store and the live stream.
    """
    found: dict[str, float] = {}
    pause, steps = STEP_SECONDS, 4
    for label, count in (("no viewer", 0), (f"{VIEWERS} viewers", VIEWERS)):
        trainer = subprocess.Popen(
            [
                sys.executable,
                ROOT / "tests" / "made_up_trainer.py",
                root,
                *map(str, (TRAINING_PORT, last + steps, pause, last)),
            ]
        )
        process = psutil.Process(trainer.pid)
        time.sleep(2)
        before = sum(process.cpu_times()[:2]), sum(server.cpu_times()[:2])
        asyncio.run(viewers(f"http://127.0.0.1:{PORT}", 1, pause * (steps - 1), count))
        spent = sum(process.cpu_times()[:2]) - before[0], sum(server.cpu_times()[:2]) - before[1]
        trainer.wait()
        last += steps
        for name, seconds in zip(("trainer", "dashboard"), spent, strict=True):
            share = seconds / (pause * (steps - 1)) / (os.cpu_count() or 1)
            found[f"{name}'s process, {label}, % of all cores"] = round(100 * share, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=180, help="180 are 90 minutes of training, at 30 s a step")
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between updates")
    parser.add_argument("--steps", type=int, default=10_000)
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made: list[str | Path] = [
            sys.executable,
            ROOT / "tests" / "made_up_store.py",
            root,
            "--steps",
            str(arguments.steps),
            "--tasks",
            "10",
        ]
        subprocess.run(made, check=True)
        process, startup = start_dashboard(root)
        server = psutil.Process(process.pid)
        print(json.dumps({"server answers after, s": round(startup, 2)}))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                print(json.dumps({"first paint, ms (the first is right after the server's start)": first_paints(page)}))
                print(json.dumps(watch_updates(page, root, arguments.updates, arguments.pause, server), indent=1))
                told = until_told(page, root, arguments.steps + arguments.updates)
                print(json.dumps({"the page tells of a killed training after, s": told}))
                browser.close()
            print(json.dumps(cost_of_viewers(root, server, arguments.steps + arguments.updates), indent=1))
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
