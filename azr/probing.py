"""What a program does around its input: it runs on the task's own input and on inputs that differ a little.

One process a program, in the sandbox, right after its validation. What runs is the program without its idle code;
should that give another output, the program runs as it is. The changed inputs keep their types, so that an error they
cause is a dependence too. Everything is a function of the program's text and its input.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from azr.executor import Executor, Status
from azr.executor.judge import Outcome, decoded
from azr.executor.lanes import Job, Work
from azr.executor.literals import NotALiteral, parse_arguments
from azr.executor.values import NotAValue, TooLarge, encode, render
from azr.instrument import MOST_STEPS, instrument
from azr.minimise import core, minimise
from azr.records import Pair

CPU_SECONDS = 0.5
SECONDS_PER_INPUT = 0.1
MOST_INPUTS = 28  # changed inputs a program; more parts than fit are left unprobed
MOST_PARTS = 4  # elements of a container that are changed one at a time


@dataclass(frozen=True, slots=True)
class Change:
    """An input that differs from the task's own in one part of one argument (-1: in the whole argument)."""

    argument: int
    part: int
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen; `values` and `arguments` are canonical bytes of the runs that gave a value, own input first."""

    program: str  # what ran: the task's program without idle code (see minimise.py)
    folded: bool  # False: nothing was left out, because the program does something else without what looks idle
    values: tuple[bytes, ...]
    arguments: tuple[tuple[bytes, ...], ...]
    steps: int  # statements and comprehension rounds executed on the task's own input
    seen: int  # bit mask of the places (see instrument.py) executed on any input
    dependence: float  # share of the input that the output depends on, 0 to 1

    def core(self) -> ast.Module | None:
        """The syntax tree without code that is idle, that no run executed, or that the output repeats. Shared: it is
        not to be changed."""
        return _core(self.program, self.seen, self.folded)


@lru_cache(maxsize=1024)
def _core(program: str, seen: int, fold: bool) -> ast.Module | None:
    return core(program, seen, fold)


def probe(programs: Sequence[tuple[str, Pair]], executor: Executor) -> list[Probe | None]:
    """For each program and its own input and output, in order: what was seen; None where nothing could be measured."""
    return executor.run(_probing_work(program, pair) for program, pair in programs)


def changes(arguments: Sequence[Any]) -> list[Change]:
    """Changed inputs, at most MOST_INPUTS, those of every part before second ones of any."""
    found: list[list[Change]] = []
    for position, value in enumerate(arguments):
        for part, variants in _variants(value):
            made = [(*arguments[:position], variant, *arguments[position + 1 :]) for variant in variants]
            found.append([Change(position, part, changed) for changed in made])
    rounds = max(map(len, found), default=0)
    ordered = [row[i] for i in range(rounds) for row in found if i < len(row)]
    return ordered[:MOST_INPUTS]


def _variants(value: Any) -> list[tuple[int, list[Any]]]:
    """(part, changed values of the whole argument) for the parts of one argument, then for the argument as a whole."""
    if isinstance(value, (list, tuple)):
        return _parts(list(value), type(value))
    if isinstance(value, str):
        rows = []
        for part in sorted({0, len(value) // 2, len(value) - 1} & set(range(len(value)))):
            rows.append((part, [value[:part] + other + value[part + 1 :] for other in _other_characters(value[part])]))
        return [*rows, (-1, ["", value[::-1], value + "ab", value[:-1], value.swapcase()])]
    if isinstance(value, dict):
        keys = list(value)
        of_keys = [
            (part, [value | {keys[part]: other} for other in _scalars(value[keys[part]])[:2]])
            for part in range(min(len(keys), MOST_PARTS))
        ]
        return [*of_keys, (-1, [dict(list(value.items())[1:]), dict(reversed(value.items()))])]
    if isinstance(value, (set, frozenset)):
        kept = sorted(value, key=render)  # repr would follow the order of a frozenset inside, which is chance
        return [(-1, [type(value)(kept[1:]), type(value)([*kept, *_scalars(kept[0])[:1]] if kept else [1])])]
    return [(0, _scalars(value))]


def _parts(items: list[Any], kind: type) -> list[tuple[int, list[Any]]]:
    count = len(items)
    chosen = sorted({round(i * (count - 1) / max(MOST_PARTS - 1, 1)) for i in range(MOST_PARTS)}) if count else []
    rows = [
        (part, [kind([*items[:part], other, *items[part + 1 :]]) for other in _scalars(items[part])[:3]])
        for part in chosen
    ]
    more = _scalars(items[-1])[:1] if items else [1]
    wholes = [[], items[::-1], items[:-1], [*items, *more], [*items, *items]]
    return [*rows, (-1, [kind(whole) for whole in wholes])]


def _scalars(value: Any) -> list[Any]:
    """Values of the same type; a container is changed as a whole."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, -value - 3, 2 * value + 5 if abs(value) < 1000 else value - 7, 0]
    if isinstance(value, float):
        return [value + 1.5, -value - 0.25, 0.0]
    if isinstance(value, complex):
        return [value + 1, -value]
    if isinstance(value, bytes):
        return [value + b"a", value[::-1]]
    if isinstance(value, (str, list, tuple, dict, set, frozenset)):
        return [variant for _, variants in _variants(value) for variant in variants[:1]][:4]
    return []  # None has no other value of its type


