"""New inputs for tasks, so that what is rehearsed is the program and not its answer, and so that inputs can be shorter.

A small model writes the same few inputs again and again, and then knows them by heart: `[1, 2, 3]` is the input of a
seventh of its abduction tasks. Here an input is changed at random, types kept: letters become other letters and numbers
others, equal ones equal ones, so that what stands in a text mostly still stands in it. Where the last attempts were
below the band texts, lists and dicts are shorter than in the task's own input, above it texts and lists are longer. The
sandbox says what the program returns for it.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from azr.executor import Executor, Status, ValidationRequest, encode
from azr.executor.literals import parse_arguments
from azr.executor.values import TooLarge, render
from azr.records import Pair, Task

CANDIDATES = 4  # new inputs tried for a task; on some the program raises
CHANGED = 0.7  # of the letters and numbers
RESHAPABLE = 2  # levels of an argument whose length may change: nested further, growth would multiply without bound
ROOM = 20  # characters that a new input and output may have beyond twice the task's own
EMPTY = frozenset({"''", '""', "[]", "()", "{}", "set()", "frozenset()", "b''"})
RESHAPED = 0.5  # of the texts and lists, in the band: one item more or fewer, or another order


def renew(asked: Sequence[tuple[Task, int | None]], executor: Executor, rng: random.Random) -> list[Task]:
    """Each task with a new input on which its program runs well, or as it is where none of a few does.

    `asked`: tasks, each with the growth of its input (see `growth`) or None for a task that keeps its own. Induction
    tasks keep theirs: they were chosen to belong together.
    """
    tasks = [task for task, _ in asked]
    tried = [
        (index, text)
        for index, (task, growth) in enumerate(asked)
        if growth is not None and task.type != "induction"
        for text in _candidates(task.pairs[0].input, growth, rng)
    ]
    results = executor.validate([ValidationRequest(tasks[index].program, (text,)) for index, text in tried])
    for (index, _), result in reversed(list(zip(tried, results, strict=True))):
        own, growth = asked[index]
        if result.status is Status.OK and _serves(result.pairs[0], own.pairs[0], growth or 0):
            tasks[index] = replace(own, pairs=result.pairs)
    return tasks


def _serves(new: Pair, own: Pair, growth: int) -> bool:
    """Whether a new pair is within bounds, and not hollow where the task's own is not: most short lists are sorted."""
    room = 2 * _size(own) + ROOM if growth >= 0 else _size(own)
    return (
        _size(new) <= room
        and (_is_copied(own) or not _is_copied(new))
        and (own.output in EMPTY or new.output not in EMPTY)
    )


def _is_copied(pair: Pair) -> bool:
    """Whether the output is one of the arguments."""
    try:
        return pair.gold in map(encode, parse_arguments(pair.input))
    except (ValueError, TooLarge):
        return False


def _candidates(text: str, growth: int, rng: random.Random) -> list[str]:
    """Other inputs; none of one that cannot be written, as of numbers with thousands of digits, or sets too large."""
    try:
        own = ", ".join(map(render, parse_arguments(text)))
        return [other for other in (new_input(text, growth, rng) for _ in range(CANDIDATES)) if other != own]
    except (ValueError, TooLarge):
        return []


def _size(pair: Pair) -> int:
    """Characters of a task's input and output: both stand in prompts, or are to be answered."""
    return len(pair.input) + len(pair.output)


def growth(rate: float | None, band: tuple[float, float]) -> int:
    """-1 for a shorter input, 0 for one of about the same size, 1 for a longer one."""
    return 0 if rate is None else (rate > band[1]) - (rate < band[0])


def new_input(text: str, growth: int, rng: random.Random) -> str:
    """An argument list like this one: the same types, other letters and numbers. Raises ValueError, TooLarge."""
    change = _Change(growth, rng)
    return ", ".join(render(change.value(argument)) for argument in parse_arguments(text))


class _Change:
    """One change of a whole input: what is equal in it stays equal."""

    def __init__(self, growth: int, rng: random.Random) -> None:
        self.growth, self.rng = growth, rng
        self.known: dict[tuple[type, Any], Any] = {}
        self.depth = 0

    def value(self, value: Any) -> Any:
        self.depth += 1
        changed = self._changed(value)
        self.depth -= 1
        return changed

    def _changed(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return "".join(self._reshaped([self._once(c, self._character) for c in value], self._character))
        if kind in (list, tuple):
            return kind(self._reshaped([self.value(item) for item in value], self.value))
        if kind in (set, frozenset):
            return kind(self.value(item) for item in sorted(value, key=render))
        if kind is dict:
            return {self.value(key): self.value(item) for key, item in self._fewer(list(value.items()))}
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
        if self.growth < 0:
            digits = self.rng.randint(1, digits)
        other = self.rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
        return -other if value < 0 else other

    def _reshaped(self, items: list[Any], other: Callable[[Any], Any]) -> list[Any]:
        """Fewer items or more, by `growth`; else half the time one fewer, one more, or all in another order.

        An item that is added is like one of them.
        """
        if self.depth > RESHAPABLE:
            return items
        if len(items) < 2 or self.growth < 0:
            return self._fewer(items)
        if self.growth > 0:
            more = self.rng.randint(1, max(1, len(items) // 2))
        elif self.rng.random() < RESHAPED:
            more = self.rng.randrange(-1, 2)
        else:
            return items
        if more < 0:
            place = self.rng.randrange(len(items))
            return items[:place] + items[place + 1 :]
        if more == 0:
            return self.rng.sample(items, len(items))
        for _ in range(more):
            place = self.rng.randrange(len(items))
            items = [*items[:place], other(items[place]), *items[place:]]
        return items

    def _fewer(self, items: list[Any]) -> list[Any]:
        """Some of the items, in their order, where the input is to be shorter; all of them else."""
        if len(items) < 2 or self.growth >= 0:
            return items
        kept = self.rng.sample(range(len(items)), self.rng.randint(1, len(items) - 1))
        return [items[place] for place in sorted(kept)]
