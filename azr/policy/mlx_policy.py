"""The policy on MLX: a frozen base, in 4 bit unless asked otherwise, and a LoRA adapter that samples and learns.

There is one set of weights: the adapter is never merged, so sampling and learning differ only by their kernels. The
adapter is saved as mlx-lm saves it (`adapters.safetensors`, `adapter_config.json`), and mlx-lm loads it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import optimizers
from mlx.utils import tree_flatten, tree_unflatten

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy import text
from azr.policy.auto import this_machine
from azr.policy.base import Progress
from azr.policy.geometry import geometry_from, shape_of
from azr.policy.identity import FORMAT, check_identity, read_identity
from azr.policy.memory import checkpointing_pays, memory_budget, mlx_cache_share
from azr.policy.mlx_generation import MlxGenerator
from azr.policy.mlx_models import DTYPES, adapted_layers, add_adapter, load_mlx, on_metal, set_limits
from azr.policy.mlx_update import MlxUpdater
from azr.records import Group, Sample, Sampling


class MlxPolicy:
    """A causal language model of mlx-lm with LoRA training."""

    def __init__(self, model: ModelConfig, train: TrainConfig) -> None:
        if model.adapter == "full":
            raise UserError("model.adapter: MLX trains a LoRA adapter only; set model.backend=torch for full")
        self.config, self.train = model, train
        self.thinking_tokens = model.thinking_tokens
        self.precision = resolve_precision(model)
        set_limits()
        loaded = load_mlx(model, DTYPES[self.precision])
        self.name, self.tokenizer, self.style = loaded.name, loaded.tokenizer, loaded.style
        self.model, self.model_config = loaded.model, loaded.config
        self.fingerprint = loaded.fingerprint
        self.base_parameters = _parameters(self.model)
        self.lora = add_adapter(self.model, model.lora_rank, model.lora_alpha, train.seed)
        self.optimizer = self._new_optimizer()
        shape = shape_of(self.name, self.model_config)
        self.generator = MlxGenerator(
            self.model, self.tokenizer, loaded.end_ids, shape.cache_bytes(DTYPES[self.precision].size),
            mlx_cache_share(memory_budget(this_machine(), "metal" if on_metal() else "cpu")),
        )  # fmt: skip
        self.updater = MlxUpdater(self.model, train, self._checkpoints(), self.untrained)
        self.updates = 0

    def _new_optimizer(self) -> Any:
        optimizer = optimizers.AdamW(learning_rate=self.train.learning_rate, weight_decay=0.0, bias_correction=True)
        optimizer.init(self.model.trainable_parameters())
        return optimizer

    def _checkpoints(self) -> bool:
        """Whether blocks keep only their input for the backward pass: it costs a forward pass more."""
        return checkpointing_pays(
            "mlx", geometry_from(self.model_config), self.train.micro_batch_tokens, DTYPES[self.precision].size
        )

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        """See `Policy.generate`. A prompt longer than the model's context loses its beginning."""
        if not prompts or samples_per_prompt < 1:
            return [Group(prompt, (), ()) for prompt in prompts]
        room = max(1, self.model_config.get("max_position_embeddings", 1 << 30) - sampling.max_new_tokens)
        ids = [text.encode(self.tokenizer, prompt, sampling.chat)[-room:] for prompt in prompts]
        completions = self.generator.generate(ids, samples_per_prompt, sampling, progress)
        return [Group(*row) for row in zip(prompts, ids, map(tuple, completions), strict=True)]

    @contextlib.contextmanager
    def untrained(self) -> Iterator[None]:
        """See `Policy.untrained`. The adapter's scale is 0 for a while."""
        layers = adapted_layers(self.model)
        scales = [layer.scale for layer in layers]
        try:
            for layer in layers:
                layer.scale = 0.0
            yield
        finally:
            for layer, scale in zip(layers, scales, strict=True):
                layer.scale = scale

    def update(self, samples: Sequence[Sample], progress: Progress | None = None) -> dict[str, float]:
        """See `Policy.update`. One optimizer step on all samples; none if no sample carries a signal."""
        gradient, metrics = self.updater.accumulate(samples, progress)
        metrics |= {"grad_norm": 0.0, "skipped": 1.0}
        if gradient is None:
            return metrics
        clipped, norm = optimizers.clip_grad_norm(gradient, self.train.clip_grad)
        metrics["grad_norm"] = float(norm)
        if np.isfinite(metrics["grad_norm"]):
            self.optimizer.update(self.model, clipped)
            mx.eval(self.model.trainable_parameters(), self.optimizer.state)
            self.updates += 1
            metrics["skipped"] = 0.0
        mx.clear_cache()
        return metrics

    def format_chat(self, user: str) -> str:
        """See `Policy.format_chat`. Control tokens spelled out in `user` are broken by a space."""
        return text.chat_prompt(self.tokenizer, user, self.thinking_tokens > 0)

    def save(self, folder: Path) -> None:
        """adapter/ (mlx-lm's own format), optimizer.safetensors, policy.json."""
        adapter = folder / "adapter"
        adapter.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(str(adapter / "adapters.safetensors"), self._trained())
        (adapter / "adapter_config.json").write_text(json.dumps(self._adapter_config(), indent=1))
        mx.save_safetensors(str(folder / "optimizer.safetensors"), dict(tree_flatten(self.optimizer.state)))
        (folder / "policy.json").write_text(json.dumps(self._identity() | {"updates": self.updates}, indent=1))

    def _adapter_config(self) -> dict[str, Any]:
        """What mlx-lm's `load_adapters` reads."""
        return {
            "fine_tune_type": "lora", "model": self.name, "num_layers": len(self.model.layers),
            "lora_parameters": self.lora,
        }  # fmt: skip

    def _trained(self) -> dict[str, mx.array]:
        return dict(tree_flatten(self.model.trainable_parameters()))

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {
            "format": FORMAT, "backend": "mlx", "model": self.name, "fingerprint": self.fingerprint,
            "adapter": self.config.adapter, "lora_rank": self.config.lora_rank, "lora_alpha": self.config.lora_alpha,
            "generation_precision": self.precision, "update_precision": self.precision, "threads": self.config.threads,
        }  # fmt: skip

    def load(self, folder: Path) -> None:
        """See `Policy.load`. Nothing is changed unless every file is whole and fits."""
        stored = read_identity(folder)
        check_identity(folder, stored, self._identity())
        weights = _read_arrays(folder / "adapter" / "adapters.safetensors")
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in self._trained().items()}:
            raise UserError(f"{folder}: the checkpoint's weights are not this model's; resume with its own model")
        state = _read_arrays(folder / "optimizer.safetensors")
        fresh = self._new_optimizer()
        if {n: s.shape for n, s in tree_flatten(fresh.state)} != {n: s.shape for n, s in state.items()}:
            raise UserError(f"{folder}: the optimizer state is not this model's; resume with its own model")
        fresh.state = tree_unflatten(list(state.items()))
        self.model.load_weights(list(weights.items()), strict=False)
        self.optimizer = fresh
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        self.updates = int(stored.get("updates", 0))

    def describe(self) -> dict[str, str | int | float]:
        """See `Policy.describe`."""
        return {
            "name": self.name, "style": self.style, "adapter": self.config.adapter,
            "device": "metal" if on_metal() else "cpu", "backend": "mlx",
            "quantization": _quantization(self.model_config), "fingerprint": self.fingerprint,
            "parameters": self.base_parameters,
            "trained_parameters": sum(w.size for w in self._trained().values()),
            "generation_precision": self.precision, "update_precision": self.precision, "threads": self.config.threads,
            "micro_batch_tokens": self.train.micro_batch_tokens,
            "bytes": sum(w.nbytes for _, w in tree_flatten(self.model.parameters())), "updates": self.updates,
        }  # fmt: skip


def resolve_precision(config: ModelConfig) -> str:
    """The one precision of both phases: `auto` is bfloat16 on Metal, float32 on a CPU, where MLX emulates others."""
    asked = {config.generation_precision, config.update_precision} - {"auto"}
    if len(asked) > 1:
        raise UserError(
            "model.generation_precision and model.update_precision: MLX has one set of weights; give both the same"
        )
    return asked.pop() if asked else "bfloat16" if on_metal() else "float32"


def _quantization(config: dict[str, Any]) -> str:
    found = config.get("quantization")
    return f"{found['bits']} bit" if found else "none"


def _parameters(model: Any) -> int:
    """Numbers in the model, packed ones counted apart."""
    from mlx_lm.utils import get_total_parameters

    return int(get_total_parameters(model))


def _read_arrays(path: Path) -> dict[str, mx.array]:
    try:
        found = mx.load(str(path))
        mx.eval(found)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path}: missing or truncated ({reason}); take an older checkpoint") from error
    assert isinstance(found, dict)
    return found
