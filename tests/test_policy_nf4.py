"""The torch policy with a base in 4 bit, on a tiny random model and a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from policy_contract import (
    PROMPTS,
    continues_bit_for_bit,
    samples_of,
    samples_with_the_models_logprobs,
    untrained_leaves_no_trace,
)

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy import memory
from azr.policy.choice import make_policy
from azr.policy.models import make_tiny_model
from azr.policy.nf4_policy import Nf4Policy, resolve_precision
from azr.records import Sample, Sampling

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -e '.[nf4]'")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def make(folder: Path, precision: str = "float32", **train: Any) -> Nf4Policy:
    model = ModelConfig(
        name=str(folder), quantization="4bit", style="completion", lora_rank=4, lora_alpha=8, threads=1,
        generation_precision=precision, update_precision=precision,
    )  # fmt: skip
    policy = make_policy(
        model, TrainConfig(**{"learning_rate": 1e-2, "micro_batch_tokens": 300, "kl_weight": 0.0} | train)
    )
    assert isinstance(policy, Nf4Policy)
    return policy


def sequence_logprobs(policy: Nf4Policy, sample: Sample) -> torch.Tensor:
    """Through Transformers' eager attention, the sequence alone."""
    policy.model.set_attn_implementation("eager")
    logits = policy.model(torch.tensor([sample.prompt_ids + sample.completion_ids])).logits[0]
    policy.model.set_attn_implementation("azr")
    logprobs = logits[len(sample.prompt_ids) - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(sample.completion_ids).unsqueeze(1)).squeeze(1)


def test_the_base_is_packed_and_frozen(tiny: Path) -> None:
    policy = make(tiny)
    packed = [p for p in policy.model.parameters() if p.dtype == torch.uint8]
    assert len(packed) == 2 * 7 and not any(p.requires_grad for p in packed)
    description = policy.describe()
    assert description["quantization"] == "NF4"
    assert description["trained_parameters"] == sum(p.numel() for p in policy.parameters.values())


def test_sampled_logprobs_are_those_of_the_model_with_its_adapter(tiny: Path) -> None:
    policy = make(tiny)
    samples_with_the_models_logprobs(policy, lambda sample: sequence_logprobs(policy, sample).detach().tolist())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_packed_gradient_is_the_naive_one(tiny: Path, checkpointed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CHECKPOINT_FROM", 0 if checkpointed else 1 << 40)
    policy = make(tiny)
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(9, seed=1))))  # so that LoRA's B is not zero
    samples = samples_of(policy.generate(PROMPTS, 4, Sampling(11, seed=7)))
    samples[1] = replace(samples[1], logprobs=tuple(x - 1.5 for x in samples[1].logprobs))
    policy.updater.accumulate(samples)
    packed = {name: p.grad.clone() for name, p in policy.parameters.items() if p.grad is not None}
    policy.optimizer.zero_grad()
    monkeypatch.setattr(memory, "CHECKPOINT_FROM", 1 << 40)
    naive = policy
    if checkpointed:  # eager attention has no layout to come back to
        naive = make(tiny)
        with torch.no_grad():
            for name, parameter in naive.parameters.items():
                parameter.copy_(policy.parameters[name])
    for sample in samples:
        logprobs = sequence_logprobs(naive, sample)
        weight = (logprobs.detach() - torch.tensor(sample.logprobs)).exp().clamp(max=policy.train.importance_cap)
        (-(logprobs * weight).sum() * sample.advantage / len(samples) / len(sample.completion_ids)).backward()
    assert packed.keys() == policy.parameters.keys()
    for name, parameter in naive.parameters.items():
        assert parameter.grad is not None
        assert torch.allclose(packed[name], parameter.grad, rtol=1e-3, atol=1e-6), name


def test_an_update_changes_what_is_sampled_at_once(tiny: Path) -> None:
    policy = make(tiny)
    groups = policy.generate(PROMPTS, 4, Sampling(10, seed=1))
    assert policy.update(samples_of(groups))["skipped"] == 0
    assert policy.generate(PROMPTS, 4, Sampling(10, seed=1)) != groups


def test_the_untrained_model_is_the_one_before_training_and_leaves_no_trace(tiny: Path) -> None:
    untrained_leaves_no_trace(make(tiny))


def test_the_divergence_from_the_untrained_model_is_0_at_first_and_grows(tiny: Path) -> None:
    policy = make(tiny, kl_weight=0.1)
    samples = samples_of(policy.generate(PROMPTS, 4, Sampling(10, seed=1)))
    assert policy.update(samples)["kl"] == pytest.approx(0, abs=1e-6)
    assert policy.update(samples)["kl"] > 1e-3


def test_a_loaded_policy_continues_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    policy, other = make(tiny), make(tiny, seed=5)
    continues_bit_for_bit(policy, other, tmp_path / "saved")
    for name, parameter in policy.parameters.items():
        assert torch.equal(parameter, other.parameters[name])


def test_a_checkpoint_is_loaded_in_another_precision(tiny: Path, tmp_path: Path) -> None:
    policy, other = make(tiny, "bfloat16"), make(tiny)
    metrics = policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(8, seed=1))))
    assert metrics["skipped"] == 0 and metrics["logprob_gap"] < 0.1
    policy.save(tmp_path)
    other.load(tmp_path)
    assert policy.model.get_input_embeddings().weight.dtype == torch.bfloat16
    packed = [dict(p.model.named_parameters()) for p in (policy, other)]
    for name, weight in packed[0].items():
        assert weight.dtype != torch.uint8 or torch.equal(weight, packed[1][name]), name


def test_what_a_base_in_4_bit_cannot_do_is_refused(tiny: Path) -> None:
    model, train = ModelConfig(name=str(tiny), quantization="4bit"), TrainConfig()
    with pytest.raises(UserError, match=r"model\.adapter"):
        make_policy(model.model_copy(update={"adapter": "full"}), train)
    mixed = {"generation_precision": "float32", "update_precision": "bfloat16"}
    with pytest.raises(UserError, match="both the same"):
        make_policy(model.model_copy(update=mixed), train)


@pytest.mark.parametrize(("major", "precision"), [(7, "float32"), (8, "bfloat16")])
def test_only_a_gpu_that_has_bfloat16_takes_it(major: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(major=major))
    assert resolve_precision(ModelConfig(), torch.device("cuda")) == precision
    assert resolve_precision(ModelConfig(), torch.device("cpu")) == "float32"
    assert resolve_precision(ModelConfig(update_precision="bfloat16"), torch.device("cuda")) == "bfloat16"
