"""Tasks that self-play must never see: a fixed file of them, and the test that keeps them out.

A program is held out if its shape (normal form with constants forgotten, see program.py) is one of the held-out
programs' shapes: renaming, reformatting or changing a number does not let it in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from azr.errors import UserError
from azr.program import shape
from azr.records import Task
from azr.rows import from_json, task_from_json, task_to_json, to_json


class HeldOut:
    """The held-out tasks of a workspace; empty where there is no such file."""

    def __init__(self, tasks: Sequence[Task] = ()) -> None:
        self.tasks = tuple(tasks)
        self._shapes = frozenset(shape(task.program) for task in tasks)
        ids = "\n".join(sorted(task.id for task in tasks))
        self.digest = hashlib.sha256(ids.encode()).hexdigest()[:16] if tasks else ""

    def covers(self, program: str) -> bool:
        """True if self-play must reject this program."""
        return bool(self._shapes) and shape(program) in self._shapes

    @classmethod
    def load(cls, path: Path) -> HeldOut:
        """Read the file that `save` wrote; none means nothing is held out. Raises UserError for a damaged one."""
        if not path.exists():
            return cls()
        try:
            return cls([task_from_json(from_json(line)) for line in path.read_text("utf-8").split("\n") if line])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): restore it, or delete it to hold nothing out") from error


def save(tasks: Iterable[Task], path: Path) -> None:
    """Write the file whole or not at all: it is made once, and every score rests on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(to_json(task_to_json(task)) + "\n" for task in tasks), encoding="utf-8")
    os.replace(partial, path)
