"""From what was written to tasks: which proposals stand in each other's way, and what a prompt may not show."""

from __future__ import annotations

import random

from azr import prompts
from azr.buffer import Buffer
from azr.config import CurriculumConfig, TasksConfig
from azr.curriculum import Curriculum
from azr.executor import Executor
from azr.proposer import dealt, requests, validate
from azr.records import Completion, Pair, Proposal, Task, TaskType

SORTED = "def f(xs):\n    ys = sorted(xs)\n    return ys[::2] + [len(xs), {}]"


def written(program: str, text: str) -> Proposal:
    return Proposal("deduction", (1,), Completion((1,), "", (-1.0,), "stop"), (), program, (text,))


def verdicts(executor: Executor, buffer: Buffer, *programs: str) -> list[str]:
    """The beginning of each proposal's reason for being hollow, "" for none."""
    found = validate([written(program, "[3, 1, 2]") for program in programs], executor, buffer, lambda _: False)
    assert all(proposal.task is not None for proposal in found)
    return [proposal.vacuous.partition(":")[0] for proposal in found]


def test_a_near_copy_in_the_same_step_is_found(executor: Executor) -> None:
    assert verdicts(executor, Buffer(8), SORTED.format(4), SORTED.format(7)) == ["", "near copy"]


def test_a_hollow_proposal_makes_nobody_a_copy(executor: Executor) -> None:
    """It is in no buffer: the honest program beside it is the first of its kind."""
    hollow, honest = ("def f(xs):\n    n = len(xs) * {}\n    return n + {}".format(*pair) for pair in ((0, 3), (2, 3)))
    assert verdicts(executor, Buffer(8), hollow, honest) == ["constant", ""]


def test_a_chat_prompt_for_inputs_shows_no_task_about_the_same_program() -> None:
    """Its inputs and its message would be copied."""
    kinds: list[TaskType] = ["induction"]
    buffer, curriculum = Buffer(8), Curriculum(CurriculumConfig(), kinds)
    seed = Task("induction", prompts.IDENTITY.program, (Pair("1", "1", b""),), "the seed")
    buffer.add(seed, -1)
    for number in range(6):
        own = Task("induction", SORTED.format(4), (Pair(f"[{number}]", f"[{number}, 1, 4]", b""),), "the answer")
        buffer.add(own, 1)
    buffer.add(Task("deduction", own.program, own.pairs), 1)
    for number in range(20):
        rng = random.Random(number)
        for request in requests(TasksConfig(types=kinds, prompts=1), buffer, curriculum, "chat", rng):
            assert request.program == own.program
            assert [example.message for example in request.references] == ["the seed"]


def test_prompts_are_dealt_over_the_types_in_turn() -> None:
    kinds: list[TaskType] = ["deduction", "abduction", "induction"]
    rng = random.Random(0)
    assert dealt(TasksConfig(types=kinds, prompts=5), rng) == [*kinds, *kinds[:2]]
    assert dealt(TasksConfig(types=kinds[:2], prompts=4), rng) == kinds[:2] * 2


def test_with_fewer_prompts_than_types_every_type_has_its_turn() -> None:
    config, rng = TasksConfig(prompts=2), random.Random(0)
    found = [dealt(config, rng) for _ in range(60)]
    assert all(len(set(types)) == 2 for types in found)
    assert all(30 <= sum(kind in types for types in found) <= 50 for kind in config.types)
