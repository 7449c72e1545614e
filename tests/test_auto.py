"""`model.name: auto`, built-in shapes, and the chat of models that think."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from azr.config import Config, ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy import auto, precision
from azr.policy.auto import GIB, Machine, choose, resolve_model
from azr.policy.choice import backend_of, make_policy
from azr.policy.geometry import BUILT_IN, EMBEDDED, QWEN, QWEN_MLX, geometry_of
from azr.policy.models import make_tiny_model
from azr.policy.text import chat_prompt

BOTH = frozenset({"mlx_lm", "bitsandbytes"})


@pytest.mark.parametrize(
    ("machine", "name", "reason"),
    [
        (Machine(True, 48 * GIB, packages=BOTH), QWEN_MLX, "Apple Silicon with 48 GB"),
        (Machine(True, 24 * GIB, packages=BOTH), QWEN_MLX, "Apple Silicon with 24 GB"),
        (Machine(True, 16 * GIB, packages=BOTH), EMBEDDED, "no Apple Silicon with 24 GB"),
        (Machine(True, 48 * GIB), EMBEDDED, "MLX is not installed"),
        (Machine(False, 64 * GIB, 12_288 << 20, BOTH), QWEN, "CUDA GPU with 12 GB"),
        (Machine(False, 64 * GIB, 8 * GIB, BOTH), EMBEDDED, "no CUDA GPU with 12 GB"),
        (Machine(False, 64 * GIB, 24 * GIB), EMBEDDED, "bitsandbytes is not installed"),
        (Machine(False, 64 * GIB, packages=BOTH), EMBEDDED, "no CUDA GPU with 12 GB"),
    ],
)
def test_the_choice_and_its_reason(machine: Machine, name: str, reason: str) -> None:
    keys, found = choose(machine)
    assert keys["name"] == name and reason in found
    assert keys.get("quantization", "auto") == ("4bit" if name != EMBEDDED else "auto")


def test_auto_is_the_default_and_is_resolved_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda: Machine(True, 48 * GIB, packages=BOTH))
    config, line = resolve_model(Config())
    assert (config.model.name, config.model.backend, config.model.quantization) == (QWEN_MLX, "mlx", "4bit")
    assert "--set model.name=" in line and "\n" not in line
    kept = Config(model=ModelConfig(quantization="none", lora_rank=3))
    assert resolve_model(kept)[0].model.quantization == "none"
    assert resolve_model(kept)[0].model.lora_rank == 3
    named = Config(model=ModelConfig(name=EMBEDDED))
    assert resolve_model(named) == (named, "")


@pytest.mark.parametrize(
    ("machine", "model", "needed"),
    [
        (Machine(True, 48 * GIB, packages=BOTH), {"backend": "torch"}, f"{QWEN_MLX} needs model.backend=mlx"),
        (Machine(True, 48 * GIB, packages=BOTH), {"quantization": "none"}, f"{QWEN_MLX} needs model.quantization=4bit"),
        (Machine(False, 64 * GIB, 24 * GIB, packages=BOTH), {"backend": "mlx"}, f"{QWEN} needs model.backend=torch"),
    ],
)
def test_auto_takes_a_model_that_what_was_set_can_load(
    machine: Machine, model: dict[str, Any], needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda: machine)
    config, line = resolve_model(Config(model=ModelConfig(**model)))
    assert config.model.name == EMBEDDED
    assert needed in line and "\n" not in line
    assert {key: getattr(config.model, key) for key in model} == model


@pytest.mark.parametrize(("usable", "capability"), [(True, "8.6"), (True, "7.5"), (False, "8.6")])
def test_a_gpu_counts_where_pytorch_can_use_it(
    usable: bool, capability: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '24576, {capability}'\necho '8192, 9.0'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("azr.policy.precision.cuda_works", lambda: usable)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = auto.this_machine()
    assert (machine.cuda_memory, machine.unused_gpu) == ((24 * GIB, False) if usable else (0, True))
    assert machine.cuda_bfloat16 == (capability == "8.6")
    if not usable:
        assert "PyTorch cannot use it" in choose(replace(machine, apple_silicon=False))[1]


def test_a_gpu_that_nvidia_smi_does_not_know_is_asked_of_pytorch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho '[N/A], 12.1'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(auto, "_first_visible_gpu", lambda: (24 * GIB, True))
    assert auto._first_gpu() == (24 * GIB, True)


def test_for_full_training_auto_is_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda: Machine(False, 64 * GIB, cuda_memory=24 * GIB, packages=BOTH))
    config, line = resolve_model(Config(model=ModelConfig(adapter="full"), train=TrainConfig(kl_weight=0)))
    assert config.model.name == EMBEDDED and "model.adapter=full" in line


def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho '24576, 9.0'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine = auto.this_machine()
    assert (machine.cuda_memory, machine.unused_gpu) == (0, False)


def test_a_card_that_pytorch_was_not_built_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*_: object, **__: object) -> object:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.ones", ones)
    precision.cuda_works.cache_clear()
    try:
        assert precision.choose_device(ModelConfig()).type == "cpu"
    finally:
        precision.cuda_works.cache_clear()


def test_on_a_device_that_was_asked_for_auto_is_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda: Machine(False, 64 * GIB, cuda_memory=24 * GIB, packages=BOTH))
    for device, name in (("auto", "Qwen/Qwen3-4B"), ("cuda", "Qwen/Qwen3-4B"), ("cpu", "smollm2-135m")):
        config, line = resolve_model(Config(model=ModelConfig(device=device)))
        assert config.model.name == name and ("model.device=cpu" in line) == (device == "cpu")


def test_a_resumed_run_keeps_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda: Machine(True, 48 * GIB, packages=BOTH))
    saved = Config(model=ModelConfig(name="some/model", backend="torch"))
    config, _ = resolve_model(Config(), saved)
    assert config.model == saved.model


def test_this_machine_is_described() -> None:
    machine = auto.this_machine()
    assert machine.memory > 0 and machine.cuda_memory >= 0


def test_the_shapes_of_the_models_that_auto_can_choose() -> None:
    qwen = BUILT_IN[QWEN]
    assert qwen.parameters == pytest.approx(4.02e9, rel=0.005)
    assert qwen.linear_parameters == pytest.approx(3.63e9, rel=0.005)
    assert BUILT_IN[EMBEDDED].parameters == pytest.approx(134.5e6, rel=0.001)
    assert qwen.cache_bytes(2) == 36 * 2 * 8 * 128 * 2
    assert geometry_of(QWEN_MLX).weight_bits == 4


def test_other_models_shapes_come_from_their_config(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    found = geometry_of(str(folder))
    assert (found.layers, found.hidden, found.kv_heads, found.head_width, found.tied) == (2, 64, 2, 16, True)
    (folder / "config.json").write_text('{"hidden_size": 4}')
    with pytest.raises(UserError, match="does not tell"):
        geometry_of(str(folder))
    with pytest.raises(UserError, match="not built in"):
        geometry_of("nobody/nothing")


def test_the_library_follows_the_models_format(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    assert backend_of(ModelConfig(name=str(folder))) == "torch"
    assert backend_of(ModelConfig(name=QWEN_MLX)) == "mlx"
    assert backend_of(ModelConfig(name=QWEN_MLX, backend="torch")) == "torch"
    config = (folder / "config.json").read_text().rstrip()[:-1]
    (folder / "config.json").write_text(config + ', "quantization": {"group_size": 64, "bits": 4}}')
    assert backend_of(ModelConfig(name=str(folder))) == "mlx"


def test_without_mlx_the_way_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr.policy.choice.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[mlx\]'"):
        make_policy(ModelConfig(name=QWEN_MLX), Config().train)


def test_thinking_is_turned_off_or_left_open(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / "tiny"))
    tokenizer.chat_template += "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"  # as Qwen3's
    assert chat_prompt(tokenizer, "hello", thinking=False).endswith("<think>\n\n</think>\n\n")
    assert not chat_prompt(tokenizer, "hello", thinking=True).endswith("</think>\n\n")
