"""Exports of a small checkpoint: adapters both ways, the merged model, the tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_models import make_tiny_qwen3
from transformers import AutoModelForCausalLM

from azr import export
from azr.buffer import Buffer
from azr.checkpoint import FORMAT, Checkpoint
from azr.config import Config, ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy.adapters import mlx_to_peft, peft_to_mlx
from azr.policy.choice import make_policy
from azr.policy.models import make_tiny_model
from azr.policy.torch_policy import TorchPolicy
from azr.records import Pair, Sample, Sampling, Task

MODEL: dict[str, Any] = {
    "style": "completion", "lora_rank": 4, "lora_alpha": 8, "threads": 1, "generation_precision": "float32",
    "update_precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def policy(tiny: Path) -> TorchPolicy:
    """With an adapter that is not null."""
    policy = TorchPolicy(ModelConfig(name=str(tiny), **MODEL), TrainConfig())
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))) / 4)
    policy.refresh()
    return policy


@pytest.fixture
def checkpoint(policy: TorchPolicy, tmp_path: Path) -> Checkpoint:
    policy.save(tmp_path / "checkpoint-0003")
    buffer = Buffer(16)
    buffer.add(Task("deduction", "def f(a):\n    return a + 1", (Pair("1", "2", b"gold"),)), 2, 0.5)
    buffer.add(Task("abduction", "def f(a):\n    return 'é'", (Pair("1", "'é'", b"gold"),)), -1)
    return Checkpoint(
        tmp_path / "checkpoint-0003", 3, 1, "run-1", Config(model=policy.config), {"buffer": buffer.state()}, FORMAT
    )


def quantised_by_mlx_lm(folder: Path) -> Path:
    """A tiny Qwen3 as mlx-community publishes its models: bfloat16, packed to 4 bit by mlx-lm."""
    import mlx.core as mx
    from mlx_lm.utils import load, quantize_model, save

    plain = make_tiny_qwen3(folder / "plain")
    found = load(str(plain), return_config=True)
    model, tokenizer, config = found[0], found[1], found[2]
    model.set_dtype(mx.bfloat16)
    model, config = quantize_model(model, config, 64, 4)
    save(folder / "packed", plain, model, tokenizer, config)
    return folder / "packed"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(20).unsqueeze(0)).logits.float()
    return found


def plain_logits(policy: TorchPolicy) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(policy.name)
    model.load_state_dict(policy.generator.model.state_dict())
    return logits(model)


def test_adapters_are_the_same_both_ways(policy: TorchPolicy, tmp_path: Path) -> None:
    policy.save(tmp_path)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    there = peft_to_mlx(weights)
    assert there["model.layers.0.self_attn.q_proj.lora_a"].shape == (64, 4)
    back = mlx_to_peft(there)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    with pytest.raises(ValueError, match="no LoRA matrix"):
        peft_to_mlx({"base_model.model.lm_head.weight": torch.ones(2, 2)})


def test_the_merged_model_is_the_trained_one(checkpoint: Checkpoint, policy: TorchPolicy, tmp_path: Path) -> None:
    export.run(checkpoint, "merged", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    expected = plain_logits(policy)
    assert torch.allclose(logits(model), expected, atol=0.03 * float(expected.abs().max()))  # bfloat16
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(policy.name)), expected, atol=0.5)
    assert (tmp_path / "merged" / "tokenizer.json").is_file()


def test_a_fully_trained_model_is_exported_whole(tiny: Path, tmp_path: Path) -> None:
    train = TrainConfig(kl_weight=0)
    policy = TorchPolicy(ModelConfig(name=str(tiny), adapter="full", **MODEL), train)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(1.5)
    policy.refresh()
    policy.save(tmp_path / "checkpoint-0001")
    whole = Checkpoint(tmp_path / "checkpoint-0001", 1, 1, "run-1", Config(model=policy.config, train=train), {}, 1)
    export.run(whole, "merged", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert torch.allclose(logits(model), plain_logits(policy), atol=0.05 * float(plain_logits(policy).abs().max()))
    with pytest.raises(UserError, match="without an adapter"):
        export.run(whole, "peft", tmp_path / "peft")


def test_an_adapter_of_mlx_becomes_one_that_peft_loads(
    checkpoint: Checkpoint, policy: TorchPolicy, tmp_path: Path
) -> None:
    import peft

    export.run(checkpoint, "mlx", tmp_path / "mlx")
    found = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert found["num_layers"] == 2 and found["lora_parameters"] == {"rank": 4, "scale": 2.0, "dropout": 0.0}
    adapter = checkpoint.path / "adapter"
    for file in adapter.iterdir():
        file.unlink()
    save_file(load_file(tmp_path / "mlx" / "adapters.safetensors"), adapter / "adapters.safetensors")
    export.run(checkpoint, "peft", tmp_path / "peft")
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(policy.name), tmp_path / "peft")
    assert torch.allclose(logits(model), plain_logits(policy), atol=1e-3)


def test_mlx_lm_loads_the_adapter_that_torch_trained(
    checkpoint: Checkpoint, policy: TorchPolicy, tmp_path: Path
) -> None:
    mx = pytest.importorskip("mlx.core", reason="mlx is not installed: pip install -e '.[mlx]'")
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed: pip install -e '.[mlx]'")
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    export.run(checkpoint, "mlx", tmp_path / "mlx")
    model = load_adapters(load_model(Path(policy.name))[0], str(tmp_path / "mlx"))
    expected = plain_logits(policy)
    found = torch.tensor(model(mx.arange(20)[None]).astype(mx.float32).tolist())
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def test_tasks_become_json_lines_or_parquet(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export.run(checkpoint, "tasks", tmp_path / "tasks.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert [(row["type"], row["step"], row["solve_rate"]) for row in rows] == [
        ("deduction", 2, 0.5),
        ("abduction", -1, None),
    ]
    assert rows[1]["pairs"] == [{"input": "1", "output": "'é'"}]
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    export.run(checkpoint, "tasks", tmp_path / "tasks.parquet")
    assert parquet.read_table(tmp_path / "tasks.parquet").to_pylist() == rows


def test_gguf_goes_through_llama_cpps_converter(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    with pytest.raises(UserError, match="git clone"):
        export.run(checkpoint, "gguf", tmp_path / "model.gguf")
    script = "import sys, pathlib\nassert pathlib.Path(sys.argv[1], 'model.safetensors').is_file()\n"
    converter = tmp_path / export.CONVERTER
    converter.write_text(script + "pathlib.Path(sys.argv[sys.argv.index('--outfile') + 1]).write_text('GGUF')\n")
    export.run(checkpoint, "gguf", tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_text() == "GGUF"
    converter.write_text("raise SystemExit('no such architecture')")
    with pytest.raises(UserError, match="no such architecture"):
        export.run(checkpoint, "gguf", tmp_path / "other.gguf")


@pytest.mark.parametrize("what", ["peft", "mlx", "merged", "tasks"])
def test_an_export_that_fails_leaves_nothing_and_can_be_tried_again(
    what: str, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(checkpoint: Checkpoint, target: Path) -> None:
        target.mkdir()
        (target / "half").write_text("")
        raise UserError("the disk is full")

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setitem(export.EXPORTS, what, fails)
        with pytest.raises(UserError, match="the disk is full"):
            export.run(checkpoint, what, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    export.run(checkpoint, what, tmp_path / "out")
    assert (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == len(before) + 1


def test_a_base_of_mlx_lm_in_4_bit_is_trained_resumed_and_merged(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core", reason="mlx is not installed: pip install -e '.[mlx]'")
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed: pip install -e '.[mlx]'")
    from azr.policy.mlx_policy import MlxPolicy

    base = quantised_by_mlx_lm(tmp_path)
    config = ModelConfig(name=str(base), **MODEL)
    policy, again = (make_policy(config, TrainConfig(learning_rate=0.02)) for _ in range(2))
    assert isinstance(policy, MlxPolicy) and isinstance(again, MlxPolicy)
    assert policy.describe()["quantization"] == "4 bit"
    ids = mx.arange(20)[None]
    untrained = torch.tensor(policy.model(ids).tolist())
    groups = policy.generate(["def f(a): return a"], 3, Sampling(8, seed=1))
    samples = [
        Sample("solve", "deduction", groups[0].prompt_ids, c.token_ids, c.logprobs, 1.0, (1.0, -1.0)[i % 2])
        for i, c in enumerate(groups[0].completions)
    ]
    assert policy.update(samples)["skipped"] == 0
    policy.save(tmp_path / "checkpoint-0001")
    again.load(tmp_path / "checkpoint-0001")
    expected = torch.tensor(policy.model(ids).tolist())
    assert torch.equal(torch.tensor(again.model(ids).tolist()), expected)
    saved = Checkpoint(tmp_path / "checkpoint-0001", 1, 1, "run-1", Config(model=config), {}, 1)
    export.run(saved, "merged", tmp_path / "merged")
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    error = float((merged - expected).norm() / expected.norm())
    assert error < 0.03  # bfloat16
    assert float((untrained - expected).norm() / expected.norm()) > 3 * error  # the adapter is in it


def full(checkpoint: Checkpoint, target: Path) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_what_cannot_be_written_is_one_line(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*: choose another --output"):
        export.run(checkpoint, "tasks", tmp_path / "file" / "tasks.jsonl")
    monkeypatch.setitem(export.EXPORTS, "peft", full)
    with pytest.raises(UserError, match=r"cannot be written .*No space left.*: choose another --output"):
        export.run(checkpoint, "peft", tmp_path / "adapter")
    with pytest.raises(UserError, match="older AZR: its tasks cannot be exported"):
        export.run(replace(checkpoint, format_version=1), "tasks", tmp_path / "tasks.jsonl")


def test_nothing_is_written_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists"):
        export.run(checkpoint, "peft", tmp_path / "there")
