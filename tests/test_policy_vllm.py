"""Sampling by vLLM: what is asked of it and what is made of its answers. The engine is a stand-in with the interface
that vLLM documents; the real one was not run (docs/hardware.md)."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from policy_contract import PROMPTS, samples_of

from azr import plan
from azr.config import Config, ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy.choice import make_policy
from azr.policy.models import make_tiny_model
from azr.policy.vllm_policy import VllmPolicy
from azr.records import Sampling

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -e '.[nf4]'")


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class SamplingParams:
    """The documented arguments that are used; any other is an error."""

    n: int
    temperature: float
    top_p: float
    seed: int
    logprobs: int
    max_tokens: int
    stop: list[str]
    stop_token_ids: list[int]
    skip_special_tokens: bool
    spaces_between_special_tokens: bool


class LLM:
    """Answers every prompt with the same tokens, last completion first, and remembers what it was asked."""

    newest: LLM
    tokens: tuple[int, ...] = (1, 2, 3, 4, 5, 6)

    def __init__(
        self, *, model: str, dtype: str, quantization: str, generation_config: str, max_model_len: int,
        gpu_memory_utilization: float, enable_sleep_mode: bool, logprobs_mode: str, seed: int, enable_lora: bool,
        max_loras: int, max_lora_rank: int,
    ) -> None:  # fmt: skip
        config = json.loads((Path(model) / "config.json").read_text())
        assert max_model_len <= config["max_position_embeddings"] and dtype == "bfloat16"
        assert enable_sleep_mode and enable_lora and max_loras == 1 and 0 < gpu_memory_utilization < 1
        self.asked = (quantization, generation_config, logprobs_mode, seed, max_lora_rank)
        self.asleep = False
        self.calls: list[tuple[list[Any], list[Any], Any]] = []
        LLM.newest = self

    def sleep(self, level: int) -> None:
        assert level == 1
        self.asleep = True

    def wake_up(self) -> None:
        self.asleep = False

    def generate(self, prompts: list[Any], parameters: list[Any], *, lora_request: Any, use_tqdm: bool) -> list[Any]:
        assert not self.asleep and not use_tqdm and len(prompts) == len(parameters)
        if lora_request is not None:
            assert (Path(lora_request.lora_path) / "adapter_model.safetensors").exists()
        self.calls.append((prompts, parameters, lora_request))
        return [SimpleNamespace(outputs=[self._output(i, p) for i in reversed(range(p.n))]) for p in parameters]

    def _output(self, index: int, parameters: Any) -> Any:
        ids = list(self.tokens[: parameters.max_tokens])
        ids[0] = 10 + index
        chances = [{i: SimpleNamespace(logprob=-0.5 - place)} for place, i in enumerate(ids)]
        return SimpleNamespace(index=index, token_ids=ids, logprobs=chances)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vLLM, and a machine that passes for one with a GPU, though it computes on its CPU."""
    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vllm.__dict__.update(LLM=LLM, SamplingParams=SamplingParams)
    vllm.__spec__ = SimpleNamespace(name="vllm")  # type: ignore[assignment]
    request.__dict__.update(LoRARequest=LoRARequest)
    for name, module in {"vllm": vllm, "vllm.lora": lora, "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("azr.policy.vllm_policy.choose_device", lambda config: torch.device("cuda"))
    monkeypatch.setattr("azr.policy.nf4_policy.choose_device", lambda config: torch.device("cpu"))


def make(folder: Path, **model: Any) -> VllmPolicy:
    config = ModelConfig(
        name=str(folder), quantization="4bit", engine="vllm", style="completion", lora_rank=4, threads=1,
        generation_precision="bfloat16", update_precision="bfloat16", **model,
    )  # fmt: skip
    policy = make_policy(config, TrainConfig(learning_rate=1e-2, kl_weight=0.0))
    assert isinstance(policy, VllmPolicy)
    return policy


def test_a_group_is_asked_for_and_read_as_documented(tiny: Path, engine: None) -> None:
    policy = make(tiny)
    # The log-probabilities of the tempered distribution; the smallest adapter with a kernel that takes rank 4.
    assert LLM.newest.asked == ("bitsandbytes", "vllm", "processed_logprobs", 0, 8)
    groups = policy.generate(PROMPTS, 3, Sampling(4, temperature=0.8, seed=7, stop=("\n",)))
    prompts, parameters, lora = LLM.newest.calls[0]
    assert [tuple(p["prompt_token_ids"]) for p in prompts] == [g.prompt_ids for g in groups]
    assert {(p.n, p.temperature, p.top_p, p.max_tokens) for p in parameters} == {(3, 0.8, 1.0, 4)}
    seeds = [p.seed + place for p in parameters for place in range(p.n)]  # as vLLM parts a request's seed
    assert len(set(seeds)) == len(seeds) and lora is not None and LLM.newest.asleep
    first = groups[0].completions
    assert [c.token_ids[0] for c in first] == [10, 11, 12]  # in order
    assert all(c.stop_reason == "length" and c.logprobs == (-0.5, -1.5, -2.5, -3.5) for c in first)
    greedy = policy.generate(PROMPTS[:1], 1, Sampling(4, temperature=0))[0].completions[0]
    assert set(greedy.logprobs) == {0.0}


def test_a_completion_ends_where_the_other_engines_end_it(
    tiny: Path, engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make(tiny)
    stop = policy.tokenizer.decode([3])
    [group] = policy.generate(PROMPTS[:1], 1, Sampling(6, seed=1, stop=(stop,)))
    found = group.completions[0]
    assert found.stop_reason == "stop" and found.token_ids[-1] == 3 and not found.text.endswith(stop)
    monkeypatch.setattr(LLM, "tokens", (1, 2, min(policy.generator.end_ids), 9))
    [group] = policy.generate(PROMPTS[:1], 1, Sampling(6, seed=1))
    assert group.completions[0].stop_reason == "eos" and len(group.completions[0].token_ids) == 3


def test_after_an_update_it_samples_with_the_newest_adapter(tiny: Path, engine: None) -> None:
    policy = make(tiny)
    groups = policy.generate(PROMPTS, 2, Sampling(5, seed=1))
    assert policy.update(samples_of(groups))["skipped"] == 0.0
    policy.generate(PROMPTS, 2, Sampling(5, seed=2))
    with policy.untrained():
        policy.generate(PROMPTS, 2, Sampling(5, seed=3))
    policy.generate(PROMPTS, 2, Sampling(5, seed=4))
    numbers = [lora.lora_int_id if lora else None for _, _, lora in LLM.newest.calls]
    assert numbers == [1, 2, None, 2]
    assert len(list(Path(policy.adapters.name).iterdir())) == 1  # the one before is gone


def test_it_sleeps_after_a_failure_too(tiny: Path, engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(tiny)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LLM, "generate", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        policy.generate(PROMPTS, 2, Sampling(5))
    assert LLM.newest.asleep


def test_what_it_cannot_do_is_said_before_anything_is_loaded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    four = ModelConfig(name="no/model", quantization="4bit", engine="vllm")
    found = "azr.policy.vllm_policy.importlib.util.find_spec"
    for config, words, installed in (
        (four.model_copy(update={"quantization": "none"}), r"model\.quantization=4bit", True),
        (four, r"pip install vllm", False),
        (four.model_copy(update={"thinking_tokens": 64}), r"model\.thinking_tokens", True),
        (four.model_copy(update={"lora_rank": 1024}), r"model\.lora_rank", True),
        (four.model_copy(update={"backend": "mlx"}), r"MLX", True),
        (four, r"CUDA GPU", True),
        (four.model_copy(update={"device": "cuda"}), r"no CUDA GPU", True),
    ):
        monkeypatch.setattr(found, lambda name, installed=installed: installed or None)
        monkeypatch.setattr("azr.policy.precision.cuda_works", lambda: False)
        with pytest.raises(UserError, match=words):
            make_policy(config, TrainConfig())


@pytest.mark.parametrize(
    ("model", "variable", "words"),
    [
        ({"generation_precision": "float32"}, "", "bfloat16"),
        ({}, "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF"),
    ],
)
def test_what_vllm_would_fail_at_late_is_said_early(
    model: dict[str, str], variable: str, words: str, engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", variable)
    monkeypatch.setattr("azr.policy.nf4_policy.gpu_precision", lambda: "bfloat16")
    with pytest.raises(UserError, match=words):
        make_policy(ModelConfig(name="no/model", quantization="4bit", engine="vllm", **model), TrainConfig())


def test_the_plan_gives_it_its_share(tmp_path: Path) -> None:
    machine = plan.Machine(False, 64 * plan.GIB, cuda_memory=24 * plan.GIB)
    own, other = (
        plan.plan_of(Config(model=ModelConfig(name="Qwen/Qwen3-4B", quantization="4bit", engine=engine)), machine)
        for engine in ("own", "vllm")
    )
    with pytest.raises(UserError, match=r"no CUDA GPU"):
        plan.plan_of(
            Config(model=ModelConfig(name="Qwen/Qwen3-4B", quantization="4bit", engine="vllm")),
            plan.Machine(False, plan.GIB),
        )
    assert other.cache == 12 * plan.GIB and other.fits and own.peak < other.peak
    assert "vLLM" in plan.table(other) and "vLLM" not in plan.table(own)
