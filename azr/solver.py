"""SOLVED: tasks -> G sampled attempts each -> verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from azr import parsing, prompts
from azr.config import TasksConfig
from azr.executor import AbductionRequest, DeductionRequest, Executor, GradeRequest, InductionRequest
from azr.parsing import ParsedAnswer
from azr.policy.base import Policy, Progress
from azr.records import Attempt, Completion, Sampling, Task, Verdict


def solve(
    policy: Policy, tasks: Sequence[Task], config: TasksConfig, seed: int, progress: Progress | None = None
) -> list[Attempt]:
    """`config.attempts` attempts at each task, task by task in order. Fresh samples every time."""
    return attempt(policy, tasks, config, config.attempts, config.answer_temperature, seed, progress)


def attempt(
    policy: Policy,
    tasks: Sequence[Task],
    config: TasksConfig,
    attempts: int,
    temperature: float,
    seed: int,
    progress: Progress | None = None,
) -> list[Attempt]:
    """As `solve`, with the number of attempts and the temperature (0: greedy) given."""
    by_task: dict[int, list[Attempt]] = {}
    short = [i for i, task in enumerate(tasks) if task.type != "induction"]
    long = [i for i, task in enumerate(tasks) if task.type == "induction"]
    done = 0
    for indices, tokens, stop in (
        (short, config.answer_tokens, prompts.ANSWER_STOP),
        (long, config.proposal_tokens, prompts.PROGRAM_STOP),
    ):
        if not indices:
            continue
        thinking = policy.thinking_tokens if policy.style == "chat" else 0
        if policy.style == "chat":
            tokens, stop = config.proposal_tokens + thinking, prompts.CHAT_STOP
        sampling = Sampling(tokens, temperature, stop, seed, policy.style == "chat", thinking)
        texts = [_prompt(tasks[i], policy) for i in indices]
        report = _shifted(progress, done, len(tasks), len(indices))
        for i, group in zip(indices, policy.generate(texts, attempts, sampling, report), strict=True):
            by_task[i] = [_attempt(tasks[i], group.prompt_ids, c, policy.style) for c in group.completions]
        done += len(indices)
    return [a for i in range(len(tasks)) for a in by_task[i]]


def _shifted(progress: Progress | None, before: int, total: int, share: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, of: progress(int(before + share * done / max(of, 1)), total)


def _prompt(task: Task, policy: Policy) -> str:
    if policy.style == "completion":
        return prompts.solve_completion(task)
    return policy.format_chat(prompts.solve_chat(task))


def _attempt(task: Task, prompt_ids: tuple[int, ...], completion: Completion, style: str) -> Attempt:
    parsed = parse_answer(task, completion, style)
    return Attempt(task, prompt_ids, completion, parsed.answer, parsed.reason)


def parse_answer(task: Task, completion: Completion, style: str) -> ParsedAnswer:
    """The answer in a completion, or why there is none."""
    if completion.stop_reason == "length":
        return ParsedAnswer(None, "cut at the longest length")
    if style == "completion":
        text = f"def f{completion.text}" if task.type == "induction" else completion.text
        return parsing.PARSE_ANSWER[task.type](text)
    answer = parsing.chat_answer(completion.text)
    if answer is None:
        return ParsedAnswer(None, "no <answer>")
    if task.type == "abduction":
        if not answer.startswith("f("):
            return ParsedAnswer(None, "not a call of f")
        answer = answer.removeprefix("f")
    elif task.type == "induction":
        answer = parsing.unfenced(answer) or answer  # with or without a fence
    return parsing.PARSE_ANSWER[task.type](answer)


def grade(attempts: Sequence[Attempt], executor: Executor) -> list[Verdict]:
    """One verdict an attempt, in order. Abduction answers to one task run together; malformed ones do not run."""
    requests: list[GradeRequest] = []
    owners: list[list[int]] = []
    by_task: dict[str, int] = {}
    for index, item in enumerate(attempts):
        if item.answer is None:
            continue
        task = item.task
        if task.type == "abduction":
            if task.id in by_task:
                owners[by_task[task.id]].append(index)
                continue
            by_task[task.id] = len(owners)
            requests.append(AbductionRequest(task.program, task.pairs[0].gold, ()))
        elif task.type == "deduction":
            requests.append(DeductionRequest(task.pairs[0].gold, item.answer))
        else:
            requests.append(InductionRequest(item.answer, task.hidden))
        owners.append([index])
    requests = [_with_answers(r, attempts, own) for r, own in zip(requests, owners, strict=True)]
    verdicts = [Verdict(False, "malformed")] * len(attempts)
    for own, results in zip(owners, executor.grade(requests), strict=True):
        for index, verdict in zip(own, results, strict=True):
            verdicts[index] = verdict
    return verdicts


def _with_answers(request: GradeRequest, attempts: Sequence[Attempt], own: Sequence[int]) -> GradeRequest:
    if not isinstance(request, AbductionRequest):
        return request
    return AbductionRequest(request.program, request.gold, tuple(attempts[i].answer or "" for i in own))
