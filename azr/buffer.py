"""Task buffers, one per type: no program twice, the oldest leave first, recent tasks are shown most.

A new task always enters, so a full buffer never freezes. Deduction and abduction tasks with the same normal form of the
program are one task, whatever the input; induction takes its programs from the other buffers, so there it is the set of
inputs that makes a task new.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from azr.program import normal_form
from azr.prompts import IDENTITY
from azr.records import TASK_TYPES, Difficulty, Pair, Task, TaskType
from azr.rows import task_from_json, task_to_json

HALF_LIFE = 256  # tasks: a reference this much older is half as likely to be shown


@dataclass(slots=True)
class Entry:
    task: Task
    step: int  # when it entered; -1 is a seed
    solve_rate: float | None  # latest, from sampled attempts
    difficulty: Difficulty | None = None


def task_key(task: Task) -> str:
    """What makes two tasks of one type the same."""
    if task.type == "induction":
        return normal_form(task.program) + "\0" + "\0".join(sorted(pair.input for pair in task.pairs))
    return normal_form(task.program)


class Buffer:
    def __init__(self, size: int) -> None:
        self.size = size
        self._entries: dict[TaskType, OrderedDict[str, Entry]] = {kind: OrderedDict() for kind in TASK_TYPES}

    def __contains__(self, task: Task) -> bool:
        return task_key(task) in self._entries[task.type]

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def count(self, kind: TaskType) -> int:
        return len(self._entries[kind])

    def entries(self, kind: TaskType) -> list[Entry]:
        """Oldest first."""
        return list(self._entries[kind].values())

    def add(self, task: Task, step: int, solve_rate: float | None = None, difficulty: Difficulty | None = None) -> bool:
        """True if the task is new. The oldest of its type leaves when the buffer is full."""
        entries, key = self._entries[task.type], task_key(task)
        if key in entries:
            return False
        entries[key] = Entry(task, step, solve_rate, difficulty)
        if len(entries) > self.size:
            entries.popitem(last=False)
        return True

    def observe(self, task: Task, solve_rate: float) -> None:
        """Remember the latest solve rate of a buffered task; unknown tasks are ignored."""
        if entry := self._entries[task.type].get(task_key(task)):
            entry.solve_rate = solve_rate

    def sample(self, kind: TaskType, count: int, rng: random.Random, avoid: str = "") -> list[Task]:
        """Up to `count` different tasks, none about the program `avoid`; recent ones more often (the weight halves
        every HALF_LIFE tasks)."""
        pool = [entry.task for entry in self._entries[kind].values() if entry.task.program != avoid]
        # Efraimidis and Spirakis: the largest u ** (1 / w) are a weighted sample without replacement.
        keys = [rng.random() ** (1.0 / 0.5 ** ((len(pool) - 1 - i) / HALF_LIFE)) for i in range(len(pool))]
        chosen = sorted(range(len(pool)), key=lambda i: keys[i], reverse=True)[:count]
        return [pool[i] for i in chosen]

    def sample_program(self, rng: random.Random) -> str | None:
        """A program from the deduction and abduction buffers, for an induction proposal."""
        kind: TaskType = rng.choice(("deduction", "abduction"))
        other: TaskType = "abduction" if kind == "deduction" else "deduction"
        tasks = self.sample(kind, 1, rng) or self.sample(other, 1, rng)
        return tasks[0].program if tasks else None

    def state(self) -> dict[str, Any]:
        """JSON state; `restore` gives the same buffer, order included."""
        return {
            kind: [
                [task_to_json(e.task), e.step, e.solve_rate, None if e.difficulty is None else asdict(e.difficulty)]
                for e in entries.values()
            ]
            for kind, entries in self._entries.items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        for kind in TASK_TYPES:
            restored = [
                Entry(task_from_json(task), step, rate, None if hard is None else Difficulty(**hard))
                for task, step, rate, hard in state[kind]
            ]
            self._entries[kind] = OrderedDict((task_key(entry.task), entry) for entry in restored)


def seed_tasks(pair: Pair) -> Iterable[Task]:
    """The identity triplet (the paper's only seed) for the two types that a single pair makes a task of."""
    yield Task("deduction", IDENTITY.program, (pair,))
    yield Task("abduction", IDENTITY.program, (pair,))
