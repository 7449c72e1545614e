"""HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210): the same tasks with far more inputs.

Two published formats: EvalPlus's release files, whose rows hold inputs (expected outputs come from running the
reference), and the hub's, whose rows hold a test program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azr.evaluation.benchmarks import humaneval
from azr.evaluation.benchmarks.mbpp import entry_of
from azr.evaluation.benchmarks.source import Row
from azr.evaluation.problems import CheckProgram, Inputs, Problem
from azr.executor.wire import pack

# Tasks that several answers solve, with the rule that EvalPlus 0.3.1 judges them by. Two of its rules are narrower
# here: Mbpp/164 is compared with the reference (there, every answer passes), and for Mbpp/295 the answer 0 counts for
# numbers up to 1 (there, for every number).
_ORACLES = {
    "find_zero": "root",
    "sum_div": "divisors",
    "surface_Area": "pyramid",
    "digit_distance_nums": "digits",
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not_none"),
    **dict.fromkeys(
        ("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
         "intersection_array", "find_dissimilar", "Diff"),
        "set",
    ),
}  # fmt: skip


def parse_humaneval(row: Row) -> Problem:
    problem = humaneval.parse(row, "humaneval+")
    if "plus_input" not in row:
        return problem  # the hub's format: the test program holds the added inputs
    return _with_inputs(problem, row, [*row["base_input"], *(row["plus_input"] or ())])


def parse_mbpp(row: Row) -> Problem:
    if "plus_input" not in row:
        return _parse_hub_mbpp(row)
    number = int(str(row["task_id"]).split("/")[-1])
    inputs = [restore_types(number, args) for args in [*row["base_input"], *(row["plus_input"] or ())]]
    asserts = [line for line in row["assertion"].split("\n") if line.strip().startswith("assert")]
    problem = Problem(
        benchmark="mbpp+",
        id=row["task_id"],
        text=_docstring_text(row["prompt"]),
        stub=row["prompt"],
        entry=row["entry_point"],
        checks=(),
        reference=row["canonical_solution"],
        examples=tuple(asserts[:3]),
    )
    return _with_inputs(problem, row, inputs)


def _with_inputs(problem: Problem, row: Row, inputs: list[list[Any]]) -> Problem:
    entry = row["entry_point"]
    oracle = _ORACLES.get(entry, "") if problem.benchmark == "mbpp+" or entry == "find_zero" else ""
    check = Inputs(
        entry=entry,
        args=tuple(pack(list(args)) for args in inputs),
        reference=problem.reference,
        atol=float(row["atol"]),
        oracle=oracle,
    )
    return Problem(
        benchmark=problem.benchmark,
        id=problem.id,
        text=problem.text,
        stub=problem.stub,
        entry=entry,
        checks=(check,),
        reference=problem.reference,
        examples=problem.examples,
    )


def _parse_hub_mbpp(row: Row) -> Problem:
    """A row {task_id, prompt, code, test_list, test_imports, test}."""
    entry = entry_of(row["test_list"], row["code"])
    prelude = "\n".join(row.get("test_imports") or ())
    return Problem(
        benchmark="mbpp+",
        id=f"Mbpp/{row['task_id']}",
        text=row["prompt"],
        entry=entry,
        checks=(CheckProgram(prelude=prelude, source=row["test"], entry=entry, reference=row["code"]),),
        reference=row["code"],
        examples=tuple(row["test_list"]),
    )


def _docstring_text(prompt: str) -> str:
    """The words of an MBPP+ prompt: a docstring whose asserts are kept apart."""
    lines = prompt.replace('"""', "").strip().split("\n")
    return "\n".join(line for line in lines if not line.startswith("assert")).strip()


Restore = Callable[[list[Any]], Any]


def restore_types(number: int, args: list[Any]) -> list[Any]:
    """What JSON made lists of: the argument types of MBPP+ tasks, by task number, as EvalPlus 0.3.1 defines them."""
    for numbers, restore in _RESTORE:
        if number in numbers:
            return list(restore(args))
    return args


def _tuples(values: Any) -> list[Any]:
    return [tuple(value) for value in values]


def _tuples_within(values: Any) -> list[Any]:
    return [_tuples(value) for value in values]


def _deep_tuple(value: Any) -> Any:
    return tuple(_deep_tuple(item) for item in value) if isinstance(value, list) else value


_RESTORE: tuple[tuple[frozenset[int], Restore], ...] = (
    (frozenset([2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744,
                809]), _tuples),
    (frozenset([63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780]), _tuples_within),
    (frozenset([75, 413, 444, 753]), lambda args: [_tuples(args[0]), args[1]]),
    (frozenset([106, 750]), lambda args: [args[0], tuple(args[1])]),
    (frozenset([115]), lambda args: [[set(item) if isinstance(item, list) and item else {} for item in args[0]]]),
    (frozenset([124]), lambda args: [float(args[0]), complex(args[1])]),
    (frozenset([250, 405, 446, 617, 720, 763, 808]), lambda args: [tuple(args[0]), args[1]]),
    (frozenset([259, 401, 445]), lambda args: _tuples(_tuples_within(args))),
    (frozenset([278]), lambda args: [tuple(tuple(item) if isinstance(item, list) else item for item in args[0])]),
    (frozenset([307]), lambda args: [tuple(args[0]), args[1], args[2]]),
    (frozenset([722]), lambda args: [{key: tuple(value) for key, value in args[0].items()}, *args[1:]]),
    (frozenset([252]), lambda args: [complex(args[0])]),
    (frozenset([580, 615, 791]), _deep_tuple),
)  # fmt: skip
