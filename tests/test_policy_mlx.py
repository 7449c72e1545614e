"""The MLX policy on tiny random models: the torch policy's loss and gradients, sampling, save and load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_contract import (
    PROMPTS,
    closes_thoughts,
    continues_bit_for_bit,
    samples_of,
    samples_with_the_models_logprobs,
    untrained_leaves_no_trace,
)
from tiny_models import add_thinking_tags, make_tiny_qwen3

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy.adapters import mlx_to_peft, peft_to_mlx
from azr.policy.loss import token_weights
from azr.policy.loss_spec import policy_loss
from azr.policy.models import make_tiny_model
from azr.policy.torch_policy import TorchPolicy
from azr.records import Sample, Sampling

mx = pytest.importorskip("mlx.core", reason="mlx is not installed: pip install -e '.[mlx]'")
pytest.importorskip("mlx_lm", reason="mlx-lm is not installed: pip install -e '.[mlx]'")

from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm.tuner.utils import load_adapters  # noqa: E402
from mlx_lm.utils import load_model  # noqa: E402

from azr.policy import mlx_update  # noqa: E402
from azr.policy.mlx_policy import MlxPolicy  # noqa: E402
from azr.policy.mlx_update import micro_batches, token_losses  # noqa: E402


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return make_tiny_model(folder) if request.param == "llama" else make_tiny_qwen3(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("llama"))


def settings_of(folder: Path, quantization: str, **train: Any) -> tuple[ModelConfig, TrainConfig]:
    model = ModelConfig(
        name=str(folder), backend="mlx", quantization=quantization, style="completion", lora_rank=4, lora_alpha=8,
        generation_precision="float32", update_precision="float32", threads=1,
    )  # fmt: skip
    return model, TrainConfig(**{"learning_rate": 1e-2, "micro_batch_tokens": 300, "kl_weight": 0.0} | train)


def make_policy(folder: Path, quantization: str = "4bit", **train: Any) -> MlxPolicy:
    return MlxPolicy(*settings_of(folder, quantization, **train))


def trained(policy: MlxPolicy) -> dict[str, Any]:
    return {name: np.array(value) for name, value in tree_flatten(policy.model.trainable_parameters())}


def reference_logprobs(policy: MlxPolicy, prompt: tuple[int, ...], completion: tuple[int, ...]) -> list[float]:
    """By mlx-lm's own forward pass, one sequence at a time."""
    logits = policy.model(mx.array([prompt + completion]))[0].astype(mx.float32)
    logprobs = (logits - mx.logsumexp(logits, axis=-1, keepdims=True))[len(prompt) - 1 : -1]
    found: list[float] = mx.take_along_axis(logprobs, mx.array(completion)[:, None], axis=-1)[:, 0].tolist()
    return found


ROLES = ["propose", "solve", "solve", "solve"]
number = st.floats(-5, 0)
token = st.tuples(number, number, number)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.lists(token, min_size=1, max_size=5), st.floats(-3, 3)), min_size=1, max_size=4),
    st.sampled_from(["role", "sequence", "token"]),
)
def test_arrays_reproduce_the_specification(
    batch: list[tuple[list[tuple[float, float, float]], float]], weighting: str
) -> None:
    new, before, sampled = ([[t[k] for t in row] for row, _ in batch] for k in range(3))
    advantages = [advantage for _, advantage in batch]
    total = 0.0
    for i, weight in enumerate(token_weights([len(row) for row in new], ROLES[: len(new)], weighting)):
        probabilities = (mx.array(new[i]), mx.array(before[i]), mx.array(sampled[i]))
        total += float(token_losses(*probabilities, mx.full(len(new[i]), advantages[i]), 0.2, 2.0).sum()) * weight
    expected = policy_loss(new, before, sampled, advantages, 0.2, 2.0, ROLES[: len(new)], weighting)
    assert total == pytest.approx(expected, rel=1e-4, abs=1e-4)  # float32


