"""A self-play step of a fixed size on real prompts: what the loop does, with the numbers of tasks held constant."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from engine_setup import Laps, samples_of

from azr import prompts
from azr.buffer import Buffer
from azr.config import CurriculumConfig, TasksConfig
from azr.curriculum import Curriculum
from azr.executor import Executor, ValidationRequest
from azr.policy.torch_policy import TorchPolicy
from azr.proposer import prompt_text, propose, requests, validate
from azr.records import Completion, Group, Sampling, Task, TaskType
from azr.solver import grade, solve

TASKS = TasksConfig()
PLAIN = Curriculum(CurriculumConfig(enabled=False))
PROGRAMS: tuple[tuple[str, str], ...] = (
    ("def f(nums):\n    return [n * n for n in nums if n % 3 != 0]", "[1, 3, 4, 6, 8]"),
    (
        "def f(text):\n    seen = {}\n    for c in text:\n        seen[c] = c in seen\n    return seen",
        "'banana'",
    ),
    ("def f(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a", "12"),
    ("def f(rows):\n    return [list(column) for column in zip(*rows)]", "[[1, 2], [3, 4], [5, 6]]"),
    ("def f(s, sep):\n    parts = s.split(sep)\n    parts.reverse()\n    return sep.join(parts)", "'a-b-c-d', '-'"),
    ("def f(nums, k):\n    k = k % len(nums)\n    return nums[-k:] + nums[:-k]", "[1, 2, 3, 4, 5], 7"),
    ("def f(d):\n    return sorted((v, k) for k, v in d.items() if v > 1)", "{'x': 3, 'y': 1, 'z': 2}"),
    ("def f(n):\n    s = []\n    while n:\n        s.append(n % 7)\n        n //= 7\n    return s[::-1]", "2024"),
)
KINDS: tuple[TaskType, ...] = ("deduction", "abduction")


def fixed_tasks(executor: Executor) -> list[Task]:
    """`TASKS.solved` tasks with gold from the executor."""
    found = executor.validate([ValidationRequest(program, (given,)) for program, given in PROGRAMS])
    tasks = [
        Task(kind, program, validation.pairs)
        for kind in KINDS
        for (program, _), validation in zip(PROGRAMS, found, strict=True)
    ]
    assert len(tasks) == TASKS.solved, len(tasks)
    return tasks


def full_buffer(tasks: list[Task]) -> Buffer:
    buffer = Buffer(TASKS.buffer_size)
    for task in tasks:
        buffer.add(task, step=0)
    return buffer


class FixedStep:
    """6 prompts x 8 proposals, 16 tasks x 8 attempts, and the update on every one of them."""

    def __init__(self, policy: TorchPolicy, executor: Executor) -> None:
        self.policy, self.executor = policy, executor
        self.tasks = fixed_tasks(executor)
        self.buffer = full_buffer(self.tasks)
        self.sampled = self.trained = 0

    def as_the_loop_runs(self) -> Mapping[str, float]:
        """Completions end where they end; proposals are validated and attempts graded in the sandbox."""
        laps = Laps()
        proposals = propose(self.policy, self.buffer, PLAIN, TASKS, seed=1)
        laps.lap("propose")
        validate(proposals, self.executor, self.buffer, lambda program: False)
        laps.lap("validate")
        attempts = solve(self.policy, self.tasks, TASKS, seed=1)
        laps.lap("solve")
        grade(attempts, self.executor)
        laps.lap("grade")
        written = [(p.prompt_ids, p.completion) for p in proposals] + [(a.prompt_ids, a.completion) for a in attempts]
        assert len(written) == 176, len(written)
        self._update(written)
        laps.lap("update")
        return laps.seconds

    def at_full_length(self) -> Mapping[str, float]:
        """The upper bound: nothing ends a completion before its limit; no sandbox."""
        ends, self.policy.generator.end_ids = self.policy.generator.end_ids, set()
        laps = Laps()
        asked = requests(TASKS, self.buffer, PLAIN, self.policy.style, random.Random(1))
        texts = [prompt_text(request, self.policy, TASKS.induction_inputs) for request in asked]
        groups = self._generate(texts, TASKS.proposals_per_prompt, TASKS.proposal_tokens)
        laps.lap("propose")
        texts = [prompts.solve_completion(task) for task in self.tasks]
        groups += self._generate(texts, TASKS.attempts, TASKS.answer_tokens)
        laps.lap("solve")
        self._update([(group.prompt_ids, c) for group in groups for c in group.completions])
        laps.lap("update")
        self.policy.generator.end_ids = ends
        return laps.seconds

    def _generate(self, texts: list[str], count: int, tokens: int) -> list[Group]:
        return self.policy.generate(texts, count, Sampling(tokens, seed=1))

    def _update(self, written: Sequence[tuple[tuple[int, ...], Completion]]) -> None:
        self.sampled = sum(len(completion.token_ids) for _, completion in written)
        self.trained = int(self.policy.update(samples_of(written))["trained_tokens"])
