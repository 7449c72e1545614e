"""CRUXEval (Gu et al. 2024, arXiv 2401.03065): predict what a short function returns, or an input for its output."""

from __future__ import annotations

from azr.evaluation.benchmarks.source import Hub, Row
from azr.evaluation.problems import InputPrediction, OutputPrediction, Problem, Untested
from azr.executor import NotALiteral, parse_literal

FILES = ("cruxeval.jsonl", "cruxeval.jsonl.gz", "cruxeval_half.jsonl.gz", "test.jsonl")
HUB = Hub("cruxeval-org/cruxeval", split="test")


def parse_output(row: Row) -> Problem:
    """A row {id, code, input, output}; the answer is the output."""
    check = OutputPrediction(row["code"], row["input"], row["output"])
    return _problem("cruxeval-o", row, check, row["output"])


def parse_input(row: Row) -> Problem:
    """A row {id, code, input, output}; the answer is an argument list."""
    check = InputPrediction(row["code"], row["input"], row["output"])
    return _problem("cruxeval-i", row, check, row["input"])


def _problem(benchmark: str, row: Row, check: OutputPrediction | InputPrediction, reference: str) -> Problem:
    try:
        parse_literal(row["output"])
    except NotALiteral:
        raise Untested(str(row["id"])) from None  # nothing to compare an answer with
    return Problem(benchmark=benchmark, id=row["id"], text=row["code"], entry="f", checks=(check,), reference=reference)
