"""MADE-UP DATA: a process that holds a workspace, publishes progress and records steps like a training, with no model.

`python tests/made_up_trainer.py ROOT TRAINING_PORT LAST_STEP PAUSE RESUME_AFTER` (-1: a new run)
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import made_up_store

from azr.config import DashboardConfig
from azr.dashboard.stream import Live
from azr.store import Run, Store
from azr.workspace import Workspace


def resume(store: Store, after: int) -> Run:
    found = store.query("SELECT id, name FROM runs ORDER BY id DESC LIMIT 1")[0]
    made = made_up_store.start(store)  # only to have a configuration
    with store.transaction() as connection:
        connection.execute("DELETE FROM runs WHERE id = ?", (made.id,))
    return store.resume_run(found["id"], after, name=found["name"], config=made.config, versions={}, describe={})


def main() -> None:
    root, port, last, pause, after = sys.argv[1], *map(float, sys.argv[2:])
    place = Workspace(Path(root))
    live = Live(DashboardConfig(training_port=int(port)), database=place.database, steps=int(last))
    with place.lock(), Store(place.database) as store, live:
        run = made_up_store.start(store, steps=int(last)) if after < 0 else resume(store, int(after))
        for step in range(max(int(after), 0) + 1, int(last) + 1):
            live.phase(step, "solve")
            units = max(8, int(10 * pause))
            for done in range(1, units + 1):
                live.progress(done, units)
                time.sleep(pause / units)
            made_up_store.record(run, step, tasks=2, attempts=2)
            row = store.query("SELECT metrics, timings FROM steps WHERE run = ? AND step = ?", run.id, step)[0]
            live.step(step, json.loads(row["metrics"]), json.loads(row["timings"]), None)
        run.finish("finished")


if __name__ == "__main__":
    main()
