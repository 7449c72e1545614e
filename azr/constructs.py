"""Which constructs of Python a program uses: what a prompt asks for, and what is rare in the buffer."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from azr.program import parse

_STRING_METHODS = frozenset([
    "split", "join", "upper", "lower", "strip", "replace", "find", "startswith", "endswith", "isdigit", "isalpha",
    "title", "swapcase", "capitalize", "count", "zfill", "rjust", "ljust", "splitlines", "islower", "isupper",
])  # fmt: skip
_DICT_METHODS = frozenset(["items", "keys", "values", "get", "setdefault"])
_LIST_METHODS = frozenset(["append", "insert", "extend", "pop", "reverse", "remove"])
_OF_NODES: dict[type[ast.AST], str] = {
    ast.For: "for", ast.While: "while", ast.If: "if", ast.IfExp: "if", ast.ListComp: "comprehension",
    ast.GeneratorExp: "comprehension", ast.SetComp: "set", ast.DictComp: "dict", ast.Dict: "dict", ast.Set: "set",
    ast.Slice: "slice", ast.Lambda: "lambda", ast.Mod: "modulo", ast.FloorDiv: "division", ast.Div: "division",
    ast.BoolOp: "and/or", ast.Tuple: "tuple", ast.JoinedStr: "string", ast.Pow: "power",
}  # fmt: skip
_OF_CALLS = {
    "sorted": "sort", "set": "set", "frozenset": "set", "dict": "dict", "zip": "zip", "enumerate": "enumerate",
    "map": "map", "filter": "map", "sum": "sum", "max": "max/min", "min": "max/min", "abs": "abs", "range": "range",
    "f": "recursion", "str": "string", "ord": "ord/chr", "chr": "ord/chr", "any": "any/all", "all": "any/all",
}  # fmt: skip
CONSTRUCTS = tuple(sorted({*_OF_NODES.values(), *_OF_CALLS.values(), "string", "list", "nested loop"}))


@lru_cache(maxsize=16_384)
def constructs(program: str) -> frozenset[str]:
    """Names from CONSTRUCTS; empty for what is no Python."""
    tree = parse(program)
    if tree is None:
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        if type(node) in _OF_NODES:
            found.add(_OF_NODES[type(node)])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OF_CALLS:
            found.add(_OF_CALLS[node.func.id])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found |= _of_method(node.func.attr)
        if isinstance(node, (ast.For, ast.While)) and _holds_loop(node):
            found.add("nested loop")
    return frozenset(found)


def _of_method(name: str) -> set[str]:
    if name in _STRING_METHODS:
        return {"string"}
    if name in _DICT_METHODS:
        return {"dict"}
    if name in _LIST_METHODS:
        return {"list"}
    return {"sort"} if name == "sort" else set()


def _holds_loop(loop: ast.AST) -> bool:
    return any(isinstance(node, (ast.For, ast.While)) for node in ast.walk(loop) if node is not loop)


def frequencies(programs: Iterable[str]) -> dict[str, float]:
    """Share of the programs that use each construct; 0 for all where there is no program."""
    counts: Counter[str] = Counter()
    total = 0
    for program in programs:
        counts.update(constructs(program))
        total += 1
    return {name: counts[name] / max(total, 1) for name in CONSTRUCTS}


def lines(program: str) -> int:
    """Lines of the program that are not blank."""
    return sum(bool(line.strip()) for line in program.split("\n"))
