"""What every policy must do, whatever computes it; and the small samples that their tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from azr.policy.base import Policy
from azr.records import Group, Sample, Sampling

HEADER = "A list of Python functions, each with an input.\n"
PROMPTS = [HEADER + "def f(a): return a\n", HEADER + "def f(a): return a + 1\n# and one more\n", "short"]
ADVANTAGES = [1.0, -0.7, 0.4]


def samples_of(groups: list[Group]) -> list[Sample]:
    rows = [(g, c) for g in groups for c in g.completions]
    return [
        Sample("solve", "deduction", g.prompt_ids, c.token_ids, c.logprobs, 1.0, ADVANTAGES[i % 3])
        for i, (g, c) in enumerate(rows)
    ]


def samples_with_the_models_logprobs(policy: Policy, expected: Callable[[Sample], Sequence[float]]) -> None:
    """After an update, so that the adapter is not a null one. `expected`: log-probabilities by another way."""
    policy.update(samples_of(policy.generate(PROMPTS, 3, Sampling(12, seed=1))))
    groups = policy.generate(PROMPTS, 3, Sampling(12, seed=2))
    assert [group.prompt for group in groups] == PROMPTS
    for sample in samples_of(groups):
        assert sample.logprobs == pytest.approx(expected(sample), abs=2e-4)


def untrained_leaves_no_trace(policy: Policy, prompts: Sequence[str] = PROMPTS) -> None:
    """Inside `untrained` it samples as before any training; afterwards, also after an error, as trained."""
    sampling = Sampling(12, seed=5)
    before = policy.generate(prompts, 2, sampling)
    policy.update(samples_of(before))
    trained = policy.generate(prompts, 2, sampling)
    assert trained != before
    with policy.untrained():
        assert policy.generate(prompts, 2, sampling) == before
    assert policy.generate(prompts, 2, sampling) == trained
    with pytest.raises(ZeroDivisionError), policy.untrained():
        raise ZeroDivisionError
    assert policy.generate(prompts, 2, sampling) == trained


def closes_thoughts(policy: Policy, twin: Policy, expected: Callable[[Sample], Sequence[float]]) -> None:
    """Of two equal policies with tags (`add_thinking_tags`). `expected`: log-probabilities by another way."""
    sampling = Sampling(14, seed=3, chat=True, thinking_tokens=5)
    [open_, without] = policy.generate(["f<think>", "f"], 6, sampling)
    [closing, _] = policy.generate(["\n</think>\n\n", "f"], 1, Sampling(1, chat=True))
    assert {c.forced for c in without.completions} == {(0, 0)}
    closed = [i for i, c in enumerate(open_.completions) if 259 not in c.token_ids[:5] and len(c.token_ids) > 9]
    assert closed
    samples = [replace(samples_of([open_])[i], forced=open_.completions[i].forced) for i in closed]
    for sample in samples:
        assert sample.forced == (5, 5 + len(closing.prompt_ids))
        assert sample.completion_ids[5 : sample.forced[1]] == closing.prompt_ids
        found, wanted = list(sample.logprobs), list(expected(sample))
        del found[5 : sample.forced[1]], wanted[5 : sample.forced[1]]
        assert found == pytest.approx(wanted, abs=2e-4)
    # Whatever the generator is said to have thought of the forced tokens, nothing is learnt from them.
    others = [
        replace(s, logprobs=tuple(x if w else -3.0 for x, w in zip(s.logprobs, s.weights(1.0), strict=True)))
        for s in samples
    ]
    assert others != samples
    updated, same = policy.update(samples), twin.update(others)
    for name in ("loss", "importance_ratio", "importance_capped", "logprob_gap", "entropy", "trained_tokens"):
        assert updated[name] == same[name], name
    assert updated["trained_tokens"] == sum(sum(map(bool, s.weights(1.0))) for s in samples)
    assert updated["importance_ratio"] == pytest.approx(1, abs=1e-3)
    assert policy.generate(PROMPTS, 2, sampling) == twin.generate(PROMPTS, 2, sampling)


def continues_bit_for_bit(policy: Policy, other: Policy, folder: Path) -> None:
    """`other`, made with another seed, loads what `policy` saved; both then sample and learn alike."""
    policy.update(samples_of(policy.generate(PROMPTS, 3, Sampling(8, seed=1))))
    policy.save(folder)
    other.load(folder)
    for seed in (2, 3):
        groups = policy.generate(PROMPTS, 3, Sampling(8, seed=seed))
        assert other.generate(PROMPTS, 3, Sampling(8, seed=seed)) == groups
        assert other.update(samples_of(groups)) == policy.update(samples_of(groups))
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} <= {".safetensors", ".json", ".md"}
