"""The score of an evaluation, read from its stored samples: as a table, JSON, JSON lines; and two scores compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azr.errors import UserError
from azr.evaluation.core import (
    mcnemar,
    mean_interval,
    mean_pass_at_k,
    pass_at_k,
    smallest_detectable_effect,
    smallest_significant_gain,
)
from azr.rows import from_json
from azr.store import Store, told_samples
from azr.targets import Reference

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """One subject on one benchmark under one protocol. `counts` are (samples, correct) per task."""

    subject: str
    benchmark: str
    protocol: dict[str, Any]
    protocol_hash: str
    counts: dict[str, tuple[int, int]]
    statuses: dict[str, int]
    excluded: dict[str, str]
    ks: tuple[int, ...]
    truncated: int
    tokens: int
    seconds: float
    source: str

    @property
    def tasks(self) -> int:
        return len(self.counts)

    def pass_at(self, k: int) -> float:
        return mean_pass_at_k(self.counts.values(), k)

    @property
    def interval(self) -> tuple[float, float]:
        return mean_interval([pass_at_k(n, c, 1) for n, c in self.counts.values()], CONFIDENCE)

    def line(self) -> str:
        low, high = self.interval
        return f"{self.benchmark} {self.pass_at(1):.1%} [{low:.1%}, {high:.1%}] on {self.tasks} tasks · {self.subject}"

    def summary(self) -> dict[str, Any]:
        """The result as JSON values."""
        samples = sum(n for n, _ in self.counts.values())
        solved = sum(c > 0 for _, c in self.counts.values())
        low, high = self.interval
        return {
            "benchmark": self.benchmark,
            "subject": self.subject,
            **{f"pass@{k}": self.pass_at(k) for k in self.ks},
            "interval": [low, high],
            "confidence": CONFIDENCE,
            "tasks": self.tasks,
            "samples": samples,
            "correct": sum(c for _, c in self.counts.values()),
            "excluded": len(self.excluded),
            "excluded_tasks": self.excluded,
            "failures": {status: count for status, count in sorted(self.statuses.items()) if status != "ok"},
            "truncated": self.truncated / samples if samples else 0.0,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_solved_task": self.tokens / solved if solved else None,
            "seconds_per_solved_task": self.seconds / solved if solved else None,
            "protocol": self.protocol,
            "protocol_hash": self.protocol_hash,
            "source": self.source,
        }


def result_of(
    store: Store,
    evaluation: int,
    task_ids: Sequence[str],
    samples: int,
    ks: Sequence[int],
    excluded: dict[str, str],
    source: str,
) -> Result:
    """The result on these tasks. Raises UserError if a sample of them is not stored, or not scored."""
    head = store.query("SELECT * FROM evaluations WHERE id = ?", evaluation)[0]
    rows = store.query(
        "SELECT task_id, sample, correct, status, tokens, stop_reason, seconds FROM evaluation_samples "
        "WHERE evaluation = ? AND sample < ?",
        evaluation,
        samples,
    )
    wanted = set(task_ids)
    rows = [row for row in rows if row["task_id"] in wanted and row["status"] != "unscored"]
    counts = {task: (0, 0) for task in task_ids}
    for row in rows:
        n, c = counts[row["task_id"]]
        counts[row["task_id"]] = n + 1, c + row["correct"]
    short = [task for task, (n, _) in counts.items() if n < samples]
    if short:
        raise UserError(f"{head['benchmark']}: {len(short)} tasks lack samples, {short[0]} first: run it again")
    return Result(
        subject=head["subject"],
        benchmark=head["benchmark"],
        protocol=from_json(head["protocol"]),
        protocol_hash=head["protocol_hash"],
        counts=counts,
        statuses=dict(Counter(row["status"] for row in rows)),
        excluded=excluded,
        ks=tuple(k for k in ks if k <= samples) or (1,),
        truncated=sum(row["stop_reason"] == "length" for row in rows),
        tokens=sum(row["tokens"] for row in rows),
        seconds=sum(row["seconds"] or 0.0 for row in rows),
        source=source,
    )


def comparable(result: Result, references: Sequence[Reference]) -> list[Reference]:
    """The published scores of the same benchmark under the same protocol."""
    names = result.protocol.get("comparable", ())
    return [r for r in references if r.benchmark == result.benchmark and r.protocol in names]


def table(results: Sequence[Result], references: Sequence[Reference] = ()) -> str:
    """The results as text for a terminal."""
    lines = []
    for result in results:
        low, high = result.interval
        lines.append(
            f"{result.benchmark} · {result.subject} · protocol {result.protocol['name']} {result.protocol_hash}"
        )
        for k in result.ks:
            bounds = f"   95% interval {low:.1%} to {high:.1%}" if k == 1 else ""
            lines.append(f"  pass@{k:<3} {result.pass_at(k):7.1%}{bounds}")
        samples = sum(n for n, _ in result.counts.values())
        lines.append(f"  {result.tasks} tasks, {samples} samples; truncated {result.truncated / max(samples, 1):.1%}")
        failures = [f"{name} {count}" for name, count in sorted(result.statuses.items()) if name != "ok"]
        lines.append(f"  failures: {', '.join(failures) or 'none'}")
        solved = sum(c > 0 for _, c in result.counts.values())
        if solved and result.tokens:
            lines.append(f"  cost: {result.tokens / solved:,.0f} tokens, {result.seconds / solved:.1f} s a solved task")
        for task, reason in result.excluded.items():
            lines.append(f"  excluded: {task} (its reference solution fails here: {reason})")
        for reference in comparable(result, references):
            lines.append(
                f"  beside it, same protocol: {reference.model} {reference.pass_at_1:.1f}% ({reference.source})"
            )
    return "\n".join(lines)


def sample_lines(store: Store, evaluation: int, result: Result) -> Iterator[str]:
    """The samples that the result counts, as JSON lines."""
    for row in store.query(
        "SELECT * FROM evaluation_samples WHERE evaluation = ? AND status != 'unscored' ORDER BY task_id, sample",
        evaluation,
    ):
        samples, _ = result.counts.get(row["task_id"], (0, 0))
        if row["sample"] < samples:
            del row["evaluation"]
            yield json.dumps({"benchmark": result.benchmark, **row, "correct": bool(row["correct"])})


@dataclass(frozen=True, slots=True)
class Comparison:
    """A second subject against a first on the tasks and samples that both have. Gained and lost are task ids."""

    first: str
    second: str
    benchmark: str
    tasks: int
    samples: int  # of all tasks, of each subject
    first_score: float
    second_score: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    same_protocol: bool

    @property
    def p_value(self) -> float:
        return mcnemar(len(self.gained), len(self.lost))

    def summary(self) -> dict[str, Any]:
        discordant = len(self.gained) + len(self.lost)
        return {
            "benchmark": self.benchmark,
            "first": self.first,
            "second": self.second,
            "tasks": self.tasks,
            "samples": self.samples,
            "first_pass@1": self.first_score,
            "second_pass@1": self.second_score,
            "difference": self.second_score - self.first_score,
            "gained": list(self.gained),
            "lost": list(self.lost),
            "p_value": self.p_value,
            "significant": self.p_value < 0.05,
            "smallest_significant_gain": smallest_significant_gain(discordant),
            "smallest_detectable_effect": smallest_detectable_effect(self.tasks, discordant / self.tasks),
            "same_protocol": self.same_protocol,
        }

    def text(self) -> str:
        found = self.summary()
        verdict = "significant" if found["significant"] else "not significant"
        needed = found["smallest_significant_gain"]
        lines = [
            f"{self.benchmark}: {self.first} {self.first_score:.1%} → {self.second} {self.second_score:.1%} "
            f"({found['difference'] * 100:+.1f} points) on {self.tasks} tasks, {self.samples} samples each",
            f"  gained {len(self.gained)}, lost {len(self.lost)}; McNemar p = {self.p_value:.3g}: {verdict} at 0.05",
            f"  with so many differing tasks {f'a gain of {needed}' if needed else 'no gain'} would be significant; "
            f"an effect of {found['smallest_detectable_effect'] * 100:.1f} points would be found 4 times in 5",
        ]
        if not self.same_protocol:
            lines.append("  THE PROTOCOLS DIFFER: the difference is not the models' alone")
        for name, tasks in (("gained", self.gained), ("lost", self.lost)):
            if tasks:
                lines.append(f"  {name}: {', '.join(tasks)}")
        return "\n".join(lines)


def compare(store: Store, benchmark: str, first: str, second: str, force: bool = False) -> Comparison:
    """The newest finished evaluations of two subjects under a protocol that both have.

    A task counts as gained (lost) if its share of right samples rose (fell), of the samples that both have; with one
    sample a task this is McNemar's test. Raises UserError where a subject was not evaluated, or where the protocols
    differ, unless forced.
    """
    heads = {}
    for subject in (first, second):
        rows = store.query(
            "SELECT id, protocol_hash FROM evaluations WHERE subject = ? AND benchmark = ? AND result IS NOT NULL "
            "ORDER BY id DESC",
            subject,
            benchmark,
        )
        if not rows:
            raise UserError(f"{subject} has no finished evaluation on {benchmark}: run azr eval on it first")
        heads[subject] = rows
    pairs = [(a, b) for b in heads[second] for a in heads[first] if a["protocol_hash"] == b["protocol_hash"]]
    same = bool(pairs)
    if not pairs:
        if not force:
            raise UserError(
                f"{first} and {second} were evaluated on {benchmark} under different protocols "
                f"({heads[first][0]['protocol_hash']}, {heads[second][0]['protocol_hash']}): evaluate one of them anew "
                "with the other's options, or compare with --force"
            )
        pairs = [(heads[first][0], heads[second][0])]
    a, b = pairs[0]
    samples = _samples(store, a["id"]), _samples(store, b["id"])
    shared = samples[0].keys() & samples[1].keys()
    if not shared:
        raise UserError(f"{first} and {second} share no scored task of {benchmark}")
    before, after = (_rates({key: own[key] for key in shared}) for own in samples)
    common = sorted(before)
    return Comparison(
        first,
        second,
        benchmark,
        len(common),
        len(shared),
        sum(before[task] for task in common) / len(common),
        sum(after[task] for task in common) / len(common),
        tuple(task for task in common if after[task] > before[task]),
        tuple(task for task in common if after[task] < before[task]),
        same,
    )


def scores_without(store: Store, benchmark: str, hits: set[str]) -> list[dict[str, Any]]:
    """pass@1 of every finished evaluation of the benchmark, on all its tasks and on those that are not in `hits`."""
    scores = []
    for head in store.query(
        "SELECT id, subject, protocol_hash FROM evaluations WHERE benchmark = ? AND result IS NOT NULL ORDER BY id",
        benchmark,
    ):
        rates = _rates(_samples(store, head["id"]))
        clean = [rate for task, rate in rates.items() if task not in hits]
        scores.append(
            {
                "subject": head["subject"],
                "protocol_hash": head["protocol_hash"],
                "tasks": len(rates),
                "all": sum(rates.values()) / max(len(rates), 1),
                "tasks_without": len(clean),
                "without": sum(clean) / max(len(clean), 1),
            }
        )
    return scores


def _samples(store: Store, evaluation: int) -> dict[tuple[str, int], bool]:
    """Whether each sample, by task and number, is right. Raises UserError if the score was told of more samples."""
    rows = store.query(
        "SELECT task_id, sample, correct FROM evaluation_samples WHERE evaluation = ? AND status != 'unscored'",
        evaluation,
    )
    check_samples(store, evaluation, len(rows))
    return {(row["task_id"], row["sample"]): bool(row["correct"]) for row in rows}


def _rates(samples: Mapping[tuple[str, int], bool]) -> dict[str, float]:
    """Share of right samples per task."""
    grouped: dict[str, list[bool]] = {}
    for (task, _), correct in samples.items():
        grouped.setdefault(task, []).append(correct)
    return {task: sum(own) / len(own) for task, own in grouped.items()}


def check_samples(store: Store, evaluation: int, stored: int) -> None:
    """Raises UserError if the evaluation's result counts more samples than `stored` scored ones."""
    [head] = store.query("SELECT subject, benchmark, result FROM evaluations WHERE id = ?", evaluation)
    result = from_json(head["result"] or "{}")
    told = told_samples(result)
    if stored < told:
        raise UserError(
            f"{head['subject']} on {head['benchmark']}: {told - stored} of {told} samples behind its score are missing "
            "from the database: evaluate it again"
        )
