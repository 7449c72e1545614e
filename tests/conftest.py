"""What tests share: no network, no workspace from outside, an executor, and the way to the benchmark files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_requests import LIMIT
from hypothesis import settings

from azr.config import ExecutorConfig
from azr.executor import Executor

# Fixtures and helpers in one: a test module imports them before pytest takes them in.
pytest.register_assert_rewrite("run_sh_project", "checkpoint_samples")

ROOT = Path(__file__).resolve().parent.parent

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("AZR_WORKSPACE", None)
settings.register_profile("azr", deadline=None)  # a loaded machine is no failure
settings.load_profile("azr")


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder with the benchmarks' published files: AZR_BENCHMARK_DATA, else ../shared/data beside the project."""
    folder = Path(os.environ.get("AZR_BENCHMARK_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no benchmark files in {folder}; set AZR_BENCHMARK_DATA")
    return folder


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One whose limits are reached soon. A module that wants others has a fixture of its own."""
    with Executor(ExecutorConfig(lanes=2, cpu_seconds=LIMIT, memory_mb=128)) as found:
        yield found
