"""Is an answer right? The judge compares what the program returned, or what the answer says, with the gold bytes."""

from __future__ import annotations

from azr.executor.judge import Outcome, is_gold, outcome_of_end
from azr.executor.lanes import Job, Work
from azr.executor.literals import NotALiteral, parse_arguments, parse_literal
from azr.executor.requests import AbductionRequest, DeductionRequest, GradeRequest, InductionRequest, Status
from azr.executor.validation import pack_program, parse_input
from azr.executor.values import NotAValue, TooLarge, encode
from azr.records import Verdict

_LEAST_SECONDS = 0.02  # CPU time that every answer gets, whatever its neighbours used up


def grading_work(request: GradeRequest, cpu_seconds: float) -> Work:
    """Yields the runs, returns the verdicts."""
    if isinstance(request, DeductionRequest):
        return (_deduction(request),)
    if isinstance(request, AbductionRequest):
        return (yield from _abduction(request, cpu_seconds))
    return ((yield from _induction(request, cpu_seconds)),)


def _deduction(request: DeductionRequest) -> Verdict:
    answer = _literal(request.answer, parse_literal)
    answer, correct = is_gold(answer, request.gold)
    return Verdict(correct, answer.status)


def _literal(text: str, parse: object) -> Outcome:
    if "\n" in text.strip() or "\r" in text.strip():
        return Outcome(Status.NOT_A_VALUE)  # an answer is one line
    try:
        return Outcome(Status.OK, data=encode(parse(text)))  # type: ignore[operator]
    except (NotALiteral, NotAValue):
        return Outcome(Status.NOT_A_VALUE)
    except TooLarge:
        return Outcome(Status.TOO_LARGE)


def _abduction(request: AbductionRequest, cpu_seconds: float) -> Work:
    """Every different answer gets a process of its own, so that no program can decide by how often it was called.

    All timeouts of one program together cost at most `cpu_seconds` (and a little for each answer): each halves what the
    following answers may use, so that the first has half the limit, twice what a valid program needs.
    """
    program = pack_program(request.program)
    answers = [_literal(text, parse_arguments) for text in request.answers]
    outcomes: dict[bytes, Outcome] = {}
    left = cpu_seconds
    for answer in answers:
        if program.status is not Status.OK or answer.status is not Status.OK or answer.data in outcomes:
            continue
        seconds = max(left / 2, _LEAST_SECONDS)
        # As in validation, so that a program cannot tell the two apart.
        run = yield Job(program.data, (answer.data,), seconds, stop_at_failure=True)
        outcome = run.outcomes[0] if run.outcomes else Outcome(Status.CRASHED)
        if outcome.status is Status.OK and not run.ended_well:  # a value, and then a hang or a crash
            outcome = outcome_of_end(run.report)
        outcomes[answer.data] = outcome
        if outcome.status is Status.TIMEOUT:
            left -= seconds
        elif outcome.status in (Status.SYNTAX_ERROR, Status.NO_FUNCTION):
            program = outcome
    verdicts = []
    for answer in answers:
        outcome = program if program.status is not Status.OK else answer
        if outcome.status is Status.OK:
            outcome = outcomes[answer.data]
        outcome, correct = is_gold(outcome, request.gold)
        verdicts.append(Verdict(correct, outcome.status))
    return tuple(verdicts)


def _induction(request: InductionRequest, cpu_seconds: float) -> Work:
    """Every pair, in order; the first wrong value or failure ends the run."""
    program = pack_program(request.program)
    inputs = [parse_input(pair.input) for pair in request.pairs]
    for outcome in (program, *inputs):
        if outcome.status is not Status.OK:
            return Verdict(False, outcome.status)
    golds = [pair.gold for pair in request.pairs]
    if not golds:
        return Verdict(False, Status.OK)
    run = yield Job(
        program.data, tuple(data.data for data in inputs), cpu_seconds, stop_at_failure=True,
        wanted=lambda position, outcome: is_gold(outcome, golds[position])[1],
    )  # fmt: skip
    for outcome, gold in zip(run.outcomes, golds, strict=False):
        outcome, correct = is_gold(outcome, gold)
        if not correct:
            return Verdict(False, outcome.status)
    complete = len(run.outcomes) == len(golds) and run.ended_well
    return Verdict(complete, Status.OK if complete else Status.CRASHED)
