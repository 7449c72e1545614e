"""Evaluation while training: the untrained model before the first step, checkpoints every so often, the last step.

A seeded subset by default, so that it takes a modest share of the time; off by default (`evaluation.every: 0`).
"""

from __future__ import annotations

import logging
from pathlib import Path

from azr.config import Config
from azr.errors import UserError
from azr.evaluation import benchmarks, protocols
from azr.evaluation.evaluate import Progress, Subject, evaluate, fingerprint_of, select, untrained
from azr.evaluation.results import Result, table
from azr.evaluation.scoring import Scorer, evaluation_executor
from azr.executor.programs import ProgramSandbox
from azr.policy.base import Policy
from azr.store import Run

SUBSET = 40  # tasks of each benchmark, where evaluation.max_tasks does not say
log = logging.getLogger(__name__)


class Stopped(Exception):
    """Raised by a `progress` that wants the evaluation to end: what it has stored stays, and it can go on later."""


def due(config: Config, step: int) -> bool:
    """Whether `step` is evaluated: 0 (the untrained model), every so many, and the last."""
    every = config.evaluation.every
    return every > 0 and (step % every == 0 or step == config.train.steps)


def wanted(config: Config) -> tuple[str, ...]:
    """The benchmarks of a training; none where it is not evaluated. Raises UserError for an unknown name."""
    return benchmarks.names_of(",".join(config.evaluation.benchmarks)) if config.evaluation.every else ()


def evaluate_during_training(
    config: Config, policy: Policy, run: Run, step: int, progress: Progress = lambda phase, done, total: None
) -> list[Result]:
    """Evaluate the policy as it is after `step` (0: untrained) on the configured benchmarks, into the run's store.

    What is stored already is not repeated. A benchmark whose data cannot be had is logged as an event, and skipped: a
    training does not die of it.
    """
    subject = Subject(f"{run.name}/step-{step:04d}", run.id, step)
    if step == 0:
        subject = untrained(config.model.name, fingerprint_of(policy))
    path = Path(config.evaluation.data_dir) if config.evaluation.data_dir else None
    results = []
    with evaluation_executor(config.executor) as executor:
        scorer = Scorer(ProgramSandbox(executor))
        for name in wanted(config):
            try:
                benchmark = benchmarks.load(name, path)
                protocol, prompts = protocols.choose(benchmark, policy)
            except UserError as error:
                run.record_event(step, "evaluation", f"{name} skipped: {error}")
                log.warning("evaluation on %s skipped: %s", name, error)
                continue
            problems = select(benchmark, config.evaluation.max_tasks or SUBSET)
            result = evaluate(
                policy,
                scorer,
                run.store,
                subject,
                protocol,
                prompts,
                problems,
                source=benchmark.source,
                progress=progress,
            )
            log.info("%s", table([result], config.targets.references))
            results.append(result)
    return results
