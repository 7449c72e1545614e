"""Killed with SIGKILL before any file operation, flush or SQL statement, a run resumes to the same rows and state.

A child process plays a run whose every step depends on all before it. An audit hook, the database's trace and a wrapped
`fsync` count the operations, and the n-th kills the process. What is left is resumed until the run is done, and
compared with a run that nobody killed.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_samples import config, step_rows
from stored_rows import dump_rows, newest_run

from azr.checkpoint import load_checkpoint
from azr.config import CurriculumConfig
from azr.curriculum import Curriculum
from azr.store import Run, Store
from azr.workspace import Workspace

STEPS = 5
TOUCHING = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "shutil.rmtree"}


def play(root: Path, watch: Callable[[Store], None] = lambda store: None) -> None:
    """Resume from the newest checkpoint if there is one, and play to the end."""
    place = Workspace(root)
    with place.lock(), Store(place.database) as store:
        watch(store)
        latest = place.checkpoints.latest()
        levels = Curriculum(CurriculumConfig(enabled=True))
        run, step, value = _open(place, store, latest, levels)
        while step < STEPS:
            step += 1
            value = hashlib.sha256(f"{value}{step}".encode()).hexdigest()
            run.record_event(step, "note", value[:8])
            rows = step_rows(value)
            proposal = rows["proposals"][0].proposal
            levels.observe([proposal], [proposal], {proposal.task.id: int(value[:2], 16) / 255})
            run.record_step(step, **rows | {"metrics": rows["metrics"] | levels.metrics()})
            if step % 2 == 0 or step == STEPS:
                weights = value.encode()
                state = {"value": value, "curriculum": levels.state()}
                place.checkpoints.save(run, step, _writer(weights), state)
        run.finish("finished")


def _open(place: Workspace, store: Store, latest: Path | None, levels: Curriculum) -> tuple[Run, int, str]:
    if latest is None:
        run = store.start_run(config(keep_checkpoints=1), {}, {})
        place.checkpoints.claim(run.name)
        return run, 0, ""
    saved = load_checkpoint(latest)
    value: str = saved.state["value"]
    levels.restore(saved.state["curriculum"])
    assert (saved.path / "adapter.safetensors").read_text() == value
    place.checkpoints.claim(saved.run_name, saved.step)
    run = store.resume_run(saved.run_id, saved.step, name=saved.run_name, config=saved.config, versions={}, describe={})
    return run, saved.step, value


def _writer(weights: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "adapter.safetensors").write_bytes(weights)

    return write


def child(root: Path, kill_at: int | None) -> int | None:
    """Play in a forked process that kills itself at operation `kill_at`. None: killed; else the count of operations."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _count_operations_and_play(root, kill_at, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, said
    return int(said)


def _count_operations_and_play(root: Path, kill_at: int | None, writer: int) -> None:
    done, fsync = 0, os.fsync

    def operation(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched_fsync(descriptor: int) -> None:
        operation()
        fsync(descriptor)

    code = 1
    try:
        sys.addaudithook(lambda event, _: operation() if event in TOUCHING else None)
        os.fsync = watched_fsync  # type: ignore[assignment]
        play(root, lambda store: store._connection.set_trace_callback(operation))
        os.write(writer, str(done).encode())
        code = 0
    except BaseException:
        os.write(writer, traceback.format_exc().encode())
    finally:
        os._exit(code)  # never back into pytest


def outcome(root: Path) -> tuple[Any, Any, str]:
    """Rows of the finished run, the state of its last checkpoint, and that checkpoint's name."""
    place = Workspace(root)
    with Store.open_readonly(place.database) as store:
        rows = dump_rows(newest_run(store))
        assert store.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert store.query("PRAGMA foreign_key_check") == []
    # One more than is kept may be left where nothing was saved after a kill; each must be whole.
    whole = [load_checkpoint(path) for path in sorted(place.models.iterdir())]
    assert 1 <= len(whole) <= 2
    return rows, whole[-1].state, whole[-1].path.name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Any]:
    root = tmp_path_factory.mktemp("undisturbed")
    operations = child(root, None)
    assert operations is not None and operations > 100
    return operations, outcome(root)


def check_every(stride: int, offset: int, folder: Path, undisturbed: tuple[int, Any]) -> None:
    operations, expected = undisturbed
    survived = 0
    for kill_at in range(1 + offset, operations + 1, stride):
        root = folder / str(kill_at)
        survived += child(root, kill_at) is not None  # a first run may have opened a file or two more, to import
        assert child(root, None) is not None
        assert outcome(root) == expected, f"killed before operation {kill_at} of {operations}"
    assert survived <= 3


def test_killed_at_many_moments(tmp_path: Path, undisturbed: tuple[int, Any]) -> None:
    check_every(7, 3, tmp_path, undisturbed)


@pytest.mark.slow
def test_killed_at_every_moment(tmp_path: Path, undisturbed: tuple[int, Any]) -> None:
    check_every(1, 0, tmp_path, undisturbed)


@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again(tmp_path: Path, undisturbed: tuple[int, Any], seed: int) -> None:
    operations, expected = undisturbed
    dice, lives = random.Random(seed), 0
    while child(tmp_path, dice.randrange(1, operations) if lives < 8 else None) is None:
        lives += 1
    assert outcome(tmp_path) == expected
