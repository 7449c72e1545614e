"""What `azr eval` and its subcommands do. Torch is imported only where a model is evaluated."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from azr.checkpoint import Checkpoint, load_checkpoint
from azr.config import Config, ModelConfig
from azr.errors import UserError
from azr.evaluation import benchmarks, contamination, protocols, results
from azr.evaluation.evaluate import Progress, Subject, evaluate, fingerprint_of, select, selftest, untrained
from azr.evaluation.problems import Benchmark
from azr.evaluation.results import Result
from azr.evaluation.scoring import Scorer, evaluation_executor
from azr.evaluation.solutions import score_solutions
from azr.executor.programs import ProgramSandbox
from azr.paths import user_path
from azr.policy.auto import resolve_model
from azr.policy.base import Policy
from azr.policy.choice import make_policy
from azr.policy.identity import read_identity
from azr.rows import from_json
from azr.store import Store
from azr.terminal import printable
from azr.workspace import Workspace

BASE = ("base", "untrained")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `azr eval` that the configuration has no key for."""

    resume: Path | None = None
    path: Path | None = None  # a benchmark's file, or the folder of all
    style: str = "auto"
    samples: int = 1
    ks: tuple[int, ...] = (1,)
    temperature: float = 0.0
    max_new_tokens: int | None = None
    seed: int = 0
    split: str = "test"
    solutions: Path | None = None
    as_json: bool = False
    samples_file: Path | None = None
    rescore: bool = False


def run(config: Config, workspace: Path, options: Options) -> int:
    """Evaluate, and print the results. Returns the exit status."""
    names = benchmarks.names_of(",".join(config.evaluation.benchmarks))
    if options.solutions is not None and len(names) != 1:
        raise UserError(
            f"--solutions belongs to one benchmark: name it with --benchmark ({', '.join(benchmarks.NAMES)})"
        )
    if max(options.ks) > options.samples and options.solutions is None:
        raise UserError(f"pass@{max(options.ks)} needs as many samples: add --samples {max(options.ks)}")
    if options.samples > 1 and options.temperature == 0:
        raise UserError(
            "several samples a task need a temperature, greedy ones are all the same: add --temperature 0.8"
        )
    if options.split not in ("test", "all"):
        raise UserError(f"--split {options.split}: choose test or all")
    if options.samples_file is not None:
        _write(options.samples_file, (), mode="a")  # before anything takes time
    loaded = [benchmarks.load(name, data_path(config, options.path)) for name in names]  # so is this
    place = Workspace(workspace)
    with Store(place.database) as store, showing() as progress:
        if options.solutions is not None:
            found = [_solutions(config, store, options, loaded[0], progress)]
        else:
            found = _model(config, store, options, loaded, progress)
        _print([result for result, _ in found], config, options.as_json)
        if options.samples_file is not None:
            _write_samples(store, found, options.samples_file)
    return 0


def parse_ks(text: str) -> tuple[int, ...]:
    """The ks of `1,10`. Raises UserError."""
    try:
        ks = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        ks = ()
    if not ks or ks[0] < 1:
        raise UserError(f"--k {text}: give whole numbers such as 1,10")
    return ks


def data_path(config: Config, path: Path | None) -> Path | None:
    return path or (Path(config.evaluation.data_dir) if config.evaluation.data_dir else None)


def _solutions(
    config: Config, store: Store, options: Options, benchmark: Benchmark, progress: Progress
) -> tuple[Result, int]:
    assert options.solutions is not None
    problems = select(benchmark, config.evaluation.max_tasks, "all")
    with evaluation_executor(config.executor) as executor:
        scorer = Scorer(ProgramSandbox(executor))
        return score_solutions(scorer, store, options.solutions, benchmark, problems, ks=options.ks, progress=progress)


def _model(
    config: Config, store: Store, options: Options, loaded: Sequence[Benchmark], progress: Progress
) -> list[tuple[Result, int]]:
    checkpoint = load_checkpoint(options.resume) if options.resume else None
    policy, subject = load_subject(config, store, checkpoint)
    found = []
    with evaluation_executor(config.executor) as executor:
        scorer = Scorer(ProgramSandbox(executor))
        for benchmark in loaded:
            protocol, prompts = protocols.choose(
                benchmark, policy, options.style, options.temperature, options.max_new_tokens, options.seed
            )
            result = evaluate(
                policy,
                scorer,
                store,
                subject,
                protocol,
                prompts,
                select(benchmark, config.evaluation.max_tasks, options.split),
                samples=options.samples,
                ks=options.ks,
                source=benchmark.source,
                rescore=options.rescore,
                progress=progress,
            )
            key = "subject = ? AND benchmark = ? AND protocol_hash = ?"
            [row] = store.query(f"SELECT id FROM evaluations WHERE {key}", subject.name, benchmark.name, protocol.hash)
            found.append((result, row["id"]))
    return found


