"""The command line. Rooms are imported by the command that needs them, so `--help` imports none of them.

Exit status: 0 done, 1 a command's own "no" (see it), 2 bad input in one line on stderr, 130 interrupted.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from azr.cli_options import (
    BenchmarkOption,
    BenchmarkPathOption,
    ConfigOption,
    DashboardPortOption,
    ExportFormat,
    FileArgument,
    FirstArgument,
    HeldOutTemperature,
    JsonOption,
    MaxTasksOption,
    NoBrowserOption,
    ResumeOption,
    SecondArgument,
    SetOption,
    TrainingPortOption,
)
from azr.errors import UserError
from azr.paths import user_path

if TYPE_CHECKING:
    from azr.config import Config

app = typer.Typer(
    name="azr",
    help="A language model that teaches itself to code, with a Python executor as its only teacher.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
eval_app = typer.Typer(invoke_without_command=True, help="Score a checkpoint, or the untrained model, on benchmarks.")
app.add_typer(eval_app, name="eval")
heldout_app = typer.Typer(no_args_is_help=True, help="Tasks that self-play never sees: make, score, compare.")
app.add_typer(heldout_app, name="heldout")


@app.command()
def train(
    resume: ResumeOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Show the live dashboard.")] = False,
    dashboard_port: DashboardPortOption = None,
    training_port: TrainingPortOption = None,
    no_browser: NoBrowserOption = False,
    benchmark: BenchmarkOption = None,
    max_tasks: MaxTasksOption = None,
) -> int:
    """Train by self-play, from scratch or from a checkpoint."""
    settings = _settings(config, overrides, dashboard_port, training_port, benchmark, max_tasks)
    checkpoint = _checkpoint(resume)
    from azr import train
    from azr.dashboard.beside import showing

    with showing(settings, workspace_root(), dashboard=dashboard, browser=not no_browser) as views:
        usual = None
        with suppress(UserError):  # in a file that --config replaces
            usual = _settings(None, None)
        return train.main(settings, resume=checkpoint, workspace=workspace_root(), views=views, usual=usual)


def _refuse_options_before(context: typer.Context) -> None:
    """Options of `azr eval` itself do not reach a command after them: say so, instead of dropping them."""
    given = [name for name in context.params if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"]
    if given:
        option = next(o for p in context.command.params if p.name == given[0] for o in p.opts)
        raise UserError(f"{option} before {context.invoked_subcommand} has no effect: write it after")


@eval_app.callback()
def evaluate(
    context: typer.Context,
    resume: ResumeOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    benchmark: BenchmarkOption = None,
    max_tasks: MaxTasksOption = None,
    benchmark_path: BenchmarkPathOption = None,
    solutions: Annotated[
        Path | None, typer.Option("--solutions", metavar="FILE", help="Score ready-made solutions (JSON lines).")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Samples a task.", min=1)] = 1,
    k: Annotated[str, typer.Option("--k", metavar="K,...", help="Which pass@k to report.")] = "1",
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.", min=0.0, max=2.0)] = 0.0,
    protocol: Annotated[str, typer.Option("--protocol", help="auto, completion, chat or azr-think.")] = "auto",
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampling.", min=0)] = 0,
    split: Annotated[str, typer.Option("--split", help="test or all; --solutions takes all.")] = "test",
    as_json: JsonOption = False,
    samples_file: Annotated[
        Path | None, typer.Option("--jsonl", metavar="FILE", help="Write every sample as a JSON line.")
    ] = None,
    rescore: Annotated[bool, typer.Option("--rescore", help="Score the stored completions again.")] = False,
) -> int:
    """Score a checkpoint, or the untrained model, on benchmarks. Interrupted, it goes on where it stopped."""
    if context.invoked_subcommand:
        _refuse_options_before(context)
        return 0
    settings = _settings(config, overrides, benchmark=benchmark, max_tasks=max_tasks)
    checkpoint = _checkpoint(resume)
    from azr.evaluation import command

    options = command.Options(
        resume=checkpoint,
        path=benchmark_path,
        style=protocol,
        samples=samples,
        ks=command.parse_ks(k),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        split=split,
        solutions=solutions,
        as_json=as_json,
        samples_file=samples_file,
        rescore=rescore,
    )
    return command.run(settings, workspace_root(), options)


@eval_app.command("compare")
def compare(
    first: FirstArgument,
    second: SecondArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    benchmark: BenchmarkOption = None,
    force: Annotated[bool, typer.Option("--force", help="Compare across protocols.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Compare two evaluated models task by task: gained, lost, exact McNemar test."""
    settings = _settings(config, overrides, benchmark=benchmark)
    from azr.evaluation import command

    return command.compare(settings, workspace_root(), first, second, force=force, as_json=as_json)


