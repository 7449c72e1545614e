"""What became of the tasks in a run: a table, the goals for adaptive difficulty, a page of tasks, and curves.

    python benchmarks/selfplay_report.py STORE [STORE:RUN …] [LABEL=STORE:RUN …]
        [--every 5] [--page 1,15,30,45,60] [--first 5] [--png curves.png]

Reads stores (`data/azr.sqlite`) and prints Markdown. Without RUN it takes the store's newest run. Runs with one LABEL
(the seeds of an arm, say) share a colour. A store of an older version is read as it is: what it does not hold is left
out. Shares are counted from the stored rows, over blocks of `--every` steps. The page shows the first `--first`
accepted tasks of each chosen step in their order of proposal, unedited. The curves need matplotlib (the extra `bench`).
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from azr.errors import UserError
from azr.program import normal_form
from azr.records import TASK_TYPES
from azr.rows import decode_text

Row = dict[str, Any]
Value = float | None
SETTLED = 20  # the solve rate is judged after this step
LOW, HIGH = 0.3, 0.8
EARLY = range(5, 16)  # steps whose difficulty the end is compared with
LAST = 10  # steps that are "the end"
SMOOTH = 5  # steps of the curves' trailing mean


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    metrics: dict[str, Any]  # and timings
    proposals: tuple[Row, ...]  # type, status, program
    tasks: tuple[Row, ...]  # accepted in this step: type, program, pairs, message, solve_rate, difficulty

    @property
    def valid(self) -> list[Row]:
        return [row for row in self.proposals if row["status"] != "invalid"]

    @property
    def forms(self) -> list[str]:
        """Normal forms of the valid proposals with a program of their own (induction borrows its programs)."""
        return [normal_form(row["program"]) for row in self.valid if row["type"] != "induction"]

    @property
    def new_rate(self) -> Value:
        """Mean solve rate of the tasks proposed in this step."""
        return mean(task["solve_rate"] for task in self.tasks)

    def number_of(self, name: str) -> Value:
        return self.metrics.get(name)

    def difficulties(self, name: str) -> list[float]:
        found = (task["difficulty"].get(name) for task in self.tasks)
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class History:
    """One run as this report sees it. `measured`: it told vacuous proposals from others."""

    label: str
    run: str
    seed: int
    steps: tuple[Step, ...]
    measured: bool


def mean(values: Iterable[Value]) -> Value:
    kept = [value for value in values if value is not None]
    return fmean(kept) if kept else None


def share(part: int, whole: int) -> Value:
    return part / whole if whole else None


# --- reading ------------------------------------------------------------------------------------------------------


def read(argument: str) -> History:
    """`[LABEL=]STORE[:RUN]`. Raises UserError for a store or a run that is not there."""
    label, equals, place = argument.rpartition("=")
    store, colon, name = place.rpartition(":")
    path = Path(store if colon else place)
    if not path.is_file():
        raise UserError(f"no database at {path}: give the path of a workspace's data/azr.sqlite")
    # Not through azr.store: that reads databases of its own schema only, and runs of two versions are to be compared.
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda data: decode_text(data.decode())
    try:
        which = "name = ?" if colon else "1 ORDER BY id DESC LIMIT 1"
        run = connection.execute(f"SELECT id, name, seed FROM runs WHERE {which}", [name] if colon else []).fetchone()
        if run is None:
            names = ", ".join(row["name"] for row in connection.execute("SELECT name FROM runs ORDER BY id"))
            raise UserError(f"{path} holds no run {name}; there are: {names or 'none'}")
        steps = _steps(connection, run["id"])
    finally:
        connection.close()
    measured = any("propose/vacuous" in step.metrics for step in steps)
    return History(label if equals else run["name"], run["name"], run["seed"], tuple(steps), measured)


def _steps(connection: sqlite3.Connection, run: int) -> list[Step]:
    def by_step(query: str) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = {}
        for row in connection.execute(f"{query} AND run = ? ORDER BY step, idx", [run]):
            found.setdefault(row["step"], []).append(dict(row))
        return found

    proposals = by_step("SELECT step, type, status, program FROM proposals WHERE true")
    tasks = by_step(
        "SELECT step, type, program, pairs, message, solve_rate, difficulty FROM tasks WHERE origin = 'proposed'"
    )
    for task in (task for rows in tasks.values() for task in rows):
        task["pairs"], task["difficulty"] = json.loads(task["pairs"]), json.loads(task["difficulty"])
    return [
        Step(n, json.loads(metrics) | json.loads(timings), tuple(proposals.get(n, ())), tuple(tasks.get(n, ())))
        for n, metrics, timings in connection.execute(
            "SELECT step, metrics, timings FROM steps WHERE run = ? ORDER BY step", [run]
        )
    ]


# --- the table ----------------------------------------------------------------------------------------------------


def valid(steps: Sequence[Step]) -> Value:
    return share(sum(len(step.valid) for step in steps), sum(len(step.proposals) for step in steps))


def repeated(steps: Sequence[Step]) -> Value:
    found = sum(row["status"] == "repeated" for step in steps for row in step.proposals)
    return share(found, sum(len(step.proposals) for step in steps))


def vacuous(steps: Sequence[Step]) -> Value:
    """Of all proposals. A hollow program that was there before counts as a repeat only."""
    found = sum(row["status"] == "vacuous" for step in steps for row in step.proposals)
    return share(found, sum(len(step.proposals) for step in steps))


def distinct(steps: Sequence[Step]) -> Value:
    """Different normal forms within each step, of the valid proposals."""
    return share(sum(len(set(step.forms)) for step in steps), sum(len(step.forms) for step in steps))


def first_seen(history: History, steps: Sequence[Step]) -> Value:
    """Of the valid proposals in `steps`, those whose normal form the run had not had before, within the step or not."""
    known: set[str] = set()
    chosen = {step.number for step in steps}
    found = total = 0
    for step in history.steps:
        for form in step.forms:
            found += step.number in chosen and form not in known
            total += step.number in chosen
            known.add(form)
    return share(found, total)


def difficulty(steps: Sequence[Step], name: str) -> Value:
    """Median over the tasks accepted in `steps`."""
    found = [value for step in steps for value in step.difficulties(name)]
    return median(found) if found else None


def metric(name: str) -> Callable[[Sequence[Step]], Value]:
    return lambda steps: mean(step.number_of(name) for step in steps)


def per_cent(value: Value) -> str:
    return "–" if value is None else f"{value:.0%}"


def plain(value: Value) -> str:
    return "–" if value is None else f"{value:.3g}"


def thousands(value: Value) -> str:
    return "–" if value is None else f"{value / 1000:.0f}k"


def table(history: History, every: int) -> str:
    """One row for each block of `every` steps; a column without any number is left out."""
    columns: list[tuple[str, Callable[[Sequence[Step]], Value], Callable[[Value], str]]] = [
        ("valid", valid, per_cent),
        ("repeats", repeated, per_cent),
        ("vacuous", vacuous if history.measured else lambda _: None, per_cent),
        ("distinct ASTs of valid", distinct, per_cent),
        ("first seen", lambda steps: first_seen(history, steps), per_cent),
        ("solved", metric("solve/rate"), per_cent),
        *((f"solved: {kind}", metric(f"solve/rate/{kind}"), per_cent) for kind in TASK_TYPES),
        ("structural difficulty", lambda steps: difficulty(steps, "structural"), plain),
        ("dynamic", lambda steps: difficulty(steps, "dynamic"), plain),
        ("entropy, nats", metric("update/entropy"), plain),
        *((f"level: {kind}", metric(f"curriculum/level/{kind}"), plain) for kind in TASK_TYPES),
        ("untrained model solves", metric("solve/untrained"), per_cent),
        ("tokens so far", lambda steps: _tokens_until(history, steps[-1].number), thousands),
        ("seconds a step", metric("seconds/step"), plain),
    ]
    blocks = [history.steps[i : i + every] for i in range(0, len(history.steps), every)]
    kept = []
    for name, value, form in columns:
        cells = [form(value(block)) for block in blocks]
        if set(cells) - {"–"}:
            kept.append([name, *cells])
    names = [f"{block[0].number}–{block[-1].number}" if len(block) > 1 else str(block[0].number) for block in blocks]
    return markdown([["steps", *names], *kept])


def _tokens_until(history: History, number: int) -> Value:
    found = [step.number_of("tokens/sampled") for step in history.steps if step.number <= number]
    return sum(value for value in found if value is not None) if any(found) else None


def markdown(columns: Sequence[Sequence[str]]) -> str:
    """A table, given by columns that begin with their title."""
    rows = list(zip(*columns, strict=True))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]])


# --- the goals ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    text: str
    value: Value
    goal: float
    at_least: bool = True
    form: Callable[[Value], str] = per_cent

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if (self.value >= self.goal if self.at_least else self.value <= self.goal) else "missed"


def bars(history: History, every: int) -> list[Bar]:
    """The goals for adaptive difficulty. Where a goal can be read in two ways, both are shown."""
    steps = history.steps
    settled = [step for step in steps if step.number > SETTLED]
    blocks = [steps[i : i + every] for i in range(0, len(steps), every)]
    lowest = min((found for block in blocks if (found := distinct(block)) is not None), default=None)
    inside = "steps after the 20th with the solve rate in 0.3–0.8"
    return [
        Bar(f"{inside}, all attempts", in_band([step.number_of("solve/rate") for step in settled]), 0.8),
        Bar(f"{inside}, attempts at the step's new tasks", in_band([step.new_rate for step in settled]), 0.8),
        Bar("structural difficulty at the end over steps 5–15", _growth(steps, "structural"), 1.5, form=plain),
        Bar("dynamic difficulty at the end over steps 5–15", _growth(steps, "dynamic"), 1.5, form=plain),
        Bar("vacuous of all proposals", vacuous(steps) if history.measured else None, 0.05, at_least=False),
        Bar("vacuous of proposals after step 20", vacuous(settled) if history.measured else None, 0.05, False),
        Bar(f"distinct normalised ASTs of valid proposals, lowest of the blocks of {every} steps", lowest, 0.7),
        Bar("valid proposals whose AST the run had not had before", first_seen(history, steps), 0.7),
    ]


def in_band(rates: Sequence[Value]) -> Value:
    """Share of the measured rates that lie in LOW to HIGH."""
    found = [rate for rate in rates if rate is not None]
    return share(sum(LOW <= rate <= HIGH for rate in found), len(found))


def _growth(steps: Sequence[Step], name: str) -> Value:
    before = difficulty([step for step in steps if step.number in EARLY], name)
    after = difficulty(steps[-LAST:], name)
    return after / before if before and after is not None else None


def bars_table(histories: Sequence[History], every: int) -> str:
    """Goals down, runs across."""
    found = [bars(history, every) for history in histories]
    goals = [f"{'≥' if bar.at_least else '≤'} {bar.form(bar.goal)}" for bar in found[0]]
    columns = [["goal", *(bar.text for bar in found[0])], ["", *goals]]
    for history, own in zip(histories, found, strict=True):
        columns.append([heading(history), *(f"{bar.form(bar.value)} ({bar.verdict})" for bar in own)])
    return markdown(columns)


# --- the page of tasks --------------------------------------------------------------------------------------------


def page(history: History, numbers: Sequence[int], first: int) -> str:
    """The first accepted tasks of each step, as they are."""
    parts = []
    known = {step.number: step for step in history.steps}
    for number in numbers:
        parts.append(f"#### Step {number}\n")
        tasks = known[number].tasks[:first] if number in known else ()
        if not tasks:
            parts.append("No accepted task.\n" if number in known else "Not in this run.\n")
        parts += [_task_text(task) for task in tasks]
    return "\n".join(parts)


def _task_text(task: Row) -> str:
    rate = "not attempted" if task["solve_rate"] is None else f"solved {task['solve_rate']:.0%}"
    measures = [f"{name} {plain(task['difficulty'].get(name))}" for name in ("structural", "dynamic")]
    head = ", ".join([task["type"], rate, *(measures if task["difficulty"] else [])])
    calls = "\n".join(f"f({pair['input']}) == {pair['output']}" for pair in task["pairs"])
    message = f"# {task['message']}\n" if task["message"] else ""
    fence = "````"  # a program may hold a fence of three; called text, as formatters would edit Python
    return f"{head}\n\n{fence}text\n{task['program']}\n\n{message}{calls}\n{fence}\n"


# --- the curves ---------------------------------------------------------------------------------------------------


def curves(histories: Sequence[History], path: Path) -> None:
    """One chart a number, all runs in each: every step faint, the trailing mean of SMOOTH steps strong."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    charts: list[tuple[str, Callable[[History, Step], Value]]] = [
        ("valid proposals", lambda _, step: valid([step])),
        ("vacuous proposals", lambda history, step: vacuous([step]) if history.measured else None),
        ("distinct ASTs of valid", lambda _, step: distinct([step])),
        ("solve rate", lambda _, step: step.number_of("solve/rate")),
        ("solve rate of new tasks", lambda _, step: step.new_rate),
        ("median structural difficulty", lambda _, step: difficulty([step], "structural")),
        ("median dynamic difficulty", lambda _, step: difficulty([step], "dynamic")),
        ("entropy, nats", lambda _, step: step.number_of("update/entropy")),
        ("mean level", lambda _, step: mean(step.number_of(f"curriculum/level/{kind}") for kind in TASK_TYPES)),
    ]
    labels = list(dict.fromkeys(history.label for history in histories))
    figure, axes = pyplot.subplots(3, 3, figsize=(15, 11), layout="constrained")
    for (name, value), axis in zip(charts, axes.flat, strict=True):
        axis.set_title(name, fontsize=11)
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
        if name.startswith("solve rate"):
            axis.axhspan(LOW, HIGH, color="tab:green", alpha=0.08)
        for history in histories:
            points = [(step.number, found) for step in history.steps if (found := value(history, step)) is not None]
            if not points:
                continue
            x, y = [point[0] for point in points], [point[1] for point in points]
            colour = f"C{labels.index(history.label) % 10}"
            axis.plot(x, y, color=colour, alpha=0.2, linewidth=0.8)
            smooth = [fmean(y[max(0, i - SMOOTH + 1) : i + 1]) for i in range(len(y))]
            axis.plot(x, smooth, color=colour, linewidth=1.6, label=history.label)
        if not axis.lines:
            axis.text(0.5, 0.5, "not recorded", ha="center", transform=axis.transAxes, color="gray")
    handles = [pyplot.Line2D([], [], color=f"C{i % 10}", label=label) for i, label in enumerate(labels)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# --- the whole ----------------------------------------------------------------------------------------------------


def heading(history: History) -> str:
    own = history.run if history.label == history.run else f"{history.label} ({history.run})"
    return f"{own}, seed {history.seed}"


def report(histories: Sequence[History], every: int, numbers: Sequence[int], first: int) -> str:
    parts = ["### Goals\n", bars_table(histories, every) + "\n"]
    for history in histories:
        parts += [f"### {heading(history)}\n", table(history, every) + "\n"]
    for history in histories if numbers else ():
        parts += [f"### Tasks of {heading(history)}: the first {first} accepted of each step, unedited\n"]
        parts.append(page(history, numbers, first))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="[LABEL=]STORE[:RUN]")
    parser.add_argument("--every", type=int, default=5, help="steps in a row of the table")
    parser.add_argument("--page", default="", help="steps whose tasks are shown, with commas between")
    parser.add_argument("--first", type=int, default=5, help="tasks shown of each of these steps")
    parser.add_argument("--png", type=Path, help="where to draw the curves")
    arguments = parser.parse_args()
    try:
        histories = [read(argument) for argument in arguments.runs]
    except UserError as error:
        parser.exit(2, f"{error}\n")
    numbers = [int(number) for number in arguments.page.split(",") if number]
    print(report(histories, arguments.every, numbers, arguments.first))
    if arguments.png:
        curves(histories, arguments.png)


if __name__ == "__main__":
    main()
