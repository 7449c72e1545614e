"""Trainings side by side: arms (what is changed) x seeds, each scored on one held-out set, against each other.

    python benchmarks/arms.py FOLDER --steps 60 --score 30,60 --seeds 0,1,2 --set tasks.types=[deduction,abduction] \\
        controller plain:curriculum.enabled=false form:train.reward=format

An arm is a name, and after a colon what it sets besides `--set`, parted by semicolons. FOLDER must hold `heldout.jsonl`
(`azr heldout make` writes one into a workspace's data/). Every training has a workspace of its own, FOLDER/ARM-SEED.
They run one after another, seed by seed. Killed at any moment, the same command goes on: a training from its newest
checkpoint, a scoring where it stopped. Printed at the end, as Markdown: every score beside the untrained model's, and
each arm against the untrained model and against the first arm, with the seeds' answers pooled (exact McNemar test; the
seeds share their tasks, so read its p-value as that of these very trainings). With `--cruxeval FILE` also how often
each is right on the held-out tasks made of that file's programs, in multiples of the untrained model.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from azr.checkpoint import Checkpoints
from azr.errors import UserError
from azr.evaluation.core import mcnemar
from azr.evaluation.heldout import cruxeval_requests
from azr.evaluation.heldout_scores import Score, benchmark, read
from azr.heldout import HeldOut
from azr.records import TaskType
from azr.store import Store

TYPES: tuple[TaskType, ...] = ("deduction", "abduction")


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    sets: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Arm:
        name, _, sets = text.partition(":")
        if not name or "/" in name:
            raise UserError(f"{text!r} is no arm: write NAME or NAME:SECTION.KEY=VALUE;SECTION.KEY=VALUE")
        return cls(name, tuple(filter(None, sets.split(";"))))


@dataclass(frozen=True, slots=True)
class Training:
    """One arm with one seed, in its workspace."""

    place: Path
    arm: Arm
    seed: int

    def run(self, steps: int, score: Sequence[int], sets: Sequence[str]) -> None:
        """Train to the last step and score the checkpoints, whatever of it is left to do."""
        (self.place / "data").mkdir(parents=True, exist_ok=True)
        held_out = self.place / "data" / "heldout.jsonl"
        if not held_out.exists():
            shutil.copy(self.place.parent / "heldout.jsonl", held_out)
        own = [f"train.steps={steps}", f"train.seed={self.seed}", "train.keep_checkpoints=1000", *sets, *self.arm.sets]
        options = [part for one in own for part in ("--set", one)]
        newest = Checkpoints(self.place / "models").latest()
        if newest is None or newest.name < f"checkpoint-{steps:04}":
            self.azr("train", *options, *(["--resume", str(newest)] if newest else []))
        for step in score:
            if not scores(self.place, step):
                self.azr("heldout", "score", "--resume", str(self.place / "models" / f"checkpoint-{step:04}"))

    def azr(self, *arguments: str) -> None:
        """Run `azr` in the workspace; its output goes to the workspace's file output.log."""
        print(self.place.name, *arguments[:2], file=sys.stderr, flush=True)
        with (self.place / "output.log").open("a") as log:
            environment = os.environ | {"AZR_WORKSPACE": str(self.place)}
            command = [sys.executable, "-m", "azr", *arguments]
            code = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            raise UserError(f"{self.place.name}: azr {arguments[0]} ended with {code}; see {log.name}")


def scores(place: Path, step: int | None) -> dict[TaskType, Score]:
    """Finished greedy scores of a checkpoint, or of the untrained model (None), by task type."""
    if not (place / "data" / "azr.sqlite").exists():
        return {}
    found = {}
    with Store.open_readonly(place / "data" / "azr.sqlite") as store:
        for kind in TYPES:
            rows = store.query(
                "SELECT id FROM evaluations WHERE benchmark = ? AND step IS ? AND result IS NOT NULL "
                "AND json_extract(protocol, '$.temperature') = 0 ORDER BY id",
                benchmark(kind),
                step,
            )
            if rows:
                found[kind] = read(store, rows[-1]["id"], kind)
    return found


Cell = Callable[[Score, Score | None], str]  # of a score and the untrained model's; None where it is that itself


