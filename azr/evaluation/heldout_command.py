"""What `azr heldout make`, `score` and `compare` do. Torch is imported only where a model is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from azr.checkpoint import load_checkpoint
from azr.config import Config
from azr.errors import UserError
from azr.evaluation import heldout, heldout_scores
from azr.evaluation.command import load_subject, load_untrained, named_subjects, showing
from azr.evaluation.copying import copier
from azr.executor import Executor
from azr.heldout import HeldOut
from azr.records import Task
from azr.store import Store
from azr.workspace import Workspace


def make(config: Config, workspace: Path, programs: int, cruxeval: Path | None, seed: int) -> int:
    """Make the workspace's held-out set, and say what it holds."""
    place = Workspace(workspace)
    with place.lock(), Executor(config.executor) as executor, showing() as progress:
        tasks = heldout.build(
            lambda: load_untrained(config),
            executor,
            config,
            place.held_out,
            programs,
            cruxeval,
            seed,
            lambda done, total: progress("proposing", done, total),
        )
    print(f"{place.held_out}: {_described(tasks)}")
    return 0


def score(config: Config, workspace: Path, resume: Path | None, temperature: float, *, as_json: bool = False) -> int:
    """Score the checkpoint, or the untrained model, on the workspace's held-out set."""
    place = Workspace(workspace)
    tasks = HeldOut.load(place.held_out).tasks
    if not tasks:
        raise UserError(f"no held-out set at {place.held_out}: make one with azr heldout make")
    checkpoint = load_checkpoint(resume) if resume else None
    settings = checkpoint.config.tasks if checkpoint else config.tasks
    with Store(place.database) as store, Executor(config.executor) as executor, showing() as progress:
        policy, subject = load_subject(config, store, checkpoint)
        found = heldout_scores.score(
            policy,
            executor,
            store,
            tasks,
            settings,
            subject,
            lambda done, total: progress("answering", done, total),
            temperature,
        )
        copied = copier(tasks, executor)
    if as_json:
        print(json.dumps({kind: score.summary() | {"copier": copied[kind][0]} for kind, score in found.items()}))
        return 0
    print(f"{subject.name} on {_described(tasks)}; {_drawn(temperature)}, 95% intervals")
    for kind, score in found.items():
        right, total = copied[kind]
        print(f"{kind}: {score.line()}; who only copies: {right}/{total} = {right / total:.1%}")
    return 0


def compare(
    config: Config, workspace: Path, first: str, second: str, temperature: float, *, as_json: bool = False
) -> int:
    """Two scored subjects, task by task, per task type."""
    place = Workspace(workspace)
    kinds = {task.type for task in HeldOut.load(place.held_out).tasks}
    if not kinds:
        raise UserError(f"no held-out set at {place.held_out}: make one with azr heldout make")
    with Store.open_readonly(place.database) as store:
        subjects = named_subjects(config, store, workspace, first, second)
        found = [heldout_scores.compare(store, kind, *subjects, temperature) for kind in heldout.TYPES if kind in kinds]
    if as_json:
        print(json.dumps({comparison.before.type: comparison.summary() for comparison in found}))
    else:
        print("\n".join(comparison.text() for comparison in found))
    return 0


def _drawn(temperature: float) -> str:
    return f"one answer drawn at temperature {temperature:g}" if temperature else "greedy"


def _described(tasks: Sequence[Task]) -> str:
    counts = ", ".join(f"{sum(task.type == kind for task in tasks)} {kind}" for kind in heldout.TYPES)
    return f"{len({task.program for task in tasks})} held-out programs ({counts} tasks), set {HeldOut(tasks).digest}"
