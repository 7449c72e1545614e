"""MBPP (Austin et al. 2021, arXiv 2108.07732): 974 tasks in words, with three asserts each; and the sanitized 427.

The test split is the ids 11 to 510; 1 to 10 are for few-shot prompts.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Sequence

from azr.evaluation.benchmarks.source import Row
from azr.evaluation.problems import Assertions, Problem


def parse(row: Row) -> Problem:
    """A row {task_id, text, code, test_list, test_setup_code}, or {task_id, prompt, code, test_list, test_imports}."""
    number = int(row["task_id"])
    text = row["text"] if "text" in row else row["prompt"]
    # Windows line ends in some rows; Python does not mind them, prompts do.
    setup = "\n".join([*row.get("test_imports", ()), row.get("test_setup_code") or ""]).replace("\r\n", "\n").strip()
    code = row["code"].replace("\r\n", "\n")
    asserts = [test.strip() for test in row["test_list"]]
    assertions = split_assertions(asserts, code, setup)
    return Problem(
        benchmark="mbpp",
        id=str(number),
        text=text.strip(),
        entry=entry_of(asserts, code),
        checks=(assertions,),
        reference=code,
        examples=tuple(asserts),
        tags={"split": "test" if 11 <= number <= 510 else "prompt" if number <= 10 else "train"},
    )


def split_assertions(asserts: Sequence[str], reference: str, setup: str = "") -> Assertions:
    """Take the solution's calls out of the asserts. The solution's names are those that the reference defines."""
    names = _defined(reference)
    splitter = _Splitter(names)
    tests = []
    for source in asserts:
        for statement in _parse(source).body:
            tests.append(ast.unparse(splitter.visit(statement)))
    return Assertions(tuple(splitter.calls), tuple(tests), prelude=_prelude(reference, setup), setup=setup)


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some rows write "\d" without an r before it
        return ast.parse(source)


class _Splitter(ast.NodeTransformer):
    """Replaces the outermost calls of given names by `__answers__[i]`."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.calls: list[str] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not _is_call_of(node, self.names):
            return self.generic_visit(node)
        self.calls.append(ast.unparse(node))
        answer = ast.Subscript(ast.Name("__answers__", ast.Load()), ast.Constant(len(self.calls) - 1), ast.Load())
        return ast.copy_location(ast.fix_missing_locations(answer), node)


def _defined(source: str) -> set[str]:
    """Functions, classes and variables of a module."""
    names: set[str] = set()
    for node in _parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _prelude(reference: str, setup: str) -> str:
    """What the asserts may use besides the answers: the reference's imports, and the setup's imports and definitions.

    The setup's other statements may need the solution's classes: they run beside the solution.
    """
    imports = [node for node in _parse(reference).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return "\n".join(map(ast.unparse, [*imports, *(node for node in _parse(setup).body if isinstance(node, kept))]))


def entry_of(asserts: Sequence[str], reference: str) -> str:
    """The function that the asserts call first: its name is part of the task."""
    names = _defined(reference)
    calls = [node.func.id for node in ast.walk(_parse("\n".join(asserts))) if _is_call_of(node, names)]  # type: ignore[attr-defined]
    if not calls:
        raise ValueError("no assert calls a function of the reference solution")
    return min(calls, key=lambda name: name in vars(builtins))  # Mbpp/126 defines a `sum`


def _is_call_of(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
