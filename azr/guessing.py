"""How far a task can be answered without being looked at.

A small model soon finds that one answer fits many of its own tasks, and learns the answer instead of the tasks. The
answers that it gave to a step's other tasks show it: the share of them that would be right here is the chance of
somebody who never saw this task. Of an abduction task somebody may know the kind of data that it takes, and answer with
the input that such tasks have most: the chance of that is how many of the newest ones have this task's input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from azr import datatypes
from azr.executor import AbductionRequest, DeductionRequest, Executor, GradeRequest
from azr.records import Attempt, Task

NEWEST = 128  # abduction tasks whose inputs are what a guess is made of
UNKNOWN = 4


def guess_rates(attempts: Sequence[Attempt], executor: Executor, newest: Sequence[Task] = ()) -> dict[str, float]:
    """By task id, the chance that a guess is right: the larger of the two above. `newest`: abduction tasks before.

    Malformed answers count as wrong. A task that is its type's only one, and induction, whose answers are programs, are
    left out.
    """
    tasks = {a.task.id: a.task for a in attempts if a.task.type != "induction"}
    foreign = {task.id: _answers_elsewhere(task, attempts) for task in tasks.values()}
    foreign = {task: answers for task, answers in foreign.items() if answers}
    requests: list[GradeRequest] = []
    owners: list[tuple[str, tuple[str, ...]]] = []
    for name, answers in foreign.items():
        well_formed = tuple(answer for answer in answers if answer is not None)
        pair = tasks[name].pairs[0]
        if tasks[name].type == "abduction":
            requests.append(AbductionRequest(tasks[name].program, pair.gold, well_formed))
            owners.append((name, well_formed))
        else:
            requests += [DeductionRequest(pair.gold, answer) for answer in well_formed]
            owners += [(name, (answer,)) for answer in well_formed]
    right = Counter[str]()
    for (name, answers_here), verdicts in zip(owners, executor.grade(requests), strict=True):
        right[name] += sum(
            foreign[name][answer] for answer, verdict in zip(answers_here, verdicts, strict=True) if verdict.correct
        )
    return {
        name: max(right[name] / answers.total(), input_share(tasks[name], newest)) for name, answers in foreign.items()
    }


def input_share(task: Task, newest: Sequence[Task]) -> float:
    """Of the newest abduction tasks with the same kind of data first, the share that has this task's first argument.

    0 for other types of tasks. Few tasks say little: UNKNOWN that have it not are added.
    """
    if task.type != "abduction":
        return 0.0
    kind, first = datatypes.first_type(task), datatypes.first_argument(task.pairs[0].input)
    alike = [other for other in newest if other.id != task.id and datatypes.first_type(other) == kind]
    same = sum(datatypes.first_argument(other.pairs[0].input) == first for other in alike)
    return same / (len(alike) + UNKNOWN)


def _answers_elsewhere(task: Task, attempts: Sequence[Attempt]) -> Counter[str | None]:
    return Counter(a.answer for a in attempts if a.task.type == task.type and a.task.id != task.id)
