"""A program without the code that changes nothing: what is left is what a solver has to understand.

Two kinds of dead code go. What no probed input ever executed (`seen`, see probing.py): a branch that is never taken,
the `else` of a test that is always true. And what the syntax shows to be idle: code after `return`, assignments that
nobody reads, `x + 0`, equal branches, a name bound only to be returned.
"""

from __future__ import annotations

import ast

from azr.instrument import numbered
from azr.program import parse
from azr.purity import MUTATORS, Purity, new_names

_ROUNDS = 12


def minimise(source: str, seen: int | None = None, fold: bool = True) -> ast.Module | None:
    """The minimised syntax tree; None if `source` is no Python.

    `seen` None leaves unexecuted code in; `fold` false leaves in what looks idle.
    """
    tree = parse(source)
    if tree is None:
        return None
    try:
        purity = Purity(tree)
        if seen is not None:
            _Pruner(numbered(tree), seen, purity).visit(tree)
        for _ in range(_ROUNDS if fold else 0):
            before = ast.dump(tree)
            _Folder(purity, tree).visit(tree)
            for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
                _drop_unread(function, purity)
            if ast.dump(tree) == before:
                break
        return ast.fix_missing_locations(tree)
    except RecursionError:
        return None


def core(source: str, seen: int | None = None, fold: bool = True) -> ast.Module | None:
    """The minimised tree, with one of each repeated element of a returned tuple, list or set: `return n * 2, n, n, n`
    asks no more than `return n * 2, n`. It is to be read, not to be run."""
    tree = minimise(source, seen, fold)
    if tree is None:
        return None
    try:
        purity = Purity(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Return) and isinstance(node.value, (ast.Tuple, ast.List, ast.Set)):
                node.value.elts = _different(node.value.elts, purity)
    except RecursionError:
        return None
    return tree


def _different(elements: list[ast.expr], purity: Purity) -> list[ast.expr]:
    """One of each, and every one that changes something: it may have another value each time."""
    kept: dict[object, ast.expr] = {}
    for element in elements:
        kept.setdefault(ast.dump(element) if purity.is_pure(element) else element, element)
    return list(kept.values())


class _Pruner(ast.NodeTransformer):
    """Takes out what was never executed."""

    def __init__(self, numbers: dict[int, list[int]], seen: int, purity: Purity) -> None:
        self.numbers, self.bits, self.purity = numbers, seen, purity

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
        if isinstance(done, ast.If) and never_else and self.purity.is_pure(done.test):
            done.test = ast.Constant(True)
        return done

    def visit_If(self, node: ast.If) -> ast.AST:
        never_body = not any(map(self.seen, node.body))
        done = self.generic_visit(node)
        assert isinstance(done, ast.If)
        if never_body and self.purity.is_pure(done.test):
            done.test = ast.Constant(False)
        return done

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        body, orelse = self.seen(node.body), self.seen(node.orelse)
        done = self.generic_visit(node)
        assert isinstance(done, ast.IfExp)
        if body and not orelse and self.purity.is_pure(done.test):
            return done.body
        if orelse and not body and self.purity.is_pure(done.test):
            return done.orelse
        return done

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        node.handlers = [handler for handler in node.handlers if any(map(self.seen, handler.body))]
        done = self.generic_visit(node)
        assert isinstance(done, ast.Try)
        return done if done.handlers or done.finalbody else [*done.body, *done.orelse]

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        kept = [node.values[0], *(value for value in node.values[1:] if self.seen(value))]
        node.values = kept
        done = self.generic_visit(node)
        assert isinstance(done, ast.BoolOp)
        return done.values[0] if len(done.values) == 1 else done


class _Folder(ast.NodeTransformer):
    """One round of folding what the syntax shows to be idle."""

    def __init__(self, purity: Purity, tree: ast.Module) -> None:
        self.purity, self.pure = purity, purity.is_pure
        self.read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        self.guarded = 0  # how many `try` with handlers are around: what raises there is not idle

    def generic_visit(self, node: ast.AST) -> ast.AST:
        done = super().generic_visit(node)
        for field in ("body", "orelse", "finalbody") if not self.guarded else ():
            body = getattr(done, field, None)
            if isinstance(body, list) and not (field == "body" and getattr(done, "handlers", None)):
                needs_one = field == "body" and not isinstance(done, ast.Module)
                setattr(done, field, self.statements(body, needs_one))
        return done

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        body, node.body = node.body, []
        self.guarded += bool(node.handlers)
        visited = [self.visit(statement) for statement in body]
        self.guarded -= bool(node.handlers)
        self.generic_visit(node)
        node.body = [part for done in visited for part in (done if isinstance(done, list) else [done])]
        return node if node.handlers or node.finalbody else [*node.body, *node.orelse]

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        if ast.dump(node.body) == ast.dump(node.orelse) and self.pure(node.test):
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
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.UAdd) else node

    def statements(self, body: list[ast.stmt], needs_one: bool) -> list[ast.stmt]:
        """A block without idle statements; `needs_one`: it may not be empty."""
        kept: list[ast.stmt] = []
        for statement in body:
            branch = self.branch(statement) if isinstance(statement, ast.If) else None
            if branch is not None:
                kept += branch
            elif not self.is_idle(statement):
                kept.append(statement)
        for position, statement in enumerate(kept):
            if isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue)):
                kept = kept[: position + 1]
                break
        kept = _returned_directly([statement for statement in kept if not isinstance(statement, ast.Pass)], self.purity)
        return kept or ([ast.Pass()] if needs_one else [])

    def branch(self, statement: ast.If) -> list[ast.stmt] | None:
        """The branch that is taken whatever the input is; None if the test decides."""
        if isinstance(statement.test, ast.Constant):
            return statement.body if statement.test.value else statement.orelse
        alike = _same(statement.body, statement.orelse) and self.pure(statement.test)
        return statement.body if alike else None

    def is_idle(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Expr):
            return self.pure(statement.value)
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            same = isinstance(target, ast.Name) and isinstance(statement.value, ast.Name)
            return same and target.id == statement.value.id  # type: ignore[attr-defined]
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            given = statement.value.value if isinstance(statement.value, ast.Constant) else None
            zero = type(given) in (int, str) and given in (0, "")
            if isinstance(statement.op, ast.Mult):
                return type(given) is int and given == 1
            return zero and isinstance(statement.op, (ast.Add, ast.Sub))
        if isinstance(statement, ast.For):
            if {node.id for node in ast.walk(statement.target) if isinstance(node, ast.Name)} & self.read:
                return False
            return _only_pass(statement.body) and _only_pass(statement.orelse) and self.pure(statement.iter)
        if isinstance(statement, ast.If):
            return _only_pass(statement.body) and _only_pass(statement.orelse) and self.pure(statement.test)
        return False


