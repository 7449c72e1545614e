"""benchmarks/levels.py: what a level does to proposals."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from azr.buffer import Buffer
from azr.config import Config
from azr.difficulty import difficulty
from azr.executor import Executor
from azr.heldout import HeldOut
from azr.policy.scripted import ScriptedPolicy
from azr.records import Pair, Task

_SPEC = importlib.util.spec_from_file_location("levels", Path(__file__).parent.parent / "benchmarks" / "levels.py")
assert _SPEC and _SPEC.loader
levels: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["levels"] = levels
_SPEC.loader.exec_module(levels)


def replied(prompt: str, number: int) -> str:
    """Copies the program that stands last among the references: what is shown decides what comes."""
    shown = prompt.split("```python\ndef f")[-2].split("\n```")[0]
    program, _, call = shown.rpartition("\n\n")
    return f"{program}\n\n{call}\n```" if number % 4 else " no program"


def test_every_row_has_the_shares_of_its_own_level() -> None:
    config = Config.model_validate(
        {
            "tasks": {
                "types": ["deduction"],
                "prompts": 3,
                "proposals_per_prompt": 4,
                "references": 1,
                "proposal_tokens": 900,
            },
            "curriculum": {"means": ["references", "vacuity"]},
        }
    )
    buffer = Buffer(32)
    for lines in (1, 12):  # an easy and a hard program
        body = "".join(f"    x = x * {i + 2} + {i}\n" for i in range(lines))
        for constant in range(3):
            program = f"def f(x):\n{body}    return x - {constant}"
            buffer.add(Task("deduction", program, (Pair("3", "0", b""),)), 1, 0.5, difficulty(program, None))
    with Executor(config.executor) as executor:
        bench = levels.Bench(config, ScriptedPolicy(replied), buffer, executor, HeldOut())
        low, again, high = (bench.proposals(level, [], 4) for level in (0.0, 0.0, 10.0))
    assert len(low) == 4 * 12 and sum(p.task is None for p in low) == 12
    assert [p.completion.text for p in low] == [p.completion.text for p in again]
    hard = [median(len(p.task.program) for p in found if p.task) for found in (low, high)]
    assert hard[0] * 2 < hard[1]  # nearer to the target is shown, and so comes
    cells = levels.row(10.0, ["vacuity"], high).split(" | ")
    assert cells[:6] == ["| 10", "80", "vacuity", "75%", "0%", "75%"]  # what is copied is a repeat


def test_no_checkpoint_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert levels.main([str(tmp_path / "checkpoint-0001")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_mean_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        levels.main(["checkpoint", "--without", "prompt"])
    assert exit.value.code == 2 and "references" in capsys.readouterr().err
