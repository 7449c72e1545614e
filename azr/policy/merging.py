"""A base and its adapter as one plain model in bfloat16."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from safetensors.torch import load_file

from azr.checkpoint import Checkpoint
from azr.policy.adapters import mlx_to_peft
from azr.policy.models import load_model, local_folder


@torch.no_grad()
def merge_torch(checkpoint: Checkpoint, target: Path) -> None:
    """From a base that Transformers loads: W + scale * B A, or the trained weights where there is no adapter."""
    config = checkpoint.config.model
    loaded = load_model(config.name, config.style)
    adapter = checkpoint.path / "adapter"
    parameters = dict(loaded.model.named_parameters())
    if not adapter.is_dir():
        for name, weight in load_file(checkpoint.path / "weights.safetensors").items():
            parameters[name].copy_(weight)
    else:
        mlx = adapter / "adapters.safetensors"
        weights = mlx_to_peft(load_file(mlx)) if mlx.is_file() else load_file(adapter / "adapter_model.safetensors")
        for name, down in weights.items():
            if name.endswith(".lora_A.weight"):
                up = weights[name.replace(".lora_A.", ".lora_B.")]
                layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                parameters[f"{layer}.weight"].addmm_(up, down, alpha=config.lora_alpha / config.lora_rank)
    loaded.model.to(torch.bfloat16).save_pretrained(target)
    loaded.tokenizer.save_pretrained(target)


def merge_mlx(name: str, adapter: Path, target: Path) -> None:
    """From a base in mlx-lm's format: dequantised, as `mlx_lm.fuse --dequantize` does it."""
    import mlx.core as mx
    from mlx.utils import tree_map, tree_unflatten
    from mlx_lm.utils import dequantize_model, load, save

    folder = local_folder(name)
    with contextlib.redirect_stdout(io.StringIO()):
        model, tokenizer, config = load(str(folder), adapter_path=str(adapter), return_config=True)
        fused = [
            (path, module.fuse(dequantize=True)) for path, module in model.named_modules() if hasattr(module, "fuse")
        ]
        model.update_modules(tree_unflatten(fused))
        model = dequantize_model(model)
        model.update(tree_map(lambda w: w.astype(mx.bfloat16), model.parameters()))
        plain = {key: value for key, value in config.items() if key not in ("quantization", "quantization_config")}
        save(target, folder, model, tokenizer, plain)
