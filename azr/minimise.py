"""A program without the code that changes nothing: what is left is what a solver has to understand.

Two kinds of dead code go. What no probed input ever executed (`seen`, see probing.py): a branch that is never taken,
the `else` of a test that is always true. And what the syntax shows to be idle: code after `return`, assignments that
nobody reads, `x + 0`, equal branches, a name bound only to be returned.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter

from azr.instrument import numbered
from azr.program import parse

_MUTATORS = frozenset([
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "heapify",
    "heappop", "heappush", "heappushpop", "heapreplace", "insert", "insort", "insort_left", "insort_right",
    "intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "send",
    "setdefault", "shuffle", "sort", "subtract", "symmetric_difference_update", "update", "write",
])  # fmt: skip
_EFFECTS = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await)
_IMPURE_CALLS = frozenset(["delattr", "eval", "exec", "input", "next", "print", "setattr"])
_BUILTINS = frozenset(dir(builtins))
# What makes a new value: whoever changes it changes nothing else.
_NEW = (ast.Constant, ast.JoinedStr, ast.List, ast.Dict, ast.Set, ast.Tuple, ast.ListComp, ast.SetComp, ast.DictComp,
        ast.BinOp)  # fmt: skip
_NEW_CALLS = frozenset(
    ["Counter", "bytearray", "copy", "defaultdict", "deque", "dict", "list", "set", "sorted", "split"]
)
_ROUNDS = 12


def minimise(source: str, seen: int | None = None, fold: bool = True) -> ast.Module | None:
    """The minimised syntax tree; None if `source` is no Python.

    `seen` None leaves unexecuted code in; `fold` false leaves in what looks idle.
    """
    tree = parse(source)
    if tree is None:
        return None
    try:
        if seen is not None:
            _Pruner(numbered(tree), seen).visit(tree)
        for _ in range(_ROUNDS if fold else 0):
            before = ast.dump(tree)
            _Folder().visit(tree)
            for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
                _drop_unread(function)
            if ast.dump(tree) == before:
                break
    except RecursionError:
        return None
    return ast.fix_missing_locations(tree)


def is_pure(node: ast.AST) -> bool:
    """Whether evaluating this expression changes nothing, as far as names tell."""
    for inner in ast.walk(node):
        if isinstance(inner, _EFFECTS):
            return False
        if isinstance(inner, ast.Call):
            callee = inner.func
            if isinstance(callee, ast.Attribute) and callee.attr in _MUTATORS:
                return False
            if isinstance(callee, ast.Name) and callee.id in _IMPURE_CALLS:
                return False
            if isinstance(callee, ast.Name) and callee.id not in _BUILTINS and _names_something(inner):
                return False  # the program's own function may change what it is given
    return True


def _names_something(call: ast.Call) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(node, ast.Name) for value in given for node in ast.walk(value))


class _Pruner(ast.NodeTransformer):
    """Takes out what was never executed."""

    def __init__(self, numbers: dict[int, list[int]], seen: int) -> None:
        self.numbers, self.bits = numbers, seen

    def seen(self, node: ast.AST, which: int = 0) -> bool:
        numbers = self.numbers.get(id(node))
        return numbers is None or bool(self.bits >> numbers[which] & 1)

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.stmt) and not self.seen(node) and not _is_docstring(node):
            return None
        kept: ast.AST = super().visit(node)
        return kept

    def generic_visit(self, node: ast.AST) -> ast.AST:
        never_else = isinstance(node, ast.If) and (
            not any(map(self.seen, node.orelse)) if node.orelse else not self.seen(node, 1)
        )
        done = super().generic_visit(node)
        if isinstance(done, (ast.stmt, ast.ExceptHandler, ast.match_case)) and getattr(done, "body", None) == []:
            setattr(done, "body", [ast.Pass()])  # noqa: B010 (not every statement has one)
        if isinstance(done, ast.If) and never_else and is_pure(done.test):
            done.test = ast.Constant(True)
        return done

    def visit_If(self, node: ast.If) -> ast.AST:
        never_body = not any(map(self.seen, node.body))
        done = self.generic_visit(node)
        assert isinstance(done, ast.If)
        if never_body and is_pure(done.test):
            done.test = ast.Constant(False)
        return done

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        body, orelse = self.seen(node.body), self.seen(node.orelse)
        done = self.generic_visit(node)
        assert isinstance(done, ast.IfExp)
        if body and not orelse and is_pure(done.test):
            return done.body
        if orelse and not body and is_pure(done.test):
            return done.orelse
        return done

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        kept = [node.values[0], *(value for value in node.values[1:] if self.seen(value))]
        node.values = kept
        done = self.generic_visit(node)
        assert isinstance(done, ast.BoolOp)
        return done.values[0] if len(done.values) == 1 else done


class _Folder(ast.NodeTransformer):
    """One round of folding what the syntax shows to be idle."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        done = super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            body = getattr(done, field, None)
            if isinstance(body, list):
                needs_one = field == "body" and not isinstance(done, ast.Module)
                setattr(done, field, _statements(body, needs_one))
        return done

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        if ast.dump(node.body) == ast.dump(node.orelse) and is_pure(node.test):
            return node.body
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        neutral = {ast.Add: (0, ""), ast.Sub: (0,), ast.Mult: (1,), ast.BitOr: (0,), ast.BitXor: (0,)}
        for constant, other in ((node.right, node.left), (node.left, node.right)):
            is_neutral = isinstance(constant, ast.Constant) and type(constant.value) in (int, str)
            is_neutral &= constant is node.right or not isinstance(node.op, ast.Sub)
            if is_neutral and constant.value in neutral.get(type(node.op), ()):  # type: ignore[attr-defined]
                return other
        if isinstance(node.op, ast.Add) and isinstance(node.right, ast.List) and not node.right.elts:
            return node.left
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.UAdd) else node


