"""What a task is about: the types of its arguments and of its output.

A small model's tasks soon turn to whole numbers alone, as these are the easiest to write. What it then forgets about
text, lists and dicts shows on every held-out task that has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from azr.executor import NotALiteral, parse_arguments, parse_literal
from azr.records import Task

# Names of a first argument, by the type of data that they suggest: text, list, dict, number. Naming it is a sure way
# to a task about such data, as a small model writes its program after the name.
ARGUMENTS = (("text", "s"), ("nums", "words"), ("d",), ("n", "x"))


def signature(task: Task) -> str:
    """Types of the first pair's arguments and output, such as `str, int -> list`."""
    pair = task.pairs[0]
    return _signature(pair.input, pair.output)


@lru_cache(maxsize=16_384)
def _signature(arguments: str, output: str) -> str:
    try:
        types = [type(value).__name__ for value in parse_arguments(arguments)]
        return f"{', '.join(types)} -> {type(parse_literal(output)).__name__}"
    except NotALiteral:  # an infinity, say, has no literal
        return "?"


def shares(tasks: Iterable[Task]) -> dict[str, float]:
    """Share of the tasks by signature."""
    counts = Counter(map(signature, tasks))
    return {name: count / counts.total() for name, count in counts.items()}
