"""The options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="CONFIG_PATH", help="Configuration file.", show_default="config/azr_config.yaml"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key; repeatable."),
]
ResumeOption = Annotated[
    Path | None, typer.Option("--resume", metavar="CHECKPOINT", help="A folder such as models/checkpoint-0010.")
]
DashboardPortOption = Annotated[
    int | None, typer.Option("--dashboard-port", metavar="PORT", help="dashboard.port", min=1, max=65535)
]
TrainingPortOption = Annotated[
    int | None, typer.Option("--training-port", metavar="PORT", help="dashboard.training_port", min=1, max=65535)
]
NoBrowserOption = Annotated[bool, typer.Option("--no-browser", help="Do not open the dashboard in a browser.")]
BenchmarkOption = Annotated[
    list[str] | None,
    typer.Option("--benchmark", metavar="BENCHMARK", help="evaluation.benchmarks; repeatable, or comma-separated."),
]
MaxTasksOption = Annotated[
    int | None, typer.Option("--max-tasks", metavar="N", help="evaluation.max_tasks: a seeded subset.", min=1)
]
BenchmarkPathOption = Annotated[
    Path | None,
    typer.Option("--benchmark-path", metavar="FILE|FOLDER", help="Local data, in the benchmark's published format."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
FirstArgument = Annotated[
    str, typer.Argument(metavar="A", help="A checkpoint's folder, base, or an evaluated subject.")
]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The same; B is held against A.")]
HeldOutTemperature = Annotated[
    float, typer.Option("--temperature", help="0 is greedy; else one answer a task is drawn.", min=0, max=2)
]
FileArgument = Annotated[str, typer.Argument(metavar="[FILE|-]", help="JSON lines; - is standard input.")]


class ExportFormat(StrEnum):
    peft = "peft"
    mlx = "mlx"
    merged = "merged"
    gguf = "gguf"
    tasks = "tasks"