def test_the_logits_of_a_micro_batch_never_exist_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_model(tmp_path, vocabulary=20_000)
    samples = [
        Sample("solve", "deduction", (2, 3), tuple(range(4, 68)), (-1.0,) * 64, 1.0, 1.0 if i % 2 else -1.0)
        for i in range(16)
    ]
    peaks = []
    for pieces in (1, 16):
        monkeypatch.setattr(mlx_update, "HEAD_TOKENS", 16 * 64 // pieces)
        policy = make_policy(folder, "none", kl_weight=0.1, micro_batch_tokens=4096)
        mx.reset_peak_memory()
        policy.update(samples)
        peaks.append(mx.get_peak_memory())
    assert peaks[1] < peaks[0] / 4


@pytest.mark.parametrize("weighting", ["role", "token"])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("kl_weight", [0.0, 0.7])
def test_loss_and_gradients_are_those_of_torch(
    tiny: Path, weighting: str, checkpoint: bool, kl_weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if checkpoint:
        monkeypatch.setattr(mlx_update, "HEAD_TOKENS", 8)  # a micro-batch's logits in several pieces
    policy = make_policy(tiny, "none", loss_weighting=weighting, kl_weight=kl_weight)
    policy.updater.checkpoint = checkpoint
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(9, seed=1))))  # so that LoRA's B is not zero
    samples = samples_of(policy.generate(PROMPTS, 4, Sampling(11, seed=7)))
    samples[1] = replace(samples[1], logprobs=tuple(x - 1.5 for x in samples[1].logprobs))  # importance weight capped
    samples[2] = replace(samples[2], advantage=0.0)  # no gradient, but it counts in the normalisation
    samples[3:6] = [replace(s, temperature=0.5, role="propose") for s in samples[3:6]]
    other = TorchPolicy(*settings_of(tiny, "none", loss_weighting=weighting, kl_weight=kl_weight))
    peft = mlx_to_peft({name: torch.from_numpy(value) for name, value in trained(policy).items()})
    with torch.no_grad():
        for name, value in peft.items():
            stem = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
            other.parameters[stem].copy_(value)
    other.refresh()
    expected = other.updater.accumulate(samples)
    gradient, metrics = policy.updater.accumulate(samples)
    assert {k: metrics[k] for k in expected if k != "forwarded_tokens"} == pytest.approx(
        {k: v for k, v in expected.items() if k != "forwarded_tokens"}, abs=1e-4
    )
    found = dict(tree_flatten(gradient))
    theirs = {
        f"base_model.model.{name.replace('.default', '')}": p.grad
        for name, p in other.parameters.items()
        if p.grad is not None
    }
    for name, value in peft_to_mlx(theirs).items():
        assert np.abs(np.array(found.pop(name)) - value.numpy()).max() < 1e-4, name
    assert not found
    assert metrics["importance_capped"] > 0
    assert ("kl" in metrics) == bool(kl_weight)


def test_the_divergence_of_a_packed_base_is_0_at_first(llama: Path) -> None:
    policy = make_policy(llama, kl_weight=0.7)
    samples = samples_of(policy.generate(PROMPTS, 4, Sampling(10, seed=1)))
    assert policy.update(samples)["kl"] == pytest.approx(0, abs=1e-6)
    assert policy.update(samples)["kl"] > 1e-4


def test_the_dequantised_product_has_the_gradient_of_the_quantised_one(llama: Path) -> None:
    from mlx import nn

    from azr.policy.mlx_models import _dequantise_for_products

    layer = nn.QuantizedLinear(128, 64, bias=True)
    x = mx.random.normal((5, 128))
    value, slope = mx.value_and_grad(lambda x: (layer(x) ** 2).sum())(x)
    _dequantise_for_products(layer)
    assert type(layer) is not nn.QuantizedLinear
    ours, our_slope = mx.value_and_grad(lambda x: (layer(x) ** 2).sum())(x)
    assert float(ours) == pytest.approx(float(value), rel=1e-4)
    assert mx.allclose(slope, our_slope, rtol=1e-3, atol=1e-3)


def test_sampled_logprobs_are_those_of_the_model(tiny: Path) -> None:
    policy = make_policy(tiny)
    samples_with_the_models_logprobs(policy, lambda s: reference_logprobs(policy, s.prompt_ids, s.completion_ids))


def test_sampling_follows_the_seed(llama: Path) -> None:
    policy = make_policy(llama)
    once = policy.generate(PROMPTS, 3, Sampling(12, seed=5))
    mx.random.seed(99)
    assert policy.generate(PROMPTS, 3, Sampling(12, seed=5)) == once
    assert policy.generate(PROMPTS, 3, Sampling(12, seed=6)) != once
    assert len({c.token_ids for c in once[0].completions}) == 3


