"""APPS (Hendrycks et al. 2021, arXiv 2105.09938): programs that read standard input, and functions."""

from __future__ import annotations

import decimal
from typing import Any

from azr.evaluation.benchmarks.source import Row, load_json
from azr.evaluation.problems import FunctionCalls, Problem, StandardInput, Untested
from azr.executor.wire import pack


def parse(row: Row) -> Problem:
    """A row {id or problem_id, question, input_output, starter_code, difficulty, solutions}.

    `input_output` and `solutions` are JSON strings or values. Raises Untested where there are no tests.
    """
    number = str(row["problem_id"] if "problem_id" in row else row["id"])
    tests = _value(row["input_output"] or {})
    if not tests.get("inputs"):
        raise Untested(number)
    starter = row.get("starter_code") or ""
    solutions = _value(row.get("solutions") or [])
    reference = row.get("reference_solution") or (solutions[0] if solutions else "")
    entry = tests.get("fn_name") or ""
    if len(tests["inputs"]) != len(tests["outputs"]):
        raise ValueError("inputs and outputs do not match")
    check: StandardInput | FunctionCalls
    if entry:
        args = tuple(pack(_integer_keys(list(item))) for item in tests["inputs"])
        check = FunctionCalls(entry, args, tuple(_integer_keys(item) for item in tests["outputs"]))
    else:
        check = StandardInput(tuple(map(_text, tests["inputs"])), tuple(map(_text, tests["outputs"])))
    return Problem(
        benchmark="apps",
        id=number,
        text=row["question"],
        stub=starter,
        entry=entry,
        checks=(check,),
        reference=reference,
        tags={"difficulty": row.get("difficulty") or "", "split": row.get("split") or "test"},
    )


def _value(field: Any) -> Any:
    return load_json(field) if isinstance(field, str) else field


def _text(lines: Any) -> str:
    """Input or output as one text; some rows hold a list of lines."""
    if isinstance(lines, (list, tuple)):
        return "\n".join(map(_text, lines))
    # Python writes no integer of more than 4,300 digits; a Decimal has no such limit.
    return str(decimal.Decimal(lines) if type(lines) is int else lines)


def _integer_keys(value: Any) -> Any:
    """Dictionaries with integers for keys, which JSON made strings of."""
    if isinstance(value, list):
        return [_integer_keys(item) for item in value]
    if isinstance(value, dict):
        integers = all(key.lstrip("-").isdigit() for key in value)
        return {int(key) if integers else key: _integer_keys(item) for key, item in value.items()}
    return value
