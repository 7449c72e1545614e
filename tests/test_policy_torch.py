"""The torch policy on a tiny random model: generation, update, save and load, odd text."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from policy_contract import (
    PROMPTS,
    closes_thoughts,
    continues_bit_for_bit,
    samples_of,
    samples_with_the_models_logprobs,
    untrained_leaves_no_trace,
)
from tiny_models import add_thinking_tags
from transformers import AutoModelForCausalLM

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy import generation
from azr.policy.attention_masked import tree_mask
from azr.policy.decoding import Decoding, MovingDecoding
from azr.policy.graph_decoding import GraphDecoding
from azr.policy.models import make_tiny_model
from azr.policy.torch_policy import TorchPolicy
from azr.records import Sample, Sampling


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def make_policy(folder: Path, adapter: str = "lora", precision: str = "float32", **train: object) -> TorchPolicy:
    model = ModelConfig(
        name=str(folder), adapter=adapter, style="completion", lora_rank=4, lora_alpha=8,
        generation_precision=precision, update_precision=precision, threads=1,
    )  # fmt: skip
    return TorchPolicy(
        model, TrainConfig(**{"learning_rate": 1e-2, "micro_batch_tokens": 300, "kl_weight": 0.0} | train)
    )


def reference_logprobs(policy: TorchPolicy, prompt: tuple[int, ...], completion: tuple[int, ...]) -> list[float]:
    """By Transformers' own attention on the merged weights, one sequence at a time."""
    model = AutoModelForCausalLM.from_config(copy.deepcopy(policy.model.config), attn_implementation="eager")
    model.load_state_dict(policy.generator.model.state_dict())
    with torch.no_grad():
        logits = model.eval()(torch.tensor([prompt + completion])).logits[0]
    logprobs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(completion).unsqueeze(1)).squeeze(1).tolist()


def test_sampled_logprobs_are_those_of_the_model(tiny: Path) -> None:
    policy = make_policy(tiny)
    samples_with_the_models_logprobs(policy, lambda s: reference_logprobs(policy, s.prompt_ids, s.completion_ids))


@pytest.mark.parametrize("decoding", [MovingDecoding, GraphDecoding])
def test_thoughts_are_closed_and_that_is_not_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoding: type[Decoding]
) -> None:
    monkeypatch.setattr(generation, "MovingDecoding", decoding)
    folder = add_thinking_tags(make_tiny_model(tmp_path / "tags"))
    policy, twin = make_policy(folder, kl_weight=0.1), make_policy(folder, kl_weight=0.1)
    closes_thoughts(policy, twin, lambda s: reference_logprobs(policy, s.prompt_ids, s.completion_ids))


