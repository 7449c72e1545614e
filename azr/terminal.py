"""What a person sees of a run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from azr.records import TASK_TYPES, Task

Numbers = Mapping[str, float]


class View(Protocol):
    """Something that watches a run: the terminal, the dashboard's live stream."""

    def phase(self, step: int, name: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...
    def step(self, step: int, metrics: Numbers, timings: Numbers, newest: Task | None) -> None: ...
    def note(self, kind: str, text: str) -> None: ...


def share(metrics: Numbers, name: str) -> str:
    return f"{metrics[name]:.0%}" if name in metrics else "–"


def number(metrics: Numbers, name: str) -> str:
    return f"{metrics[name]:+.2f}" if name in metrics else "–"


def level(metrics: Numbers, kind: str) -> str:
    name = f"curriculum/level/{kind}"
    return f"{metrics[name]:.1f}" if name in metrics else "–"


def levels(metrics: Numbers) -> str:
    """The level of each task type in their order; nothing without adaptive difficulty."""
    found = [level(metrics, kind) for kind in TASK_TYPES]
    return f"level {'/'.join(found)}  " if set(found) != {"–"} else ""


def duration(seconds: float) -> str:
    """With two digits at least, so that steps of 61 and of 119 seconds do not look alike."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.{int(seconds < 600)}f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Output(Console):
    """Standard output. Where nobody reads it any more, nothing is written: what shows a run does not end it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Terminal:
    """Live view if the console is a terminal, else one line a step. Use as a context manager."""

    def __init__(self, title: str, steps: int, console: Console | None = None) -> None:
        self.console = console or Output(highlight=False)
        self.title, self.steps = title, steps
        self._step, self._phase, self._fraction = 0, "starting", 0.0
        self._metrics: Numbers = {}
        self._timings: Numbers = {}
        self._newest: Task | None = None
        self._durations: list[float] = []
        self._live = Live(console=self.console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal and self.console.file.isatty():  # FORCE_COLOR calls a pipe a terminal
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def phase(self, step: int, name: str) -> None:
        self._step, self._phase, self._fraction = step, name, 0.0

    def progress(self, done: int, total: int) -> None:
        self._fraction = done / max(total, 1)

    def step(self, step: int, metrics: Numbers, timings: Numbers, newest: Task | None) -> None:
        self._step, self._metrics, self._timings = step, metrics, timings
        self._newest = newest or self._newest
        self._durations = [*self._durations[-9:], timings["seconds/step"]]
        self._print(self.line(step, metrics, timings))

    def note(self, kind: str, text: str) -> None:
        style = {"alarm": "bold yellow", "error": "bold red"}.get(kind, "cyan")
        self._print(Text(f"{kind}: {text}", style=style))

    def _print(self, line: Text) -> None:
        """On one line, however long; lost where it cannot be written, as on a full disk."""
        try:
            self.console.print(line, soft_wrap=True)
        except OSError:
            self.console.quiet = True
            self.console.print()  # drops what rich would write again with the next line
            self.console.quiet = False

    def line(self, step: int, metrics: Numbers, timings: Numbers) -> Text:
        """One finished step in one line."""
        return Text(
            f"step {step:>4}/{self.steps}  valid {share(metrics, 'propose/valid'):>4}  "
            f"solved {share(metrics, 'solve/rate'):>4}  {levels(metrics)}"
            f"reward propose {number(metrics, 'reward/propose')} solve {number(metrics, 'reward/solve')}  "
            f"{timings['tokens/s']:,.0f} tokens/s  {duration(timings['seconds/step'])} a step, {self._left()} left"
        )

    def _left(self) -> str:
        if not self._durations:
            return "–"
        return duration((self.steps - self._step) * sum(self._durations) / len(self._durations))

    def _render(self) -> Group:
        bar = Table.grid(padding=(0, 1))
        speed = [Text(f"· {self._timings['tokens/s']:,.0f} tokens/s")] if self._timings else []
        bar.add_row(
            Text(f"step {self._step}/{self.steps}", style="bold"),
            Text(self._phase, style="cyan"),
            ProgressBar(total=1.0, completed=self._fraction, width=30),
            Text(f"{self._left()} left"),
            *speed,
        )
        table = Table.grid(padding=(0, 2))
        adaptive = ["level"] if levels(self._metrics) else []
        table.add_row("", "valid", "solved", "reward propose", "reward solve", *adaptive)
        for kind in TASK_TYPES:
            m = self._metrics
            cells = (share(m, f"propose/valid/{kind}"), share(m, f"solve/rate/{kind}"))
            rewards = (number(m, f"reward/propose/{kind}"), number(m, f"reward/solve/{kind}"))
            table.add_row(Text(kind, style="bold"), *cells, *rewards, *(level(m, kind) for _ in adaptive))
        parts: list[RenderableType] = [bar, table]
        if self._newest is not None:
            pair = self._newest.pairs[0]
            source = f"{self._newest.program}\n\nf({pair.input}) == {pair.output}"[:1200]
            newest: Syntax | Text = Syntax(printable(source), "python", background_color="default")
            parts.append(Panel(newest, title=f"newest task ({self._newest.type})", title_align="left", expand=False))
        return Group(Text(self.title, style="bold"), *parts)


def printable(text: str) -> str:
    """Model-written text without the control characters that could repaint a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)


class Clock:
    """Seconds per phase of one step, and the most memory that the process held at the end of one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.resident = 0  # bytes
        self._last = self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[f"seconds/{name}"] = now - self._last
        self._last = now
        self.resident = max(self.resident, psutil.Process().memory_info().rss)

    def total(self) -> float:
        return time.perf_counter() - self._start
