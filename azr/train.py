"""THE LOOP: one self-play step after another, with checkpoints; what is opened before it and closed after it."""

from __future__ import annotations

import logging
import platform
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

from azr import __version__, buffer, prompts
from azr.checkpoint import FORMAT, ROLLED_BACK, Checkpoint, check_same, load_checkpoint
from azr.config import Config, changed_keys
from azr.config_text import as_options
from azr.errors import UserError
from azr.evaluation.training import Stopped, due, evaluate_during_training, wanted
from azr.executor import Executor, Status, ValidationRequest
from azr.heldout import HeldOut
from azr.plan import planned
from azr.policy.auto import resolve_model
from azr.policy.base import Policy
from azr.policy.choice import make_policy
from azr.selfplay import SelfPlay, play
from azr.store import Run, Store
from azr.terminal import Terminal, View
from azr.tracking import check_tracker, tracker
from azr.workspace import Workspace

log = logging.getLogger(__name__)

RESOLVED = ("generation_precision", "update_precision", "threads")


class Interrupt:
    """The first Ctrl-C lets the running step finish and be saved; the second stops at once."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        with suppress(OSError):  # Ctrl-C ends what reads our output too
            print("\nstopping after this step (Ctrl-C again: stop now, back to the last checkpoint)", file=sys.stderr)

    @contextmanager
    def installed(self) -> Iterator[None]:
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(selfplay: SelfPlay, interrupt: Interrupt) -> None:
    """Play the remaining steps. On return the last finished step is in the store and in a checkpoint."""
    config = selfplay.config.train
    evaluate(selfplay, interrupt)  # the untrained model; after a kill, what is left of the checkpoint's evaluation
    for step in range(selfplay.step + 1, config.steps + 1):
        play(selfplay, step)
        selfplay.step = step
        save = step % config.save_every == 0 or step == config.steps
        if save:
            selfplay.save()
        evaluate(selfplay, interrupt)
        if interrupt.wanted:
            if not save:
                selfplay.save()
            break


def evaluate(selfplay: SelfPlay, interrupt: Interrupt) -> None:
    """Evaluate where the configuration says so. Ctrl-C ends it; what fails in it is noted, and the run goes on."""
    if interrupt.wanted or not due(selfplay.config, selfplay.step):
        return

    def progress(phase: str, done: int, total: int) -> None:
        if interrupt.wanted:
            raise Stopped
        selfplay.progress(done, total)

    selfplay.phase(selfplay.step, "evaluate")
    try:
        results = evaluate_during_training(selfplay.config, selfplay.policy, selfplay.run, selfplay.step, progress)
    except Stopped:
        return
    except Exception as error:
        log.exception("step %d: the evaluation failed", selfplay.step)
        selfplay.run.record_event(selfplay.step, "evaluation", f"failed: {type(error).__name__}: {error}")
        notes = [f"failed ({type(error).__name__}); the traceback is in the log"]
    else:
        notes = [result.line() for result in results]
    for view in selfplay.views:
        for note in notes:
            view.note("evaluation", note)


def main(
    config: Config, *, resume: Path | None, workspace: Path, views: Sequence[View] = (), usual: Config | None = None
) -> int:
    """Train from scratch, or go on from a checkpoint. Returns the exit status. Raises UserError for bad input.

    `usual` is the configuration without options, by which the last line says how to go on; by default the defaults.
    """
    wanted(config)  # a benchmark's name that is wrong would show after the first step only
    check_tracker(config.tracking)
    place, interrupt, asked = Workspace(workspace), Interrupt(), config
    with ExitStack() as stack:
        stack.enter_context(place.lock())  # before the checkpoint is read: the lock mends a half-written models/
        checkpoint = load_checkpoint(resume) if resume else None
        config, chosen = resolve_model(config, checkpoint.config if checkpoint else None)
        if chosen:
            print(chosen)
        if checkpoint:
            _check_checkpoint(checkpoint, config)
        # A resumed run keeps its micro-batch: another one would round its sums otherwise.
        micro_batch, line = planned(config, checkpoint.state["resolved"]["micro_batch_tokens"] if checkpoint else None)
        print(f"memory: {line}")
        store = stack.enter_context(Store(place.database))
        executor = stack.enter_context(Executor(config.executor))
        print(f"executor: {executor.describe()}")
        policy = load_policy(config, checkpoint, micro_batch)
        stack.enter_context(interrupt.installed())
        selfplay = open_run(config, checkpoint, place, store, executor, policy)
        title = f"AZR {__version__} · {selfplay.run.name} · {policy.describe()['name']} · workspace {place.root}"
        selfplay.run.record_event(0, "executor", executor.describe())
        try:
            _log_to(place.log_file(selfplay.run.name))
            sent = stack.enter_context(tracker(config, selfplay.run.name, place.logs))  # may ask: before the live view
            selfplay.views = (stack.enter_context(Terminal(title, config.train.steps)), *views, *sent)
            train(selfplay, interrupt)
        except BaseException as error:
            selfplay.run.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            log.exception("stopped")
            raise
        done = selfplay.step >= config.train.steps
        selfplay.run.finish("finished" if done else "interrupted")
    path = place.checkpoints.latest(selfplay.run.name) or resume
    ended, command = "finished" if done else "interrupted", _command(usual or Config(), asked, selfplay.step, path)
    print(f"{ended} after step {selfplay.step}; go on with: {command}")
    return 0 if done else 130


def _command(usual: Config, asked: Config, step: int, path: Path | None) -> str:
    """What goes on with a run: its checkpoint, more steps if all are done, and what it has otherwise than `usual`."""
    steps = asked.train.steps if step < asked.train.steps else 2 * step
    # Of the dashboard's keys one is a secret, and no other is needed.
    keys = changed_keys(usual, asked, may_change=("train.steps", "dashboard.*", "targets.*"))
    command = f"./run.sh --resume {shlex.quote(str(path))} --set train.steps={steps}"
    return f"{command} {as_options(asked, keys)}".rstrip()


def load_policy(config: Config, checkpoint: Checkpoint | None, micro_batch: int) -> Policy:
    """The configured model. With a checkpoint: its weights, and its resolved precision, threads and micro-batch."""
    resolved = {}
    if checkpoint:
        stored = checkpoint.state["resolved"]
        resolved = {name: stored[name] for name in RESOLVED}
        micro_batch = stored["micro_batch_tokens"]
    train = config.train.model_copy(update={"micro_batch_tokens": micro_batch})
    policy = make_policy(config.model.model_copy(update=resolved), train)
    if checkpoint:
        policy.load(checkpoint.path)
    return policy


def open_run(
    config: Config, checkpoint: Checkpoint | None, place: Workspace, store: Store, executor: Executor, policy: Policy
) -> SelfPlay:
    """A new run with its seed tasks, or the checkpoint's run with everything after the checkpoint rolled back."""
    description = policy.describe()
    resolved = {name: description[name] for name in (*RESOLVED, "micro_batch_tokens", "device")}
    held_out = HeldOut.load(place.held_out)
    if checkpoint:
        state = checkpoint.state
        _check_resolved(state, held_out, resolved)
        store.check_resume(checkpoint.run_id, checkpoint.step, checkpoint.run_name)
        place.checkpoints.claim(checkpoint.run_name, checkpoint.step)
        run = store.resume_run(
            checkpoint.run_id,
            checkpoint.step,
            name=checkpoint.run_name,
            config=config,
            versions=versions(),
            describe=description,
        )
        selfplay = _selfplay(config, place, run, policy, executor, held_out, resolved)
        selfplay.restore(checkpoint.step, state)
        return selfplay
    run = store.start_run(config, versions(), description)
    place.checkpoints.claim(run.name)
    selfplay = _selfplay(config, place, run, policy, executor, held_out, resolved)
    identity = executor.validate([ValidationRequest(prompts.IDENTITY.program, prompts.IDENTITY.inputs)])[0]
    if identity.status is not Status.OK:
        raise RuntimeError(f"the executor cannot run the identity: {identity.status} {identity.reason}")
    for task in buffer.seed_tasks(identity.pairs[0]):
        selfplay.buffer.add(task, step=-1)
    return selfplay