def test_greedy_is_transformers_greedy(tiny: Path) -> None:
    policy = make_policy(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    for group in policy.generate(PROMPTS, 2, Sampling(15, temperature=0.0)):
        ids = torch.tensor([group.prompt_ids])
        expected = model.generate(ids, max_new_tokens=15, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
        for completion in group.completions:
            assert list(completion.token_ids) == expected


def test_sampling_follows_the_seed_and_not_the_batch(tiny: Path) -> None:
    policy = make_policy(tiny)
    once = policy.generate(PROMPTS, 3, Sampling(12, seed=5))
    torch.manual_seed(99)
    assert policy.generate(PROMPTS, 3, Sampling(12, seed=5)) == once
    assert policy.generate(PROMPTS, 3, Sampling(12, seed=6)) != once
    first = policy.generate(PROMPTS[:1], 3, Sampling(12, seed=5))[0]
    assert [c.token_ids for c in first.completions] == [c.token_ids for c in once[0].completions]
    assert len({c.token_ids for c in first.completions}) == 3


def test_sampling_follows_the_distribution(tiny: Path) -> None:
    policy = make_policy(tiny)
    group = policy.generate(["ab"], 3000, Sampling(1, seed=0, temperature=0.5))[0]
    counts = torch.zeros(policy.model.config.vocab_size)
    for completion in group.completions:
        counts[completion.token_ids[0]] += 1
    model = AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        expected = (model(torch.tensor([group.prompt_ids])).logits[0, -1] / 0.5).softmax(-1)
    distance = 0.5 * (counts / 3000 - expected).abs().sum()  # sampling alone gives about 0.08 here
    assert distance < 0.15
    top = int(expected.argmax())
    chosen = next(c for c in group.completions if c.token_ids[0] == top)
    assert chosen.logprobs[0] == pytest.approx(float(expected[top].log()), abs=1e-4)


def test_a_stop_string_across_tokens_ends_a_completion(tiny: Path) -> None:
    policy = make_policy(tiny)
    free = policy.generate(["xy"], 1, Sampling(40, seed=3))[0].completions[0]
    at = next(i for i in range(8, len(free.text) - 1) if free.text[i : i + 2].isascii())
    stop = free.text[at : at + 2]
    cut = policy.generate(["xy"], 1, Sampling(40, seed=3, stop=("never there", stop)))[0].completions[0]
    assert cut.stop_reason == "stop"
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.token_ids == free.token_ids[: len(cut.token_ids)]
    whole = policy.tokenizer.decode(list(cut.token_ids))
    assert whole.endswith(stop) and stop not in whole[:-1]
    assert len(cut.logprobs) == len(cut.token_ids)


def test_the_end_token_is_kept_in_the_ids_and_not_in_the_text(tiny: Path) -> None:
    policy = make_policy(tiny)
    ended = [c for c in policy.generate(["q"], 64, Sampling(64, seed=0))[0].completions if c.stop_reason == "eos"]
    assert ended
    assert all(c.token_ids[-1] == 0 and "<|end|>" not in c.text for c in ended)


def test_rows_in_several_batches_are_the_same(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(tiny)
    together = policy.generate(PROMPTS, 5, Sampling(10, seed=4))
    monkeypatch.setattr(policy.generator, "max_rows", 3)
    apart = policy.generate(PROMPTS, 5, Sampling(10, seed=4))
    ids = [[c.token_ids for c in g.completions] for g in together]
    assert [[c.token_ids for c in g.completions] for g in apart] == ids


def naive_gradients(policy: TorchPolicy, samples: list[Sample], weighting: str) -> dict[str, torch.Tensor]:
    """Every sequence by itself through Transformers' eager attention and PEFT's own (or plain) linear layers."""

    def log_softmax(sample: Sample) -> torch.Tensor:
        logits = policy.model(torch.tensor([sample.prompt_ids + sample.completion_ids])).logits[0]
        return (logits[len(sample.prompt_ids) - 1 : -1] / sample.temperature).log_softmax(-1)

    for linear in policy.linears.values():
        del linear.layer.forward  # the class's own again
    policy.model.set_attn_implementation("eager")
    policy.optimizer.zero_grad()
    total = sum(len(s.completion_ids) for s in samples)
    same_role = Counter(s.role for s in samples)
    for sample in samples:
        everything = log_softmax(sample)
        logprobs = everything.gather(1, torch.tensor(sample.completion_ids).unsqueeze(1)).squeeze(1)
        weight = (logprobs.detach() - torch.tensor(sample.logprobs)).exp().clamp(max=policy.train.importance_cap)
        count = len(same_role) * same_role[sample.role] if weighting == "role" else len(samples)
        scale = 1 / total if weighting == "token" else 1 / count / len(sample.completion_ids)
        loss = -(logprobs * weight).sum() * sample.advantage
        if policy.train.kl_weight and sample.advantage:
            with torch.no_grad(), policy.wrapped.disable_adapter():
                untrained = log_softmax(sample)
            kl = torch.nn.functional.kl_div(untrained, everything, reduction="sum", log_target=True)
            loss = loss + policy.train.kl_weight * kl
        (loss * scale).backward()
    return {name: p.grad.clone() for name, p in policy.parameters.items() if p.grad is not None}


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("weighting", ["role", "sequence", "token"])
def test_the_packed_gradient_is_the_naive_one(tiny: Path, adapter: str, weighting: str) -> None:
    policy = make_policy(tiny, adapter, loss_weighting=weighting)
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(9, seed=1))))  # so that LoRA's B is not zero
    samples = samples_of(policy.generate(PROMPTS, 4, Sampling(11, seed=7)))
    samples[1] = replace(samples[1], logprobs=tuple(x - 1.5 for x in samples[1].logprobs))  # importance weight capped
    samples[2] = replace(samples[2], advantage=0.0)  # no gradient, but it counts in the normalisation
    samples[3:6] = [replace(s, temperature=0.5, role="propose") for s in samples[3:6]]
    metrics = policy.updater.accumulate(samples)
    packed = {name: p.grad.clone() for name, p in policy.parameters.items() if p.grad is not None}
    naive = naive_gradients(policy, samples, weighting)
    assert packed.keys() == naive.keys() == policy.parameters.keys()
    for name, gradient in naive.items():
        assert torch.allclose(packed[name], gradient, rtol=1e-3, atol=1e-6), name
    assert metrics["importance_capped"] > 0
    assert metrics["zero_advantage"] == pytest.approx(1 / 12)
    assert metrics["forwarded_tokens"] < sum(len(s.prompt_ids + s.completion_ids) for s in samples) / 2


