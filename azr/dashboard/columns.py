"""A run's numbers as columns, one value a step, kept in memory and extended as steps arrive.

Names are those of the store's `metrics` and `timings`, and a few that are counted from the step's tasks: `tasks/lines`
and `tasks/characters` (means over programs), `difficulty/NAME` and `difficulty/NAME/TYPE` (means of the tasks' own
measures), and `tasks/solved_BIN`, the share of the step's attempted tasks whose solve rate lies in the bin.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from azr.store import Store

# Bins of the solve rate: (name, SQL condition). Both ends stand alone: there is nothing to learn.
BINS = {
    "tasks/solved_none": "solve_rate = 0",
    "tasks/solved_few": "solve_rate > 0 AND solve_rate <= 0.34",
    "tasks/solved_half": "solve_rate > 0.34 AND solve_rate < 0.67",
    "tasks/solved_most": "solve_rate >= 0.67 AND solve_rate < 1",
    "tasks/solved_all": "solve_rate = 1",
}
_NAN = math.nan


class Columns:
    """The columns of one run. Call `update` before reading; not safe from two threads at once."""

    def __init__(self, run: int) -> None:
        self.run = run
        self.start = 0  # the newest start of the process that these columns belong to
        self.steps = array("q")
        self.values: dict[str, array[float]] = {}

    def update(self, store: Store) -> None:
        """Read the steps that are new; forget those that a resume has rolled back."""
        for row in store.query("SELECT id, after_step FROM starts WHERE run = ? AND id > ?", self.run, self.start):
            self.start = max(self.start, row["id"])
            self._forget_after(row["after_step"])
        after = self.steps[-1] if self.steps else -1
        rows = store.query(
            "SELECT step, metrics, timings FROM steps WHERE run = ? AND step > ? ORDER BY step", self.run, after
        )
        if not rows:
            return
        of_tasks = self._task_numbers(store, after)
        for row in rows:
            numbers = json.loads(row["metrics"]) | json.loads(row["timings"])
            self._append(row["step"], numbers | of_tasks.get(row["step"], {}))

    def json(self, names: Iterable[str], after: int) -> str:
        """{"start", "steps", "columns"} beyond step `after`: six significant digits, null where there is none."""
        first = next((i for i, step in enumerate(self.steps) if step > after), len(self.steps))
        steps = ",".join(map(str, self.steps[first:]))
        columns = ",".join(
            f"{json.dumps(name)}:[{_numbers(self.values[name][first:])}]" for name in names if name in self.values
        )
        return f'{{"run":{self.run},"start":{self.start},"steps":[{steps}],"columns":{{{columns}}}}}'

    def _append(self, step: int, numbers: Mapping[str, Any]) -> None:
        before = len(self.steps)
        self.steps.append(step)
        for name, value in numbers.items():
            if name not in self.values:
                self.values[name] = array("d", [_NAN]) * before
            self.values[name].append(float(value) if isinstance(value, (int, float)) else _NAN)
        for column in self.values.values():
            if len(column) == before:
                column.append(_NAN)

    def _forget_after(self, step: int | None) -> None:
        kept = next((i for i, s in enumerate(self.steps) if s > (step or 0)), len(self.steps))
        del self.steps[kept:]
        for column in self.values.values():
            del column[kept:]

    def _task_numbers(self, store: Store, after: int) -> dict[int, dict[str, float]]:
        counts = ", ".join(f'AVG({condition}) AS "{name}"' for name, condition in BINS.items())
        found: dict[int, dict[str, float]] = {}
        for row in store.query(
            f"""SELECT step, AVG(LENGTH(program)) AS "tasks/characters", {counts},
            AVG(LENGTH(program) - LENGTH(REPLACE(program, char(10), '')) + 1) AS "tasks/lines"
            FROM tasks WHERE run = ? AND step > ? GROUP BY step""",
            self.run,
            after,
        ):
            step = row.pop("step")
            found[step] = {name: value for name, value in row.items() if value is not None}
        for (step, name), mean in self._measures(store, after):
            found.setdefault(step, {})[name] = mean
        return found

    def _measures(self, store: Store, after: int) -> Iterator[tuple[tuple[int, str], float]]:
        """The step and the name of each measure of difficulty, of all tasks and of each type's, with its mean."""
        sums: dict[tuple[int, str], list[float]] = {}  # total, tasks
        for row in store.query(
            """SELECT step, tasks.type, key, TOTAL(value) AS total, COUNT(value) AS tasks
            FROM tasks, json_each(difficulty) WHERE run = ? AND step > ? AND difficulty != '{}'
            GROUP BY step, tasks.type, key""",
            self.run,
            after,
        ):
            for name in (f"difficulty/{row['key']}", f"difficulty/{row['key']}/{row['type']}"):
                so_far = sums.setdefault((row["step"], name), [0.0, 0])
                so_far[0] += row["total"]
                so_far[1] += row["tasks"]
        for (step, name), (total, tasks) in sums.items():
            if tasks:
                yield (step, name), total / tasks


def _numbers(values: array[float]) -> str:
    return ",".join(["null" if value != value else f"{value:.6g}" for value in values])
