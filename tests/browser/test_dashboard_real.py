"""The dashboard beside a real training on the embedded model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from browser_support import SOON, STATE, STEP, compare_with_store, free_port, table_of_steps, until

from azr.store import Store


@pytest.mark.slow
def test_a_real_training_is_shown_killed_and_resumed(page: Any, tmp_path: Path) -> None:
    """The whole command on the embedded model: progress moves without a reload, what is shown is what is stored; a
    killed training is told, a resumed one is followed, and no step is doubled or missing."""
    port, training_port, last = free_port(), free_port(), 4
    ports = ["--dashboard-port", str(port), "--training-port", str(training_port)]
    sizes = {"tasks.prompts": 3, "tasks.proposals_per_prompt": 4, "tasks.solved": 4, "tasks.attempts": 2}
    settings = {"train.steps": last, "train.save_every": 1, **sizes}
    command = [sys.executable, "-m", "azr", "train", "--dashboard", "--no-browser", *ports]
    command += [f"--set={key}={value}" for key, value in settings.items()]

    def start(*more: str) -> psutil.Popen:
        environment = os.environ | {"AZR_WORKSPACE": str(tmp_path)}
        return psutil.Popen([*command, *more], env=environment, stdin=subprocess.DEVNULL)

    training = start()
    started: list[psutil.Process] = [training]
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate("window.same_page = true")
        phases = set()
        while not page.evaluate(f"{STEP} >= 2"):
            phases.add(page.evaluate("document.querySelector('[data-fact=phase]')?.textContent"))
            page.wait_for_timeout(200)
            assert training.poll() is None
        assert "proposing" in phases
        started += training.children(recursive=True)
        training.kill()
        training.wait()
        until(page, f"{STATE} === 'Ended without a word'", SOON)
        with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
            step = store.query("SELECT MAX(step) AS step FROM steps")[0]["step"]
            until(page, f"{STEP} === {step}")
            compare_with_store(page, store, run=1, step=step)

        checkpoints = sorted((tmp_path / "models").glob("checkpoint-*"))
        training = start("--resume", str(checkpoints[-1]))
        started.append(training)
        until(page, f"{STATE} === 'Training'", 120)
        assert training.wait(300) == 0
        until(page, f"{STATE} === 'Finished' && {STEP} === {last}")
        assert page.evaluate("window.same_page"), "the page was loaded again"
        assert table_of_steps(page, "Valid proposals") == list(range(last, 0, -1))
        with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
            compare_with_store(page, store, run=1, step=last)
            assert store.query("SELECT COUNT(*) AS runs FROM runs") == [{"runs": 1}]
    finally:
        for process in started:  # the first training's dashboard, too, which outlived it
            with suppress(psutil.Error):
                process.kill()