def load_subject(config: Config, store: Store, checkpoint: Checkpoint | None) -> tuple[Policy, Subject]:
    """The model to evaluate: a checkpoint's (its own configuration counts), or the configured one untrained."""
    if checkpoint is None:
        policy = load_untrained(config)
        return policy, untrained(resolve_model(config)[0].model.name, fingerprint_of(policy))
    own = checkpoint.config.model_copy(update={"model": _pinned(checkpoint.config.model, config.model)})
    policy = _load(own)
    policy.load(checkpoint.path)
    return policy, subject_of(store, checkpoint)


def load_untrained(config: Config) -> Policy:
    config, chosen = resolve_model(config)
    if chosen:
        print(chosen, file=sys.stderr)  # stdout may be JSON
    return _load(config.model_copy(update={"model": _pinned(config.model, config.model)}))


def _load(config: Config) -> Policy:
    return make_policy(config.model, config.train)


def _pinned(model: ModelConfig, current: ModelConfig) -> ModelConfig:
    """The model with the precision that this evaluation asks for, float32 for `auto`: what a training measured to be
    faster on its day must not make a checkpoint's score another protocol's than the untrained model's. Device and
    engine are this evaluation's too: a checkpoint from a GPU can be scored elsewhere.
    """
    asked = current.generation_precision
    precision = "float32" if asked == "auto" else asked
    own = {"generation_precision": precision, "update_precision": precision}
    return model.model_copy(update=own | {"device": current.device, "engine": current.engine})


def subject_of(store: Store, checkpoint: Checkpoint) -> Subject:
    known = store.query("SELECT 1 FROM runs WHERE id = ? AND name = ?", checkpoint.run_id, checkpoint.run_name)
    name = f"{checkpoint.run_name}/step-{checkpoint.step:04d}"
    return Subject(name, checkpoint.run_id if known else None, checkpoint.step)


def _write_samples(store: Store, found: Sequence[tuple[Result, int]], path: Path) -> None:
    lines = (line for result, evaluation in found for line in results.sample_lines(store, evaluation, result))
    _write(path, lines)


