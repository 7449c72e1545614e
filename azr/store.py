"""STORED: runs, steps, proposals, tasks, attempts, events and evaluations in one SQLite file.

One process trains and writes; the dashboard and others read at the same time (write-ahead log: no writer waits for a
reader). A step is one transaction, and is on the disk before its checkpoint is written, so a checkpoint never runs
ahead of the rows. Resuming deletes every row after the checkpoint's step in one transaction.
"""

from __future__ import annotations

import logging
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from azr import schema
from azr.config import Config
from azr.errors import UserError
from azr.rows import (
    AttemptRow,
    EvaluationSampleRow,
    ProposalRow,
    Scalar,
    TaskRow,
    decode_text,
    encode_text,
    from_json,
    stored_config,
    to_columns,
    to_json,
)

BUSY_SECONDS = 30.0
log = logging.getLogger(__name__)


class Store:
    """The database. Open it to write while you hold the workspace's lock; the evaluation may write beside a training.

    Raises UserError for a file that is no AZR database, that is newer than this AZR, or that cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _user_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(f"{path.resolve().as_uri()}?mode=rwc")
            schema.check(self._connection, path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL, not NORMAL: after a power cut no checkpoint may be newer than the rows.
            self._connection.execute("PRAGMA synchronous = FULL")
            schema.migrate(self._connection, path)

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """For the dashboard: reads while training writes, never writes, and may be used from any one thread at a time.

        Raises UserError if there is no database yet, or if it has another version's schema.
        """
        if not path.exists():
            raise UserError(f"no database at {path}: start a training in this workspace first")
        store = cls.__new__(cls)
        store.path = path
        with _user_errors(path):
            store._connection = _connect(f"{path.resolve().as_uri()}?mode=ro")
            version = schema.check(store._connection, path)
        if version < len(schema.MIGRATIONS):
            store.close()
            raise UserError(f"{path} has an older schema ({version}): any `azr train` in this workspace updates it")
        return store

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of a SELECT, all read at once so that no read transaction stays open. Text comes back unescaped."""
        encoded = [encode_text(value) if isinstance(value, str) else value for value in parameters]
        with _user_errors(self.path):
            cursor = self._connection.execute(sql, encoded)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's writes, or none. Raises UserError for a full disk and for a database locked too long."""
        with _user_errors(self.path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite rolls back by itself when the disk is full
                    self._connection.execute("ROLLBACK")
                raise

    def start_run(self, config: Config, versions: Mapping[str, str], describe: Mapping[str, Scalar]) -> Run:
        """A new run, named after the time. Call it under the workspace's lock."""
        started = _now()
        columns = {
            "started": started,
            "status": "running",
            "config": stored_config(config),
            "versions": versions,
            "model": describe,
            "seed": config.train.seed,
            "host": platform.node(),
        }
        with self.transaction() as connection:
            name = self._free_name(f"run-{started[:19].translate(str.maketrans('T', '-', '-:'))}")
            run_id = _insert(connection, "runs", to_columns({"name": name, **columns}, [], "runs"))
            self._started(connection, run_id, None, versions)
        return Run(self, run_id, name, config, dict(versions))

    def resume_run(
        self,
        run_id: int,
        after_step: int,
        *,
        name: str,
        config: Config,
        versions: Mapping[str, str],
        describe: Mapping[str, Scalar],
    ) -> Run:
        """The run as it was after `after_step`: every later row is deleted, in one transaction.

        Raises UserError as `check_resume` does.
        """
        self.check_resume(run_id, after_step, name)
        model = to_json(describe)
        with self.transaction() as connection:
            for table in ("steps", "events", "evaluations"):  # the rest hangs off these
                connection.execute(f"DELETE FROM {table} WHERE run = ? AND step > ?", (run_id, after_step))
            connection.execute(
                "UPDATE runs SET status = 'running', finished = NULL, config = ?, versions = ?, model = ? WHERE id = ?",
                (to_json(stored_config(config)), to_json(versions), model, run_id),
            )
            self._started(connection, run_id, after_step, versions)
        return Run(self, run_id, name, config, dict(versions))

    def check_resume(self, run_id: int, after_step: int, name: str) -> None:
        """Raises UserError if this database does not hold that run, or not all of it up to `after_step`."""
        runs = self.query("SELECT id FROM runs WHERE id = ? AND name = ?", run_id, name)
        if not runs:
            raise UserError(
                f"{self.path} does not know {name}: resume in the workspace where it ran, or copy its database here"
            )
        recorded = self.query("SELECT 1 FROM steps WHERE run = ? AND step = ?", run_id, after_step)
        if not recorded and after_step > 0:
            raise UserError(
                f"{self.path} holds no step {after_step} of {name} (it was resumed from an earlier checkpoint, "
                "or the database is an older copy): resume from an earlier checkpoint"
            )

    def _started(
        self, connection: sqlite3.Connection, run_id: int, after_step: int | None, versions: Mapping[str, str]
    ) -> None:
        # Whoever is still "running" was killed: the lock allows one training at a time.
        connection.execute("UPDATE runs SET status = 'interrupted' WHERE status = 'running' AND id != ?", (run_id,))
        row = {
            "run": run_id,
            "started": _now(),
            "after_step": after_step,
            "pid": os.getpid(),
            "host": platform.node(),
            "versions": versions,
        }
        _insert(connection, "starts", to_columns(row, [], "starts"))

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while self.query("SELECT 1 FROM runs WHERE name = ?", name):
            number += 1
            name = f"{wanted}-{number}"
        return name


@dataclass(frozen=True, slots=True)
class Run:
    """One run's rows. Writing needs the store that `Store(path)` opened."""

    store: Store
    id: int
    name: str
    config: Config
    versions: dict[str, str]

    def record_step(
        self,
        step: int,
        *,
        proposals: Sequence[ProposalRow],
        tasks: Sequence[TaskRow],
        attempts: Sequence[AttemptRow],
        metrics: Mapping[str, Scalar],
        timings: Mapping[str, float],
    ) -> None:
        """All rows of a step, durable on return. `timings` takes whatever differs between equal runs: seconds, bytes.

        A number that is not finite is stored as NULL, warned of, and noted in an event. Raises UserError (disk full).
        """
        refused: list[str] = []
        key = {"run": self.id, "step": step}
        head = {**key, "recorded": _now(), "metrics": metrics, "timings": timings}
        rows = [("steps", to_columns(head, refused, "steps"))]
        tables: dict[str, Sequence[ProposalRow | TaskRow | AttemptRow]]
        tables = {"tasks": tasks, "proposals": proposals, "attempts": attempts}
        for table, items in tables.items():
            for index, item in enumerate(items):
                columns = {**key, "idx": index, **item.columns()}
                rows.append((table, to_columns(columns, refused, f"{table}[{index}]")))
        with self.store.transaction() as connection:
            for table, columns in rows:
                _insert(connection, table, columns)
            if refused:
                _insert_event(connection, self.id, step, "non_finite", "; ".join(refused))
        if refused:
            log.warning("step %d: %d numbers are not finite, stored as NULL: %s", step, len(refused), refused[0])

    def record_event(self, step: int, kind: str, text: str) -> None:
        """An alarm or a note. The same words at the same step are one row."""
        with self.store.transaction() as connection:
            _insert_event(connection, self.id, step, kind, text)

    def finish(self, status: str) -> None:
        """`status`: finished | interrupted | failed."""
        with self.store.transaction() as connection:
            connection.execute("UPDATE runs SET status = ?, finished = ? WHERE id = ?", (status, _now(), self.id))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One subject on one benchmark under one protocol. Interrupted, it goes on from the samples it has."""

    store: Store
    id: int

    @classmethod
    def open(
        cls,
        store: Store,
        subject: str,
        benchmark: str,
        protocol: Mapping[str, Any],
        protocol_hash: str,
        *,
        run: int | None = None,
        step: int | None = None,
    ) -> Self:
        """The evaluation with this key, new or begun earlier. `step`: the checkpoint's; None for an untrained model.

        What the protocol says beside its hash is as it was said last.
        """
        row = {
            "run": run,
            "step": step,
            "subject": subject,
            "benchmark": benchmark,
            "protocol": protocol,
            "protocol_hash": protocol_hash,
            "started": _now(),
        }
        columns, key = to_columns(row, [], "evaluations"), "subject = ? AND benchmark = ? AND protocol_hash = ?"
        with store.transaction() as connection:
            _insert(connection, "evaluations", columns, verb="INSERT OR IGNORE")
            connection.execute(
                f"UPDATE evaluations SET protocol = ? WHERE {key}",
                (columns["protocol"], subject, benchmark, protocol_hash),
            )
        return cls(
            store, store.query(f"SELECT id FROM evaluations WHERE {key}", subject, benchmark, protocol_hash)[0]["id"]
        )

    def done(self) -> set[tuple[str, int]]:
        """(task id, sample index) of every sample that is stored."""
        rows = self.store.query("SELECT task_id, sample FROM evaluation_samples WHERE evaluation = ?", self.id)
        return {(row["task_id"], row["sample"]) for row in rows}

    def record(self, samples: Sequence[EvaluationSampleRow], *, fresh: bool = False) -> None:
        """Store samples, durable on return. One that is there already is replaced (rescoring); `fresh` ones leave it:
        another process may have stored and scored it meanwhile."""
        with self.store.transaction() as connection:
            for sample in samples:
                columns = to_columns({"evaluation": self.id, **sample.columns()}, [], "evaluation_samples")
                verb = "INSERT OR IGNORE" if fresh else "INSERT OR REPLACE"
                _insert(connection, "evaluation_samples", columns, verb=verb)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Keep the result, unless that of more samples is kept: this one is of a subset then."""
        with self.store.transaction() as connection:
            [before] = connection.execute("SELECT result FROM evaluations WHERE id = ?", (self.id,)).fetchone()
            if before is None or told_samples(from_json(before)) <= told_samples(result):
                connection.execute("UPDATE evaluations SET result = ? WHERE id = ?", (to_json(result), self.id))
            connection.execute("UPDATE evaluations SET finished = ? WHERE id = ?", (_now(), self.id))


def told_samples(result: Mapping[str, Any]) -> int:
    """How many samples a stored result counts."""
    return int(result.get("samples", result.get("tasks", 0)))


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.text_factory = lambda data: decode_text(data.decode())
    return connection


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    """What is the user's to mend, as UserError; anything else (a broken constraint: our bug) passes."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        advice = {
            sqlite3.SQLITE_FULL: "the disk is full: free some space, then resume from the newest checkpoint",
            sqlite3.SQLITE_BUSY: "another process has held it for long: end that process, then resume",
            sqlite3.SQLITE_NOTADB: "this is not an AZR database: move it away, or choose another workspace",
            sqlite3.SQLITE_CORRUPT: "the database is damaged: restore a copy, or move it away and start anew",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that the folder exists and is yours to write",
            sqlite3.SQLITE_READONLY: "it cannot be written: check the permissions of the file and its folder",
            sqlite3.SQLITE_IOERR: "reading or writing failed: check the disk, then resume from the newest checkpoint",
        }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if advice is None:
            raise
        raise UserError(f"{path}: {advice} ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}: check the folder and its permissions") from error


def _insert(connection: sqlite3.Connection, table: str, columns: Mapping[str, Any], verb: str = "INSERT") -> int:
    names = ", ".join(columns)
    marks = ", ".join("?" for _ in columns)
    cursor = connection.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))
    return cursor.lastrowid or 0


def _insert_event(connection: sqlite3.Connection, run_id: int, step: int, kind: str, text: str) -> None:
    row = {"run": run_id, "step": step, "recorded": _now(), "kind": kind, "text": text}
    _insert(connection, "events", to_columns(row, [], "events"), verb="INSERT OR IGNORE")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
