"""What an answer without a thought is worth: the output given back as the input, the first argument as the output.

Many programs leave much of their input as it is, so a model that only copies is often right. A score says more the
further it is above this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from azr.datatypes import first_argument
from azr.executor import AbductionRequest, DeductionRequest, Executor, GradeRequest
from azr.records import Task, TaskType


def copier(tasks: Sequence[Task], executor: Executor) -> dict[TaskType, tuple[int, int]]:
    """By task type (deduction, abduction): how many tasks a copied answer solves, and of how many."""
    asked = [task for task in tasks if task.type != "induction"]
    found: dict[TaskType, tuple[int, int]] = {}
    for task, [verdict] in zip(asked, executor.grade([_request(task) for task in asked]), strict=True):
        right, total = found.get(task.type, (0, 0))
        found[task.type] = right + verdict.correct, total + 1
    return found


def _request(task: Task) -> GradeRequest:
    pair = task.pairs[0]
    if task.type == "abduction":
        return AbductionRequest(task.program, pair.gold, (pair.output,))
    return DeductionRequest(pair.gold, first_argument(pair.input) or "None")
