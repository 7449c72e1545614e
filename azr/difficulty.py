"""How hard a task is, by measures that do not move with the policy. Each is explained in docs/metrics.md.

They are taken on the minimised program (minimise.py), so that padding and branches that are never taken count nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from azr.minimise import core
from azr.probing import Probe
from azr.records import Difficulty

_NOT_COUNTED = (ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.expr_context, ast.operator, ast.cmpop,
                ast.boolop, ast.unaryop, ast.Pass)  # fmt: skip
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.comprehension, ast.ExceptHandler, ast.Assert, ast.match_case)
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
           ast.Lambda, ast.IfExp, ast.Match)  # fmt: skip


def difficulty(program: str, seen: Probe | None) -> Difficulty | None:
    """The measures of one program on one input; None if it is no Python. Without a probe: the structural ones."""
    tree = seen.core() if seen else core(program)
    if tree is None:
        return None
    nodes = _nodes(tree)
    size, branches = len(nodes), cyclomatic(nodes)
    kinds = len({type(node) for node in ast.walk(tree) if not isinstance(node, (ast.Module, ast.expr_context))})
    nesting = max((_depth(node) for node in tree.body), default=0)
    return Difficulty(
        nodes=size,
        kinds=kinds,
        nesting=nesting,
        cyclomatic=branches,
        structural=float(size + 2 * kinds + 4 * nesting + 4 * (branches - 1)),
        steps=seen.steps if seen else None,
        dependence=seen.dependence if seen else None,
        variety=len(set(seen.values)) / len(seen.values) if seen else None,
        dynamic=seen.steps * seen.dependence if seen else None,
    )


def size(tree: ast.AST) -> int:
    """Nodes of a syntax tree that a reader has to take in: no contexts, no operators (their expression counts)."""
    return len(_nodes(tree))


def cyclomatic(nodes: Iterable[ast.AST]) -> int:
    """McCabe's number: one, and one for each decision (each further operand of `and` and `or` is one)."""
    found = 1
    for node in nodes:
        found += isinstance(node, _BRANCHES)
        found += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
        found += len(node.ifs) if isinstance(node, ast.comprehension) else 0
    return found


def _nodes(tree: ast.AST) -> list[ast.AST]:
    return [node for node in ast.walk(tree) if not isinstance(node, _NOT_COUNTED)]


def _depth(node: ast.AST) -> int:
    """Blocks within blocks; an `elif` is no deeper than its `if`."""
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        children.remove(node.orelse[0])
        return max(1 + max(map(_depth, children), default=0), _depth(node.orelse[0]))
    return isinstance(node, _BLOCKS) + max(map(_depth, children), default=0)
