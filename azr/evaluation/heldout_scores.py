"""Scores on the held-out set, one a task type: an answer a task, stored one by one; two models compared task by task.

A right answer needs the form and the sense. So every score says besides how many answers had the form (parsed), and
how many of these were right; and a comparison is repeated on the tasks that both models answered in the right form.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from azr.config import TasksConfig
from azr.errors import UserError
from azr.evaluation.core import mcnemar, wilson
from azr.evaluation.evaluate import Subject
from azr.evaluation.heldout import TYPES
from azr.evaluation.protocols import engine
from azr.evaluation.results import check_samples
from azr.executor import Executor
from azr.policy.base import Policy, Progress
from azr.records import Attempt, Task, TaskType, Verdict
from azr.rows import EvaluationSampleRow, from_json
from azr.solver import attempt, grade
from azr.store import Evaluation, Store

CHUNK = 64  # tasks that are answered together, and lost together when the process is killed
RULES = 3  # version of prompts, reading and judging: raise it when a change can alter a score


@dataclass(frozen=True, slots=True)
class Score:
    """One model on one task type. The sets hold task ids."""

    subject: str
    type: TaskType
    protocol: dict[str, Any]
    tasks: frozenset[str]
    parsed: frozenset[str]
    correct: frozenset[str]

    def summary(self) -> dict[str, Any]:
        """The score as JSON values; rates and intervals in [0, 1]. `of_parsed` is null where nothing was parsed."""
        n, parsed, right = len(self.tasks), len(self.parsed), len(self.correct)
        return {
            "subject": self.subject,
            "tasks": n,
            "correct": right,
            "parsed": parsed,
            "pass@1": right / n,
            "interval": wilson(right, n),
            "parse_rate": parsed / n,
            "parse_interval": wilson(parsed, n),
            "of_parsed": right / parsed if parsed else None,
            "of_parsed_interval": wilson(right, parsed),
            "protocol": self.protocol,
        }

    def line(self) -> str:
        n, parsed, right = len(self.tasks), len(self.parsed), len(self.correct)
        return f"right {_share(right, n)}; parsed {_share(parsed, n)}; right of parsed {_share(right, parsed)}"


def _share(part: int, whole: int) -> str:
    low, high = wilson(part, whole)
    return f"{part}/{whole} = {part / whole:.1%} [{low:.1%}, {high:.1%}]" if whole else "0/0"


def score(
    policy: Policy,
    executor: Executor,
    store: Store,
    tasks: Sequence[Task],
    config: TasksConfig,
    subject: Subject,
    progress: Progress = lambda done, total: None,
    temperature: float = 0.0,
) -> dict[TaskType, Score]:
    """One answer a task, greedy unless a temperature is given. Every answer is stored; none is generated twice.

    Sampled answers have the same random numbers for every subject, interrupted or not.
    """
    found: dict[TaskType, Score] = {}
    for kind in TYPES:
        own = [task for task in tasks if task.type == kind]
        if not own:
            continue
        ids = sorted(task.id for task in own)
        chat_tokens = config.proposal_tokens + policy.thinking_tokens
        protocol = {
            "name": "heldout",
            "style": policy.style,
            "temperature": temperature,
            "max_new_tokens": config.answer_tokens if policy.style == "completion" else chat_tokens,
            "limits": {"cpu_seconds": executor.config.cpu_seconds, "memory_mb": executor.config.memory_mb},
            "engine": engine(policy),
            "data": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16],
            "rules": RULES,
        }
        key = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:16]
        name = benchmark(kind)
        record = Evaluation.open(store, subject.name, name, protocol, key, run=subject.run, step=subject.step)
        done = {task_id for task_id, _ in record.done()}
        before = sum(len(score.tasks) for score in found.values())
        for start in range(0, len(own), CHUNK):
            missing = [task for task in own[start : start + CHUNK] if task.id not in done]  # all of them, or none
            if missing:
                progress(before + start, len(tasks))
                record.record(_answer(policy, executor, missing, config, temperature, seed=start))
        found[kind] = read(store, record.id, kind)
        record.finish(found[kind].summary())
    return found


def benchmark(kind: TaskType) -> str:
    """The name that a score has in the store."""
    return f"heldout-{kind}"


def _answer(
    policy: Policy, executor: Executor, tasks: Sequence[Task], config: TasksConfig, temperature: float, seed: int
) -> list[EvaluationSampleRow]:
    started = time.monotonic()
    attempts = attempt(policy, tasks, config, 1, temperature, seed)
    seconds = (time.monotonic() - started) / len(tasks)
    return [_row(a, v, seconds) for a, v in zip(attempts, grade(attempts, executor), strict=True)]


def _row(item: Attempt, verdict: Verdict, seconds: float) -> EvaluationSampleRow:
    judged = "wrong" if verdict.status == "ok" and not verdict.correct else str(verdict.status)
    return EvaluationSampleRow(
        task_id=item.task.id,
        sample=0,
        completion=item.completion.text,
        solution=item.answer,
        status="malformed" if item.answer is None else judged,
        correct=verdict.correct,
        tokens=len(item.completion.token_ids),
        stop_reason=item.completion.stop_reason,
        seconds=seconds,
        detail=item.reason,
    )


def read(store: Store, evaluation: int, kind: TaskType) -> Score:
    """The score that the stored answers say. Raises UserError if answers behind a finished score are missing."""
    [head] = store.query("SELECT subject, protocol FROM evaluations WHERE id = ?", evaluation)
    rows = store.query("SELECT task_id, correct, solution FROM evaluation_samples WHERE evaluation = ?", evaluation)
    check_samples(store, evaluation, len(rows))
    return Score(
        head["subject"],
        kind,
        from_json(head["protocol"]),
        frozenset(row["task_id"] for row in rows),
        frozenset(row["task_id"] for row in rows if row["solution"] is not None),
        frozenset(row["task_id"] for row in rows if row["correct"]),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A second model against a first on the same tasks."""

    before: Score
    after: Score

    def summary(self) -> dict[str, Any]:
        everything = self.before.tasks
        both = self.before.parsed & self.after.parsed
        return {
            "first": self.before.summary(),
            "second": self.after.summary(),
            **self._paired(everything),
            "parsed_by_both": {"tasks": len(both), **self._paired(both)},
        }

    def _paired(self, tasks: frozenset[str]) -> dict[str, Any]:
        gained = sorted((self.after.correct - self.before.correct) & tasks)
        lost = sorted((self.before.correct - self.after.correct) & tasks)
        return {"gained": gained, "lost": lost, "p_value": mcnemar(len(gained), len(lost))}

    def text(self) -> str:
        found = self.summary()
        both = found["parsed_by_both"]
        return "\n".join(
            [
                f"{self.before.type}",
                f"  {self.before.subject}: {self.before.line()}",
                f"  {self.after.subject}: {self.after.line()}",
                f"  {_paired_line(found)}",
                f"  on the {both['tasks']} tasks that both answered in the right form: {_paired_line(both)}",
            ]
        )