@pytest.mark.parametrize("masked", [False, True])  # as on a GPU
def test_the_gradient_with_the_divergence_is_the_naive_one(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    if masked:
        monkeypatch.setattr("azr.policy.attention.Parts", lambda packed: tree_mask(packed, torch.float32))
    policy = make_policy(tiny, kl_weight=0.7)
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(9, seed=1))))
    samples = samples_of(policy.generate(PROMPTS, 4, Sampling(11, seed=7)))
    samples[3:6] = [replace(s, temperature=0.5, role="propose") for s in samples[3:6]]
    held = {name: linear.merged for name, linear in policy.linears.items()}
    assert policy.updater.accumulate(samples)["kl"] > 0
    assert all(linear.merged is held[name] for name, linear in policy.linears.items())
    packed = {name: p.grad.clone() for name, p in policy.parameters.items() if p.grad is not None}
    for name, gradient in naive_gradients(policy, samples, "role").items():
        assert torch.allclose(packed[name], gradient, rtol=1e-3, atol=1e-6), name


def test_the_divergence_is_0_at_first_and_held_small_by_its_weight(tiny: Path) -> None:
    drift = {}
    for weight in (1e-9, 5.0):
        policy = make_policy(tiny, kl_weight=weight)
        samples = samples_of(policy.generate(PROMPTS, 4, Sampling(10, seed=1)))
        assert policy.update(samples)["kl"] == pytest.approx(0, abs=1e-6)
        for _ in range(4):
            drift[weight] = policy.update(samples)["kl"]
    assert drift[5.0] < drift[1e-9] / 3
    assert "kl" not in make_policy(tiny).update(samples)


def test_an_update_raises_what_was_rewarded(tiny: Path) -> None:
    policy = make_policy(tiny)
    groups = policy.generate(PROMPTS, 4, Sampling(10, seed=1))
    samples = [replace(s, advantage=1.0 if i % 2 else -1.0) for i, s in enumerate(samples_of(groups))]

    def gap() -> float:
        sums = [sum(reference_logprobs(policy, s.prompt_ids, s.completion_ids)) for s in samples]
        return sum(sums[1::2]) - sum(sums[::2])

    before = gap()
    metrics = policy.update(samples)
    assert gap() > before + 1
    assert metrics["skipped"] == 0 and metrics["grad_norm"] > 0
    assert metrics["importance_ratio"] == pytest.approx(1, abs=1e-3) and metrics["clip_fraction"] == 0
    assert metrics["logprob_gap"] < 1e-3


def test_no_signal_is_no_step(tiny: Path) -> None:
    policy = make_policy(tiny)
    samples = [replace(s, advantage=0.0) for s in samples_of(policy.generate(PROMPTS, 2, Sampling(5)))]
    before = {name: p.clone() for name, p in policy.parameters.items()}
    for batch in (samples, []):
        metrics = policy.update(batch)
        assert metrics["skipped"] == 1 and metrics["trained_tokens"] == 0
    assert all(torch.equal(p, before[name]) for name, p in policy.parameters.items())


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_loaded_policy_continues_bit_for_bit(tiny: Path, tmp_path: Path, adapter: str) -> None:
    policy, other = make_policy(tiny, adapter), make_policy(tiny, adapter, seed=5)
    continues_bit_for_bit(policy, other, tmp_path / "saved")
    for name, parameter in policy.parameters.items():
        assert torch.equal(parameter, other.parameters[name])


def test_the_saved_adapter_is_one_that_peft_loads(tiny: Path, tmp_path: Path) -> None:
    import peft

    policy = make_policy(tiny)
    policy.update(samples_of(policy.generate(PROMPTS, 3, Sampling(8, seed=1))))
    policy.save(tmp_path)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path / "adapter")
    completion = policy.generate(PROMPTS[:1], 1, Sampling(8, seed=1))[0]
    ids = completion.prompt_ids + completion.completions[0].token_ids
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    found = logprobs[
        torch.arange(len(completion.prompt_ids) - 1, len(ids) - 1), list(ids[len(completion.prompt_ids) :])
    ]
    assert found.tolist() == pytest.approx(list(completion.completions[0].logprobs), abs=1e-4)


@pytest.mark.parametrize("file", ["adapter/adapter_model.safetensors", "optimizer.safetensors", "policy.json"])
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(
    tiny: Path, tmp_path: Path, file: str, damage: str
) -> None:
    policy = make_policy(tiny)
    policy.update(samples_of(policy.generate(PROMPTS, 2, Sampling(8, seed=1))))
    policy.save(tmp_path)
    path = tmp_path / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = {name: p.clone() for name, p in policy.parameters.items()}
    with pytest.raises(UserError) as caught:
        policy.load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert all(torch.equal(p, before[name]) for name, p in policy.parameters.items())