def test_sampling_follows_the_tempered_distribution(llama: Path) -> None:
    policy = make_policy(llama)
    group = policy.generate(["ab"], 3000, Sampling(1, seed=0, temperature=0.5))[0]
    counts = np.zeros(policy.model_config["vocab_size"])
    for completion in group.completions:
        counts[completion.token_ids[0]] += 1
    logits = policy.model(mx.array([group.prompt_ids]))[0, -1] / 0.5
    expected = np.array(mx.softmax(logits))
    assert 0.5 * np.abs(counts / 3000 - expected).sum() < 0.15  # sampling alone gives about 0.08 here
    chosen = next(c for c in group.completions if c.token_ids[0] == expected.argmax())
    assert chosen.logprobs[0] == pytest.approx(float(np.log(expected.max())), abs=1e-4)


def test_greedy_takes_the_likeliest(llama: Path) -> None:
    policy = make_policy(llama)
    for group in policy.generate(PROMPTS, 2, Sampling(10, temperature=0.0)):
        for completion in group.completions:
            ids = list(group.prompt_ids)
            for chosen in completion.token_ids:
                assert chosen == int(mx.argmax(policy.model(mx.array([ids]))[0, -1]))
                ids.append(chosen)
            assert set(completion.logprobs) == {0.0}


def test_a_stop_string_across_tokens_ends_a_completion(llama: Path) -> None:
    policy = make_policy(llama)
    free = policy.generate(["xy"], 1, Sampling(40, seed=3))[0].completions[0]
    at = next(i for i in range(8, len(free.text) - 1) if free.text[i : i + 2].isascii())
    stop = free.text[at : at + 2]
    cut = policy.generate(["xy"], 1, Sampling(40, seed=3, stop=("never there", stop)))[0].completions[0]
    assert cut.stop_reason == "stop"
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.token_ids == free.token_ids[: len(cut.token_ids)]
    assert len(cut.logprobs) == len(cut.token_ids)


def test_the_end_token_is_kept_in_the_ids_and_not_in_the_text(llama: Path) -> None:
    policy = make_policy(llama)
    completions = policy.generate(["q"], 64, Sampling(64, seed=0))[0].completions
    ended = [c for c in completions if c.stop_reason == "eos"]
    assert ended and len(completions) == 64
    assert all(c.token_ids[-1] == 0 and "<|end|>" not in c.text for c in ended)


def test_more_rows_than_fit_wait_for_a_place(llama: Path) -> None:
    policy = make_policy(llama)
    policy.generator.cache_share = 4 * 2 * 256 * policy.generator.token_bytes
    seen: list[tuple[int, int]] = []
    groups = policy.generate(PROMPTS, 5, Sampling(7, seed=1, temperature=0.0), lambda *p: seen.append(p))
    policy.generator.cache_share *= 100
    assert groups == policy.generate(PROMPTS, 5, Sampling(7, seed=1, temperature=0.0))
    assert seen == sorted(seen) and seen[-1] == (105, 105)


def test_no_signal_is_no_step(llama: Path) -> None:
    policy = make_policy(llama)
    samples = [replace(s, advantage=0.0) for s in samples_of(policy.generate(PROMPTS, 2, Sampling(5)))]
    before = trained(policy)
    for batch in (samples, []):
        metrics = policy.update(batch)
        assert metrics["skipped"] == 1 and metrics["trained_tokens"] == 0
    assert all(np.array_equal(value, before[name]) for name, value in trained(policy).items())


def test_an_update_raises_what_was_rewarded(llama: Path) -> None:
    policy = make_policy(llama)
    groups = policy.generate(PROMPTS, 4, Sampling(10, seed=1))
    samples = [replace(s, advantage=1.0 if i % 2 else -1.0) for i, s in enumerate(samples_of(groups))]

    def gap() -> float:
        sums = [sum(reference_logprobs(policy, s.prompt_ids, s.completion_ids)) for s in samples]
        return sum(sums[1::2]) - sum(sums[::2])

    before = gap()
    metrics = policy.update(samples)
    assert gap() > before + 1
    assert metrics["skipped"] == 0 and metrics["grad_norm"] > 0 and metrics["logprob_gap"] < 1e-3


def test_the_untrained_model_is_the_one_before_training_and_leaves_no_trace(llama: Path) -> None:
    untrained_leaves_no_trace(make_policy(llama), ["a b", "b c"])


def test_thoughts_are_closed_and_that_is_not_learnt(tmp_path: Path) -> None:
    folder = add_thinking_tags(make_tiny_model(tmp_path / "tags"))
    policy, twin = make_policy(folder, kl_weight=0.1), make_policy(folder, kl_weight=0.1)
    closes_thoughts(policy, twin, lambda s: reference_logprobs(policy, s.prompt_ids, s.completion_ids))


def test_a_loaded_policy_continues_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    policy, other = make_policy(tiny), make_policy(tiny, seed=5)
    continues_bit_for_bit(policy, other, tmp_path / "saved")
    assert all(np.array_equal(value, trained(other)[name]) for name, value in trained(policy).items())


