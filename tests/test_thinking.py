"""Models that think before they answer: longer limits, and what stands after the thought is what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.buffer import Buffer
from azr.config import CurriculumConfig, TasksConfig
from azr.curriculum import Curriculum
from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.policy.text import disarm
from azr.policy.thinking import CLOSE, CLOSING, OPEN, ThinkingBudget
from azr.proposer import propose
from azr.records import Group, Pair, Sample, Sampling, Task
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


class TaggedTokenizer:
    """Each of `CLOSING`'s tokens is a number; the tags are tokens of their own."""

    def get_added_vocab(self) -> dict[str, int]:
        return {OPEN: 7, CLOSE: 9}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert text == CLOSING and not add_special_tokens
        return [1, 9, 2]


def continued(budget: ThinkingBudget, prompt: list[int], choices: list[int]) -> list[int]:
    """What a completion becomes when the model would choose these."""
    ids: list[int] = []
    for choice in choices:
        forced = budget.next(prompt, ids)
        ids.append(choice if forced is None else forced)
    return ids


@pytest.mark.parametrize(
    ("prompt", "choices", "expected", "forced"),
    [
        ([3], [7, 4, 4, 4, 4, 4, 4, 5], [7, 4, 4, 1, 9, 2, 4, 5], (3, 6)),  # closed after three tokens
        ([3, 7, 1], [4, 4, 4, 4, 4, 4], [4, 4, 4, 1, 9, 2], (3, 6)),  # opened by the template
        ([3, 7, 1], [4, 4, 4, 4], [4, 4, 4, 1], (3, 4)),  # ends amid the closing
        ([3], [7, 4, 9, 4, 4, 4], [7, 4, 9, 4, 4, 4], (0, 0)),  # closed in time
        ([3, 7, 1, 9], [4, 4, 4, 4, 4], [4, 4, 4, 4, 4], (0, 0)),  # the template closed it: no thinking
        ([3], [4, 4, 4, 4, 7, 4], [4, 4, 4, 4, 7, 4], (0, 0)),  # never thought, or too late
        ([3], [7, 4], [7, 4], (0, 0)),
    ],
)
def test_an_open_thought_is_closed_when_its_tokens_are_used_up(
    prompt: list[int], choices: list[int], expected: list[int], forced: tuple[int, int]
) -> None:
    budget = ThinkingBudget(TaggedTokenizer(), 3)
    assert continued(budget, prompt, choices) == expected
    assert budget.forced(prompt, expected) == forced


def test_without_tokens_or_tags_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert continued(ThinkingBudget(TaggedTokenizer(), 0), [7], [4] * 5) == [4] * 5
    monkeypatch.setattr(TaggedTokenizer, "get_added_vocab", lambda self: {})
    assert continued(ThinkingBudget(TaggedTokenizer(), 2), [7], [4] * 5) == [4] * 5


@given(st.lists(st.sampled_from([4, 5, 7, 9]), max_size=12), st.integers(1, 6))
def test_only_open_thoughts_change_and_only_where_they_are_closed(choices: list[int], tokens: int) -> None:
    budget = ThinkingBudget(TaggedTokenizer(), tokens)
    ids = continued(budget, [3], choices)
    first, end = budget.forced([3], ids)
    assert [(i, c) for i, c in enumerate(ids) if not first <= i < end] == [
        (i, c) for i, c in enumerate(choices) if not first <= i < end
    ]
    assert ids[first:end] == [1, 9, 2][: end - first]
    still_open = [i for i in ids[:tokens] if i in (7, 9)][-1:] == [7]
    assert (end > first) == (still_open and len(ids) > tokens)


def test_the_tokens_written_for_the_model_weigh_nothing() -> None:
    sample = Sample("solve", "deduction", (3,), (7, 4, 1, 9, 2, 5), (-1.0,) * 6, 1.0, 1.0, forced=(2, 5))
    assert sample.weights(0.5) == [0.5, 0.5, 0.0, 0.0, 0.0, 0.5]
    assert replace(sample, forced=(0, 0)).weights(0.5) == [0.5] * 6


def test_a_control_token_is_broken_and_indentation_is_not() -> None:
    class Tokenizer:
        def get_added_vocab(self) -> dict[str, int]:
            return {"<|im_end|>": 0, "    ": 1, "  ": 2, "\t\t": 3}

    code = "def f(a):\n    if a:\n\t\treturn '<|im_end|>'"
    assert disarm(Tokenizer(), code) == code.replace("<|im_end|>", "< |im_end|>")
