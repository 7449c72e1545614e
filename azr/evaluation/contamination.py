"""Does what a model played with in training hold benchmark problems? Two looks: shared n-grams, equal syntax trees.

- An n-gram hit: a program and a problem's reference share a run of N tokens (names and literals as they are).
- A tree hit: one function of each is the same once names, literals and docstrings are normalised, and is not trivial.
What was left out: the base model's own training data, which nobody here can see.
"""

from __future__ import annotations

import ast
import hashlib
import io
import keyword
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from azr.evaluation.problems import InputPrediction, OutputPrediction, Problem
from azr.store import Store

NGRAM = 20  # tokens
LEAST_NODES = 20  # syntax-tree nodes: smaller functions are alike by chance
_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING, tokenize.ENDMARKER}


@dataclass(frozen=True, slots=True)
class Overlap:
    """A problem, and how a self-play program overlaps with it."""

    problem: str
    kind: str  # n-gram, or tree
    program: str


def overlaps(problems: Sequence[Problem], programs: Iterable[str]) -> list[Overlap]:
    """The first overlap of each kind of each problem."""
    grams: dict[int, list[str]] = {}
    shapes: dict[str, list[str]] = {}
    for problem in problems:
        source = source_of(problem)
        for gram in _ngrams(source):
            grams.setdefault(gram, []).append(problem.id)
        for shape in function_shapes(source):
            shapes.setdefault(shape, []).append(problem.id)
    found: dict[tuple[str, str], Overlap] = {}
    for program in programs:
        hits = [(task, "n-gram") for gram in _ngrams(program) for task in grams.get(gram, ())]
        hits += [(task, "tree") for shape in function_shapes(program) for task in shapes.get(shape, ())]
        for task, kind in hits:
            found.setdefault((task, kind), Overlap(task, kind, program))
    return [found[key] for key in sorted(found)]


def source_of(problem: Problem) -> str:
    """The code that would give the problem away."""
    check = problem.checks[0]
    return check.program if isinstance(check, (OutputPrediction, InputPrediction)) else problem.reference


def _ngrams(source: str) -> set[int]:
    tokens = list(_tokens(source))
    return {hash(tuple(tokens[i : i + NGRAM])) for i in range(len(tokens) - NGRAM + 1)}


def _tokens(source: str) -> Iterator[str]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in _SKIPPED:
                # Indentation by its kind: four spaces or a tab are the same program.
                yield (
                    tokenize.tok_name[token.type] if token.type in (tokenize.INDENT, tokenize.DEDENT) else token.string
                )
    except (tokenize.TokenError, SyntaxError):
        return


class _Normaliser(ast.NodeTransformer):
    """Names by their order of appearance, constants by their type, no annotations, no docstrings."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def _name(self, name: str) -> str:
        return name if keyword.iskeyword(name) else self.names.setdefault(name, f"n{len(self.names)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._name(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._name(node.arg))

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(type(node.value).__name__)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        node.name, node.returns = self._name(node.name), None
        return self.generic_visit(node)


def function_shapes(source: str) -> set[str]:
    """A digest of each function's normalised tree; none of what is trivial or does not parse."""
    try:
        tree = ast.parse(source)
        found = set()
        for node in list(ast.walk(tree)):
            if isinstance(node, ast.FunctionDef) and sum(1 for _ in ast.walk(node)) >= LEAST_NODES:
                copy = ast.parse(ast.unparse(node)).body[0]
                found.add(hashlib.sha256(ast.dump(_Normaliser().visit(copy)).encode()).hexdigest())
        return found
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()


def programs_of(store: Store, run: int | None = None) -> list[str]:
    """Every different program that self-play made a task of, and every answer that was a program."""
    where, values = ("WHERE run = ?", [run]) if run is not None else ("", [])
    tasks = store.query(f"SELECT DISTINCT program FROM tasks {where}", *values)
    joined = f"{where} AND" if where else "WHERE"
    answers = store.query(
        f"SELECT DISTINCT answer AS program FROM attempts {joined} type = 'induction' AND answer IS NOT NULL", *values
    )
    return [row["program"] for row in (*tasks, *answers)]
