"""What a run prints: the levels of adaptive difficulty where there are any."""

from __future__ import annotations

import io

from rich.console import Console

from azr.terminal import Terminal

METRICS = {"propose/valid": 0.5, "solve/rate": 0.25, "reward/propose": 0.1, "reward/solve": -0.2}
LEVELS = {"curriculum/level/deduction": 1.25, "curriculum/level/abduction": 3.0, "curriculum/level/induction": 0.0}
TIMINGS = {"seconds/step": 20.0, "tokens/s": 500.0}


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
