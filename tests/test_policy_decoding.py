"""The decoding for GPUs, with its fixed shapes, against the decoding for CPUs. Here without a graph, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
from policy_contract import PROMPTS

from azr.config import ModelConfig, TrainConfig
from azr.policy import generation
from azr.policy.decoding import DecodeLayout
from azr.policy.graph_decoding import GraphDecoding
from azr.policy.models import make_tiny_model
from azr.policy.torch_policy import TorchPolicy
from azr.records import Group, Sampling


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> TorchPolicy:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    model = ModelConfig(
        name=str(folder), style="completion", threads=1, generation_precision="float32", update_precision="float32"
    )
    return TorchPolicy(model, TrainConfig())


def agree(ours: list[Group], theirs: list[Group]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.prompt_ids == b.prompt_ids
        for mine, other in zip(a.completions, b.completions, strict=True):
            assert (mine.token_ids, mine.text, mine.stop_reason) == (other.token_ids, other.text, other.stop_reason)
            assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(14, seed=3),
        Sampling(14, temperature=0.0),
        Sampling(1, seed=1),
        Sampling(20, temperature=0.7, seed=4, stop=("a", "e")),
    ],
)
def test_fixed_shapes_sample_the_same(policy: TorchPolicy, monkeypatch: pytest.MonkeyPatch, sampling: Sampling) -> None:
    moving = policy.generate(PROMPTS, 5, sampling)
    monkeypatch.setattr(generation, "MovingDecoding", GraphDecoding)
    agree(policy.generate(PROMPTS, 5, sampling), moving)


def test_groups_cut_in_two_keep_their_rows(policy: TorchPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.generator, "max_rows", 3)  # groups of 5 are cut into 3 and 2
    sampling = Sampling(9, seed=2)
    moving = policy.generate(PROMPTS, 5, sampling)
    monkeypatch.setattr(generation, "MovingDecoding", GraphDecoding)
    agree(policy.generate(PROMPTS, 5, sampling), moving)


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])  # several are padded, one is not
def test_plain_products_sample_as_the_kernel_does(
    policy: TorchPolicy, monkeypatch: pytest.MonkeyPatch, prompts: list[str]
) -> None:
    sampling = Sampling(16, seed=5)
    flash = policy.generate(prompts, 5, sampling)
    monkeypatch.setattr(DecodeLayout, "_flash", DecodeLayout._dense)
    agree(policy.generate(prompts, 5, sampling), flash)


def test_progress_comes_to_its_end(policy: TorchPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "MovingDecoding", GraphDecoding)
    seen: list[tuple[int, int]] = []
    policy.generate(PROMPTS, 2, Sampling(6, seed=2), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (36, 36)


@pytest.mark.parametrize("attend", [DecodeLayout._flash, DecodeLayout._dense])
def test_prompts_without_rows_leave_the_batch_and_change_no_other(
    policy: TorchPolicy, monkeypatch: pytest.MonkeyPatch, attend: Any
) -> None:
    prompts = [f"{i}{'ab ' * i}" for i in range(12)]
    sampling = Sampling(24, temperature=0.0, stop=("a", "e", "o"))
    alone = [policy.generate([prompt], 1, sampling)[0] for prompt in prompts]
    lengths = [len(group.completions[0].token_ids) for group in alone]
    assert len(set(lengths)) > 3, "all end at once: nothing is tested"
    seen: list[tuple[int, int]] = []
    begin = DecodeLayout.begin

    def spy(self: DecodeLayout, step: int, rows: int) -> None:
        begin(self, step, rows)
        seen.append((self.items, rows))

    monkeypatch.setattr(DecodeLayout, "begin", spy)
    monkeypatch.setattr(DecodeLayout, "_flash", attend)
    agree(policy.generate(prompts, 1, sampling), alone)
    assert all(items == rows for items, rows in seen) and seen[-1][0] < len(prompts)
