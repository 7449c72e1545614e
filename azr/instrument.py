"""A program rewritten so that each call also tells what it executed.

The rewriting is text to text, outside the sandbox; only the sandbox runs the result. `f` returns
`(value, steps, seen)`: how many statements and comprehension rounds were executed, and a bit mask of the places that
were, in this call or when the program was loaded. That needs nothing of the sandbox but to run a program, and costs
less than tracing (which it forbids anyway).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from azr.program import parse

MOST_PLACES = 400  # a longer program is not measured
MOST_STEPS = 10_000  # a run that executes more ends in an error: a count, unlike a clock, is the same every time
_HEADER = f"""
_azr_log = [0, 0]
def _azr_at(place):
    _azr_log[0] += 1
    _azr_log[1] |= place
    if _azr_log[0] > {MOST_STEPS}:
        raise TimeoutError
    return True
"""
_FOOTER = """
_azr_first = _azr_log[1]
def f(*arguments):
    _azr_log[0] = 0
    _azr_log[1] = _azr_first
    value = _azr_f(*arguments)
    return (value, _azr_log[0], _azr_log[1])
"""


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """Every place whose execution is recorded, in a fixed order.

    Statements of functions, both branches of conditional expressions, the later operands of `and` and `or`, rounds of
    comprehensions, bodies of lambdas; an `if` without `else` stands a second time, for the branch that is not there.
    """
    functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    for node in (inner for function in functions for inner in ast.walk(function) if inner is not function):
        if isinstance(node, ast.stmt):
            yield node
            if isinstance(node, ast.If) and not node.orelse:
                yield node
        elif isinstance(node, ast.IfExp):
            yield from (node.body, node.orelse)
        elif isinstance(node, ast.BoolOp):
            yield from node.values[1:]
        elif isinstance(node, ast.comprehension):
            yield node
        elif isinstance(node, ast.Lambda):
            yield node.body


def numbered(tree: ast.Module) -> dict[int, list[int]]:
    """`id` of a node to its places' numbers: one, and for an `if` without `else` also that of the missing branch."""
    found: dict[int, list[int]] = {}
    for number, node in enumerate(places(tree)):
        found.setdefault(id(node), []).append(number)
    return found


def instrument(source: str) -> str | None:
    """The rewritten program; None if it is no Python, defines no plain `f`, has too many places, or knows our names."""
    tree = parse(source) if "_azr_" not in source else None
    if tree is None or not any(isinstance(node, ast.FunctionDef) and node.name == "f" for node in tree.body):
        return None
    numbers = numbered(tree)
    if sum(map(len, numbers.values())) > MOST_PLACES:
        return None
    try:
        rewritten = _Rewriter(numbers).visit(tree)
        start = sum(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in rewritten.body)
        start += ast.get_docstring(rewritten) is not None
        rewritten.body[start:start] = ast.parse(_HEADER).body
        rewritten.body += ast.parse(_FOOTER).body
        return ast.unparse(ast.fix_missing_locations(rewritten))
    except (RecursionError, ValueError):
        return None


class _Rewriter(ast.NodeTransformer):
    """Adds a call of `_azr_at` at every numbered place, and gives the name `f` away to the wrapper."""

    def __init__(self, numbers: dict[int, list[int]]) -> None:
        self.numbers = numbers

    def mark(self, number: int) -> ast.Call:
        return ast.Call(ast.Name("_azr_at", ast.Load()), [ast.Constant(1 << number)], [])

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, field, self.statements(value, field, node))
            elif isinstance(value, list):
                setattr(node, field, [self.one(item) for item in value])
            else:
                setattr(node, field, self.one(value))
        return node

    def one(self, value: object) -> object:
        """A child that is no statement, rewritten; expressions at a numbered place are wrapped."""
        if not isinstance(value, ast.AST):
            return value
        numbers = self.numbers.get(id(value))
        done = self.visit(value)
        if numbers and isinstance(done, ast.comprehension):
            done.ifs.insert(0, self.mark(numbers[0]))
        elif numbers and isinstance(done, ast.expr):
            pair = ast.Tuple([self.mark(numbers[0]), done], ast.Load())
            return ast.Subscript(pair, ast.Constant(1), ast.Load())
        return done

    def statements(self, body: list[ast.stmt], field: str, owner: ast.AST) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for position, statement in enumerate(body):
            numbers = self.numbers.get(id(statement))
            is_docstring = position == 0 and field == "body" and _is_text(statement) and _takes_docstring(owner)
            if numbers and not is_docstring:
                done.append(ast.Expr(self.mark(numbers[0])))
            done.append(self.visit(statement))
            if numbers and len(numbers) > 1 and isinstance(statement, ast.If):
                statement.orelse = [ast.Expr(self.mark(numbers[1]))]
        return done

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = _renamed(node.name)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(_renamed(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(_renamed(node.arg), node.annotation)

    def visit_Global(self, node: ast.Global) -> ast.AST:
        return ast.Global([_renamed(name) for name in node.names])

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        return ast.Nonlocal([_renamed(name) for name in node.names])


def _renamed(name: str) -> str:
    return "_azr_f" if name == "f" else name


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _takes_docstring(owner: ast.AST) -> bool:
    return isinstance(owner, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef, ast.Module))
