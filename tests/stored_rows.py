"""Runs and their rows as the database holds them."""

from __future__ import annotations

import json
from typing import Any

from azr.config import Config
from azr.store import Run, Store


def newest_run(store: Store) -> Run:
    """The run that was begun last."""
    [row] = store.query("SELECT * FROM runs ORDER BY id DESC LIMIT 1")
    config = Config.model_validate(json.loads(row["config"]))
    return Run(store, row["id"], row["name"], config, json.loads(row["versions"]))


def dump_rows(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Every row of the run in a fixed order, without times, memory and row ids: equal for runs that went the same."""
    query = run.store.query
    samples = """SELECT subject, benchmark, protocol_hash, evaluation_samples.* FROM evaluation_samples
        JOIN evaluations ON evaluations.id = evaluation WHERE run = ? ORDER BY 1, 2, 3, task_id, sample"""
    selects = {
        "runs": "SELECT config, seed FROM runs WHERE id = ?",
        "steps": "SELECT step, metrics FROM steps WHERE run = ? ORDER BY step",
        "events": "SELECT step, kind, text FROM events WHERE run = ? ORDER BY step, kind, text",
        "evaluations": """SELECT step, subject, benchmark, protocol, protocol_hash, finished IS NOT NULL AS complete
            FROM evaluations WHERE run = ? ORDER BY subject, benchmark, protocol_hash""",
        "evaluation_samples": samples,
    }
    for table in ("proposals", "tasks", "attempts"):
        selects[table] = f"SELECT * FROM {table} WHERE run = ? ORDER BY step, idx"
    rows = {table: query(select, run.id) for table, select in selects.items()}
    for row in (row for table in rows.values() for row in table):
        for name in ("run", "evaluation", "seconds"):
            row.pop(name, None)
        if "subject" in row:
            row["subject"] = row["subject"].replace(run.name, "RUN")
    return rows
