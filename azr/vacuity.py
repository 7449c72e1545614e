"""Tasks that teach nothing: constants, identities, hollow padding, and near copies of tasks that exist.

What a program does is judged by its probe (the task's input and changed ones), what it is by its minimised syntax tree.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable
from functools import lru_cache

from azr.difficulty import size
from azr.executor import encode, parse_arguments
from azr.minimise import core
from azr.probing import Probe
from azr.program import parse, tokens
from azr.records import Task

FEWEST_RUNS = 3  # changed inputs that must give a value before "always the same" means anything
DEAD_SHARE = 0.5  # of the nodes: more dead code than this is padding
DEAD_NODES = 10  # fewer dead nodes than this are no padding
GRAM = 4  # tokens
COPY = 0.8  # Jaccard similarity of the token n-grams from which a program is a near copy
RECENT = 512  # programs that a new one is compared with
# What a `return` consists of that only puts its arguments, and constants, into a tuple or the like.
PACKED = (ast.Return, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Name, ast.Constant, ast.expr_context)

Grams = frozenset[tuple[str, ...]]


def why_vacuous(task: Task, probe: Probe | None) -> str:
    """The reason why this task is hollow, or "". Near copies are `Recent`'s business."""
    if task.type == "induction":
        return _of_pairs(task)
    tree = probe.core() if probe else core(task.program)
    if tree is None:
        return ""
    kind = _kind(tree)
    if kind == "constant" or (probe and _is_constant(probe)):
        return "constant: the output does not depend on the input"
    if kind == "identity" or (probe and _is_identity(probe)):
        return "identity: the output is one of the arguments"
    if kind == "packing":
        return "identity: the output only holds the arguments"
    before, after = parse(task.program), size(tree)
    whole = size(before) if before else after
    if whole - after >= DEAD_NODES and whole - after > DEAD_SHARE * whole:
        return "dead code: most of the program changes nothing or is repeated"
    if before and _defines_twice(before):
        return "dead code: a function is defined twice"
    return ""


def _defines_twice(tree: ast.Module) -> bool:
    """Whether a later function of the same name hides an earlier one, which then only misleads a solver."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return len(names) != len(set(names))


def _of_pairs(task: Task) -> str:
    if len({pair.gold for pair in task.pairs}) == 1:
        return "constant: every input has the same output"
    arguments = [tuple(encode(value) for value in parse_arguments(pair.input)) for pair in task.pairs]
    widths = {len(row) for row in arguments}
    if len(widths) == 1 and any(
        all(row[i] == pair.gold for row, pair in zip(arguments, task.pairs, strict=True)) for i in range(widths.pop())
    ):
        return "identity: the output is one of the arguments"
    return ""


def _kind(tree: ast.Module) -> str:
    """ "constant", "identity" or "packing" (arguments and constants in displays, such as a tuple) for a minimised
    function that is just `return` of such; "" for any other."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "f"]
    if len(functions) != 1 or len(functions[0].body) != 1:
        return ""
    statement = functions[0].body[0]
    if not isinstance(statement, ast.Return):
        return "constant" if isinstance(statement, ast.Pass) else ""
    arguments = {node.arg for node in ast.walk(functions[0].args) if isinstance(node, ast.arg)}
    if isinstance(statement.value, ast.Name) and statement.value.id in arguments:
        return "identity"
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    if not names & arguments:
        return "constant"
    return "packing" if names <= arguments and all(isinstance(node, PACKED) for node in ast.walk(statement)) else ""


def _is_constant(probe: Probe) -> bool:
    return len(probe.values) > FEWEST_RUNS and len(set(probe.values)) == 1


def _is_identity(probe: Probe) -> bool:
    if len(probe.values) <= FEWEST_RUNS:
        return False
    widths = min(map(len, probe.arguments))
    rows = list(zip(probe.arguments, probe.values, strict=True))
    return any(all(arguments[i] == value for arguments, value in rows) for i in range(widths))


class Recent:
    """The newest RECENT programs as sets of token n-grams, to find near copies of."""

    def __init__(self, programs: Iterable[str] = ()) -> None:
        self.grams: deque[Grams] = deque((grams(program) for program in programs), maxlen=RECENT)

    def add(self, program: str) -> None:
        self.grams.append(grams(program))

    def is_copy(self, program: str) -> bool:
        return self.similarity(program) >= COPY

    def similarity(self, program: str) -> float:
        """Of the nearest of the recent programs: 0 (nothing shared) to 1 (the same shape)."""
        own = grams(program)
        return max((similarity(own, other) for other in self.grams), default=0.0)


def similarity(one: Grams, other: Grams) -> float:
    """Jaccard similarity of two sets of n-grams."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


@lru_cache(maxsize=16_384)
def grams(program: str) -> Grams:
    """The n-grams of the normalised program's tokens; a shorter program is one gram."""
    words = ("", *tokens(program), "")
    return frozenset(words[i : i + GRAM] for i in range(max(1, len(words) - GRAM + 1)))
