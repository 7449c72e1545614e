"""What a run prints: step by step, and the live view."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from azr.records import Pair, Task
from azr.terminal import Output, Terminal, duration
from azr.train import Interrupt

METRICS = {"propose/valid": 0.5, "solve/rate": 0.25, "reward/propose": 0.1, "reward/solve": -0.2}
LEVELS = {"curriculum/level/deduction": 1.25, "curriculum/level/abduction": 3.0, "curriculum/level/induction": 0.0}
TIMINGS = {"seconds/step": 20.0, "tokens/s": 500.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (61.6, "62 s"), (91, "1.5 min"), (119, "2.0 min"), (630, "10 min"), (690, "12 min"), (5400, "1.5 h")],
)
def test_a_duration_keeps_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def shown(metrics: dict[str, float], live: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    terminal = Terminal("a run", 10, console)
    terminal.step(1, metrics, TIMINGS, None)
    if live:
        console.print(terminal._render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_line_of_a_step_names_the_level_of_each_type() -> None:
    assert "solved  25%  level 1.2/3.0/0.0  reward" in shown(METRICS | LEVELS)
    assert "level" not in shown(METRICS)


def test_the_live_view_has_a_column_of_levels_only_where_there_are_any() -> None:
    table = shown(METRICS | LEVELS, live=True).splitlines()
    assert any("reward solve" in line and line.rstrip().endswith("level") for line in table)
    assert any(line.startswith("abduction") and line.rstrip().endswith("3.0") for line in table)
    assert "level" not in shown(METRICS, live=True)


def test_the_live_view_shows_where_the_run_is() -> None:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    terminal = Terminal("a run", 10, console)
    assert isinstance(console.file, io.StringIO)

    def view() -> str:
        assert isinstance(console.file, io.StringIO)
        console.file.seek(0)
        console.file.truncate()
        console.print(terminal._render())
        return console.file.getvalue()

    terminal.phase(1, "propose")
    first = view()
    assert "step 1/10 propose" in first and "– left" in first and "tokens/s" not in first
    terminal.progress(1, 4)
    bars = view().count("━")
    terminal.progress(4, 4)
    assert view().count("━") >= bars > 0
    hostile = Task("deduction", "def f(x):\n    return '\x1b[2J\x07'", (Pair("1", "'\x9b'", b""),))
    terminal.step(1, METRICS, TIMINGS, hostile)
    terminal.phase(2, "solve")
    second = view()
    assert "step 2/10 solve" in second and "160 s" not in second and "2.7 min left" in second  # 8 steps of 20 s
    assert "500 tokens/s" in second and "newest task (deduction)" in second and "f(1) ==" in second
    assert not {"\x1b", "\x07", "\x9b"} & set(second)
    terminal.step(2, METRICS, TIMINGS, None)
    assert "newest task" in view()  # the last one stays


def test_a_line_is_one_line_and_no_live_view_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes any file for a terminal
    with (tmp_path / "log").open("w") as file, Terminal("a run", 10, Output(file=file, width=80)) as terminal:
        terminal.step(1, METRICS | LEVELS, TIMINGS, None)
        terminal.phase(2, "propose")
    [line] = (tmp_path / "log").read_text().splitlines()
    assert "step" in line and "left" in line and "\x1b[?25l" not in line  # which hides the cursor


def test_output_that_cannot_be_written_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the `tee` that a run was piped into before the run has saved its last step."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        terminal = Terminal("a run", 10, Output(file=pipe))
        for step in (1, 2):
            terminal.step(step, METRICS, TIMINGS, None)
        terminal.note("alarm", "nothing is solved")
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr("sys.stderr", open(writing, "w", buffering=1))  # noqa: SIM115 (closed below, where it may fail)
    interrupt = Interrupt()
    interrupt(2, None)
    assert interrupt.wanted
    with pytest.raises(BrokenPipeError):
        __import__("sys").stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_below_the_output_ends_no_run() -> None:
    full = open("/dev/full", "w")  # noqa: SIM115 (closing it fails)
    terminal = Terminal("a run", 10, Output(file=full))
    terminal.step(1, METRICS, TIMINGS, None)
    with pytest.raises(OSError, match="No space"):
        full.close()
    written = io.StringIO()
    terminal.console.file = written  # there is space again: no line comes twice
    terminal.step(2, METRICS, TIMINGS, None)
    assert written.getvalue().count("step") == 2  # "step 2", and "a step"