def _selfplay(
    config: Config,
    place: Workspace,
    run: Run,
    policy: Policy,
    executor: Executor,
    held_out: HeldOut,
    resolved: dict[str, Any],
) -> SelfPlay:
    return SelfPlay(
        config, place, run, policy, executor, held_out, resolved, buffer.Buffer(config.tasks.buffer_size), views=()
    )


def _check_checkpoint(checkpoint: Checkpoint, config: Config) -> None:
    """Refuses a checkpoint whose run would not continue, and says how it would."""
    if checkpoint.format_version < FORMAT or checkpoint.foreign:
        has = f" (which has {', '.join(checkpoint.foreign)})" if checkpoint.foreign else ""
        raise UserError(f"{checkpoint.path} was written by another AZR{has}: it can be evaluated, but not resumed")
    if checkpoint.path.parent.name == ROLLED_BACK:
        raise UserError(
            f"{checkpoint.path}: its run went on from an earlier step, without it: it can be evaluated, but not resumed"
        )
    changed = changed_keys(checkpoint.config, config)
    if changed:
        raise UserError(
            f"cannot resume with another configuration: {', '.join(changed)} changed; "
            f"resume with {as_options(checkpoint.config, changed)}, or start a new run"
        )


def _check_resolved(state: dict[str, Any], held_out: HeldOut, resolved: dict[str, Any]) -> None:
    both = state["resolved"], resolved
    own = any(found.get("device") == "metal" for found in both)  # MLX's device is not configured
    check_same(*({_key(name, own): value for name, value in found.items()} for found in both))
    if state["held_out"] != held_out.digest:
        raise UserError("data/heldout.jsonl is not the one this run began with: restore it, or start a new run")


def _key(resolved: str, own_device: bool) -> str:
    """The configuration key of a resolved value; of a device that has none, its name."""
    if resolved == "device" and own_device:
        return resolved
    return ("train." if resolved == "micro_batch_tokens" else "model.") + resolved


def versions() -> dict[str, str]:
    """Versions of everything that a result may depend on."""
    found = {"azr": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in (
        "torch",
        "transformers",
        "peft",
        "safetensors",
        "tokenizers",
        "bitsandbytes",
        "mlx",
        "mlx-lm",
        "vllm",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _log_to(path: Path) -> None:
    logging.lastResort = None  # what has no file to go to is not for the terminal
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): make it yours to write") from error
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, says nothing on the terminal
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
