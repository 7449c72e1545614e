"""LoRA adapters in PEFT's and in mlx-lm's form: the same numbers under other names, transposed.

PEFT: `base_model.model.<layer>.lora_A.weight` (r, in), `…lora_B.weight` (out, r), scaled by lora_alpha / r.
mlx-lm: `<layer>.lora_a` (in, r), `<layer>.lora_b` (r, out), scaled by lora_parameters.scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

Tensors = Mapping[str, torch.Tensor]
_PEFT = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_MLX = re.compile(r"(.+)\.lora_([ab])")


def peft_to_mlx(weights: Tensors) -> dict[str, torch.Tensor]:
    """Raises ValueError for a tensor that is no plain LoRA matrix."""
    return {f"{layer}.lora_{side.lower()}": value for layer, side, value in _sides(weights, _PEFT)}


def mlx_to_peft(weights: Tensors) -> dict[str, torch.Tensor]:
    """Raises ValueError for a tensor that is no plain LoRA matrix."""
    return {
        f"base_model.model.{layer}.lora_{side.upper()}.weight": value for layer, side, value in _sides(weights, _MLX)
    }


def _sides(weights: Tensors, pattern: re.Pattern[str]) -> list[tuple[str, str, torch.Tensor]]:
    found = []
    for name, value in weights.items():
        match = pattern.fullmatch(name)
        if match is None:
            raise ValueError(f"{name} is no LoRA matrix")
        found.append((match[1], match[2], value.t().contiguous()))
    return found
