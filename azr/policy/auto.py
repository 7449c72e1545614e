"""`model.name: auto`: the largest model that this machine trains well, and the reason in one line."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from azr.config import Config
from azr.policy.geometry import EMBEDDED, QWEN, QWEN_MLX

GIB = 1 << 30
MAC_MEMORY, CUDA_MEMORY = 24 * GIB, 23 * GIB // 2  # cards sold with 12 GB report a little less
UNUSED_GPU = "nvidia-smi shows a GPU, but this PyTorch cannot use it (a build for the CPU?)"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a model has to fit into. Bytes."""

    apple_silicon: bool
    memory: int
    cuda_memory: int = 0  # of the first GPU that PyTorch can use; 0 without one
    packages: frozenset[str] = frozenset()  # of mlx_lm and bitsandbytes, those installed
    cuda_bfloat16: bool = True  # whether that GPU computes in bfloat16, which older ones emulate
    unused_gpu: bool = False  # nvidia-smi shows a GPU that PyTorch cannot use


def this_machine() -> Machine:
    """Without torch, which takes seconds to import, unless there is a GPU that it may not be able to use."""
    cuda_memory, cuda_bfloat16 = _first_gpu()
    unused_gpu = cuda_memory > 0 and not _torch_has_cuda()
    return Machine(
        apple_silicon=sys.platform == "darwin" and platform.machine() == "arm64",
        memory=psutil.virtual_memory().total,
        cuda_memory=0 if unused_gpu else cuda_memory,
        cuda_bfloat16=cuda_bfloat16,
        unused_gpu=unused_gpu,
        packages=frozenset(name for name in ("mlx_lm", "bitsandbytes") if importlib.util.find_spec(name)),
    )


def choose(machine: Machine) -> tuple[dict[str, Any], str]:
    """(keys of the `model` section, why)."""
    if machine.apple_silicon and machine.memory >= MAC_MEMORY:
        found = f"Apple Silicon with {machine.memory / GIB:.0f} GB"
        if "mlx_lm" in machine.packages:
            return {"name": QWEN_MLX, "backend": "mlx", "quantization": "4bit"}, found
        return {"name": EMBEDDED}, f"{found}, but MLX is not installed: pip install -e '.[mlx]' for {QWEN_MLX}"
    if machine.cuda_memory >= CUDA_MEMORY:
        found = f"a CUDA GPU with {machine.cuda_memory / GIB:.0f} GB"
        if "bitsandbytes" in machine.packages:
            return {"name": QWEN, "backend": "torch", "quantization": "4bit"}, found
        return {"name": EMBEDDED}, f"{found}, but bitsandbytes is not installed: pip install -e '.[nf4]' for {QWEN}"
    if machine.unused_gpu:
        return {"name": EMBEDDED}, UNUSED_GPU
    return {"name": EMBEDDED}, "no Apple Silicon with 24 GB and no CUDA GPU with 12 GB here"


def resolve_model(config: Config, saved: Config | None = None) -> tuple[Config, str]:
    """The configuration with a model in the place of `auto`, and a line that says why (empty if none was asked for).

    A resumed run's own model, in `saved`, counts, whatever this machine would choose.
    """
    if config.model.name != "auto":
        return config, ""
    if saved is not None:
        keys = {key: getattr(saved.model, key) for key in ("name", "backend", "quantization")}
        return _with(config, keys), f"model: {saved.model.name}, the checkpoint's"
    keys, reason = choose(this_machine())
    needed = [f"{key}={value}" for key, value in keys.items() if getattr(config.model, key) not in ("auto", value)]
    if needed:
        keys, reason = {"name": EMBEDDED}, f"{reason}, but {keys['name']} needs model.{needed[0]}"
    if config.model.adapter == "full":  # which a base in 4 bit cannot be trained with
        keys, reason = {"name": EMBEDDED}, "model.adapter=full"
    if config.model.device in ("cpu", "mps"):
        keys, reason = {"name": EMBEDDED}, f"model.device={config.model.device}"
    return _with(config, keys), f"model: {keys['name']} ({reason}; to choose: --set model.name=NAME)"


def _with(config: Config, keys: dict[str, Any]) -> Config:
    """Only the name stands for itself; what the user set beside `auto` is kept."""
    kept = {key: value for key, value in keys.items() if key == "name" or getattr(config.model, key) == "auto"}
    return config.model_copy(update={"model": config.model.model_copy(update=kept)})


def _first_gpu() -> tuple[int, bool]:
    """Its memory in bytes, 0 without one, and whether it computes in bfloat16 (from compute capability 8 on)."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:  # the first may be another one, or none
        return _first_visible_gpu()
    if shutil.which("nvidia-smi") is None:  # in a container, say, that has the driver alone
        return _first_visible_gpu() if Path("/dev/nvidia0").exists() else (0, False)
    command = ["nvidia-smi", "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        memory, capability = done.stdout.splitlines()[0].split(",")
        return int(memory) << 20, float(capability) >= 8
    except (ValueError, IndexError):  # a card or driver that does not tell
        return _first_visible_gpu()
    except (OSError, subprocess.SubprocessError):
        return 0, False


def _first_visible_gpu() -> tuple[int, bool]:
    import torch

    if not torch.cuda.is_available():
        return 0, False
    found = torch.cuda.get_device_properties(0)
    return found.total_memory, found.major >= 8


def _torch_has_cuda() -> bool:
    from azr.policy.precision import cuda_works

    return cuda_works()
