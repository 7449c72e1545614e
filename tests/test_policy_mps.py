"""NF4 on Apple's GPUs, as far as a CPU can tell: nothing that Metal lacks is asked for. It was not run there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from policy_contract import PROMPTS, samples_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from azr import plan
from azr.config import Config, ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy import precision
from azr.policy.choice import make_policy
from azr.policy.models import make_tiny_model
from azr.policy.nf4_policy import resolve_precision
from azr.records import Sampling

MODULES = ("attention", "decoding", "generation", "precision")


class LikeMetal(TorchDispatchMode):
    """Refuses float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, found)):
            assert not (isinstance(value, torch.Tensor) and value.dtype == torch.float64), func
        return found


def as_on_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices are made as for Metal, and the kernels that only a CPU has are gone."""
    for module in MODULES:
        monkeypatch.setattr(f"azr.policy.{module}.running_on", lambda: "mps")
    for kernel in ("decoding.partial_attention", "attention.FlashAttention", "attention.DenseAttention"):
        monkeypatch.delattr(f"azr.policy.{kernel}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_and_learning_ask_for_nothing_that_metal_lacks(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -e '.[nf4]'")
    model = ModelConfig(
        name=str(make_tiny_model(tmp_path)), quantization="4bit", style="completion", lora_rank=4, threads=1,
        generation_precision=dtype, update_precision=dtype,
    )  # fmt: skip
    policy = make_policy(model, TrainConfig(learning_rate=1e-2, micro_batch_tokens=300, kl_weight=0.1))
    sampling = Sampling(12, seed=3, stop=("a",))
    expected = policy.generate(PROMPTS, 4, sampling)
    with pytest.raises(AssertionError), LikeMetal():  # as on a CPU: so the mode sees what it should
        policy.generate(PROMPTS, 4, sampling)
    as_on_metal(monkeypatch)
    with LikeMetal():
        groups = policy.generate(PROMPTS, 4, sampling)
        learnt = policy.update(samples_of(groups))
    if dtype == "float32":
        assert [[c.token_ids for c in g.completions] for g in groups] == [
            [c.token_ids for c in g.completions] for g in expected
        ]
    assert learnt["skipped"] == 0.0 and learnt["logprob_gap"] < (1e-4 if dtype == "float32" else 0.05)


def test_a_device_is_chosen_and_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cuda_works", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert precision.choose_device(ModelConfig()).type == "cpu"
    for device in ("cuda", "mps"):
        with pytest.raises(UserError, match=r"model\.device"):
            precision.choose_device(ModelConfig(device=device))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr(precision, "cuda_works", lambda: True)
    found = {device: precision.choose_device(ModelConfig(device=device)).type for device in ("auto", "cpu", "mps")}
    assert found == {"auto": "cuda", "cpu": "cpu", "mps": "mps"}
    assert resolve_precision(ModelConfig(), torch.device("mps")) == "bfloat16"
    with pytest.raises(UserError, match=r"model\.quantization=4bit"):
        make_policy(ModelConfig(device="mps"), TrainConfig())


def test_the_plan_is_made_for_the_device_that_was_asked_for() -> None:
    machine = plan.Machine(True, 48 * plan.GIB)
    packed = ModelConfig(name="Qwen/Qwen3-4B", backend="torch", quantization="4bit")
    cpu, gpu = (
        plan.plan_of(Config(model=packed.model_copy(update={"device": device})), machine) for device in ("auto", "mps")
    )
    assert (cpu.precision, gpu.precision) == ("float32", "bfloat16") and gpu.budget == 36 * plan.GIB
    assert gpu.peak < cpu.peak
    card = plan.Machine(False, 64 * plan.GIB, cuda_memory=24 * plan.GIB)
    kept = plan.plan_of(Config(model=packed.model_copy(update={"device": "cpu"})), card)
    assert kept.budget > 24 * plan.GIB
