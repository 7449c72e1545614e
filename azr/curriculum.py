"""Adaptive difficulty: a level per task type, and the small means by which it acts.

The law: the solve rate of a type's new tasks is smoothed; above the band the level rises, below it falls, in proportion
to how far outside the smoothed rate is. A level is a target difficulty (structural and dynamic, see difficulty.py). It
rises no further while the proposed tasks stay far behind that target: where there are no tasks of its difficulty, a
higher level chooses no others. The means are those of `curriculum.means`, each of which can be left out:

- vacuity: hollow tasks, near copies and repeats never become tasks, and earn no more than invalid ones
- band: what is paid for is a solve rate inside the band; a task that everybody or nobody solves costs like a repeat
- data: the prompt names the first argument, and a task whose first argument is of another type, or is never read, is
  invalid, so that tasks are about text and lists as often as about numbers; what the model can hardly write about comes
  up less often
- references: shown are tasks near the target difficulty, solved sometimes, unlike each other, about all types of data
- rehearsal: a share of the solved tasks are buffered ones that were in the band; so are most of those that fill up a
  step with few new tasks
- renewal: what is rehearsed has a new input (renewal.py)
- easing: below level 1 new tasks are solved at a shorter input, the likelier the lower the level

Form comes first: hollow tasks are the first valid ones that a small model can write, and the way to the others. Until
two fifths of a type's proposals are valid, a hollow one costs no more than a wrong answer, and one that nobody solves
costs nothing.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from azr import datatypes
from azr.buffer import Buffer, Entry
from azr.config import CurriculumConfig
from azr.records import TASK_TYPES, Difficulty, Proposal, Task, TaskType
from azr.renewal import growth
from azr.rewards import Shaping, in_band
from azr.vacuity import grams, similarity

TOP = 10.0  # levels go from 0 to TOP
GAIN = 0.5  # levels a step at a smoothed rate of 0 or 1
SMOOTHING = 0.3  # weight of the newest step's solve rate and share of valid proposals
FORMED = 0.4  # smoothed share of valid proposals from which a type has learnt the form
EASING = 1.0  # level below which new tasks are solved at shorter inputs, all of them at level 0
FOLLOWING = 0.75  # share of the target that the step's median task must reach before the level rises
SHORTLIST = 4  # references are chosen among this many times as many
STEEP = 4.0  # a reference twice as hard as the target is 2 ** STEEP times less likely
AGEING = 30  # steps in which the weight of a reference falls by a factor of e
VARIED = 0.3  # share of different outputs among the probed runs from which a task cannot be guessed
HOPELESS = 0.1  # weight of a buffered task whose last solve rate was 0 or 1, beside 1 for one in the band
WRITTEN = 0.2  # share of valid proposals about a type of data from which it is asked for as often as any other
UNWRITTEN = 0.2  # how often, beside that, where no proposal about it is valid


@dataclass(frozen=True, slots=True)
class Level:
    level: float
    rate: float | None  # smoothed solve rate of new tasks; None before the first
    valid: float = 0.0  # smoothed share of valid proposals, hollow ones too

    @property
    def formed(self) -> bool:
        return self.valid >= FORMED


def step(now: Level, rate: float, reach: float, config: CurriculumConfig) -> Level:
    """The law, pure: the level after a step whose new tasks had this mean solve rate and this median `reached`."""
    smooth = rate if now.rate is None else (1 - SMOOTHING) * now.rate + SMOOTHING * rate
    low, high = config.band_low, config.band_high
    change = 0.0
    if smooth > high and reach >= FOLLOWING:
        change = GAIN * (smooth - high) / (1 - high)
    elif smooth < low:
        change = -GAIN * (low - smooth) / low
    return replace(now, level=min(TOP, max(0.0, now.level + change)), rate=smooth)


def target(level: float) -> tuple[float, float]:
    """Structural and dynamic difficulty that a level stands for: from `return x + 1` to the harder half of CRUXEval."""
    return 20.0 + 6.0 * level, 1.3**level


def reached(difficulty: Difficulty | None, level: float) -> float:
    """How much of the target a task reaches, 0 to 1. Guessing among few outputs counts as easy."""
    if difficulty is None:
        return 0.5
    structural, dynamic = target(level)
    share = min(1.0, difficulty.structural / structural)
    if difficulty.dynamic is not None and difficulty.variety is not None:
        guessing = min(1.0, difficulty.variety / VARIED)
        share = math.sqrt(share * min(1.0, difficulty.dynamic / dynamic)) * guessing
    return share


class Curriculum:
    """The controller. Switched off, it changes nothing and only keeps its level where it began."""

    def __init__(self, config: CurriculumConfig, types: Sequence[TaskType] = TASK_TYPES) -> None:
        self.config = config
        self.types = tuple(types)
        self.levels: dict[TaskType, Level] = {kind: Level(config.start_level, None) for kind in self.types}
        # Smoothed share of valid proposals by the type of data that was asked for.
        self.written: dict[str, float] = dict.fromkeys(datatypes.ARGUMENTS.values(), 0.0)

    def uses(self, mean: str) -> bool:
        return self.config.enabled and mean in self.config.means

    def observe(self, proposals: Sequence[Proposal], accepted: Sequence[Proposal], rates: Mapping[str, float]) -> None:
        """Take in a step: all proposals, those that became tasks, and solve rates by task id. What is missing for a
        type leaves it where it is."""
        if not self.config.enabled:
            return
        for kind, now in self.levels.items():
            now = replace(now, valid=_smoothed(now.valid, [p for p in proposals if p.type == kind]))
            own = [(p.task.id, p.difficulty) for p in accepted if p.task is not None and p.type == kind]
            found = [rates[task] for task, _ in own if task in rates]
            if found:
                reach = median(reached(difficulty, now.level) for _, difficulty in own)
                now = step(now, sum(found) / len(found), reach, self.config)
            self.levels[kind] = now
        for data, share in self.written.items():
            asked = [p for p in proposals if p.argument and datatypes.ARGUMENTS[p.argument] == data]
            self.written[data] = _smoothed(share, asked)

    # --- what to propose ---------------------------------------------------------------------------------------------

    def argument(self, kind: TaskType, rng: random.Random) -> str:
        """A name for the first argument, empty for any; seldom one of a type of data that the model can hardly write
        about. Induction borrows its programs."""
        if kind == "induction" or not self.uses("data"):
            return ""
        shares = [min(1.0, self.written[data] / WRITTEN) for data in datatypes.ARGUMENTS.values()]
        weights = [UNWRITTEN + (1 - UNWRITTEN) * share for share in shares]
        return rng.choices(tuple(datatypes.ARGUMENTS), weights)[0]

    def references(self, kind: TaskType, buffer: Buffer, count: int, rng: random.Random, avoid: str = "") -> list[Task]:
        """Tasks to show: drawn near the target difficulty and among the newer, then the most different of those."""
        if not self.uses("references"):
            return buffer.sample(kind, count, rng, avoid)
        pool = [e for e in buffer.entries(kind) if e.step >= 0 and e.task.program != avoid]
        drawn = self._near(pool, self.levels[kind].level, SHORTLIST * count, rng)
        shown = drawn[:1]
        while drawn and len(shown) < min(count, len(drawn)):
            rest = [task for task in drawn if task not in shown]
            shown.append(min(rest, key=lambda task: _nearest(task.program, [s.program for s in shown])))
        return shown

    def program(self, buffer: Buffer, rng: random.Random) -> str | None:
        """A buffered program for an induction proposal."""
        if not self.uses("references"):
            return buffer.sample_program(rng)
        pool = [e for kind in ("deduction", "abduction") for e in buffer.entries(kind) if e.step >= 0]
        level = self.levels["induction"].level if "induction" in self.levels else self.config.start_level
        tasks = self._near(pool, level, 1, rng)
        return tasks[0].program if tasks else None

    def _near(self, pool: Sequence[Entry], level: float, count: int, rng: random.Random) -> list[Task]:
        """A weighted draw without replacement: weights fall with age, with distance to the target and of the solve rate
        to the band, and with how many tasks have the same types of data or the same first argument, so that none crowds
        the others out: a small model's inputs are much like those that it is shown."""
        newest = max((entry.step for entry in pool), default=0)
        kinds = [
            (datatypes.signature(entry.task), datatypes.first_argument(entry.task.pairs[0].input)) for entry in pool
        ]
        same, inputs = Counter(kinds), Counter(signature for signature, _ in set(kinds))
        weights = []
        for entry, kind in zip(pool, kinds, strict=True):
            far = 1.0
            if entry.difficulty is not None:
                far = abs(math.log(max(entry.difficulty.structural, 1.0) / target(level)[0]))
            crowd = math.log(inputs[kind[0]] * same[kind])  # each signature weighs the same, and each input in it
            weights.append(self._promise(entry) - STEEP * far - (newest - entry.step) / AGEING - crowd)
        return [entry.task for entry in _drawn(pool, weights, rng)[:count]]

    def _promise(self, entry: Entry) -> float:
        """Logarithm of how much is left to learn from a buffered task, by its last solve rate."""
        rate = entry.solve_rate
        near = 0.5 if rate is None else in_band(rate, self.config.band_low, self.config.band_high)
        return math.log(HOPELESS + (1 - HOPELESS) * near)

    # --- what to pay for ---------------------------------------------------------------------------------------------

    def shape(self, proposals: Sequence[Proposal]) -> list[Shaping | None]:
        """How each proposal's reward is shaped; None without the controller."""
        if not self.config.enabled:
            return [None] * len(proposals)
        return [self._shape(proposal) for proposal in proposals]

    def _shape(self, proposal: Proposal) -> Shaping:
        now = self.levels[proposal.type]
        return Shaping(
            hollow=self.uses("vacuity") and (bool(proposal.vacuous) or proposal.repeated),
            formed=now.formed,
            band=(self.config.band_low, self.config.band_high) if self.uses("band") else None,
        )

    # --- what to solve -----------------------------------------------------------------------------------------------

    def rehearse(self, buffer: Buffer, solved: int, new: int, rng: random.Random) -> list[Entry]:
        """Buffered tasks for fresh attempts, beside the `new` tasks of a step that solves `solved`.

        A share of tasks whose last solve rate was in the band (widened by an eighth): each type's part, filled up with
        those between 0 and 1, and what is left of `rehearsal` for any type. And as many as are missing, such tasks more
        often.
        """
        pool = [entry for kind in self.types for entry in buffer.entries(kind) if entry.step >= 0]
        if not self.uses("rehearsal"):
            return rng.sample(pool, max(0, min(len(pool), solved - new)))
        kinds = [(entry.task.type, datatypes.first_type(entry.task)) for entry in pool]
        crowds = Counter(kinds)
        weights = [self._promise(e) - math.log(crowds[kind]) / 2 for e, kind in zip(pool, kinds, strict=True)]
        drawn = _drawn(pool, weights, rng)
        chosen: list[Entry] = []
        share = 0.0  # of the types so far
        for kind in self.types:
            before, share = round(share), share + self.config.rehearsal * solved / len(self.types)
            some = [e for e in drawn if e.task.type == kind and e.solve_rate is not None and 0 < e.solve_rate < 1]
            some.sort(key=self._was_in_band, reverse=True)  # stable
            chosen += some[: round(share) - before]
        left = max(0, round(self.config.rehearsal * solved) - len(chosen))
        chosen += [e for e in drawn if e not in chosen and self._was_in_band(e)][:left]
        return chosen + [e for e in drawn if e not in chosen][: max(0, solved - new - len(chosen))]

    def growths(self, new: Sequence[TaskType], again: Sequence[Entry], rng: random.Random) -> list[int | None]:
        """How the input of each task to be solved is to change (renewal.py); None: not at all."""
        easing = self.uses("easing")
        eased = [easing and rng.random() < 1.0 - self.levels[kind].level / EASING for kind in new]
        band = self.config.band_low, self.config.band_high
        rehearsed = [growth(e.solve_rate, band) if self.uses("renewal") else None for e in again]
        return [-1 if one else None for one in eased] + rehearsed

    def _was_in_band(self, entry: Entry) -> bool:
        low, high = self.config.band_low - 0.125, self.config.band_high + 0.125
        return entry.solve_rate is not None and low <= entry.solve_rate <= high

    # --- state -------------------------------------------------------------------------------------------------------

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind, now in self.levels.items() if self.config.enabled else ():
            found[f"curriculum/level/{kind}"] = now.level
            if now.rate is not None:
                found[f"curriculum/rate/{kind}"] = now.rate
            found[f"curriculum/valid/{kind}"] = now.valid
        if self.uses("data"):
            found |= {f"curriculum/written/{data}": share for data, share in self.written.items()}
        return found

    def state(self) -> dict[str, Any]:
        levels = {kind: [now.level, now.rate, now.valid] for kind, now in self.levels.items()}
        return {"levels": levels, "written": dict(self.written)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.levels = {kind: Level(*state["levels"][kind]) for kind in self.types}
        self.written = dict(state["written"])


def _smoothed(share: float, proposals: Sequence[Proposal]) -> float:
    """A smoothed share of valid proposals after these; none leave it where it is."""
    if not proposals:
        return share
    return (1 - SMOOTHING) * share + SMOOTHING * sum(p.task is not None for p in proposals) / len(proposals)


def _drawn(pool: Sequence[Entry], weights: Sequence[float], rng: random.Random) -> list[Entry]:
    """All of the pool in a random order: a weighted draw without replacement, weights as logarithms."""
    # Gumbel's trick: the largest of log weight - log(-log u) are such a draw.
    keys = [weight - math.log(-math.log(rng.uniform(1e-12, 1.0 - 1e-12))) for weight in weights]
    return [pool[i] for i in sorted(range(len(pool)), key=lambda i: keys[i], reverse=True)]


def _nearest(program: str, others: Sequence[str]) -> float:
    return max(similarity(grams(program), grams(other)) for other in others)
