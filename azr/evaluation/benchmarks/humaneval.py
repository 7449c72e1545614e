"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 function stubs with a test program each."""

from __future__ import annotations

from azr.evaluation.benchmarks.source import Row
from azr.evaluation.problems import CheckProgram, Problem


def parse(row: Row, benchmark: str = "humaneval") -> Problem:
    """A row {task_id, prompt, entry_point, canonical_solution, test}."""
    stub, entry = row["prompt"], row["entry_point"]
    reference = stub + row["canonical_solution"]
    # The stub is valid Python: its last function has the docstring as its body. The tests use the helpers before it.
    tests = CheckProgram(prelude=stub, source=row["test"], entry=entry, reference=reference)
    return Problem(
        benchmark=benchmark,
        id=row["task_id"],
        text=stub,
        stub=stub,
        entry=entry,
        checks=(tests,),
        reference=reference,
    )
