"""Whether a program can carry anything from one call to the next: a conservative look at its syntax tree.

Only such a program may run several solvers' answers in one process; any other gets a fresh process for each, so that
a proposer cannot write a task whose verdict depends on how many answers came before.
"""

from __future__ import annotations

import ast

_STATELESS_MODULES = frozenset(
    ["math", "cmath", "string", "re", "itertools", "operator", "collections", "heapq", "bisect", "typing", "__future__"]
)
_STATELESS_BUILTINS = frozenset([
    "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr", "complex", "dict",
    "divmod", "enumerate", "filter", "float", "format", "frozenset", "hash", "hex", "id", "int", "isinstance",
    "issubclass", "iter", "len", "list", "map", "max", "min", "next", "object", "oct", "ord", "pow", "print",
    "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "type", "zip",
    "NotImplemented", "ArithmeticError", "AssertionError", "AttributeError", "BaseException", "EOFError",
    "Exception", "FloatingPointError", "IndexError", "KeyError", "LookupError", "MemoryError", "NameError",
    "NotImplementedError", "OverflowError", "RecursionError", "RuntimeError", "StopIteration", "TypeError",
    "UnicodeDecodeError", "UnicodeEncodeError", "UnicodeError", "UnboundLocalError", "ValueError",
    "ZeroDivisionError",
])  # fmt: skip
_REFUSED = (ast.Global, ast.Nonlocal, ast.ClassDef, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def is_pure(source: str) -> bool:
    """True only if no call can leave a trace for the next one."""
    tree = ast.parse(source)
    if not all(_is_pure_statement(statement) for statement in tree.body):
        return False
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ExceptHandler)) and node.name
    }
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
              for alias in node.names}  # fmt: skip
    known = bound | _STATELESS_BUILTINS
    return all(_is_pure_node(node, known) for node in ast.walk(tree))


def _is_pure_statement(statement: ast.stmt) -> bool:
    """At module level: imports, functions and docstrings. Anything else could make an object that outlives a call."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef))


def _is_pure_node(node: ast.AST, known: set[str]) -> bool:
    if isinstance(node, _REFUSED):
        return False
    if isinstance(node, ast.FunctionDef):
        return not node.decorator_list and _has_constant_defaults(node.args)
    if isinstance(node, ast.Lambda):
        return _has_constant_defaults(node.args)
    if isinstance(node, ast.Attribute):  # a store could mark a function; an underscore leads to anything
        return isinstance(node.ctx, ast.Load) and not node.attr.startswith("_")
    if isinstance(node, ast.Name):
        return node.id in known and not node.id.startswith("__")
    if isinstance(node, ast.Import):
        return all(alias.name in _STATELESS_MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in _STATELESS_MODULES and all(not alias.name.startswith("_") for alias in node.names)
    return True


def _has_constant_defaults(arguments: ast.arguments) -> bool:
    defaults = [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]
    return all(isinstance(default, (ast.Constant, ast.UnaryOp)) for default in defaults)
