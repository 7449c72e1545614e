"""Which policy trains a configured model: PyTorch's or MLX's. Imports neither before it is chosen."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.paths import user_path
from azr.policy.base import Policy

MLX_OWNER = "mlx-community/"  # on the hub: models in mlx-lm's format


def make_policy(model: ModelConfig, train: TrainConfig) -> Policy:
    """The policy of a configuration. Raises UserError."""
    if backend_of(model) == "mlx":
        if model.engine != "own" or model.device != "auto":
            raise UserError("model.engine, model.device: MLX has its own; set them to own and auto, or a torch backend")
        if importlib.util.find_spec("mlx") is None or importlib.util.find_spec("mlx_lm") is None:
            raise UserError(
                "model.backend: MLX is not installed; run: pip install -e '.[mlx]' (macOS 14 or later, Apple Silicon, "
                "or Linux with glibc 2.35 or later), or set model.backend=torch"
            )
        from azr.policy.mlx_policy import MlxPolicy

        return MlxPolicy(model, train)
    if model.engine == "vllm":
        if model.quantization != "4bit":
            raise UserError("model.engine: vLLM samples for a base in 4 bit; set model.quantization=4bit")
        from azr.policy.vllm_policy import VllmPolicy

        return VllmPolicy(model, train)
    if model.quantization == "4bit":
        from azr.policy.nf4_policy import Nf4Policy

        return Nf4Policy(model, train)
    from azr.policy.torch_policy import TorchPolicy  # torch takes seconds to import: bad input is found before

    return TorchPolicy(model, train)


def backend_of(model: ModelConfig) -> str:
    """ "torch" or "mlx": the one asked for, or the one whose format the model has."""
    if model.backend != "auto":
        return model.backend
    return "mlx" if has_mlx_format(model.name) else "torch"


def has_mlx_format(name: str) -> bool:
    """Whether mlx-lm wrote the model's quantised weights, so that nothing else reads them."""
    return name.startswith(MLX_OWNER) or _is_mlx_folder(user_path(Path(name)))


def _is_mlx_folder(folder: Path) -> bool:
    """mlx-lm writes how it quantised under its own key, without a method."""
    try:
        found = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    quantization = found.get("quantization") if isinstance(found, dict) else None
    return isinstance(quantization, dict) and "quant_method" not in quantization
