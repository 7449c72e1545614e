"""What a program looks like apart from its names: normal form, shape, tokens, triviality.

The normal form renames the function's own variables by order of appearance and drops docstrings and annotations:
two programs with the same normal form are the same program. The shape also forgets every constant's value.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterator

_BUILTIN_NAMES = frozenset(dir(builtins))
_MOST_BITS = 14_280  # of a whole number that Python prints: 4,300 digits


def parse(source: str) -> ast.Module | None:
    """The syntax tree, or None where Python has none for this text (NUL bytes and deep nesting included), or could not
    print it: a hexadecimal number may be longer than a decimal one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" in the model's code is not our user's business
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return None if len(source) * 4 > _MOST_BITS and _has_unprintable(tree) else tree


def _has_unprintable(tree: ast.Module) -> bool:
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return any(isinstance(value, int) and value.bit_length() > _MOST_BITS for value in constants)


class _Normaliser(ast.NodeTransformer):
    def __init__(self, tree: ast.Module, forget_constants: bool) -> None:
        self.forget_constants = forget_constants
        self.names: dict[str, str] = {}
        # Names that stand for something outside, or that attributes refer to, are no names of the program's own choice.
        self.kept = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        imports = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
        self.kept |= {name.asname or name.name.partition(".")[0] for node in imports for name in node.names}
        self.own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        named = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Lambda)]
        self.own |= {target.id for n in named for target in n.targets if isinstance(target, ast.Name)}

    def rename(self, name: str) -> str:
        return (
            name if name in _BUILTIN_NAMES or name in self.kept else self.names.setdefault(name, f"v{len(self.names)}")
        )

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.rename(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self.rename(node.arg), None)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        name = self.rename(node.name)
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None and len(node.body) > 1 else node.body
        node.name, node.body, node.returns = name, body, None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Pass()
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for keyword in node.keywords if name in self.own else ():  # the `key` of sorted() is no name of the program's
            if keyword.arg is not None:
                keyword.arg = self.rename(keyword.arg)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(type(node.value).__name__) if self.forget_constants else node


def _dump(source: str, forget_constants: bool) -> str:
    tree = parse(source)
    if tree is None:
        return source
    try:
        return ast.dump(_Normaliser(tree, forget_constants).visit(tree))
    except RecursionError:
        return source


def normal_form(source: str) -> str:
    """Equal for programs that differ in names, layout, comments, docstrings and annotations only."""
    return _dump(source, forget_constants=False)


def shape(source: str) -> str:
    """The normal form without the values of constants: `x + 1` and `y + 2` have one shape."""
    return _dump(source, forget_constants=True)


def tokens(source: str) -> tuple[str, ...]:
    """The normalised syntax tree in reading order: names by order of appearance, constants by their type only."""
    tree = parse(source)
    if tree is None:
        return tuple(source.split())
    try:
        return tuple(_words(_Normaliser(tree, forget_constants=True).visit(tree)))
    except RecursionError:
        return tuple(source.split())


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Module, ast.Load, ast.Store, ast.Del)):
        word = ""
    elif isinstance(node, ast.Name):
        word = node.id
    elif isinstance(node, ast.Attribute):
        word = f".{node.attr}"
    elif isinstance(node, ast.Constant):
        word = str(node.value)
    else:
        word = type(node).__name__
    if word:
        yield word
    for child in ast.iter_child_nodes(node):
        yield from _words(child)


def is_trivial(source: str) -> bool:
    """True for the identity and for constants: one `return` of an argument, or of nothing that names an argument."""
    tree = parse(source)
    if tree is None or not tree.body or not isinstance(tree.body[-1], ast.FunctionDef):
        return False
    function = tree.body[-1]
    body = [n for n in function.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    if not body:
        return True
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    if len(body) == 1 and isinstance(body[0], ast.Return) and isinstance(body[0].value, ast.Name):
        return True
    used = {n.id for statement in body for n in ast.walk(statement) if isinstance(n, ast.Name)}
    return not used & arguments


def reads_first_argument(source: str) -> bool:
    """Whether the last function's body reads its first argument. False where there is none."""
    tree = parse(source)
    function = tree.body[-1] if tree and tree.body else None
    if not isinstance(function, ast.FunctionDef):
        return False
    arguments = [*function.args.posonlyargs, *function.args.args]
    inside = [node for statement in function.body for node in ast.walk(statement)]
    read = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return bool(arguments) and arguments[0].arg in read