@eval_app.command("selftest")
def selftest(
    config: ConfigOption = None,
    overrides: SetOption = None,
    benchmark: BenchmarkOption = None,
    max_tasks: MaxTasksOption = None,
    benchmark_path: BenchmarkPathOption = None,
    as_json: JsonOption = False,
) -> int:
    """Score the benchmarks' own reference solutions; exit 1 if one fails here."""
    settings = _settings(config, overrides, benchmark=benchmark, max_tasks=max_tasks)
    from azr.evaluation import command

    return command.check(settings, benchmark_path, as_json=as_json)


@eval_app.command("contamination")
def contamination(
    config: ConfigOption = None,
    overrides: SetOption = None,
    benchmark: BenchmarkOption = None,
    benchmark_path: BenchmarkPathOption = None,
    as_json: JsonOption = False,
) -> int:
    """Look for benchmark problems among the self-play tasks of this workspace."""
    settings = _settings(config, overrides, benchmark=benchmark)
    from azr.evaluation import command

    return command.contaminated(settings, workspace_root(), benchmark_path, as_json=as_json)


@heldout_app.command("make")
def make_held_out(
    config: ConfigOption = None,
    overrides: SetOption = None,
    programs: Annotated[
        int, typer.Option("--programs", metavar="N", help="Programs that the untrained model proposes.", min=0)
    ] = 64,
    cruxeval: Annotated[
        Path | None, typer.Option("--cruxeval", metavar="FILE", help="Add the programs of this CRUXEval file.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the proposals.", min=0)] = 1,
) -> int:
    """Make data/heldout.jsonl, once, before the training that it is to measure."""
    settings = _settings(config, overrides)
    from azr.evaluation import heldout_command

    return heldout_command.make(settings, workspace_root(), programs, cruxeval, seed)


@heldout_app.command("score")
def score_held_out(
    resume: ResumeOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    temperature: HeldOutTemperature = 0.0,
    as_json: JsonOption = False,
) -> int:
    """Score a checkpoint, or the untrained model, on the held-out tasks. Interrupted, it goes on where it stopped."""
    settings = _settings(config, overrides)
    checkpoint = _checkpoint(resume)
    from azr.evaluation import heldout_command

    return heldout_command.score(settings, workspace_root(), checkpoint, temperature, as_json=as_json)


@heldout_app.command("compare")
def compare_held_out(
    first: FirstArgument,
    second: SecondArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    temperature: HeldOutTemperature = 0.0,
    as_json: JsonOption = False,
) -> int:
    """Compare two scored models task by task: accuracy, parse rate, accuracy among parsed, exact McNemar test."""
    settings = _settings(config, overrides)
    from azr.evaluation import heldout_command

    return heldout_command.compare(settings, workspace_root(), first, second, temperature, as_json=as_json)


@app.command()
def dashboard(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dashboard_port: DashboardPortOption = None,
    training_port: TrainingPortOption = None,
    training_host: Annotated[
        str, typer.Option("--training-host", metavar="HOST", help="Where the training runs.")
    ] = "127.0.0.1",
    no_browser: NoBrowserOption = False,
) -> int:
    """Show a running training, or a finished run's record."""
    settings = _settings(config, overrides, dashboard_port, training_port)
    from azr.dashboard import server

    return server.main(settings.dashboard, workspace_root(), training_host=training_host, browser=not no_browser)