def table(
    trainings: Sequence[Training], untrained: dict[TaskType, Score], steps: Sequence[int], name: str, cell: Cell
) -> str:
    """One row a training and step."""
    lines = [f"| {name} | seed | step | " + " | ".join(TYPES) + " |", "|" + "---|" * (3 + len(TYPES))]
    lines.append("| untrained | | | " + " | ".join(cell(untrained[kind], None) for kind in TYPES) + " |")
    for one in trainings:
        for step in steps:
            found = scores(one.place, step)
            cells = [cell(found[kind], untrained[kind]) for kind in TYPES]
            lines.append(f"| {one.arm.name} | {one.seed} | {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def right(score: Score, before: Score | None) -> str:
    """How many are right, and what that gained and lost."""
    text = f"{len(score.correct)}/{len(score.tasks)} = {len(score.correct) / len(score.tasks):.1%}"
    text += f", parsed {len(score.parsed) / len(score.tasks):.0%}"
    return text if before is None else f"{text}, {paired([(before, score)])}"


def multiple(tasks: frozenset[str]) -> Cell:
    """Of these tasks, by id: how many are right, that in multiples of the untrained model, and how many in form."""

    def cell(score: Score, before: Score | None) -> str:
        correct, parsed = len(score.correct & tasks), len(score.parsed & tasks)
        first, count = len((before or score).correct & tasks), len(score.tasks & tasks)
        times = f"{correct / first:.2f}" if first else "–"
        of_parsed = f"{correct / parsed:.1%}" if parsed else "–"
        return f"{correct}/{count}, {times} times; parsed {parsed / max(1, count):.0%}, right of parsed {of_parsed}"

    return cell


def paired(pairs: Sequence[tuple[Score, Score]]) -> str:
    """What the second of each pair gained and lost against the first, pooled; and the same where both are in form."""
    tasks = [(before, after, before.parsed & after.parsed) for before, after in pairs]
    first = sum(len(before.correct & both) for before, _, both in tasks)
    second = sum(len(after.correct & both) for _, after, both in tasks)
    everything = _counted([(before.correct, after.correct) for before, after in pairs])
    in_form = _counted([(before.correct & both, after.correct & both) for before, after, both in tasks])
    return f"{everything}; both in form {first} → {second} of {sum(len(both) for *_, both in tasks)}: {in_form}"


def _counted(pairs: Sequence[tuple[frozenset[str], frozenset[str]]]) -> str:
    gained = sum(len(after - before) for before, after in pairs)
    lost = sum(len(before - after) for before, after in pairs)
    return f"gained {gained}, lost {lost}, p = {mcnemar(gained, lost):.2g}"


def against(trainings: Sequence[Training], untrained: dict[TaskType, Score], step: int) -> str:
    """Each arm against the untrained model, and the first arm against each other one, over the seeds."""
    arms = list(dict.fromkeys(one.arm.name for one in trainings))
    found = {(one.arm.name, one.seed): scores(one.place, step) for one in trainings}
    seeds = sorted({one.seed for one in trainings})
    lines = []
    for kind in TYPES:
        of = {arm: [found[arm, seed][kind] for seed in seeds] for arm in arms}
        pairs = [(arm, "untrained", [untrained[kind]] * len(seeds)) for arm in arms]
        pairs += [(arms[0], other, of[other]) for other in arms[1:]]
        lines += [
            f"- step {step}, {kind}: {arm} against {other}, seeds {', '.join(map(str, seeds))}: "
            + paired(list(zip(before, of[arm], strict=True)))
            for arm, other, before in pairs
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("arms", nargs="+", help="NAME or NAME:SECTION.KEY=VALUE;SECTION.KEY=VALUE")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--score", default="", help="steps whose checkpoints are scored, such as 30,60 (the last)")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2")
    parser.add_argument("--set", action="append", default=[], help="a key for every arm, as of azr train; repeatable")
    parser.add_argument("--cruxeval", type=Path, help="CRUXEval's file that the held-out set was made with")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    try:
        arms = [Arm.parse(text) for text in given.arms]
        if not (folder / "heldout.jsonl").exists():
            raise UserError(f"{folder / 'heldout.jsonl'} is missing: azr heldout make writes one, to be copied there")
        programs = {request.program for request in cruxeval_requests(given.cruxeval)} if given.cruxeval else set()
        steps = [int(step) for step in given.score.split(",") if step] or [given.steps]
        trainings = [
            Training(folder / f"{arm.name}-{seed}", arm, seed)
            for seed in map(int, given.seeds.split(","))
            for arm in arms
        ]
        for one in trainings:
            one.run(given.steps, steps, given.set)
        first = trainings[0]
        if not scores(first.place, None):
            first.azr("heldout", "score")
        untrained = scores(first.place, None)
        print(table(trainings, untrained, steps, "arm", right))
        print("\n" + "\n".join(against(trainings, untrained, step) for step in steps))
        if programs:
            held_out = HeldOut.load(folder / "heldout.jsonl").tasks
            chosen = frozenset(task.id for task in held_out if task.program in programs)
            print("\n" + table(trainings, untrained, steps, "of CRUXEval", multiple(chosen)))
    except (UserError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
