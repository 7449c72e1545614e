"""Where everything lies: models/, data/ and logs/ below one folder, and the lock that lets one training in."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from azr.checkpoint import Checkpoints
from azr.errors import UserError


class Workspace:
    """The paths below `root`. Nothing is created before `lock` is taken."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.models = self.root / "models"
        self.data = self.root / "data"
        self.logs = self.root / "logs"
        self.database = self.data / "azr.sqlite"
        self.held_out = self.data / "heldout.jsonl"
        self.checkpoints = Checkpoints(self.models)
        self._lock_file = self.data / "lock"

    def log_file(self, run_name: str) -> Path:
        return self.logs / f"{run_name}.log"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for one training. The kernel frees it when the process dies, however it dies.

        Mends what a killed process left half-written in models/. Raises UserError if another process holds the lock,
        or if the folders cannot be made or written.
        """
        try:
            for folder in (self.models, self.data, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            file = self._lock_file.open("a+", encoding="ascii")
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}: choose a workspace that is yours to write") from error
        with file:
            try:
                free = _try_lock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise UserError(f"{self.root} cannot be locked ({error.strerror}): put it on a local disk") from error
            if not free:
                raise UserError(
                    f"{self.root} is in use by another run (process {_pid(file)}): "
                    "wait for it, stop it, or choose another workspace"
                )
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            self.checkpoints.recover()
            yield

    def holder(self) -> int | None:
        """The process that trains here now; None if nobody does."""
        try:
            with self._lock_file.open(encoding="ascii") as file:
                return None if _try_lock(file, fcntl.LOCK_SH, tries=1) else _pid(file)
        except FileNotFoundError:
            return None


def _try_lock(file: IO[str], kind: int, tries: int = 5) -> bool:
    """Several tries, because `holder` takes the lock for an instant to look."""
    for remaining in reversed(range(tries)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if remaining:
                time.sleep(0.05)
    return False


def _pid(file: IO[str]) -> int:
    """What the lock file says; 0 if its holder has not written it yet."""
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else 0
