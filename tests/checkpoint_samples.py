"""The fixtures `place` and `run`: a workspace and a run in it, and what a policy writes into a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from store_samples import config

from azr.store import Run, Store
from azr.workspace import Workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def run(place: Workspace) -> Run:
    return new_run(place)


def new_run(place: Workspace, **train: Any) -> Run:
    run = Store(place.database).start_run(config(**train), {"azr": "0.1"}, {})
    place.checkpoints.claim(run.name)
    return run


def write(folder: Path) -> None:
    (folder / "adapter.safetensors").write_bytes(b"weights")
    (folder / "optimizer").mkdir()
    (folder / "optimizer" / "state.safetensors").write_bytes(b"moments" * 100)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def touch(file: Path) -> None:
    file.write_bytes(b"x")
