"""The workspace's lock: one training at a time, freed by the kernel however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from azr.errors import UserError
from azr.workspace import Workspace

HOLD = """
import subprocess, sys, time
from pathlib import Path
from azr.workspace import Workspace
with Workspace(Path(sys.argv[1])).lock():
    helper = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)  # as the executor's process would
    print(helper.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with Workspace(tmp_path).lock():
        assert Workspace(tmp_path).holder() == os.getpid()
        with (
            pytest.raises(UserError, match=f"in use by another run \\(process {os.getpid()}\\)"),
            Workspace(tmp_path).lock(),
        ):
            pytest.fail("two runs")
    assert Workspace(tmp_path).holder() is None
    with Workspace(tmp_path).lock():
        pass


def test_the_lock_dies_with_its_process_even_if_a_child_lives_on(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    helper = int(process.stdout.readline())
    try:
        assert Workspace(tmp_path).holder() == process.pid
        with pytest.raises(UserError, match=str(process.pid)), Workspace(tmp_path).lock():
            pytest.fail("two runs")
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(helper, 0)  # still there
        with Workspace(tmp_path).lock():
            assert Workspace(tmp_path).holder() == os.getpid()
    finally:
        os.kill(helper, signal.SIGKILL)
        process.kill()
        process.stdout.close()


def test_looking_creates_nothing(tmp_path: Path) -> None:
    assert Workspace(tmp_path / "nowhere").holder() is None
    assert not (tmp_path / "nowhere").exists()


def test_a_workspace_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="models"), Workspace(tmp_path).lock():
        pytest.fail("no folder, no lock")


@pytest.mark.parametrize("name", ["models", "data", "logs"])
def test_a_folder_that_cannot_be_written_is_found_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not at the first checkpoint. (Permissions do not bind root, who may run this test.)"""
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / name and access(path, mode))
    with pytest.raises(UserError, match=f"{name}: Permission denied"), Workspace(tmp_path).lock():
        pytest.fail("no folder, no lock")