@app.command()
def validate(file: FileArgument = "-", config: ConfigOption = None, overrides: SetOption = None) -> int:
    """Run proposed programs on their inputs: JSON lines in, JSON lines out. Exit status 1 if a line was malformed."""
    from azr.executor.commands import run_lines, validate_stream

    return run_lines(validate_stream, file, _settings(config, overrides).executor)


@app.command()
def grade(file: FileArgument = "-", config: ConfigOption = None, overrides: SetOption = None) -> int:
    """Grade answers to tasks: JSON lines in, JSON lines out. Exit status 1 if a line was malformed."""
    from azr.executor.commands import grade_stream, run_lines

    return run_lines(grade_stream, file, _settings(config, overrides).executor)


@app.command()
def plan(config: ConfigOption = None, overrides: SetOption = None) -> int:
    """Show what a training will need: memory, and time a step. Nothing is loaded. Exit status 1 if it does not fit."""
    from azr.plan_command import run

    return run(_settings(config, overrides))


@app.command()
def export(
    what: Annotated[ExportFormat, typer.Argument(help="An adapter alone, a whole model, or the buffer's tasks.")],
    resume: ResumeOption = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="PATH", help="What to write.")] = None,
) -> int:
    """Export a checkpoint (the newest, if none is given) for other programs: see docs/use-your-model.md."""
    path = _checkpoint(resume)
    from azr.checkpoint import Checkpoints, load_checkpoint

    path = path or Checkpoints(workspace_root() / "models").latest()
    if path is None:
        raise UserError(f"there is no checkpoint in {workspace_root() / 'models'}: train first, or give --resume")
    from azr import export

    return export.run(load_checkpoint(path), what.value, user_path(output) if output else None)


@config_app.command("show")
def show(config: ConfigOption = None, overrides: SetOption = None) -> int:
    """Print the configuration that results from defaults, file and overrides, as commented YAML."""
    from azr.config_text import to_yaml

    print(to_yaml(_settings(config, overrides)), end="")
    return 0


def workspace_root() -> Path:
    """Where models/, data/ and logs/ lie: AZR_WORKSPACE (set by run.sh to the project's root), else this folder."""
    return Path(os.environ.get("AZR_WORKSPACE") or ".").resolve()


def _settings(
    config: Path | None,
    overrides: Sequence[str] | None,
    dashboard_port: int | None = None,
    training_port: int | None = None,
    benchmark: Sequence[str] | None = None,
    max_tasks: int | None = None,
) -> Config:
    """The configuration; options that stand for a key come after the file and before `--set`."""
    from azr.config import load_config

    if config is None:
        shipped = workspace_root() / "config" / "azr_config.yaml"
        config = shipped if shipped.is_file() else None
    names = [name.strip() for entry in benchmark or () for name in entry.split(",")]
    options = {
        "dashboard.port": dashboard_port,
        "dashboard.training_port": training_port,
        "evaluation.benchmarks": json.dumps(names) if names else None,
        "evaluation.max_tasks": max_tasks,
    }
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return load_config(config, [*given, *(overrides or ())])


def _checkpoint(path: Path | None) -> Path | None:
    """A checkpoint's folder, looked for from the caller's folder first, then from the workspace."""
    if path is None:
        return None
    places = [user_path(path), workspace_root() / path]
    for place in places:
        if place.is_dir():
            return place.resolve()
    from azr.checkpoint import Checkpoints

    models = workspace_root() / "models"
    newest = Checkpoints(models).latest()
    hint = f"the newest is {newest}" if newest else f"there is none in {models}"
    raise UserError(f"--resume {path}: no such checkpoint; {hint}")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. What the user can mend is one line on stderr; our own bugs show a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that it lacks ends no run
        sys.stdout.reconfigure(errors="replace" if sys.stdout.isatty() else "backslashreplace")
    try:
        status = app(arguments, prog_name="azr", standalone_mode=False)
    except UserError as error:
        _complain(str(error))
        status = 2
    except typer.TyperException as error:
        if message := error.format_message():  # empty where a bare `azr` has printed its help
            _complain(f"{message} (see azr --help)")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _complain(message: str) -> None:
    print("azr:", " ".join(message.split()), file=sys.stderr)
