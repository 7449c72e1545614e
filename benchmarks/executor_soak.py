"""A long run of the executor: does anything leak? A million executions by default, resumable.

    .venv/bin/python benchmarks/executor_soak.py [--executions 1000000] [--state soak.json]

A mix of good, failing, hanging, greedy and hostile programs. After every block it writes the state (executions done,
processes, descriptors, resident memory of this process and of each zygote, the programs' temporary files), so that it
can be stopped at any time and goes on where it was. Ends with exit code 1 if anything grew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from azr.config import ExecutorConfig
from azr.executor import AbductionRequest, Executor, InductionRequest, Status, ValidationRequest, encode
from azr.records import Pair

BLOCK = 5000
PROGRAMS = {  # each with how often it comes, in a thousand
    "def f(a):\n    return a + {i} - {i}": (600, Status.OK),
    "def f(a):\n    return {{str(a): [a, {i}]}}": (200, Status.OK),
    "def f(a):\n    return sorted({{a, {i}}})": (100, Status.OK),
    "def f(a):\n    return 1 // (a - a)  # {i}": (40, Status.EXCEPTION),
    "def f(a) return {i}": (20, Status.SYNTAX_ERROR),
    "import random\ndef f(a): return random.random() + {i}": (10, Status.NONDETERMINISTIC),
    "import os\ndef f(a): os._exit({i} % 7)": (10, Status.CRASHED),
    "def f(a): return open('/etc/passwd').read()  # {i}": (10, Status.FORBIDDEN),
    "def f(a): return [0] * 10 ** 10  # {i}": (8, Status.OUT_OF_MEMORY),
    "def f(a):\n    while True: pass  # {i}": (2, Status.TIMEOUT),
}


def requests(start: int) -> tuple[list[ValidationRequest], list[Status]]:
    """The block of programs from number `start` on, and how each must end."""
    wheel = [(text, status) for text, (share, status) in PROGRAMS.items() for _ in range(share)]
    chosen = [wheel[(start + i) * 367 % len(wheel)] for i in range(BLOCK // 2)]  # validation runs each twice
    programs = [text.format(i=start + i) for i, (text, _) in enumerate(chosen)]
    return [ValidationRequest(program, ("3",)) for program in programs], [status for _, status in chosen]


def block(executor: Executor, start: int) -> int:
    """Run one block; returns how many processes it took at least."""
    asked, expected = requests(start)
    found = executor.validate(asked)
    for request, result, status in zip(asked, found, expected, strict=True):
        assert result.status is status, (request, result)
    pair = Pair("3", "4", encode(4))
    verdicts = executor.grade(
        [InductionRequest(f"def f(a): return a + 1 - {start} + {start}", (pair,))] * 50
        + [AbductionRequest("def f(a): return a + 1", encode(4), ("3", "2", "x"))] * 50
    )
    assert all(verdict[0].correct for verdict in verdicts)
    good = sum(status is Status.OK for status in expected)
    return len(asked) + good + 100


def snapshot(executor: Executor) -> dict[str, Any]:
    process = psutil.Process()
    children = process.children(recursive=True)
    return {
        "processes": len(children),
        "zombies": sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
        "descriptors": process.num_fds(),
        "judge_mib": round(process.memory_info().rss / 2**20, 1),
        "largest_zygote_mib": round(max(child.memory_info().rss for child in children) / 2**20, 1),
        "temporary_files": temporary_files({child.uids().real for child in children}),
        "lanes": executor.describe().split(",")[0],
    }


def temporary_files(owners: set[int]) -> int:
    """Of the users that programs run as; run this as root, and other people's files are not among them."""
    count = 0
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                count += entry.stat(follow_symlinks=False).st_uid in owners
    return count


def main(executions: int, path: Path) -> int:
    state: dict[str, Any] = {"done": 0, "seconds": 0.0, "snapshots": []}
    if path.exists():
        state = json.loads(path.read_text())
    with Executor(ExecutorConfig(cpu_seconds=0.4)) as executor:
        block(executor, 0)  # caches fill and the zygote of the third world comes up, before anything is compared
        first = snapshot(executor)
        while state["done"] < executions:
            started = time.perf_counter()
            state["done"] += block(executor, state["done"])
            state["seconds"] += time.perf_counter() - started
            last = snapshot(executor)
            state["snapshots"] = [*state["snapshots"][-200:], {"done": state["done"], **last}]
            path.write_text(json.dumps(state))
            print(f"{state['done']} executions, {state['done'] / state['seconds']:.0f} a second, {last}", flush=True)
        last = snapshot(executor)
    grown = [name for name in ("processes", "zombies", "descriptors") if last[name] != first[name]]
    grown += ["temporary_files"] if last["temporary_files"] > first["temporary_files"] else []
    grown += [name for name in ("judge_mib", "largest_zygote_mib") if last[name] > first[name] + 8]
    print("grown: " + (", ".join(grown) or "nothing"))
    return bool(grown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--state", type=Path, default=Path("soak.json"))
    arguments = parser.parse_args()
    sys.exit(main(arguments.executions, arguments.state))
