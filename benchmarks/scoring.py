"""Scoring against EvalPlus: agreement, and speed, on the same samples in one run.

    python benchmarks/scoring.py humaneval+ --benchmark-path FOLDER --samples samples.jsonl [--limit 300]

The samples are JSON lines {task_id, solution}, such as `azr eval --jsonl` writes of a model; those of HumanEval and
MBPP serve too, as far as the + set has the task. Each is judged by AZR and by EvalPlus's `untrusted_check` (the package
`evalplus`; its ground truth is computed here, by its own functions), in alternating batches, on all cores. Prints
agreement, every difference, and the ratio of the times.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from azr.config import ExecutorConfig
from azr.evaluation import benchmarks
from azr.evaluation.benchmarks.evalplus import restore_types
from azr.evaluation.benchmarks.source import find_file, read_rows
from azr.evaluation.problems import Problem
from azr.evaluation.scoring import Scorer, evaluation_executor
from azr.executor.lanes import available_cores
from azr.executor.programs import ProgramSandbox

BATCH = 32


class Peer:
    """EvalPlus's judge on its own data rows."""

    def __init__(self, name: str, rows: list[dict[str, Any]]) -> None:
        from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
        from evalplus.gen.util import trusted_exec

        self.dataset = name.rstrip("+")
        self.rows = {row["task_id"]: row for row in rows}
        self.truth: dict[str, tuple[list[Any], list[Any], list[float]]] = {}
        self.trusted_exec = trusted_exec
        self.not_none = MBPP_OUTPUT_NOT_NONE_TASKS

    def prepare(self, task: str) -> None:
        """Inputs, expected outputs and times of the reference."""
        row = self.rows[task]
        inputs = [*row["base_input"], *(row["plus_input"] or ())]
        if self.dataset == "mbpp":
            inputs = [restore_types(int(task.split("/")[-1]), args) for args in inputs]
            source = row["canonical_solution"]
        else:
            source = row["prompt"] + row["canonical_solution"]
        entry = row["entry_point"]
        expected, times = self.trusted_exec(
            source, inputs, entry, record_time=True, output_not_none=entry in self.not_none
        )
        self.truth[task] = inputs, expected, times

    def judge(self, task: str, solution: str) -> bool:
        from evalplus.eval import untrusted_check

        row = self.rows[task]
        inputs, expected, times = self.truth[task]
        status, _ = untrusted_check(
            self.dataset, solution, inputs, row["entry_point"], expected, row["atol"], times, fast_check=True
        )
        return bool(status == "pass")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=["humaneval+", "mbpp+"])
    parser.add_argument("--benchmark-path", type=Path, required=True, help="EvalPlus's release file, or its folder")
    parser.add_argument("--samples", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=0)
    arguments = parser.parse_args()
    spec = benchmarks.SPECS[arguments.benchmark]
    benchmark = benchmarks.load(arguments.benchmark, arguments.benchmark_path)
    problems = {problem.id: problem for problem in benchmark.problems}
    problems |= {problem.id.rpartition("/")[2]: problem for problem in benchmark.problems}  # MBPP writes 11 for Mbpp/11
    samples = [
        (problems[row["task_id"]], row["solution"])
        for path in arguments.samples
        for row in read_rows(path)
        if row.get("solution") and row["task_id"] in problems
    ]
    samples = samples[: arguments.limit or None]
    peer = Peer(arguments.benchmark, read_rows(find_file(arguments.benchmark_path, spec.files, arguments.benchmark)))
    print(f"{len(samples)} samples of {arguments.benchmark}, {available_cores()} cores")
    compare(samples, peer)


def compare(samples: list[tuple[Problem, str]], peer: Peer) -> None:
    """Ground truth on both sides first, untimed; then batches in turn."""
    tasks = {problem.id: problem for problem, _ in samples}
    for task in tasks:
        peer.prepare(task)
    ours: list[bool] = []
    theirs: list[bool] = []
    seconds = {"azr": 0.0, "evalplus": 0.0}
    with evaluation_executor(ExecutorConfig()) as executor, ThreadPoolExecutor(available_cores()) as pool:
        scorer = Scorer(ProgramSandbox(executor))
        scorer.score([(problem, problem.reference) for problem in tasks.values()])
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            began = time.perf_counter()
            ours += [score.correct for score in scorer.score(batch)]
            middle = time.perf_counter()
            theirs += pool.map(lambda item: peer.judge(item[0].id, item[1]), batch)
            seconds["azr"] += middle - began
            seconds["evalplus"] += time.perf_counter() - middle
    agreed = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(f"agreement {agreed}/{len(samples)} = {agreed / max(len(samples), 1):.2%}")
    for (problem, solution), a, b in zip(samples, ours, theirs, strict=True):
        if a != b:
            print(json.dumps({"task_id": problem.id, "azr": a, "evalplus": b, "solution": solution}))
    for name, taken in seconds.items():
        print(f"{name}: {taken:.1f} s, {len(samples) / taken:.1f} samples/s")
    print(f"EvalPlus takes {seconds['evalplus'] / seconds['azr']:.2f} times as long")


if __name__ == "__main__":
    main()