def _other_characters(character: str) -> list[str]:
    if character.isdigit():
        return ["7" if character != "7" else "2", "x"]
    if character.isalpha():
        return ["q" if character.lower() != "q" else "e", character.swapcase()]
    return ["b", " " if character != " " else "z"]


def _probing_work(program: str, pair: Pair) -> Work:
    """Yields one run, or a second one if the minimised program gives another output. Returns the Probe or None."""
    try:
        arguments = parse_arguments(pair.input)
    except NotALiteral:
        return None
    inputs: list[bytes] = [encode(arguments)]
    kept: list[Change] = []
    for change in changes(arguments):
        try:
            data = encode(change.arguments)
        except (NotAValue, TooLarge):
            continue
        if data not in inputs:
            inputs.append(data)
            kept.append(change)
    for fold in (True, False):
        source = _without_idle_code(program, fold)
        rewritten = instrument(source)
        if rewritten is None:
            return None
        data = rewritten.encode("utf-8", "surrogatepass")
        result = yield Job(data, tuple(inputs), CPU_SECONDS, seconds_per_input=SECONDS_PER_INPUT)
        rows = [_row(outcome) for outcome in result.outcomes]
        own = rows[0] if rows else None
        if own is not None and own[0] == pair.gold:
            return _summary(source, fold, arguments, kept[: len(rows) - 1], rows)
    return None


def _without_idle_code(program: str, fold: bool) -> str:
    """The minimised program's text, empty where there is none: what Python has read it may be unable to write."""
    tree = minimise(program, fold=fold)
    try:
        return ast.unparse(tree) if tree else ""
    except (RecursionError, ValueError):
        return ""


def _row(outcome: Outcome) -> tuple[bytes, int, int] | None:
    """Value, steps and places of one run; None if it gave no value, or counts that no run has: the program may have
    changed them."""
    outcome, value = decoded(outcome)
    if outcome.status is not Status.OK or not (isinstance(value, tuple) and len(value) == 3):
        return None
    result, steps, seen = value
    if not (type(steps) is int and type(seen) is int and 0 <= steps <= MOST_STEPS and seen >= 0):
        return None
    return encode(result), steps, seen


def _summary(
    source: str,
    folded: bool,
    arguments: tuple[Any, ...],
    kept: list[Change],
    rows: list[tuple[bytes, int, int] | None],
) -> Probe:
    own = rows[0]
    assert own is not None
    parts: dict[tuple[int, int], bool] = {}
    for change, row in zip(kept, rows[1:], strict=True):
        place = (change.argument, change.part)
        parts[place] = parts.get(place, False) or row is None or row[0] != own[0]
    shares = []
    for position in range(len(arguments)):
        single = [changed for (argument, part), changed in parts.items() if argument == position and part >= 0]
        whole = 0.5 if parts.get((position, -1)) else 0.0
        if single or (position, -1) in parts:
            shares.append(max(fmean(single) if single else 0.0, whole))
    ran = [row for row in rows if row is not None]
    inputs = [arguments, *(c.arguments for c, row in zip(kept, rows[1:], strict=True) if row is not None)]
    seen = 0
    for row in ran:
        seen |= row[2]
    return Probe(
        source,
        folded,
        tuple(row[0] for row in ran),
        tuple(tuple(encode(value) for value in values) for values in inputs),
        own[1],
        seen,
        fmean(shares) if shares else 0.0,
    )
