"""The frozen records that flow between the rooms: proposal, task, attempt, verdict, sample.

A failure of the model is a value in one of these records (`reason`, `status`), never an exception.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

TaskType = Literal["deduction", "abduction", "induction"]
Role = Literal["propose", "solve"]
StopReason = Literal["stop", "eos", "length"]
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. Nothing is cut off but by `max_new_tokens` (top-p 1), so that importance ratios are unbiased."""

    max_new_tokens: int
    temperature: float = 1.0  # 0 means greedy
    stop: tuple[str, ...] = ()
    seed: int = 0
    chat: bool = False  # the prompts are in the model's chat template: control tokens in them count as such
    thinking_tokens: int = 0  # of max_new_tokens; a thought that is open after them is closed (policy/thinking.py)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation. `token_ids` includes the stop or end token; `text` excludes it."""

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]  # one a token, nats, under the distribution it was sampled from
    stop_reason: StopReason
    forced: tuple[int, int] = (0, 0)  # tokens from here to before there were written for the model: not learnt from


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and its G completions."""

    prompt: str
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """One input (an argument list as literals) and what the program returns for it."""

    input: str
    output: str  # `repr` of the value, for people and prompts
    gold: bytes  # canonical encoding of the value: what the judge compares


def pairs_shown(pairs: int) -> int:
    """How many of a task's pairs the solver sees: the first half, and the middle one of an odd number."""
    return (pairs + 1) // 2


@dataclass(frozen=True, slots=True)
class Task:
    """A validated task. Deduction and abduction have one pair; induction shows the first half of its pairs."""

    type: TaskType
    program: str
    pairs: tuple[Pair, ...]
    message: str = ""  # induction only: the proposer's hint

    @property
    def shown(self) -> tuple[Pair, ...]:
        return self.pairs[: pairs_shown(len(self.pairs))]

    @property
    def hidden(self) -> tuple[Pair, ...]:
        return self.pairs[pairs_shown(len(self.pairs)) :]

    @property
    def id(self) -> str:
        """Content hash: the same task has the same id in every run."""
        digest = hashlib.sha256(f"{self.type}\0{self.program}\0{self.message}".encode("utf-8", "surrogatepass"))
        for pair in self.pairs:
            digest.update(b"\0" + pair.input.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a task is, whoever solves it (see difficulty.py); the last four are None where it could not be run."""

    nodes: int  # of the minimised syntax tree
    kinds: int  # different node types
    nesting: int  # blocks within blocks
    cyclomatic: int
    structural: float  # nodes + 2 kinds + 4 nesting + 4 (cyclomatic - 1)
    steps: int | None  # statements and comprehension rounds executed on the task's input
    dependence: float | None  # share of the input that the output depends on
    variety: float | None  # different outputs among the probed runs, as a share of the runs
    dynamic: float | None  # steps x dependence


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the proposer wrote, and what became of it: a task, or the reason of its rejection."""

    type: TaskType
    prompt_ids: tuple[int, ...]
    completion: Completion
    references: tuple[str, ...]  # programs shown in the prompt
    program: str | None = None
    inputs: tuple[str, ...] = ()
    message: str = ""
    task: Task | None = None
    repeated: bool = False  # valid, but the buffer or this step has it already
    reason: str = ""  # why it is no task; empty for a task
    vacuous: str = ""  # a task, but a hollow one: why
    difficulty: Difficulty | None = None  # of a task whose program could be measured
    argument: str = ""  # name of the first argument that the prompt gave; empty for none


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of the solver. `answer` is None if the completion breaks the format."""

    task: Task
    prompt_ids: tuple[int, ...]
    completion: Completion
    answer: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's word on one answer."""

    correct: bool
    status: str  # a Status of the executor; "ok" also for a well-formed wrong answer


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example: what was sampled, and how much more of it is wanted."""

    role: Role
    task_type: TaskType
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # of the generating weights
    reward: float
    advantage: float
    temperature: float = 1.0  # that it was drawn with
    forced: tuple[int, int] = (0, 0)  # as in its completion

    @property
    def own_tokens(self) -> int:
        """How many tokens of the completion the model chose."""
        return len(self.completion_ids) - (self.forced[1] - self.forced[0])

    def weights(self, weight: float) -> list[float]:
        """`weight` for each token that the model chose, 0 for those written for it."""
        first, end = self.forced
        return [0.0 if first <= i < end else weight for i in range(len(self.completion_ids))]
