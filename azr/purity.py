"""Which expressions of a program change nothing, and which names hold values of their own.

It is told by the syntax tree alone, so it errs on the side of change: what is called pure here changes nothing, unless
names lie (a method of a foreign class, `getattr` with a name that was put together).
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

MUTATORS = frozenset([
    "__delitem__", "__setitem__", "add", "append", "appendleft", "clear", "difference_update", "discard", "extend",
    "extendleft", "frombytes", "get_nowait", "heapify", "heappop", "heappush", "heappushpop", "heapreplace", "insert",
    "insort", "insort_left", "insort_right", "intersection_update", "move_to_end", "pop", "popitem", "popleft", "put",
    "put_nowait", "remove", "reverse", "rotate", "seed", "send", "setdefault", "shuffle", "sort", "subtract",
    "symmetric_difference_update", "update", "write",
])  # fmt: skip
# Functions that change something, by their own name: builtins, and what is imported from heapq, bisect and random.
_IMPURE_NAMES = frozenset([
    "delattr", "eval", "exec", "heapify", "heappop", "heappush", "heappushpop", "heapreplace", "input", "insort",
    "insort_left", "insort_right", "next", "print", "seed", "setattr", "shuffle",
])  # fmt: skip
_EFFECTS = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await)
# Calls that may hand back what they were given, or a part of it; any other makes a new value.
_HANDS_BACK = frozenset(["get", "getattr", "max", "min", "next", "pop", "popitem", "popleft", "reduce", "setdefault"])


class Purity:
    """What the program's own functions do, learnt once from its whole tree."""

    def __init__(self, tree: ast.Module) -> None:
        self.own = dict(_functions(tree))
        # Names called that may be anything: parameters, and what was assigned but a lambda.
        self.opaque = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        lambdas = {id(t) for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Lambda)
                   for t in n.targets}  # fmt: skip
        stored = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        self.opaque |= {node.id for node in stored if id(node) not in lambdas}
        self.shared = {name for n in ast.walk(tree) if isinstance(n, (ast.Global, ast.Nonlocal)) for name in n.names}
        self.impure: set[str] = set()  # names of own functions that change something
        callers: dict[str, set[str]] = {}
        pending = []
        for name, bodies in self.own.items():
            found = [self._of(body) for body in bodies]
            if any(changes for changes, _ in found):
                pending.append(name)
            for used in set().union(*(names for _, names in found)):
                callers.setdefault(used, set()).add(name)
        while pending:
            name = pending.pop()
            if name not in self.impure:
                self.impure.add(name)
                pending += callers.get(name, ())

    def is_pure(self, node: ast.AST) -> bool:
        """Whether evaluating this expression changes nothing."""
        return not any(self._is_effect(inner) for inner in ast.walk(node))

    def _is_effect(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            callee = node.func
            if isinstance(callee, ast.Name):
                return callee.id in self.opaque
            return not isinstance(callee, (ast.Attribute, ast.Lambda))  # what a table or another call gave
        if isinstance(node, ast.Attribute):  # called, or handed on: map(out.append, xs)
            return node.attr in MUTATORS or node.attr in self.impure
        if isinstance(node, ast.Name):
            named = node.id in self.impure or (node.id in _IMPURE_NAMES and node.id not in self.own)
            return named and isinstance(node.ctx, ast.Load)
        return isinstance(node, _EFFECTS)

    def _of(self, function: ast.AST) -> tuple[bool, set[str]]:
        """Whether calling it changes what is not its own, by itself; and the names that it uses."""
        own, names = new_names(function, self.own), set()
        for node in ast.walk(function):
            if isinstance(node, (ast.Global, ast.Nonlocal, ast.Delete)):
                return True, set()
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id not in own:
                return True, set()
            if isinstance(node, (ast.Attribute, ast.Subscript)):
                if isinstance(node.value, ast.Name) and node.value.id in own:
                    continue  # of a value that nobody else has
                if not isinstance(node.ctx, ast.Load):
                    return True, set()
            if self._is_effect(node):
                return True, set()
            if isinstance(node, (ast.Name, ast.Attribute)):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
        return False, names


def new_names(function: ast.AST, own: dict[str, list[ast.AST]]) -> set[str]:
    """Names whose every assignment in the function is of a new value: whoever changes it changes nothing else.

    `own`: the program's own functions, which may hand back what they were given.
    """
    added = {id(node.target) for node in ast.walk(function) if isinstance(node, ast.AugAssign)}
    stored = Counter(
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in added
    )
    made = Counter(name for name, value in _assigned(function) if not _may_be_shared(value, own))
    taken = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    return {name for name, count in stored.items() if made[name] == count} - taken


def _assigned(function: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Each name with each expression that is assigned to it alone."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            several = len(node.targets) > 1 and not isinstance(node.value, ast.Constant)
            for target in node.targets if not several else ():
                yield from _pairs(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _pairs(node.target, node.value)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, part)


def _may_be_shared(value: ast.expr, own: dict[str, list[ast.AST]]) -> bool:
    """Whether the value may be another name's too."""
    if isinstance(value, ast.Call):
        callee = value.func
        name = callee.id if isinstance(callee, ast.Name) else callee.attr if isinstance(callee, ast.Attribute) else ""
        return not name or name in _HANDS_BACK or name in own
    if isinstance(value, ast.Subscript):
        return not isinstance(value.slice, ast.Slice)
    if isinstance(value, (ast.IfExp, ast.BoolOp)):
        parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else value.values
        return any(_may_be_shared(part, own) for part in parts)
    return isinstance(value, (ast.Name, ast.Attribute, ast.NamedExpr, ast.Starred, ast.Await, ast.Yield, ast.YieldFrom))


def _functions(tree: ast.Module) -> Iterator[tuple[str, list[ast.AST]]]:
    """The program's own functions, methods and named lambdas by name; a class has the bodies of all its methods."""
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            found.setdefault(node.name, []).extend(m for m in methods if m.name != "__init__")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    yield from found.items()
