"""`azr validate` and `azr grade`: JSON lines in, JSON lines out, in order, streaming.

A malformed line gets `{"line": number, "error": …}` in its place, and the rest goes on; blank lines are skipped.
Results are written as soon as they are known, so that another program can talk to these commands over a pipe.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from azr.config import ExecutorConfig
from azr.errors import UserError
from azr.executor.executor import Executor
from azr.executor.grading import grading_work
from azr.executor.lanes import Job, Work
from azr.executor.literals import NotALiteral, parse_literal
from azr.executor.requests import (
    AbductionRequest,
    DeductionRequest,
    GradeRequest,
    InductionRequest,
    Status,
    Validation,
    ValidationRequest,
)
from azr.executor.validation import validation_work
from azr.executor.values import NotAValue, TooLarge, contains_nan, encode
from azr.records import Pair

MAX_BATCH = 256  # lines that run together; the answer to a line never waits for a later line

Answer = dict[str, Any]


class MalformedLine(Exception):
    """What is wrong with a line, for its writer."""


def open_lines(path: str) -> BinaryIO:
    """The file, or standard input for `-`. Raises UserError."""
    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; give a file of JSON lines, or - for standard input"
        ) from None


def run_lines(stream: Callable[[Iterable[bytes], TextIO, Executor], int], path: str, config: ExecutorConfig) -> int:
    """A whole command: lines of the file (or `-`) to standard output; the active defences to standard error."""
    with open_lines(path) as lines, Executor(config) as executor:
        print(f"executor: {executor.describe()}", file=sys.stderr)
        return stream(lines, sys.stdout, executor)


def validate_stream(lines: Iterable[bytes], out: TextIO, executor: Executor) -> int:
    """Validate each line's program. Returns the exit code: 1 if any line was malformed, else 0."""
    return _stream(lines, out, executor, _validation)


def grade_stream(lines: Iterable[bytes], out: TextIO, executor: Executor) -> int:
    """Grade each line's answer. Returns the exit code: 1 if any line was malformed, else 0."""
    return _stream(lines, out, executor, _grading)


def _stream(lines: Iterable[bytes], out: TextIO, executor: Executor, work: Callable[[Answer, float], Work]) -> int:
    malformed = False
    for batch in _batches(lines):
        in_order = _InOrder(out)
        works = [_work(number, line, work, executor.config.cpu_seconds) for number, line in batch]
        answers = executor.run(in_order.written(position, one) for position, one in enumerate(works))
        malformed = malformed or any("error" in answer for answer in answers)
    return int(malformed)


class _InOrder:
    """Writes each answer as soon as it and all before it are known."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.known: dict[int, Answer] = {}
        self.next = 0

    def written(self, position: int, work: Work) -> Work:
        answer = self.known[position] = yield from work
        while self.next in self.known:
            self.out.write(json.dumps(self.known.pop(self.next)) + "\n")
            self.out.flush()
            self.next += 1
        return answer


def _batches(lines: Iterable[bytes]) -> Generator[list[tuple[int, bytes]], None, None]:
    """Numbered lines in groups: whatever has arrived, one at least."""
    arrived: queue.Queue[tuple[int, bytes] | BaseException | None] = queue.Queue(maxsize=2 * MAX_BATCH)

    def read() -> None:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    arrived.put((number, line))
            arrived.put(None)
        except BaseException as error:
            arrived.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    while True:
        item = arrived.get()
        batch = []
        while isinstance(item, tuple):
            batch.append(item)
            if len(batch) == MAX_BATCH or arrived.empty():
                item = ()  # type: ignore[assignment]
                break
            item = arrived.get()
        if batch:
            yield batch
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return


def _work(number: int, line: bytes, work: Callable[[Answer, float], Work], cpu_seconds: float) -> Work:
    try:
        return (yield from work(_object(line), cpu_seconds))
    except MalformedLine as error:
        return {"line": number, "error": f"line {number}: {error}"}


def _object(line: bytes) -> Answer:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedLine("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise MalformedLine(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise MalformedLine("not a JSON object")
    return value


def _text(values: Answer, key: str) -> str:
    if key not in values:
        raise MalformedLine(f"`{key}` is missing")
    if not isinstance(values[key], str):
        raise MalformedLine(f"`{key}` must be a string")
    return str(values[key])


def _gold(text: object, key: str) -> bytes:
    if not isinstance(text, str):
        raise MalformedLine(f"`{key}` must be a string")
    try:
        value = parse_literal(text)
        if contains_nan(value):
            raise MalformedLine(f"`{key}` holds nan, which equals nothing")
        return encode(value)
    except (NotALiteral, NotAValue, TooLarge) as error:
        raise MalformedLine(f"`{key}` is no literal of a value ({error})") from None


def _validation(values: Answer, cpu_seconds: float) -> Generator[Job, Any, Answer]:
    program = _text(values, "program")
    several = "inputs" in values
    inputs = values["inputs"] if several else [_text(values, "input")]
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
        raise MalformedLine("`inputs` must be a list of strings, one at least")
    result: Validation = yield from validation_work(ValidationRequest(program, tuple(inputs)), cpu_seconds)
    if result.status is not Status.OK:
        answer: Answer = {"status": str(result.status), "reason": result.reason}
        if several and result.failed_input is not None:
            answer["failed_input"] = result.failed_input
        return answer
    outputs = [pair.output for pair in result.pairs]
    shown: Answer = {"outputs": outputs} if several else {"output": outputs[0]}
    return {"status": "ok", **shown, "cpu_ms": round(result.cpu_ms, 3)}


def _grading(values: Answer, cpu_seconds: float) -> Generator[Job, Any, Answer]:
    request = yield from _request(values, cpu_seconds)
    if isinstance(request, Validation):  # the task itself is no good, so no answer to it is right
        return {"correct": False, "status": str(request.status), "reason": f"the task's program: {request.reason}"}
    [verdict] = yield from grading_work(request, cpu_seconds)
    return {"correct": verdict.correct, "status": str(verdict.status)}


def _request(values: Answer, cpu_seconds: float) -> Generator[Job, Any, GradeRequest | Validation]:
    kind = _text(values, "type")
    if kind == "deduction":
        return (yield from _deduction(values, cpu_seconds))
    if kind == "abduction":
        gold = _gold(values.get("output"), "output")
        return AbductionRequest(_text(values, "program"), gold, (_text(values, "answer"),))
    if kind == "induction":
        return InductionRequest(_text(values, "answer"), _pairs(values))
    raise MalformedLine("`type` must be deduction, abduction or induction")


def _deduction(values: Answer, cpu_seconds: float) -> Generator[Job, Any, GradeRequest | Validation]:
    answer = _text(values, "answer")
    if "output" in values:
        return DeductionRequest(_gold(values["output"], "output"), answer)
    task = ValidationRequest(_text(values, "program"), (_text(values, "input"),))
    validation: Validation = yield from validation_work(task, cpu_seconds)
    if validation.status is not Status.OK:
        return validation
    return DeductionRequest(validation.pairs[0].gold, answer)


def _pairs(values: Answer) -> tuple[Pair, ...]:
    pairs = values.get("pairs")
    if not isinstance(pairs, list) or not pairs:
        raise MalformedLine("`pairs` must be a list of [input, output], one at least")
    found = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise MalformedLine("`pairs` must be a list of [input, output], both strings")
        found.append(Pair(pair[0], pair[1], _gold(pair[1], "pairs")))
    return tuple(found)
