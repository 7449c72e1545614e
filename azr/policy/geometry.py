"""The shapes of models, without their weights: what memory and time are estimated from. Imports no heavy library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr.errors import UserError
from azr.paths import user_path
from azr.policy.hub import hub_reachable

EMBEDDED = "smollm2-135m"
QWEN_MLX, QWEN = "mlx-community/Qwen3-4B-4bit", "Qwen/Qwen3-4B"


class UnknownShape(UserError):
    """The model's shape cannot be had, or it is of another kind."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A decoder with gated feed-forward layers: Llama, Qwen, Mistral and their like."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool  # the head is the embedding
    weight_bits: int = 16  # as the model is published

    @property
    def linear_parameters(self) -> int:
        """Of the blocks' linear layers, which LoRA adapts and 4 bit packs."""
        return self.layers * sum(i * o for i, o in self.linears())

    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of one block's linear layers."""
        query, kv = self.heads * self.head_width, self.kv_heads * self.head_width
        attention = [(self.hidden, query), (self.hidden, kv), (self.hidden, kv), (query, self.hidden)]
        wide = (self.hidden, self.intermediate)
        return [*attention, wide, wide, (self.intermediate, self.hidden)]

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Norms, a few ten thousand, left out."""
        return self.linear_parameters + self.embedding_parameters

    def adapter_parameters(self, rank: int) -> int:
        return self.layers * sum(rank * (i + o) for i, o in self.linears())

    def cache_bytes(self, number_bytes: int) -> int:
        """Keys and values of one token."""
        return self.layers * 2 * self.kv_heads * self.head_width * number_bytes


_QWEN3_4B = (36, 2560, 9728, 32, 8, 128, 151936, True)
BUILT_IN = {
    EMBEDDED: Geometry(30, 576, 1536, 9, 3, 64, 49152, True),
    QWEN: Geometry(*_QWEN3_4B),
    QWEN_MLX: Geometry(*_QWEN3_4B, weight_bits=4),
}


def geometry_of(name: str) -> Geometry:
    """Built in, or read from the model's config.json. Raises UnknownShape if it is nowhere or of another kind."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = user_path(Path(name)) / "config.json"
    if not path.is_file():
        path = _from_hub(name)
    try:
        return geometry_from(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise UnknownShape(f"model.name: {path} does not tell the model's shape ({reason}); take {EMBEDDED}") from error


def shape_of(name: str, config: Mapping[str, Any]) -> Geometry:
    """As `geometry_from`. Raises UserError, with the model's name, for a model of another kind."""
    try:
        return geometry_from(config)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"model.name: {name!r} has no shape that is known here (no {error}); take a model of another kind"
        ) from error


def geometry_from(config: Mapping[str, Any]) -> Geometry:
    """From a Transformers or mlx-lm config. Raises KeyError for a model of another kind."""
    heads = int(config["num_attention_heads"])
    quantization = config.get("quantization")
    return Geometry(
        layers=int(config["num_hidden_layers"]),
        hidden=int(config["hidden_size"]),
        intermediate=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_width=int(config.get("head_dim") or config["hidden_size"] // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        weight_bits=int(quantization["bits"]) if isinstance(quantization, dict) and "bits" in quantization else 16,
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", local_files_only=not hub_reachable()))
    except Exception as error:  # its client lets through what a proxy or a broken connection raises
        raise UnknownShape(
            f"model.name: the shape of {name!r} is not built in and its config.json cannot be had; "
            f"give a folder, or take one of {', '.join(BUILT_IN)}"
        ) from error