def _statements(body: list[ast.stmt], needs_one: bool) -> list[ast.stmt]:
    """A block without idle statements; `needs_one`: it may not be empty."""
    kept: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.If) and isinstance(statement.test, ast.Constant):
            kept += statement.body if statement.test.value else statement.orelse
        elif isinstance(statement, ast.If) and _same(statement.body, statement.orelse) and is_pure(statement.test):
            kept += statement.body
        elif not _is_idle(statement):
            kept.append(statement)
    for position, statement in enumerate(kept):
        if isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue)):
            kept = kept[: position + 1]
            break
    kept = _returned_directly([statement for statement in kept if not isinstance(statement, ast.Pass)])
    return kept or ([ast.Pass()] if needs_one else [])


def _is_idle(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return is_pure(statement.value)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        same = isinstance(target, ast.Name) and isinstance(statement.value, ast.Name)
        return same and target.id == statement.value.id  # type: ignore[attr-defined]
    if isinstance(statement, ast.AugAssign):
        value = statement.value
        zero = isinstance(value, ast.Constant) and type(value.value) in (int, str) and value.value in (0, "")
        one = isinstance(value, ast.Constant) and value.value == 1 and type(value.value) is int
        return (zero and isinstance(statement.op, (ast.Add, ast.Sub))) or (one and isinstance(statement.op, ast.Mult))
    if isinstance(statement, ast.For) and isinstance(statement.target, ast.Name):
        return _only_pass(statement.body) and _only_pass(statement.orelse) and is_pure(statement.iter)
    if isinstance(statement, ast.If):
        return _only_pass(statement.body) and _only_pass(statement.orelse) and is_pure(statement.test)
    return False


def _only_pass(body: list[ast.stmt]) -> bool:
    return all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in body)


def _same(one: list[ast.stmt], other: list[ast.stmt]) -> bool:
    return bool(other) and [ast.dump(s) for s in one] == [ast.dump(s) for s in other]


def _returned_directly(body: list[ast.stmt]) -> list[ast.stmt]:
    """`r = value; return r` as `return value`."""
    if len(body) < 2:
        return body
    assign, last = body[-2:]
    if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Name) and isinstance(assign, ast.Assign)):
        return body
    target = assign.targets[0]
    if len(assign.targets) == 1 and isinstance(target, ast.Name) and target.id == last.value.id:
        return [*body[:-2], ast.Return(assign.value)]
    return body


def _drop_unread(function: ast.FunctionDef) -> None:
    """Take out, in place, what only feeds names that are never read: assignments, and calls like `name.append(1)` where
    the name's values are all new ones, not another name's."""
    statements = [n for n in ast.walk(function) if isinstance(n, ast.Expr)]
    new = _new_names(function)
    fed = {
        id(n.value.func.value)  # type: ignore[attr-defined]
        for n in statements
        if _feeds(n.value) and n.value.func.value.id in new  # type: ignore[attr-defined]
    }
    loads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    read = {node.id for node in loads if id(node) not in fed}
    added = [n.target for n in ast.walk(function) if isinstance(n, ast.AugAssign)]
    read |= {n.id for n in added if isinstance(n, ast.Name) and n.id not in new}  # `ys = xs; ys += [1]` changes xs
    read |= {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    read |= {name for n in ast.walk(function) if isinstance(n, (ast.Global, ast.Nonlocal)) for name in n.names}
    _UnreadDropper(read).visit(function)


def _new_names(function: ast.FunctionDef) -> set[str]:
    """Names whose every assignment in the function is of a new value."""
    added = {id(node.target) for node in ast.walk(function) if isinstance(node, ast.AugAssign)}
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name) and id(node) not in added]
    counts = Counter(node.id for node in names if isinstance(node.ctx, ast.Store))
    assigned = [
        (node.targets[0].id, node.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    ]
    made = Counter(name for name, value in assigned if _is_new(value))
    return {name for name, count in counts.items() if made[name] == count}


def _is_new(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        callee = value.func
        name = callee.id if isinstance(callee, ast.Name) else callee.attr if isinstance(callee, ast.Attribute) else ""
        return name in _NEW_CALLS
    return isinstance(value, _NEW) or (isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Slice))


def _feeds(value: ast.expr) -> bool:
    """Whether this is `name.append(...)` or alike, with pure arguments."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)):
        return False
    is_mutator = value.func.attr in _MUTATORS and isinstance(value.func.value, ast.Name)
    return is_mutator and all(map(is_pure, value.args)) and not value.keywords


class _UnreadDropper(ast.NodeTransformer):
    def __init__(self, read: set[str]) -> None:
        self.read = read

    def drop(self, target: ast.expr, value: ast.expr | None) -> bool:
        unread = isinstance(target, ast.Name) and target.id not in self.read
        return unread and (value is None or is_pure(value))

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return ast.Pass() if all(self.drop(target, node.value) for target in node.targets) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if _feeds(node.value):
            assert isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
            return ast.Pass() if self.drop(node.value.func.value, None) else node
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return ast.Pass() if self.drop(node.target, node.value) else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Pass() if self.drop(node.target, node.value) else node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