def _only_pass(body: list[ast.stmt]) -> bool:
    return all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in body)


def _same(one: list[ast.stmt], other: list[ast.stmt]) -> bool:
    return bool(other) and [ast.dump(s) for s in one] == [ast.dump(s) for s in other]


def _returned_directly(body: list[ast.stmt], purity: Purity) -> list[ast.stmt]:
    """`r = value; return r` as `return value`."""
    if len(body) < 2:
        return body
    assign, last = body[-2:]
    if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Name) and isinstance(assign, ast.Assign)):
        return body
    target = assign.targets[0]
    own = isinstance(target, ast.Name) and target.id not in purity.shared
    if len(assign.targets) == 1 and own and target.id == last.value.id:  # type: ignore[attr-defined]
        return [*body[:-2], ast.Return(assign.value)]
    return body


def _drop_unread(function: ast.FunctionDef, purity: Purity) -> None:
    """Take out, in place, what only feeds names that are never read: assignments, `n = n + 1` too, and calls like
    `name.append(1)` where the name's values are all new ones, not another name's."""
    new = new_names(function, purity.own)
    fed = set()
    for node in ast.walk(function):
        name = _fed(node.value, purity) if isinstance(node, ast.Expr) else None
        if name is not None and name.id in new:
            fed.add(id(name))
        if isinstance(node, ast.Assign) and purity.is_pure(node.value):
            own = {target.id if isinstance(target, ast.Name) else "" for target in node.targets}
            fed |= {id(n) for n in ast.walk(node.value) if isinstance(n, ast.Name) and own == {n.id}}
    loads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    read = {node.id for node in loads if id(node) not in fed}
    added = [n.target for n in ast.walk(function) if isinstance(n, ast.AugAssign)]
    read |= {n.id for n in added if isinstance(n, ast.Name) and n.id not in new}  # `ys = xs; ys += [1]` changes xs
    read |= {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    read |= _assigned_in_try(function)
    read |= {name for n in ast.walk(function) if isinstance(n, (ast.Global, ast.Nonlocal)) for name in n.names}
    _UnreadDropper(read, purity).visit(function)


def _assigned_in_try(function: ast.FunctionDef) -> set[str]:
    """Names assigned where raising is not idle: these assignments stay, and so does what they need."""
    guarded = [s for n in ast.walk(function) if isinstance(n, ast.Try) and n.handlers for s in n.body]
    stored = (n for s in guarded for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return {name.id for name in stored}


def _fed(value: ast.expr, purity: Purity) -> ast.Name | None:
    """The name of `name.append(...)` or alike, with pure arguments."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in MUTATORS):
        return None
    receiver, given = value.func.value, [*value.args, *(keyword.value for keyword in value.keywords)]
    return receiver if isinstance(receiver, ast.Name) and all(map(purity.is_pure, given)) else None


class _UnreadDropper(ast.NodeTransformer):
    def __init__(self, read: set[str], purity: Purity) -> None:
        self.read, self.purity = read, purity
        self.guarded = 0

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """What raises in a `try` with handlers is not idle."""
        self.guarded += bool(node.handlers)
        node.body = [self.visit(statement) for statement in node.body]
        self.guarded -= bool(node.handlers)
        node.handlers = [self.visit(handler) for handler in node.handlers]
        node.orelse = [self.visit(statement) for statement in node.orelse]
        node.finalbody = [self.visit(statement) for statement in node.finalbody]
        return node

    def drop(self, target: ast.expr, value: ast.expr | None) -> bool:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            return all(self.drop(part, one) for part, one in zip(target.elts, value.elts, strict=True))
        unread = isinstance(target, ast.Name) and target.id not in self.read and not self.guarded
        return unread and (value is None or self.purity.is_pure(value))

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return ast.Pass() if all(self.drop(target, node.value) for target in node.targets) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        name = _fed(node.value, self.purity)
        return ast.Pass() if name is not None and self.drop(name, None) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return ast.Pass() if self.drop(node.target, node.value) else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Pass() if self.drop(node.target, node.value) else node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
