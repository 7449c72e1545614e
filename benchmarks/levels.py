"""What a level does to proposals: one checkpoint proposes at several levels, with the means and without some.

    python benchmarks/levels.py CHECKPOINT [--levels 0,2,4,8] [--rounds 4] [--without references data]

Nothing is trained and nothing is solved. CHECKPOINT's policy and buffer are the same throughout; in each row every type
has the given level. A round is as many proposals as a step of that run. Printed as Markdown: shares of the proposals,
and medians over the tasks that would be accepted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import get_args

from azr.buffer import Buffer
from azr.checkpoint import load_checkpoint
from azr.config import Config, Mean
from azr.curriculum import Curriculum, target
from azr.errors import UserError
from azr.executor import Executor
from azr.heldout import HeldOut
from azr.policy.base import Policy
from azr.proposer import propose, validate
from azr.records import Proposal
from azr.train import load_policy


@dataclass(frozen=True, slots=True)
class Bench:
    config: Config
    policy: Policy
    buffer: Buffer
    executor: Executor
    held_out: HeldOut

    def proposals(self, level: float, without: Sequence[str], rounds: int) -> list[Proposal]:
        """`rounds` steps' proposals with every type at this level, validated."""
        means = tuple(mean for mean in self.config.curriculum.means if mean not in without)
        curriculum = Curriculum(self.config.curriculum.model_copy(update={"means": means}), self.config.tasks.types)
        formed = {kind: replace(now, level=level, valid=1.0) for kind, now in curriculum.levels.items()}
        curriculum.levels = formed
        curriculum.written = dict.fromkeys(curriculum.written, 1.0)
        found = []
        for seed in range(rounds):
            drawn = propose(self.policy, self.buffer, curriculum, self.config.tasks, seed)
            found += validate(drawn, self.executor, self.buffer, self.held_out.covers)
        return found


def row(level: float, without: Sequence[str], proposals: Sequence[Proposal]) -> str:
    """One line of the table."""
    valid = [p for p in proposals if p.task is not None]
    hollow = sum(bool(p.vacuous) for p in valid)
    good = [p.difficulty for p in valid if p.difficulty and not p.vacuous and not p.repeated]
    dynamic = [d.dynamic for d in good if d.dynamic is not None]
    shares = " | ".join(f"{n / len(proposals):.0%}" for n in (len(valid), hollow, sum(p.repeated for p in valid)))
    hard = f"{median(d.structural for d in good):.0f} | {median(dynamic):.1f}" if good and dynamic else "– | –"
    return f"| {level:g} | {target(level)[0]:.0f} | {', '.join(without) or '–'} | {shares} | {hard} | {len(good)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--levels", default="0,2,4,8")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--without", nargs="*", default=[], choices=get_args(Mean), help="means; each is left out alone, at every level"
    )
    given = parser.parse_args(arguments)
    try:
        checkpoint = load_checkpoint(given.checkpoint)
        config = checkpoint.config
        policy = load_policy(config, checkpoint, config.train.micro_batch_tokens)
        buffer = Buffer(config.tasks.buffer_size)
        buffer.restore(checkpoint.state["buffer"])
        held_out = HeldOut.load(given.checkpoint.resolve().parent.parent / "data" / "heldout.jsonl")
        with Executor(config.executor) as executor:
            bench = Bench(config, policy, buffer, executor, held_out)
            print("| level | target | without | valid | vacuous | repeats | structural | dynamic | tasks |")
            print("|" + "---|" * 9)
            for out in [[], *([mean] for mean in given.without)]:
                for level in map(float, given.levels.split(",")):
                    print(row(level, out, bench.proposals(level, out, given.rounds)), flush=True)
    except (UserError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
