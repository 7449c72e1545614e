"""New inputs for buffered tasks, so that what is rehearsed is the program and not its answer.

A small model writes the same few inputs again and again, and then knows them by heart: `[1, 2, 3]` is the input of a
seventh of its abduction tasks. Here an input is changed at random, types and sizes kept: letters become other letters
and numbers others with as many digits, the same ones everywhere in the input, so that what stands in a text is still
in it. The sandbox says what the program returns for the new input.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from azr.executor import Executor, Status, ValidationRequest
from azr.executor.literals import parse_arguments
from azr.executor.values import render
from azr.records import Task

CANDIDATES = 4  # new inputs tried for a task; on some the program raises
CHANGED = 0.7  # of the letters and numbers
RESHAPED = 0.5  # of the texts and lists: one element more or fewer, or another order


def renew(tasks: Sequence[Task], executor: Executor, rng: random.Random) -> list[Task]:
    """Each task with a new input on which its program runs well, or as it is where none of a few does.

    Induction tasks stay: their inputs were chosen to belong together.
    """
    asked = [
        (index, new_input(task.pairs[0].input, rng)) for index, task in enumerate(tasks) for _ in range(CANDIDATES)
    ]
    asked = [(index, text) for index, text in asked if _is_new(tasks[index], text)]
    results = executor.validate([ValidationRequest(tasks[index].program, (text,)) for index, text in asked])
    renewed = list(tasks)
    for (index, _), result in reversed(list(zip(asked, results, strict=True))):
        if result.status is Status.OK:
            renewed[index] = replace(tasks[index], pairs=result.pairs)
    return renewed


def _is_new(task: Task, text: str) -> bool:
    return task.type != "induction" and text != task.pairs[0].input


def new_input(text: str, rng: random.Random) -> str:
    """An argument list like this one: the same types, other letters and numbers. Raises NotALiteral."""
    change = _Change(rng)
    return ", ".join(render(change.value(argument)) for argument in parse_arguments(text))


class _Change:
    """One change of a whole input: what is equal in it stays equal."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.known: dict[tuple[type, Any], Any] = {}

    def value(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return "".join(self._reshaped([self._once(c, self._character) for c in value], self._character))
        if kind in (list, tuple):
            return kind(self._reshaped([self.value(item) for item in value], self.value))
        if kind in (set, frozenset):
            return kind(self.value(item) for item in sorted(value, key=render))
        if kind is dict:
            return {self.value(key): self.value(item) for key, item in value.items()}
        if kind in (bool, int, float):
            return self._once(value, self._number)
        return value

    def _once(self, value: Any, other: Callable[[Any], Any]) -> Any:
        key = (type(value), value)
        if key not in self.known:
            self.known[key] = other(value) if self.rng.random() < CHANGED else value
        return self.known[key]

    def _character(self, character: str) -> str:
        for alphabet in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
            if character in alphabet:
                return self.rng.choice(alphabet)
        return character

    def _number(self, value: Any) -> Any:
        if isinstance(value, bool):
            return self.rng.random() < 0.5
        if isinstance(value, float):
            return self._number(int(value)) + self.rng.randrange(4) / 4 if abs(value) < 1e9 else value
        digits = len(str(abs(value)))
        other = self.rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
        return -other if value < 0 else other

    def _reshaped(self, items: list[Any], other: Callable[[Any], Any]) -> list[Any]:
        """Half the time one item fewer, one more like one of them, or all in another order."""
        if len(items) < 2 or self.rng.random() >= RESHAPED:
            return items
        how, place = self.rng.randrange(3), self.rng.randrange(len(items))
        if how == 0:
            return items[:place] + items[place + 1 :]
        if how == 1:
            return [*items[:place], other(items[place]), *items[place:]]
        return self.rng.sample(items, len(items))
