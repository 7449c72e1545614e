"""The scripted policy keeps the protocol: stop strings, limits, counter, and no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from azr.errors import UserError
from azr.policy.base import Policy
from azr.policy.scripted import ScriptedPolicy
from azr.records import Sample, Sampling


def test_a_list_is_said_in_turn() -> None:
    policy: Policy = ScriptedPolicy(["one", "two STOP more", "a very long text"])
    first, second = policy.generate(["p", "q"], 2, Sampling(10, stop=("STOP", "more")))
    texts = [(c.text, c.stop_reason) for g in (first, second) for c in g.completions]
    assert texts == [("one", "eos"), ("two ", "stop"), ("a very lon", "length"), ("one", "eos")]
    assert all(len(c.token_ids) == len(c.logprobs) for c in first.completions)


def test_a_function_sees_the_prompt() -> None:
    policy = ScriptedPolicy(lambda prompt, number: f"{prompt}{number}")
    groups = policy.generate(["a", "b"], 2, Sampling(9))
    assert [[c.text for c in g.completions] for g in groups] == [["a0", "a1"], ["b2", "b3"]]


def test_samples_are_recorded_and_the_counter_saved(tmp_path: Path) -> None:
    policy = ScriptedPolicy(["a", "b", "c"])
    policy.generate(["p"], 2, Sampling(5))
    sample = Sample("solve", "deduction", (1,), (2, 3), (-1.0, -1.0), 1.0, 0.5)
    assert policy.update([sample])["trained_tokens"] == 2
    assert policy.update([])["skipped"] == 1
    assert policy.updates == [[sample], []]
    policy.save(tmp_path / "there")
    other = ScriptedPolicy(["a", "b", "c"])
    other.load(tmp_path / "there")
    assert other.generate(["p"], 1, Sampling(5))[0].completions[0].text == "c"
    with pytest.raises(UserError, match=r"policy\.json"):
        other.load(tmp_path)


def test_it_needs_no_torch() -> None:
    code = "import sys, azr.policy.scripted; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
