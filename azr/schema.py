"""The database's schema as numbered migrations. Append a migration; never edit one that has been released.

`PRAGMA user_version` counts the migrations that a database has had; `application_id` says that it is one of ours.
Rows of a step hang off `steps` and leave with it, so that a rollback is one DELETE. `idx` is the position in the step.
JSON columns: config, versions, model, metrics, timings, refs, inputs, pairs, difficulty, protocol, result.
Times are UTC in ISO 8601.
"""

from __future__ import annotations

import sqlite3

from azr.errors import UserError

APPLICATION_ID = 0x617A7273  # "azrs"

_RUNS = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    started TEXT NOT NULL,
    finished TEXT,
    status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'interrupted', 'failed')),
    config TEXT NOT NULL,
    versions TEXT NOT NULL,
    model TEXT NOT NULL,
    seed INTEGER NOT NULL,
    host TEXT NOT NULL
)"""
# One row a start of the process: a reader that sees a new one drops what it holds of steps > after_step.
_STARTS = """
CREATE TABLE starts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    started TEXT NOT NULL,
    after_step INTEGER,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    versions TEXT NOT NULL
)"""
_STEPS = """
CREATE TABLE steps (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    step INTEGER NOT NULL,
    recorded TEXT NOT NULL,
    metrics TEXT NOT NULL,
    timings TEXT NOT NULL,
    PRIMARY KEY (run, step)
)"""
_PROPOSALS = """
CREATE TABLE proposals (
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('valid', 'repeated', 'invalid')),
    task_id TEXT,
    solve_rate REAL,
    reward REAL,
    advantage REAL,
    tokens INTEGER NOT NULL,
    stop_reason TEXT NOT NULL,
    logprob_mean REAL,
    logprob_min REAL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    program TEXT,
    inputs TEXT NOT NULL,
    refs TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (run, step, idx),
    FOREIGN KEY (run, step) REFERENCES steps ON DELETE CASCADE
)"""
_TASKS = """
CREATE TABLE tasks (
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    type TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('proposed', 'buffer')),
    solve_rate REAL,
    difficulty TEXT NOT NULL,
    message TEXT NOT NULL,
    program TEXT NOT NULL,
    pairs TEXT NOT NULL,
    UNIQUE (run, step, idx),
    UNIQUE (run, task_id, step),
    FOREIGN KEY (run, step) REFERENCES steps ON DELETE CASCADE
)"""
_ATTEMPTS = """
CREATE TABLE attempts (
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    type TEXT NOT NULL,
    correct INTEGER NOT NULL,
    status TEXT NOT NULL,
    reward REAL,
    advantage REAL,
    tokens INTEGER NOT NULL,
    stop_reason TEXT NOT NULL,
    logprob_mean REAL,
    logprob_min REAL,
    reason TEXT NOT NULL,
    answer TEXT,
    text TEXT NOT NULL,
    UNIQUE (run, step, idx),
    FOREIGN KEY (run, step) REFERENCES steps ON DELETE CASCADE,
    FOREIGN KEY (run, task_id, step) REFERENCES tasks (run, task_id, step) DEFERRABLE INITIALLY DEFERRED
)"""
_EVENTS = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    step INTEGER NOT NULL,
    recorded TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (run, step, kind, text)
)"""
# `subject` names what was evaluated (a run's checkpoint, or an untrained model), so that the key needs no NULL.
_EVALUATIONS = """
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER REFERENCES runs ON DELETE CASCADE,
    step INTEGER,
    subject TEXT NOT NULL,
    benchmark TEXT NOT NULL,
    protocol TEXT NOT NULL,
    protocol_hash TEXT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT,
    result TEXT,
    UNIQUE (subject, benchmark, protocol_hash)
)"""
_EVALUATION_SAMPLES = """
CREATE TABLE evaluation_samples (
    evaluation INTEGER NOT NULL REFERENCES evaluations ON DELETE CASCADE,
    task_id TEXT NOT NULL,
    sample INTEGER NOT NULL,
    correct INTEGER NOT NULL,
    status TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    stop_reason TEXT NOT NULL,
    seconds REAL,
    detail TEXT NOT NULL,
    solution TEXT,
    completion TEXT NOT NULL,
    PRIMARY KEY (evaluation, task_id, sample)
)"""

_COLUMNS = (
    "run, step, idx, type, status, task_id, solve_rate, reward, advantage, tokens, stop_reason, logprob_mean, "
    "logprob_min, reason, message, program, inputs, refs, text"
)
# A table's check can only be changed with the table.
_VACUOUS_PROPOSALS = _PROPOSALS.replace("TABLE proposals", "TABLE proposals_2").replace(
    "'repeated', 'invalid'", "'vacuous', 'repeated', 'invalid'"
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        _RUNS,
        _STARTS,
        _STEPS,
        _PROPOSALS,
        _TASKS,
        _ATTEMPTS,
        _EVENTS,
        _EVALUATIONS,
        _EVALUATION_SAMPLES,
        "CREATE INDEX proposals_by_status ON proposals (run, status, step, idx)",
        "CREATE INDEX proposals_by_type ON proposals (run, type, status, step, idx)",
        "CREATE INDEX proposals_by_task ON proposals (run, task_id)",
        "CREATE INDEX tasks_by_type ON tasks (run, type, step, idx, solve_rate)",
        "CREATE INDEX tasks_by_outcome ON tasks (run, solve_rate, step, idx)",
        "CREATE INDEX attempts_by_task ON attempts (run, task_id, step)",
        "CREATE INDEX evaluations_by_run ON evaluations (run, step)",
    ),
    (
        _VACUOUS_PROPOSALS,
        f"INSERT INTO proposals_2 ({_COLUMNS}) SELECT {_COLUMNS} FROM proposals",
        "DROP TABLE proposals",
        "ALTER TABLE proposals_2 RENAME TO proposals",
        "CREATE INDEX proposals_by_status ON proposals (run, status, step, idx)",
        "CREATE INDEX proposals_by_type ON proposals (run, type, status, step, idx)",
        "CREATE INDEX proposals_by_task ON proposals (run, task_id)",
    ),
)


def check(connection: sqlite3.Connection, path: object) -> int:
    """The number of migrations this database has had. Raises UserError if it is newer, or none of ours."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application != APPLICATION_ID and not empty:
        raise UserError(f"{path} is not an AZR database: move it away, or choose another workspace")
    if version > len(MIGRATIONS):
        raise UserError(
            f"{path} was written by a newer AZR (schema {version}, this one knows {len(MIGRATIONS)}): update AZR"
        )
    return version


def migrate(connection: sqlite3.Connection, path: object) -> None:
    """Bring the database up to this version, all or nothing. `connection` is in autocommit mode."""
    if check(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[check(connection, path) :]:  # again, now that nobody else can migrate
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
