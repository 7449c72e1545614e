"""`model.name: auto`: the largest model that this machine trains well, and the reason in one line."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import psutil

from azr.config import Config
from azr.policy.geometry import EMBEDDED, QWEN, QWEN_MLX

GIB = 1 << 30
MAC_MEMORY, CUDA_MEMORY = 24 * GIB, 23 * GIB // 2  # cards sold with 12 GB report a little less


@dataclass(frozen=True, slots=True)
class Machine:
    """What a model has to fit into. Bytes."""

    apple_silicon: bool
    memory: int
    cuda_memory: int = 0  # of the first GPU; 0 without one
    packages: frozenset[str] = frozenset()  # of mlx_lm and bitsandbytes, those installed


def this_machine() -> Machine:
    """Without torch, which takes seconds to import."""
    return Machine(
        apple_silicon=sys.platform == "darwin" and platform.machine() == "arm64",
        memory=psutil.virtual_memory().total,
        cuda_memory=_cuda_memory(),
        packages=frozenset(name for name in ("mlx_lm", "bitsandbytes") if importlib.util.find_spec(name)),
    )


def choose(machine: Machine) -> tuple[dict[str, Any], str]:
    """(keys of the `model` section, why)."""
    if machine.apple_silicon and machine.memory >= MAC_MEMORY:
        found = f"Apple Silicon with {machine.memory / GIB:.0f} GB"
        if "mlx_lm" in machine.packages:
            return {"name": QWEN_MLX, "backend": "mlx", "quantization": "4bit"}, found
        return {"name": EMBEDDED}, f"{found}, but MLX is not installed: pip install 'azr[mlx]' for {QWEN_MLX}"
    if machine.cuda_memory >= CUDA_MEMORY:
        found = f"a CUDA GPU with {machine.cuda_memory / GIB:.0f} GB"
        if "bitsandbytes" in machine.packages:
            return {"name": QWEN, "backend": "torch", "quantization": "4bit"}, found
        return {"name": EMBEDDED}, f"{found}, but bitsandbytes is not installed: pip install 'azr[nf4]' for {QWEN}"
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
    return _with(config, keys), f"model: {keys['name']} ({reason}; to choose: --set model.name=NAME)"


def _with(config: Config, keys: dict[str, Any]) -> Config:
    """Only the name stands for itself; what the user set beside `auto` is kept."""
    kept = {key: value for key, value in keys.items() if key == "name" or getattr(config.model, key) == "auto"}
    return config.model_copy(update={"model": config.model.model_copy(update=kept)})


def _cuda_memory() -> int:
    if shutil.which("nvidia-smi") is None:
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return int(done.stdout.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
