"""A workspace's store, as many threads read it: a few connections, and the columns of the runs that were asked for."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from azr.dashboard.columns import Columns
from azr.store import Store
from azr.workspace import Workspace

Answer = tuple[int, str]  # HTTP status, JSON
File = tuple[int, int] | None  # device and inode; None: there is no database
Version = tuple[File, int]
RUNS_IN_MEMORY = 4
ANSWERS_IN_MEMORY = 64
IDLE_CONNECTIONS = 4


class Library:
    """The store at `database`, read-only. It may appear later: until then `reading` raises UserError."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self._idle: list[Store] = []
        self._file: File = None  # what the connections, columns and answers come from
        self._lock = threading.Lock()
        self._columns: OrderedDict[int, tuple[threading.Lock, Columns]] = OrderedDict()
        self._answers: OrderedDict[str, tuple[Version, Answer]] = OrderedDict()
        self._watcher: Store | None = None

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """A store for this thread alone. Raises UserError if there is no database, or none of ours."""
        self._drop_if_replaced()
        with self._lock:
            file = self._file
            store = self._idle.pop() if self._idle else None
        store = store or Store.open_readonly(self.database)
        try:
            yield store
        finally:
            with self._lock:
                keep = file == self._file and len(self._idle) < IDLE_CONNECTIONS
                if keep:
                    self._idle.append(store)
            if not keep:
                store.close()

    def known(self, question: str) -> Answer | None:
        """The answer to a question that was asked since somebody last wrote to the store: many viewers ask the same.

        Raises UserError if there is no database.
        """
        version = self.version()
        with self._lock:
            found = self._answers.get(question)
        return found[1] if found and found[0] == version else None

    def remember(self, question: str, version: Version, answer: Answer) -> None:
        """`version`: the library's before the answer was looked up."""
        with self._lock:
            self._answers[question] = (version, answer)
            self._answers.move_to_end(question)
            while len(self._answers) > ANSWERS_IN_MEMORY:
                self._answers.popitem(last=False)

    def version(self) -> Version:
        """Another with every transaction of another process, and in another file. Raises UserError without a file."""
        self._drop_if_replaced()
        with self._lock:
            self._watcher = self._watcher or Store.open_readonly(self.database)
            return self._file, self._watcher.query("PRAGMA data_version")[0]["data_version"]

    def series(self, run: int, names: Iterable[str], after: int) -> str:
        """See `Columns.json`."""
        with self._current(run) as columns:
            return columns.json(names, after)

    def names(self, run: int) -> list[str]:
        with self._current(run) as columns:
            return sorted(columns.values)

    def trainer(self) -> int | None:
        """The process that trains in this workspace now; None if nobody does."""
        return Workspace(self.database.parent.parent).holder()

    def close(self) -> None:
        with self._lock:
            for store in self._idle:
                store.close()
            self._idle.clear()
            if self._watcher:
                self._watcher.close()
            self._watcher = None
            self._answers.clear()

    def _drop_if_replaced(self) -> None:
        try:
            found = os.stat(self.database)
            file = (found.st_dev, found.st_ino)
        except OSError:
            file = None
        if file != self._file:
            self.close()
            with self._lock:
                self._file = file
                self._columns.clear()

    @contextmanager
    def _current(self, run: int) -> Iterator[Columns]:
        self._drop_if_replaced()
        with self._lock:
            if run not in self._columns:
                self._columns[run] = (threading.Lock(), Columns(run))
            self._columns.move_to_end(run)
            lock, columns = self._columns[run]
            while len(self._columns) > RUNS_IN_MEMORY:
                self._columns.popitem(last=False)
        with lock, self.reading() as store:
            columns.update(store)
            yield columns
