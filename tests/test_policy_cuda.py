"""The policies on a CUDA GPU against the CPU's. Skipped where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from policy_contract import PROMPTS, continues_bit_for_bit, samples_of, untrained_leaves_no_trace

from azr.config import ModelConfig, TrainConfig
from azr.policy.models import make_tiny_model
from azr.policy.nf4_policy import Nf4Policy
from azr.policy.torch_policy import TorchPolicy
from azr.records import Sampling

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
PACKED = pytest.param(
    "4bit", marks=pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def make(folder: Path, quantization: str = "none", precision: str = "float32", **train: object) -> TorchPolicy:
    model = ModelConfig(
        name=str(folder), style="completion", lora_rank=4, lora_alpha=8, quantization=quantization,
        generation_precision=precision, update_precision=precision,
    )  # fmt: skip
    made = Nf4Policy if quantization == "4bit" else TorchPolicy
    return made(model, TrainConfig(**{"learning_rate": 1e-2, "micro_batch_tokens": 300, "kl_weight": 0.0} | train))


def test_the_gpu_samples_and_learns_as_the_cpu_does(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = make(tiny, kl_weight=0.1)
    monkeypatch.setattr("azr.policy.torch_policy.choose_device", lambda config: torch.device("cpu"))
    cpu = make(tiny, kl_weight=0.1)
    assert (gpu.device.type, cpu.device.type) == ("cuda", "cpu")
    assert gpu.fingerprint == cpu.fingerprint
    for seed in (1, 2, 3):
        groups = cpu.generate(PROMPTS, 4, Sampling(16, seed=seed, stop=("a",)))
        found = gpu.generate(PROMPTS, 4, Sampling(16, seed=seed, stop=("a",)))
        assert [[c.token_ids for c in g.completions] for g in found] == [
            [c.token_ids for c in g.completions] for g in groups
        ]
        mine, theirs = (policy.update(samples_of(groups)) for policy in (gpu, cpu))
        assert mine == pytest.approx(theirs, rel=1e-2, abs=1e-4)
    for name, parameter in cpu.parameters.items():
        assert torch.allclose(gpu.parameters[name].detach().cpu(), parameter, atol=2e-3)


@pytest.mark.parametrize("quantization", ["none", PACKED])
def test_a_graph_replays_what_the_model_computes(
    tiny: Path, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make(tiny, quantization)
    policy.update(samples_of(policy.generate(PROMPTS, 3, Sampling(12, seed=1))))
    sampling = Sampling(24, seed=2)
    replayed = policy.generate(PROMPTS, 3, sampling)
    assert policy.generator.graph is not None
    monkeypatch.setattr("azr.policy.graph_decoding.GraphDecoding._next", lambda decoding, step: decoding._advance())
    assert policy.generate(PROMPTS, 3, sampling) == replayed


def test_graphs_of_many_batches_take_no_more_memory(tiny: Path) -> None:
    policy = make(tiny)
    held = []
    for seed in range(40):
        policy.generate(PROMPTS, 4, Sampling(8, seed=seed))
        held.append(torch.cuda.memory_reserved())
    assert held[-1] <= held[5]


@pytest.mark.parametrize("quantization", ["none", PACKED])
def test_the_untrained_model_is_kept(tiny: Path, quantization: str) -> None:
    untrained_leaves_no_trace(make(tiny, quantization))


@pytest.mark.parametrize("quantization", ["none", PACKED])
def test_bfloat16_learns(tiny: Path, quantization: str) -> None:
    policy = make(tiny, quantization, "auto")
    assert policy.generation_precision == "bfloat16"
    metrics = policy.update(samples_of(policy.generate(PROMPTS, 3, Sampling(12, seed=1))))
    assert metrics["skipped"] == 0 and metrics["logprob_gap"] < 0.1


def test_a_saved_policy_continues(tiny: Path, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        continues_bit_for_bit(make(tiny), make(tiny, seed=5), tmp_path / "saved")
    finally:
        torch.use_deterministic_algorithms(False)