def _paired_line(found: dict[str, Any]) -> str:
    verdict = "significant" if found["p_value"] < 0.05 else "not significant"
    return (
        f"gained {len(found['gained'])}, lost {len(found['lost'])}; exact McNemar p = {found['p_value']:.2g}: "
        f"{verdict} at 0.05"
    )


def compare(store: Store, kind: TaskType, first: str, second: str, temperature: float = 0.0) -> Comparison:
    """The newest scores of two subjects under one protocol. Raises UserError where there is no such pair."""
    heads: list[dict[str, int]] = []
    for subject in (first, second):
        rows = store.query(
            "SELECT id, protocol_hash FROM evaluations WHERE subject = ? AND benchmark = ? AND result IS NOT NULL "
            "AND json_extract(protocol, '$.temperature') = ? ORDER BY id",
            subject,
            benchmark(kind),
            temperature,
        )
        if not rows:
            raise UserError(
                f"{subject} has no score on the held-out set at temperature {temperature:g}: run azr heldout score "
                "on it first"
            )
        heads.append({row["protocol_hash"]: row["id"] for row in rows})
    shared = [key for key in heads[1] if key in heads[0]]
    if not shared:
        a, b = (read(store, list(ids.values())[-1], kind).protocol for ids in heads)
        differing = ", ".join(f"{name} {a[name]} and {b[name]}" for name in a if a[name] != b.get(name))
        raise UserError(
            f"{first} and {second} were scored differently on {kind} ({differing}): score one of them anew with the "
            "other's settings"
        )
    return Comparison(*(read(store, ids[shared[-1]], kind) for ids in heads))
