"""Experiment trackers: every step's numbers to Weights & Biases or trackio, where the configuration says so.

Both are optional extras with the same calls. The store stays the record: a tracker that fails is left alone.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from azr.config import Config, TrackingConfig
from azr.errors import UserError
from azr.records import Task
from azr.rows import stored_config
from azr.terminal import Numbers, View

log = logging.getLogger(__name__)

STEP = "train/step"  # the step as a value, where it is one


def check_tracker(config: TrackingConfig) -> None:
    """Raises UserError where the chosen tracker is not installed: before a model is loaded, not after."""
    if config.backend != "none" and find_spec(config.backend) is None:
        raise UserError(
            f"tracking.backend: {config.backend} is not installed; run: pip install -e '.[{config.backend}]', or set "
            "tracking.backend=none"
        )


@contextmanager
def tracker(config: Config, run_name: str, folder: Path) -> Iterator[Sequence[View]]:
    """The configured tracker as a view, if there is one. Raises UserError if it cannot start.

    A resumed run goes on under its name, and sends the steps since its checkpoint once more.
    """
    if config.tracking.backend == "none":
        yield ()
        return
    module = importlib.import_module(config.tracking.backend)
    arguments: dict[str, Any] = {"id": run_name, "dir": str(folder)} if config.tracking.backend == "wandb" else {}
    try:
        module.init(
            project=config.tracking.project, name=run_name, config=stored_config(config), resume="allow", **arguments
        )
        if config.tracking.backend == "wandb":
            module.define_metric("*", step_metric=STEP)
    except Exception as error:  # whatever it raises: no network, no login, a folder that cannot be written
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"tracking.backend: {config.tracking.backend} cannot start ({reason}); log in to it, or set "
            "tracking.backend=none"
        ) from error
    view = Tracker(module)
    try:
        yield (view,)
    finally:
        view.call("finish")


class Tracker:
    """A view that sends what a step measured. Once the tracker fails, nothing more is sent and the run goes on."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.failed = False

    def call(self, name: str, *arguments: Any) -> None:
        if self.failed:
            return
        try:
            getattr(self.module, name)(*arguments)
        except Exception:
            self.failed = True
            log.exception("the tracker failed: nothing more is sent to it")

    def phase(self, step: int, name: str) -> None:
        """Trackers show steps only."""

    def progress(self, done: int, total: int) -> None:
        """Trackers show steps only."""

    def note(self, kind: str, text: str) -> None:
        """Alarms and evaluations are in the store and on the dashboard."""

    def step(self, step: int, metrics: Numbers, timings: Numbers, newest: Task | None) -> None:
        numbers = {**metrics, **timings}
        if self.module.__name__ == "wandb":  # its own steps only go forward
            self.call("log", {**numbers, STEP: step})
        else:
            self.call("log", numbers, step)