def test_another_models_or_a_newer_checkpoint_is_refused(tiny: Path, tmp_path: Path) -> None:
    policy = make_policy(tiny)
    policy.save(tmp_path / "saved")
    stranger = make_policy(make_tiny_model(tmp_path / "stranger", seed=1))
    with pytest.raises(UserError, match="model"):
        stranger.load(tmp_path / "saved")
    shutil.copytree(tmp_path / "saved", tmp_path / "newer")
    identity = json.loads((tmp_path / "newer" / "policy.json").read_text())
    (tmp_path / "newer" / "policy.json").write_text(json.dumps(identity | {"format": 99}))
    with pytest.raises(UserError, match="newer version"):
        policy.load(tmp_path / "newer")


def test_odd_text_survives(tiny: Path) -> None:
    policy = make_policy(tiny)
    odd = ["", "\0\0", "\ud800 lone \udfff", "```" * 20, "🤖é", "x" * 100_000]
    groups = policy.generate(odd, 2, Sampling(4, seed=1, stop=("\ud800",)))
    assert [g.prompt for g in groups] == odd
    assert all(g.prompt_ids and len(g.completions) == 2 for g in groups)
    assert len(groups[-1].prompt_ids) == 1024 - 4
    assert policy.update(samples_of(groups))["skipped"] == 0


def test_written_control_tokens_stay_text(tiny: Path) -> None:
    policy = make_policy(tiny)
    assert 0 not in policy.generate(["say <|end|> and <|start|>"], 1, Sampling(1))[0].prompt_ids
    chat = TorchPolicy(ModelConfig(name=str(tiny)), TrainConfig())
    assert chat.style == "chat"
    for asked in (chat, policy):  # a completion model too may be asked in its template
        ids = asked.generate([asked.format_chat("say <|end|> now")], 1, Sampling(1, chat=True))[0].prompt_ids
        assert ids.count(0) == 1 and ids.count(1) == 2  # the template's own: one end, two starts
    policy.tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template: take --protocol completion"):
        policy.format_chat("say")


def test_bfloat16_learns_in_the_same_direction(tiny: Path) -> None:
    exact, rough = make_policy(tiny), make_policy(tiny, precision="bfloat16")
    samples = samples_of(exact.generate(PROMPTS, 4, Sampling(10, seed=1)))
    for policy in (exact, rough):
        policy.updater.accumulate(samples)
    pairs = [(exact.parameters[n].grad, rough.parameters[n].grad) for n in exact.parameters]
    one, two = (torch.cat([p[i].flatten() for p in pairs]) for i in (0, 1))
    assert torch.cosine_similarity(one, two, dim=0) > 0.98
    groups = rough.generate(PROMPTS, 2, Sampling(6, seed=1))
    assert rough.update(samples_of(groups))["logprob_gap"] < 0.1


def test_description_and_progress(tiny: Path) -> None:
    policy = make_policy(tiny)
    seen: list[tuple[int, int]] = []
    groups = policy.generate(PROMPTS, 2, Sampling(6, seed=1), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] == 36
    seen.clear()
    policy.update(samples_of(groups), lambda done, total: seen.append((done, total)))
    assert seen and seen[-1][0] == seen[-1][1]
    described = policy.describe()
    assert described["generation_precision"] == "float32"
    assert 0 < int(described["trained_parameters"]) < int(described["parameters"])


@pytest.mark.parametrize("family", ["Qwen3", "Gemma2", "GPTNeoX"])
def test_other_families_work_or_are_refused(tiny: Path, tmp_path: Path, family: str) -> None:
    import transformers

    shutil.copytree(tiny, tmp_path / "other")
    config = getattr(transformers, f"{family}Config")(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=256, eos_token_id=0, pad_token_id=0,
        bos_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    if family == "Gemma2":  # soft-capped attention
        with pytest.raises(UserError, match="not supported"):
            make_policy(tmp_path / "other")
        return
    policy = make_policy(tmp_path / "other")
    group = policy.generate(PROMPTS[:2], 2, Sampling(8, seed=1))[1]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "other", attn_implementation="eager")
    for completion in group.completions:
        with torch.no_grad():
            logits = model(torch.tensor([group.prompt_ids + completion.token_ids])).logits[0]
        rows = logits[len(group.prompt_ids) - 1 : -1].log_softmax(-1)
        expected = rows.gather(1, torch.tensor(completion.token_ids).unsqueeze(1)).squeeze(1).tolist()
        assert completion.logprobs == pytest.approx(expected, abs=2e-4)
    assert policy.update(samples_of([group]))["logprob_gap"] < 1e-3


def test_the_untrained_model_is_the_one_before_training_and_leaves_no_trace(tiny: Path) -> None:
    untrained_leaves_no_trace(make_policy(tiny))


def test_full_training_keeps_no_untrained_model(tiny: Path) -> None:
    with pytest.raises(UserError, match="adapter"), make_policy(tiny, adapter="full").untrained():
        pass
