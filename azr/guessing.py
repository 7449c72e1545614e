"""How far a task can be answered without being looked at.

A small model soon finds that one answer fits many of its own tasks, and learns the answer instead of the tasks. The
answers that it gave to a step's other tasks show it: the share of them that would be right here is the chance of
somebody who never saw this task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from azr.executor import AbductionRequest, DeductionRequest, Executor, GradeRequest
from azr.records import Attempt, Task


def guess_rates(attempts: Sequence[Attempt], executor: Executor) -> dict[str, float]:
    """By task id, the share of the attempts at other tasks of its type whose answer would be right for it.

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
    return {name: right[name] / answers.total() for name, answers in foreign.items()}


def _answers_elsewhere(task: Task, attempts: Sequence[Attempt]) -> Counter[str | None]:
    return Counter(a.answer for a in attempts if a.task.type == task.type and a.task.id != task.id)
