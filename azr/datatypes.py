"""What a task is about: the types of its arguments and of its output.

A small model's tasks soon turn to whole numbers alone, as these are the easiest to write. What it then forgets about
text, lists and dicts shows on every held-out task that has them.
"""

from __future__ import annotations

from functools import lru_cache

from azr.executor import NotALiteral, parse_arguments, parse_literal, render
from azr.records import Task

# Names of a first argument by its type, in the mix that is asked for. A small model writes its program after the name:
# naming the argument is how it comes to write about such data. Of dicts it can write little.
ARGUMENTS = {
    "text": "str", "s": "str", "word": "str",
    "nums": "list", "words": "list", "items": "list",
    "n": "number", "x": "number",
    "d": "dict",
}  # fmt: skip


def suits(argument: str, inputs: str) -> bool:
    """Whether the first value of an argument list has the type that the argument's name stands for."""
    try:
        first = parse_arguments(inputs)[0]
    except (NotALiteral, IndexError):
        return False
    wanted = ARGUMENTS[argument]
    return type(first) in (int, float) if wanted == "number" else type(first).__name__ == wanted


def same_kind(one: str, other: str) -> bool:
    """Whether two literals have the same type; whole and other numbers count as one. True where one is no literal."""
    try:
        first, second = (type(parse_literal(text)) for text in (one, other))
    except NotALiteral:
        return True
    return first is second or {first, second} == {int, float}


def signature(task: Task) -> str:
    """Types of the first pair's arguments and output, such as `str, int -> list`."""
    pair = task.pairs[0]
    return _signature(pair.input, pair.output)


def first_type(task: Task) -> str:
    """Type of the first argument, such as `str`."""
    return signature(task).split(" ", 1)[0].rstrip(",")


@lru_cache(maxsize=16_384)
def first_argument(inputs: str) -> str:
    """The first value of an argument list, written alike in every process (sets too); empty where there is none."""
    try:
        arguments = parse_arguments(inputs)
    except NotALiteral:
        return inputs
    return render(arguments[0]) if arguments else ""


@lru_cache(maxsize=16_384)
def _signature(arguments: str, output: str) -> str:
    try:
        types = [type(value).__name__ for value in parse_arguments(arguments)]
        return f"{', '.join(types)} -> {type(parse_literal(output)).__name__}"
    except NotALiteral:  # text of an attempt need not be one
        return "?"