def _write(path: Path, lines: Iterable[str], mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: choose another file for the samples") from None


def _print(found: Sequence[Result], config: Config, as_json: bool) -> None:
    if not as_json:
        print(results.table(found, config.targets.references))
    elif len(found) == 1:
        print(json.dumps(found[0].summary()))
    else:
        print(json.dumps({result.benchmark: result.summary() for result in found}))


def compare(
    config: Config, workspace: Path, first: str, second: str, *, force: bool = False, as_json: bool = False
) -> int:
    """Two subjects on every benchmark that is asked for."""
    names = benchmarks.names_of(",".join(config.evaluation.benchmarks))
    with Store.open_readonly(Workspace(workspace).database) as store:
        subjects = named_subjects(config, store, workspace, first, second)
        found = [results.compare(store, name, subjects[0], subjects[1], force) for name in names]
    if as_json:
        summaries = [comparison.summary() for comparison in found]
        print(json.dumps(summaries[0] if len(summaries) == 1 else {s["benchmark"]: s for s in summaries}))
    else:
        print("\n".join(comparison.text() for comparison in found))
    return 0


def named_subjects(config: Config, store: Store, workspace: Path, first: str, second: str) -> tuple[str, str]:
    """The names of two subjects, each given as a checkpoint's folder, as an evaluated name, or as `base`: what the
    other was before training; beside no checkpoint, the configured model. Raises UserError.
    """
    named = {text: _named(store, workspace, text) for text in (first, second) if text not in BASE}
    known = [base for _, base in named.values() if base is not None]
    names = {text: name for text, (name, _) in named.items()}
    for text in {first, second} - set(names):
        names[text] = _base(store, *(known[0] if known else (resolve_model(config)[0].model.name, "")))
    return names[first], names[second]


def _named(store: Store, workspace: Path, text: str) -> tuple[str, tuple[str, str] | None]:
    """A subject's name; and the name and fingerprint of the model that its training began with, if it had one."""
    for folder in (user_path(Path(text)), workspace / text):
        if folder.is_dir():
            checkpoint = load_checkpoint(folder)
            fingerprint = str(read_identity(folder).get("fingerprint", ""))
            return subject_of(store, checkpoint).name, (checkpoint.config.model.name, fingerprint)
    rows = store.query(
        "SELECT config, model FROM evaluations LEFT JOIN runs ON runs.id = run WHERE subject = ? LIMIT 1", text
    )
    if not rows:
        newest = store.query("SELECT DISTINCT subject FROM evaluations ORDER BY id DESC LIMIT 5")
        others = ", ".join(row["subject"] for row in newest) or "nothing else"
        raise UserError(f"{text} is no checkpoint and was never evaluated; known: base, {others}")
    if rows[0]["config"] is None:
        return text, None
    name = from_json(rows[0]["config"])["model"]["name"]
    return text, (name, str(from_json(rows[0]["model"]).get("fingerprint", "")))


def _base(store: Store, model: str, fingerprint: str) -> str:
    """The untrained model as a subject; without a fingerprint the evaluated one, UserError if there are several."""
    name = untrained(model, fingerprint).name
    if fingerprint:
        return name
    subjects = [row["subject"] for row in store.query("SELECT DISTINCT subject FROM evaluations ORDER BY subject")]
    found = [subject for subject in subjects if subject.rpartition(" ")[0] == name]
    if len(found) > 1:
        raise UserError(f"base is not one model: {', '.join(found)}; give one of these names")
    return found[0] if found else name


def check(config: Config, path: Path | None, *, as_json: bool = False) -> int:
    """The reference solutions through the same path as a model's. Returns 1 if one fails."""
    names = benchmarks.names_of(",".join(config.evaluation.benchmarks))
    summaries = {}
    with evaluation_executor(config.executor) as executor, showing() as progress:
        scorer = Scorer(ProgramSandbox(executor))
        for name in names:
            benchmark = benchmarks.load(name, data_path(config, path))
            problems = [p for p in select(benchmark, config.evaluation.max_tasks, "all") if p.reference]
            passed, failed = selftest(scorer, problems, progress)
            summaries[name] = {"tasks": len(problems), "passed": len(passed), "failed": failed}
    if as_json:
        print(json.dumps(summaries))
    for name, found in summaries.items() if not as_json else ():
        print(f"{name}: {found['passed']} of {found['tasks']} reference solutions pass")
        for task, reason in dict(found["failed"]).items():  # type: ignore[call-overload]
            print(f"  {task}: {reason}")
    return int(any(found["failed"] for found in summaries.values()))


def contaminated(config: Config, workspace: Path, path: Path | None, *, as_json: bool = False) -> int:
    """Every self-play program of the store against every benchmark; the scores with and without the problems hit."""
    names = benchmarks.names_of(",".join(config.evaluation.benchmarks))
    summaries = {}
    with Store.open_readonly(Workspace(workspace).database) as store:
        programs = contamination.programs_of(store)
        for name in names:
            benchmark = benchmarks.load(name, data_path(config, path))
            hits = contamination.overlaps(benchmark.problems, programs)
            tasks = sorted({hit.problem for hit in hits})
            summaries[name] = {
                "programs": len(programs),
                "tasks": len(benchmark.problems),
                "hits": [{"task": hit.problem, "kind": hit.kind, "program": hit.program} for hit in hits],
                "scores": results.scores_without(store, name, set(tasks)),
            }
    if as_json:
        print(json.dumps(summaries))
        return 0
    for name, found in summaries.items():
        hit_tasks = {hit["task"] for hit in found["hits"]}  # type: ignore[attr-defined]
        print(f"{name}: {len(hit_tasks)} of {found['tasks']} tasks overlap with {found['programs']} self-play programs")
        for hit in found["hits"]:  # type: ignore[attr-defined]
            print(f"  {hit['task']} ({hit['kind']}): {printable(hit['program'].partition(chr(10))[0][:80])}")
        for score in found["scores"]:  # type: ignore[attr-defined]
            print(f"  {score['subject']}: {score['all']:.1%} with them, {score['without']:.1%} without")
    return 0


@contextmanager
def showing() -> Iterator[Progress]:
    """Progress on stderr: a bar with the time left in a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        phase_shown = ""

        def show(phase: str, done: int, total: int) -> None:
            nonlocal phase_shown, task
            if phase != phase_shown:
                bar.remove_task(task)
                task, phase_shown = bar.add_task(phase, total=total), phase
            bar.update(task, completed=done, total=total)

        yield show


class _Lines:
    """At most a line every so many seconds."""

    SECONDS = 30.0

    def __init__(self) -> None:
        self.phase = ""
        self.started = self.shown = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase != self.phase:
            self.phase, self.started, self.first = phase, now, done
        if now - self.shown < self.SECONDS or done <= self.first:
            return
        self.shown = now
        left = (now - self.started) / (done - self.first) * (total - done)
        print(f"{phase}: {done} of {total}, about {left / 60:.0f} min left", file=sys.stderr, flush=True)
