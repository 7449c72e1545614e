"""PROPOSED: references from the buffer -> prompts -> proposals -> valid tasks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from azr import datatypes, parsing, prompts
from azr.buffer import Buffer, task_key
from azr.config import TasksConfig
from azr.curriculum import Curriculum
from azr.difficulty import difficulty
from azr.executor import Executor, Status, ValidationRequest
from azr.parsing import ParsedProposal
from azr.policy.base import Policy, Progress
from azr.probing import probe
from azr.program import reads_first_argument
from azr.prompts import Example
from azr.records import Completion, Proposal, Sampling, Task, TaskType
from azr.vacuity import RECENT, Recent, why_vacuous


@dataclass(frozen=True, slots=True)
class Request:
    """One proposer prompt before it is text."""

    type: TaskType
    references: tuple[Example, ...]
    program: str = ""  # induction: the program whose inputs are asked for
    argument: str = ""  # name of the first argument that is asked for; empty for any


def requests(
    config: TasksConfig, buffer: Buffer, curriculum: Curriculum, style: str, rng: random.Random
) -> list[Request]:
    """`config.prompts` requests, dealt over the task types."""
    return [_request(kind, config, buffer, curriculum, style, rng) for kind in dealt(config, rng)]


def dealt(config: TasksConfig, rng: random.Random) -> list[TaskType]:
    """The type of each prompt: all types in turn; with fewer prompts than types, any of them."""
    if config.prompts < len(config.types):
        return rng.sample(config.types, config.prompts)
    return [config.types[i % len(config.types)] for i in range(config.prompts)]


def _request(
    kind: TaskType, config: TasksConfig, buffer: Buffer, curriculum: Curriculum, style: str, rng: random.Random
) -> Request:
    program = curriculum.program(buffer, rng) or prompts.IDENTITY.program if kind == "induction" else ""
    # Another task about the same program would give the message and inputs away.
    shown = curriculum.references(kind, buffer, config.references, rng, avoid=program)
    if style == "chat" and not shown:  # the seed, and what is about the same program, are all there is
        shown = buffer.sample(kind, config.references, rng, avoid=program) or buffer.sample(
            kind, config.references, rng
        )
    examples = [prompts.example_of(task) for task in shown]
    if style == "completion":
        spare = prompts.INDUCTION_EXAMPLES if kind == "induction" else prompts.FORMAT_EXAMPLES
        fill = [e for e in spare if e.program != program][: config.references - len(examples)]
        examples = list(fill) + examples
    rng.shuffle(examples)
    return Request(kind, tuple(examples), program, curriculum.argument(kind, rng))


def prompt_text(request: Request, policy: Policy, induction_inputs: int) -> str:
    induction = request.type == "induction"
    if policy.style == "completion":
        if induction:
            return prompts.propose_induction_completion(request.references, request.program, induction_inputs)
        return prompts.propose_completion(request.references, request.argument)
    if induction:
        return policy.format_chat(prompts.propose_induction_chat(request.references, request.program, induction_inputs))
    return policy.format_chat(prompts.propose_chat(request.type, request.references, request.argument))


def propose(
    policy: Policy,
    buffer: Buffer,
    curriculum: Curriculum,
    config: TasksConfig,
    seed: int,
    progress: Progress | None = None,
) -> list[Proposal]:
    """Sample `proposals_per_prompt` proposals of each request and parse them. Nothing is run yet."""
    asked = requests(config, buffer, curriculum, policy.style, random.Random(seed))
    thinking = policy.thinking_tokens if policy.style == "chat" else 0
    sampling = Sampling(
        max_new_tokens=config.proposal_tokens + thinking,
        temperature=config.proposal_temperature,
        stop=prompts.PROPOSAL_STOP if policy.style == "completion" else prompts.CHAT_STOP,
        seed=seed,
        chat=policy.style == "chat",
        thinking_tokens=thinking,
    )
    texts = [prompt_text(request, policy, config.induction_inputs) for request in asked]
    groups = policy.generate(texts, config.proposals_per_prompt, sampling, progress)
    return [
        _parse(request, group.prompt_ids, completion, policy.style, config.induction_inputs)
        for request, group in zip(asked, groups, strict=True)
        for completion in group.completions
    ]


def _parse(
    request: Request, prompt_ids: tuple[int, ...], completion: Completion, style: str, induction_inputs: int
) -> Proposal:
    parsed = _parse_text(request, completion, style, induction_inputs)
    program = request.program if parsed.program == "" else parsed.program
    references = tuple(example.program for example in request.references)
    return Proposal(
        request.type,
        prompt_ids,
        completion,
        references,
        program,
        parsed.inputs,
        parsed.message,
        reason=parsed.reason,
        argument=request.argument,
    )


def _parse_text(request: Request, completion: Completion, style: str, induction_inputs: int) -> ParsedProposal:
    if completion.stop_reason == "length":
        return ParsedProposal(None, reason="cut at the longest length")
    if style == "chat":
        answer = parsing.chat_answer(completion.text)
        if answer is None:
            return ParsedProposal(None, reason="no <answer>")
        if request.type == "induction":
            return parsing.parse_induction_proposal(answer, induction_inputs)
        block = parsing.unfenced(answer)
        if block is None:
            return ParsedProposal(None, reason="no ```python block")
        return _as_asked(parsing.parse_proposal(block), request)
    if request.type == "induction":
        return parsing.parse_induction_proposal(f"1: f{completion.text}", induction_inputs)
    return _as_asked(parsing.parse_proposal(prompts.opening(request.argument) + completion.text), request)


def _as_asked(parsed: ParsedProposal, request: Request) -> ParsedProposal:
    argument = request.argument
    if parsed.program is None or not argument:
        return parsed
    if not datatypes.suits(argument, parsed.inputs[0]):
        return ParsedProposal(None, reason=f"the first argument is no {datatypes.ARGUMENTS[argument]}")
    if not reads_first_argument(parsed.program):  # else the task is about the other arguments: numbers, soon
        return ParsedProposal(None, reason="the first argument is not used")
    return parsed


def validate(
    proposals: Sequence[Proposal], executor: Executor, buffer: Buffer, is_held_out: Callable[[str], bool]
) -> list[Proposal]:
    """Run what parsed, in two worlds. Returns the proposals in order, each now a task or rejected with its reason."""
    checked = [
        replace(p, program=None, reason="held out") if p.program and is_held_out(p.program) else p for p in proposals
    ]
    runnable = [p for p in checked if p.program is not None]
    results = iter(executor.validate([ValidationRequest(p.program or "", p.inputs) for p in runnable]))
    seen: set[tuple[TaskType, str]] = set()
    validated = []
    for proposal in checked:
        if proposal.program is None:
            validated.append(proposal)
            continue
        result = next(results)
        if result.status is not Status.OK:
            reason = f"{result.status}: {result.reason}" if result.reason else str(result.status)
            validated.append(replace(proposal, reason=reason))
            continue
        task = Task(proposal.type, proposal.program, result.pairs, proposal.message)
        key = (task.type, task_key(task))
        validated.append(replace(proposal, task=task, repeated=task in buffer or key in seen))
        seen.add(key)
    return _measured(validated, executor, buffer)


def _measured(proposals: Sequence[Proposal], executor: Executor, buffer: Buffer) -> list[Proposal]:
    """The new tasks with their difficulty, and those that are hollow or a near copy with the reason."""
    new = [p.task for p in proposals if p.task is not None and not p.repeated]
    probes = iter(probe([(task.program, task.pairs[0]) for task in new], executor))
    kinds = {task.type for task in new} - {"induction"}  # which borrows its programs
    recent = {kind: Recent(e.task.program for e in buffer.entries(kind)[-RECENT:]) for kind in kinds}
    measured = []
    for proposal in proposals:
        task = proposal.task
        if task is None or proposal.repeated:
            measured.append(proposal)
            continue
        seen = next(probes)
        reason = why_vacuous(task, seen)
        if task.type in recent and not reason:
            reason = "near copy" if recent[task.type].is_copy(task.program) else ""
            recent[task.type].add(task.program)
        measured.append(replace(proposal, vacuous=reason, difficulty=difficulty(task.program, seen)))
    return measured
