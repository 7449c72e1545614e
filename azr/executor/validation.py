"""Is a program a deterministic function of its input? It runs in several worlds and must return the same bytes."""

from __future__ import annotations

import re

from azr.executor import protocol
from azr.executor.judge import Outcome, RunResult, as_gold
from azr.executor.lanes import LANE_DIED, Job, Work
from azr.executor.literals import NotALiteral, parse_arguments
from azr.executor.requests import Status, Validation, ValidationRequest
from azr.executor.values import NotAValue, TooLarge, encode
from azr.records import Pair

WORLDS = ("A", "B")
MARGIN = 0.25  # share of the CPU limit that a valid program may use: at grading it must not be near the limit
# What a set or a hash may come from, and what may hide their names.
_CHANCE = re.compile(r"[Ss]et|hash|import|\bid\b|object|repr|keys|items|eval|exec|getattr|globals|vars|__|\{(?!\s*\})")


def validation_work(request: ValidationRequest, cpu_seconds: float) -> Work:
    """Yields the runs, returns the Validation."""
    inputs: list[bytes] = []
    for position, text in enumerate(request.inputs):
        parsed = parse_input(text)
        if parsed.status is not Status.OK:
            return _invalid(parsed, position)
        inputs.append(parsed.data)
    program = pack_program(request.program)
    if not inputs or len(inputs) > protocol.MAX_INPUTS:
        return _invalid(Outcome(Status.BAD_INPUT, "no input" if not inputs else "too many inputs"), None)
    if program.status is not Status.OK:
        return _invalid(program, None)
    limit = MARGIN * cpu_seconds
    first = yield Job(program.data, tuple(inputs), limit, "A", stop_at_failure=True)
    failed = _failure(first, len(inputs))
    if failed is not None:
        return _invalid(failed, _position(failed, first), first)
    golds = [as_gold(outcome) for outcome in first.outcomes]
    for position, (outcome, _) in enumerate(golds):
        if outcome.status is not Status.OK:
            return _invalid(outcome, position, first)
    forwards = list(range(len(inputs)))
    # The first input again, so that what was chance shows in the first call; then reversed, so that what a call leaves
    # behind shows.
    backwards = [0, *forwards[::-1]]
    chance = any(_CHANCE.search(text) for text in (request.program, *request.inputs))
    for world, order in [("B", backwards), *([("C", forwards)] if chance else [])]:
        seconds = limit * len(order) / len(inputs)
        other = yield Job(program.data, tuple(inputs[i] for i in order), seconds, world, stop_at_failure=True)
        difference = _difference(first, other, order)
        if difference is not None:
            return _invalid(*difference, first)
    pairs = zip(request.inputs, golds, strict=True)
    milliseconds = first.report.cpu_seconds * 1000
    return Validation(
        Status.OK, "", tuple(Pair(text, output, gold.data) for text, (gold, output) in pairs), milliseconds, None
    )


def parse_input(text: str) -> Outcome:
    """An argument list as canonical bytes of a tuple, or why it is none."""
    try:
        return Outcome(Status.OK, data=encode(parse_arguments(text)))
    except NotALiteral as error:
        return Outcome(Status.BAD_INPUT, str(error))
    except NotAValue as error:
        return Outcome(Status.BAD_INPUT, str(error))
    except TooLarge as error:
        return Outcome(Status.TOO_LARGE, f"input: {error}")


def pack_program(text: str) -> Outcome:
    """A program's text as bytes, if it is not too long."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > protocol.MAX_PROGRAM:
        return Outcome(Status.TOO_LARGE, "program")
    return Outcome(Status.OK, data=data)


def _failure(run: RunResult, inputs: int) -> Outcome | None:
    for outcome in run.outcomes:
        if outcome.status is not Status.OK:
            return outcome
    if not run.ended_well or len(run.outcomes) != inputs:
        return Outcome(Status.CRASHED, "ended badly after its result")
    return None


def _position(failure: Outcome, run: RunResult) -> int | None:
    whole = failure.status in (Status.SYNTAX_ERROR, Status.NO_FUNCTION)
    return None if whole or failure not in run.outcomes else run.outcomes.index(failure)


def _difference(first: RunResult, other: RunResult, order: list[int]) -> tuple[Outcome, int | None] | None:
    for position, outcome in zip(order, other.outcomes, strict=False):
        if outcome.status is Status.TIMEOUT or outcome.reason == LANE_DIED:
            return outcome, position
        if outcome.status is not Status.OK:
            return Outcome(Status.NONDETERMINISTIC, f"{outcome.status} in another world"), position
        if outcome.data != first.outcomes[position].data:
            return Outcome(Status.NONDETERMINISTIC, "another result in another world"), position
    if not other.ended_well or len(other.outcomes) != len(order):
        return Outcome(Status.NONDETERMINISTIC, "ended badly in another world"), None
    return None


def _invalid(outcome: Outcome, position: int | None, run: RunResult | None = None) -> Validation:
    milliseconds = run.report.cpu_seconds * 1000 if run else 0.0
    return Validation(outcome.status, outcome.reason or str(outcome.status), (), milliseconds, position)