def test_the_saved_adapter_is_one_that_mlx_lm_loads(llama: Path, tmp_path: Path) -> None:
    policy = make_policy(llama, "none")
    policy.update(samples_of(policy.generate(PROMPTS, 3, Sampling(8, seed=1))))
    policy.save(tmp_path)
    model = load_adapters(load_model(llama)[0], str(tmp_path / "adapter"))
    ids = mx.array([policy.generate(PROMPTS[:1], 1, Sampling(8, seed=1))[0].prompt_ids])
    assert mx.allclose(model(ids), policy.model(ids), atol=1e-4)
    assert not mx.allclose(model(ids), load_model(llama)[0](ids), atol=1e-2)


@pytest.mark.parametrize("quantization", ["4bit", "none"])
def test_a_checkpoint_is_loaded_in_another_precision(llama: Path, tmp_path: Path, quantization: str) -> None:
    policy, (model, train) = make_policy(llama, quantization), settings_of(llama, quantization)
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(8, seed=1))))
    policy.save(tmp_path)
    half = {"generation_precision": "bfloat16", "update_precision": "bfloat16"}
    other = MlxPolicy(model.model_copy(update=half), train)
    other.load(tmp_path)
    assert other.model.model.norm.weight.dtype == mx.bfloat16
    ids = mx.array([policy.generate(PROMPTS[:1], 1, Sampling(8, seed=1))[0].prompt_ids])
    expected = policy.model(ids)
    assert mx.linalg.norm((other.model(ids) - expected).reshape(-1)) < 0.1 * mx.linalg.norm(expected.reshape(-1))


@pytest.mark.parametrize("file", ["adapter/adapters.safetensors", "optimizer.safetensors", "policy.json"])
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(
    llama: Path, tmp_path: Path, file: str, damage: str
) -> None:
    policy = make_policy(llama)
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(8, seed=1))))
    policy.save(tmp_path)
    path = tmp_path / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = trained(policy)
    with pytest.raises(UserError) as caught:
        policy.load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert all(np.array_equal(value, before[name]) for name, value in trained(policy).items())


def test_another_backends_or_models_checkpoint_is_refused(llama: Path, tmp_path: Path) -> None:
    policy = make_policy(llama)
    policy.save(tmp_path / "mlx")
    with pytest.raises(UserError, match="fingerprint"):  # the same weights, not quantised
        make_policy(llama, "none").load(tmp_path / "mlx")
    torch_policy = TorchPolicy(*settings_of(llama, "none"))
    with pytest.raises(UserError, match="backend"):
        torch_policy.load(tmp_path / "mlx")
    torch_policy.save(tmp_path / "torch")
    with pytest.raises(UserError, match="backend"):
        policy.load(tmp_path / "torch")


def test_what_mlx_cannot_do_is_refused(llama: Path, tmp_path: Path) -> None:
    model, train = settings_of(llama, "4bit")
    with pytest.raises(UserError, match=r"model\.adapter"):
        MlxPolicy(model.model_copy(update={"adapter": "full"}), train)
    with pytest.raises(UserError, match="both the same"):
        MlxPolicy(model.model_copy(update={"update_precision": "bfloat16"}), train)
    folder = make_tiny_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such_architecture"}))
    with pytest.raises(UserError, match="no_such_architecture"):
        make_policy(folder)
    (folder / "config.json").write_text(json.dumps(config))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="MLX cannot load"):
        make_policy(folder)


def test_a_base_in_4_bit_is_that_small(llama: Path) -> None:
    plain, packed = make_policy(llama, "none").describe(), make_policy(llama).describe()
    assert packed["quantization"] == "4 bit" and plain["quantization"] == "none"
    assert packed["parameters"] == plain["parameters"]
    lora = 4 * int(plain["trained_parameters"])
    assert int(packed["bytes"]) - lora < (int(plain["bytes"]) - lora) / 5


def test_samples_of_one_prompt_share_a_micro_batch() -> None:
    lengths = [3, 9, 4, 30, 3]
    samples = [Sample("solve", "deduction", (1,) * 10, (5,) * n, (0.0,) * n, 1.0, 1.0) for n in lengths]
    samples.append(replace(samples[0], prompt_ids=(2,) * 10))
    batches = micro_batches(samples, 40)
    assert batches == [[0, 4, 2], [1], [3], [5]]  # 10 + 3 * 4 fit; 10 + 4 * 9 do not
