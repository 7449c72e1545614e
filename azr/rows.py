"""What the store writes: one row type a table, and how text and numbers become columns.

Text may hold NUL and lone surrogates, which SQLite or UTF-8 cannot carry. Those characters, and the escape sign itself,
are stored as `␛` and four hex digits (`\\0` becomes `␛0000`); all other text is stored as it is, so that the database
stays readable. JSON columns go through the same escape. Reading through the store undoes it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from azr.config import Config
from azr.records import Attempt, Completion, Pair, Proposal, Task, Verdict

ESCAPE = "␛"
_UNSAFE = re.compile("[\0\ud800-\udfff" + ESCAPE + "]")
_ESCAPED = re.compile(ESCAPE + "([0-9a-f]{4})")

Scalar = float | int | str | None
Columns = dict[str, Any]


def encode_text(text: str) -> str:
    """`text` without NUL and surrogates; `decode_text` gives the same text back."""
    return _UNSAFE.sub(lambda match: f"{ESCAPE}{ord(match[0]):04x}", text)


def decode_text(text: str) -> str:
    if ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def to_json(value: Any) -> str:
    """Compact JSON, escaped for storage. Not through `\\u` escapes: those would join two lone surrogates into one sign.

    Raises TypeError for what is not JSON, and ValueError for numbers that are not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return encode_text(text)


def from_json(text: str) -> Any:
    return json.loads(decode_text(text))


def finite(columns: Mapping[str, Any], refused: list[str], where: str) -> Columns:
    """The columns with None for every NaN and infinity; each is named in `refused` as `where.column = value`."""
    kept = {}
    for name, value in columns.items():
        if isinstance(value, float) and not math.isfinite(value):
            refused.append(f"{where}.{name} = {value}")
            value = None
        kept[name] = value
    return kept


def to_columns(columns: Mapping[str, Any], refused: list[str], where: str) -> Columns:
    """What SQLite can hold: text escaped, sequences and mappings as JSON, numbers finite (see `finite`)."""
    stored = finite(columns, refused, where)
    for name, value in stored.items():
        if isinstance(value, str):
            stored[name] = encode_text(value)
        elif isinstance(value, Mapping):
            stored[name] = to_json(finite(value, refused, f"{where}.{name}"))
        elif isinstance(value, (list, tuple)):
            stored[name] = to_json(value)
    return stored


def stored_config(config: Config) -> dict[str, Any]:
    """The configuration as JSON, without the dashboard's token: checkpoints and databases are passed on."""
    return config.model_dump(mode="json", exclude={"dashboard": {"token"}})


def task_to_json(task: Task) -> dict[str, Any]:
    """A task as JSON values; `task_from_json` gives an equal task back."""
    pairs = [{"input": pair.input, "output": pair.output, "gold": pair.gold.hex()} for pair in task.pairs]
    return {"type": task.type, "program": task.program, "pairs": pairs, "message": task.message}


def task_from_json(value: Mapping[str, Any]) -> Task:
    pairs = tuple(Pair(pair["input"], pair["output"], bytes.fromhex(pair["gold"])) for pair in value["pairs"])
    return Task(value["type"], value["program"], pairs, value["message"])


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A proposal and what it earned. A valid one beyond the solve budget has neither solve rate nor reward."""

    proposal: Proposal
    solve_rate: float | None = None
    reward: float | None = None
    advantage: float | None = None

    @property
    def status(self) -> str:
        """valid | vacuous | repeated | invalid"""
        if self.proposal.repeated:
            return "repeated"
        if self.proposal.vacuous:
            return "vacuous"
        return "invalid" if self.proposal.task is None else "valid"

    def columns(self) -> Columns:
        proposal = self.proposal
        return {
            "type": proposal.type,
            "refs": proposal.references,
            **_completion_columns(proposal.completion),
            "program": proposal.program,
            "inputs": proposal.inputs,
            "message": proposal.message,
            "status": self.status,
            "reason": proposal.reason or proposal.vacuous,
            "solve_rate": self.solve_rate,
            "reward": self.reward,
            "advantage": self.advantage,
            "task_id": None if proposal.task is None else proposal.task.id,
        }


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task of this step: `origin` is "proposed" (in this step) or "buffer" (an earlier one, attempted afresh)."""

    task: Task
    origin: str
    solve_rate: float | None = None  # None: valid, but beyond the solve budget
    difficulty: Mapping[str, Scalar] = field(default_factory=dict)

    def columns(self) -> Columns:
        return {
            "task_id": self.task.id,
            **task_to_json(self.task),
            "difficulty": self.difficulty,
            "solve_rate": self.solve_rate,
            "origin": self.origin,
        }


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An answer, the judge's verdict (None for an answer that breaks the format), and what it earned."""

    attempt: Attempt
    verdict: Verdict | None
    reward: float | None
    advantage: float | None

    def columns(self) -> Columns:
        attempt, verdict = self.attempt, self.verdict
        return {
            "task_id": attempt.task.id,
            "type": attempt.task.type,
            **_completion_columns(attempt.completion),
            "answer": attempt.answer,
            "correct": int(verdict is not None and verdict.correct),
            "status": "malformed" if verdict is None else verdict.status,
            "reason": attempt.reason,
            "reward": self.reward,
            "advantage": self.advantage,
        }


@dataclass(frozen=True, slots=True)
class EvaluationSampleRow:
    """One executed sample of a benchmark problem."""

    task_id: str  # the benchmark's own id
    sample: int
    completion: str
    solution: str | None  # the program that was executed; None if none could be extracted
    status: str  # the kind of failure, or "ok"
    correct: bool
    tokens: int
    stop_reason: str
    seconds: float
    detail: str = ""

    def columns(self) -> Columns:
        names = ("task_id", "sample", "completion", "solution", "status", "tokens", "stop_reason", "seconds", "detail")
        return {name: getattr(self, name) for name in names} | {"correct": int(self.correct)}


def _completion_columns(completion: Completion) -> Columns:
    logprobs = completion.logprobs
    return {
        "text": completion.text,
        "tokens": len(completion.token_ids),
        "stop_reason": completion.stop_reason,
        "logprob_mean": sum(logprobs) / len(logprobs) if logprobs else None,
        "logprob_min": min(logprobs) if logprobs else None,
    }
