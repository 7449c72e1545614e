"""The numbers of a step. Each name is explained once, in docs/metrics.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from azr import diversity
from azr.buffer import Buffer
from azr.records import TASK_TYPES, Attempt, Proposal, Task, Verdict
from azr.scoring import Scored


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: fmean(values)} if values else {}


def propose_metrics(proposals: Sequence[Proposal]) -> dict[str, float]:
    """Shares of valid, repeated and cut proposals, all and per type; why the others were rejected, as counts."""
    found = {
        "propose/count": float(len(proposals)),
        "propose/valid": sum(p.task is not None for p in proposals) / max(len(proposals), 1),
        "propose/repeated": sum(p.repeated for p in proposals) / max(len(proposals), 1),
        "propose/cut": sum(p.completion.stop_reason == "length" for p in proposals) / max(len(proposals), 1),
    }
    for kind in TASK_TYPES:
        own = [p for p in proposals if p.type == kind]
        found |= _mean(f"propose/valid/{kind}", [float(p.task is not None) for p in own])
    hollow = Counter(p.vacuous.partition(":")[0] for p in proposals if p.vacuous)
    found["propose/vacuous"] = hollow.total() / max(len(proposals), 1)
    found |= {f"vacuous/{reason}": float(count) for reason, count in hollow.items()}
    found |= _mean("propose/tokens", [float(len(p.completion.token_ids)) for p in proposals])
    rejected = Counter(p.reason.partition(":")[0] for p in proposals if p.task is None)
    found |= {f"rejected/{reason}": float(count) for reason, count in rejected.items()}
    return found | diversity.measure(proposals)


def difficulty_metrics(accepted: Sequence[Proposal]) -> dict[str, float]:
    """Medians over the accepted tasks, all and per type; a measure that no task has is left out."""
    found: dict[str, float] = {}
    for kind in (None, *TASK_TYPES):
        own = [p.difficulty for p in accepted if kind in (None, p.type) and p.difficulty is not None]
        suffix = f"/{kind}" if kind else ""
        found |= _median(f"difficulty/median_structural{suffix}", [d.structural for d in own])
        found |= _median(f"difficulty/median_dynamic{suffix}", [d.dynamic for d in own if d.dynamic is not None])
    return found


def _median(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: median(values)} if values else {}


def solve_metrics(
    tasks: Sequence[Task], new: int, attempts: Sequence[Attempt], verdicts: Sequence[Verdict], scored: Scored
) -> dict[str, float]:
    """Solve rate, share of answers that parse, accuracy among those; `new` of the tasks were proposed in this step."""
    found = {"solve/tasks": float(len(tasks)), "solve/new": float(new)} | rates("solve/rate", attempts, verdicts)
    pairs = list(zip(attempts, verdicts, strict=True))
    for kind in (None, *TASK_TYPES):
        own = [(a, v) for a, v in pairs if kind in (None, a.task.type)]
        suffix = f"/{kind}" if kind else ""
        found |= _mean(f"solve/parsed{suffix}", [float(a.answer is not None) for a, _ in own])
        found |= _mean(f"solve/rate_of_parsed{suffix}", [float(v.correct) for a, v in own if a.answer is not None])
    found |= _mean("solve/tokens", [float(len(a.completion.token_ids)) for a in attempts])
    of_tasks = [scored.rates[task.id] for task in tasks if task.id in scored.rates]
    found |= _mean("solve/in_between", [float(0.0 < rate < 1.0) for rate in of_tasks])
    return found


def rates(name: str, attempts: Sequence[Attempt], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Share of right attempts, all and per type."""
    found: dict[str, float] = {}
    for kind in (None, *TASK_TYPES):
        own = [float(v.correct) for a, v in zip(attempts, verdicts, strict=True) if kind in (None, a.task.type)]
        found |= _mean(f"{name}/{kind}" if kind else name, own)
    return found


def reward_metrics(scored: Scored, proposals: Sequence[Proposal], attempts: Sequence[Attempt]) -> dict[str, float]:
    """Mean reward per role and type, and how many of the six groups had no variance."""
    found: dict[str, float] = {"advantage/silent_groups": float(scored.silent_groups)}
    proposed = [(p.type, r) for p, r in zip(proposals, scored.proposal_rewards, strict=True) if r is not None]
    solved = [(a.task.type, r) for a, r in zip(attempts, scored.attempt_rewards, strict=True)]
    for role, rows in (("propose", proposed), ("solve", solved)):
        found |= _mean(f"reward/{role}", [r for _, r in rows])
        for kind in TASK_TYPES:
            found |= _mean(f"reward/{role}/{kind}", [r for k, r in rows if k == kind])
    return found


def buffer_metrics(buffer: Buffer) -> dict[str, float]:
    return {f"buffer/{kind}": float(buffer.count(kind)) for kind in TASK_TYPES}
