"""Where a model computes, and in which precision: on a CPU measured on one matrix of the model, a few milliseconds.

Processors without bfloat16 instructions emulate it many times slower; those with them are up to twice as fast.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import nn

from azr.config import ModelConfig
from azr.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAMPLING_ROWS, UPDATE_ROWS = 64, 256  # tokens that pass a layer together, typical of the two phases
WORTH_IT = 1.2  # bfloat16 has to be this much faster: float32 is the more exact
HOPELESS = 3  # this much slower, no further trial can change the outcome


def choose_device(config: ModelConfig) -> torch.device:
    """The device asked for; `auto` is the first CUDA GPU that this PyTorch can use, else the CPU. CUDA_VISIBLE_DEVICES
    chooses among GPUs. Raises UserError for one that is not there."""
    asked = config.device
    if asked == "auto":
        return torch.device("cuda" if cuda_works() else "cpu")
    if asked == "cuda" and not cuda_works():
        raise UserError("model.device: this PyTorch finds no CUDA GPU; set model.device=auto")
    if asked == "mps" and not torch.backends.mps.is_available():
        raise UserError("model.device: mps needs an Apple GPU and macOS 14 or later; set model.device=auto")
    return torch.device(asked)


def running_on() -> str:
    """Type of the device on which tensors are made now: "cpu", "cuda" or "mps"."""
    return torch.get_default_device().type


def widest() -> torch.dtype:
    """For sums that must not lose digits. Metal has no float64."""
    return torch.float32 if running_on() == "mps" else torch.float64


@functools.cache
def cuda_works() -> bool:
    """Whether a GPU computes: PyTorch also reports cards that it was not built for."""
    if not torch.cuda.is_available():
        return False
    try:
        return bool((torch.ones(1, device="cuda") + 1).item() == 2)
    except RuntimeError:
        return False


def gpu_precision() -> str:
    """bfloat16 where the GPU computes in it (from compute capability 8 on), else float32."""
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def resolve_precision(model: Any, config: ModelConfig, device: torch.device) -> tuple[str, str]:
    """(generation, update) precision. What `auto` becomes is the GPU's native one, and measured on a CPU.

    Store it, and give it explicitly to resume.
    """
    generation: str = config.generation_precision
    update: str = config.update_precision
    if device.type == "cuda":
        native = gpu_precision()
        return native if generation == "auto" else generation, native if update == "auto" else update
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if type(m) is nn.Linear and m is not head]
    weight = max(layers, key=lambda m: m.weight.numel()).weight.detach()
    if generation == "auto":
        generation = _faster(weight, SAMPLING_ROWS)
    if update == "auto":
        update = _faster(weight, UPDATE_ROWS)
    return generation, update


@torch.inference_mode()
def _faster(weight: torch.Tensor, rows: int, repeats: int = 20) -> str:
    """The better precision for W x^T with that many columns: best of alternating trials."""
    best = dict.fromkeys(DTYPES, float("inf"))
    operands = {
        name: (weight.to(dtype), torch.ones(weight.shape[1], rows, dtype=dtype)) for name, dtype in DTYPES.items()
    }
    for trial in range(repeats + 1):
        for name, (matrix, columns) in operands.items():
            started = time.perf_counter()
            matrix @ columns
            if trial:  # the first warms up
                best[name] = min(best[name], time.perf_counter() - started)
        if trial and best["bfloat16"] > HOPELESS * best["float32"]:
            break  # emulated: every further trial would take seconds
    return "bfloat16" if best["bfloat16"] * WORTH_IT < best["float32"] else "float32"
