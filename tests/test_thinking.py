"""Models that think before they answer: longer limits, and what stands after the thought is what counts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from azr.buffer import Buffer
from azr.config import CurriculumConfig, TasksConfig
from azr.curriculum import Curriculum
from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.proposer import propose
from azr.records import Group, Pair, Sampling, Task
from azr.solver import solve

CONFIG = TasksConfig(types=("deduction",), prompts=1, proposals_per_prompt=1, solved=2, attempts=2)
PROGRAM = "def f(a):\n    return a + 1"
TASKS = [
    Task("deduction", PROGRAM, (Pair("1", "2", b"gold"),)),
    Task("induction", PROGRAM, (Pair("1", "2", b"gold"), Pair("2", "3", b"gold")), "adds one"),
]
PROPOSAL = f"<answer>\n```python\n{PROGRAM}\n\nf(1)\n```\n</answer>"


class Thinking(ScriptedPolicy):
    """Notes how long each completion may be."""

    def __init__(self, text: str, style: str = "chat") -> None:
        super().__init__([text], style)
        self.thinking_tokens = 1000
        self.limits: list[int] = []

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        self.limits.append(sampling.max_new_tokens)
        return super().generate(prompts, samples_per_prompt, sampling, progress)


def curriculum() -> Curriculum:
    return Curriculum(CurriculumConfig(enabled=False), CONFIG.types)


@pytest.mark.parametrize(
    ("style", "proposal", "answers"), [("chat", 1110, [1110, 1110]), ("completion", 110, [40, 110])]
)
def test_thinking_lengthens_every_limit_of_a_chat_model(style: str, proposal: int, answers: list[int]) -> None:
    policy = Thinking("text", style)
    propose(policy, Buffer(16), curriculum(), CONFIG, 0)
    solve(policy, TASKS, CONFIG, 0)
    assert policy.limits == [proposal, *answers]


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ("<think>1 and 1 are 2</think>\n<answer>2</answer>", "2", ""),
        ("<think>\n\n</think>\n\n<answer>2</answer>", "2", ""),
        ("<think>it may be <answer>2</answer>", None, "no <answer>"),
        ("<think>it may be 2", None, "no <answer>"),
        ("<think>" + "so " * 500 + "</think><answer>2</answer>", None, "cut at the longest length"),
    ],
)
def test_the_answer_after_a_thought_counts_and_an_open_thought_is_malformed(
    text: str, answer: str | None, reason: str
) -> None:
    attempts = solve(Thinking(text), TASKS[:1], CONFIG, 0)
    assert [(a.answer, a.reason) for a in attempts] == [(answer, reason)] * 2


def test_a_proposal_after_a_thought_counts_and_in_an_open_one_is_malformed() -> None:
    for text, program in ((f"<think>easy</think>\n{PROPOSAL}", PROGRAM), (f"<think>easy\n{PROPOSAL}", None)):
        [found] = propose(Thinking(text), Buffer(16), curriculum(), CONFIG, 0)
        assert found.program == program
        assert found.reason == ("" if program else "no <answer>")
