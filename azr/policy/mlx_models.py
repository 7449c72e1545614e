"""Names to MLX weights: the embedded model, any folder or id of Transformers or of mlx-lm, quantised here if it is not.

The base is frozen. On Metal a quantised product is one kernel; MLX's CPU build has only a scalar loop for it, so there
the weights of one layer are dequantised for each product (the same numbers, and still 4 bit a weight in memory).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model, quantize_model
from transformers import AutoTokenizer

from azr.config import ModelConfig
from azr.errors import UserError
from azr.policy.models import EMBEDDED, local_folder, prompt_style

GROUP_SIZE, BITS = 64, 4  # weights that share a scale and an offset (16 bit each): 4.5 bit a weight
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16}


@dataclass(slots=True)
class LoadedMlx:
    """A frozen model, its tokenizer and how it wants to be prompted."""

    name: str
    model: Any
    config: dict[str, Any]
    tokenizer: Any
    style: str
    end_ids: set[int]
    fingerprint: str  # of the weights as they are published, whatever the precision here


def on_metal() -> bool:
    return bool(mx.metal.is_available()) and mx.default_device() == mx.gpu


def set_limits() -> None:
    """Wire what the system recommends and bound the buffer cache: without either, long runs crash 48 GB machines."""
    if on_metal():
        recommended = int(mx.device_info()["max_recommended_working_set_size"])
        mx.set_wired_limit(recommended)
        mx.set_memory_limit(recommended)
        mx.set_cache_limit(recommended // 8)
    else:
        mx.set_cache_limit(1 << 29)


def load_mlx(config: ModelConfig, dtype: mx.Dtype) -> LoadedMlx:
    """The model of the configuration. Raises UserError if it cannot be had or MLX cannot train it."""
    name = config.name
    folder = local_folder(name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # mlx-lm prints how it quantises
            model, found = load_model(Path(folder), lazy=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            if config.quantization != "none" and "quantization" not in found:
                model, found = quantize_model(model, found, GROUP_SIZE, BITS)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"model.name: MLX cannot load the model {name!r} ({reason}); check the name, take {EMBEDDED}, "
            "or set model.backend=torch"
        ) from error
    if config.quantization == "none" and "quantization" in found:
        raise UserError(f"model.quantization: {name!r} holds quantised weights; set model.quantization=auto")
    fingerprint = _cast(model, dtype)
    model.freeze()
    if not on_metal():
        _dequantise_for_products(model)
    _check_supported(model, name)
    style = prompt_style(name, config.style, tokenizer)
    return LoadedMlx(name, model, found, tokenizer, style, _ends(found, tokenizer), fingerprint)


def add_adapter(model: Any, rank: int, alpha: int, seed: int) -> dict[str, Any]:
    """LoRA on every linear layer of the blocks, as mlx-lm makes it; returns mlx-lm's `lora_parameters`."""
    mx.random.seed(seed)
    parameters = {"rank": rank, "scale": alpha / rank, "dropout": 0.0}
    linear_to_lora_layers(model, len(model.layers), parameters)
    mx.eval(model.trainable_parameters())
    return parameters


def adapted_layers(model: Any) -> list[Any]:
    """Every layer that carries an adapter; mlx-lm keeps the adapter's `scale` on it."""
    return [module for module in model.modules() if hasattr(module, "lora_a")]


def product_layer(layer: Any, quantized: bool) -> Any:
    """A linear layer as a loaded model has it."""
    if not quantized:
        return layer
    holder = nn.Sequential(layer.to_quantized(GROUP_SIZE, BITS))
    if not on_metal():
        _dequantise_for_products(holder)
    return holder


def body_of(model: Any) -> Callable[..., mx.array]:
    """The part of an mlx-lm model that gives hidden states: (tokens, cache) -> (B, T, hidden)."""
    body: Callable[..., mx.array] = model.model
    return body


def logits_of(model: Any, hidden: mx.array) -> mx.array:
    """Logits in float32: (..., hidden) -> (..., V)."""
    head = model.lm_head(hidden) if "lm_head" in model else model.model.embed_tokens.as_linear(hidden)
    logits: mx.array = head.astype(mx.float32)
    return logits


def _check_supported(model: Any, name: str) -> None:
    """Only plain key-value caches can be shared and continued; hidden states and head must give the model's logits."""
    refused = f"model.name: {name!r} is built in a way that the MLX policy does not support; set model.backend=torch"
    if not hasattr(getattr(model, "model", None), "layers") or any(
        type(cache) is not KVCache for cache in make_prompt_cache(model)
    ):
        raise UserError(refused)
    ids = mx.arange(4)[None]
    try:
        ours, theirs = logits_of(model, body_of(model)(ids)), model(ids).astype(mx.float32)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(refused) from error
    if not mx.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(mx.abs(theirs).max())):
        raise UserError(refused)


def _cast(model: Any, dtype: mx.Dtype) -> str:
    """Brings a lazily loaded model to one precision; returns the fingerprint that it had before.

    Both are evaluated together, so that a weight is given back as soon as its cast is made.
    """
    weights = dict(tree_flatten(model.parameters()))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    heads = {name: weight.reshape(-1)[:64].astype(mx.float32) for name, weight in weights.items()}
    cast = [(name, w.astype(dtype) if mx.issubdtype(w.dtype, mx.floating) else w) for name, w in weights.items()]
    model.update(tree_unflatten(cast))
    del weights, cast
    mx.eval(model.parameters(), heads)
    return _fingerprint(shapes, heads)


def _fingerprint(shapes: Mapping[str, tuple[int, ...]], heads: Mapping[str, mx.array]) -> str:
    """Hash of every weight's name, shape and first values: tells models of one name and shape apart."""
    digest = hashlib.sha256()
    for name in sorted(shapes):
        digest.update(f"{name}{shapes[name]}".encode() + np.array(heads[name]).tobytes())
    return digest.hexdigest()[:16]


def _ends(config: dict[str, Any], tokenizer: Any) -> set[int]:
    """Tokens that end a completion."""
    ends: set[int] = set()
    for value in (config.get("eos_token_id"), tokenizer.eos_token_id):
        ends |= set(value) if isinstance(value, list) else {value} if value is not None else set()
    return ends | {i for token, i in tokenizer.get_added_vocab().items() if token == "<|endoftext|>"}


@mx.custom_function
def _product(x: mx.array, weight: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
    """x W^T with W dequantised for this product alone."""
    return x @ _dequantised(x, weight, scales, biases, x.shape[-1]).T


@_product.vjp
def _product_vjp(primals: tuple[mx.array, ...], cotangent: mx.array, _: mx.array) -> tuple[mx.array, ...]:
    x, weight, scales, biases = primals
    back = cotangent @ _dequantised(cotangent, weight, scales, biases, x.shape[-1])
    return back, mx.zeros_like(weight), mx.zeros_like(scales), mx.zeros_like(biases)


def _dequantised(other: mx.array, weight: mx.array, scales: mx.array, biases: mx.array, width: int) -> mx.array:
    # Not before the product's other factor is there: dequantised ahead, many layers' weights would exist at once.
    [weight] = mx.depends([weight], [other])
    return mx.dequantize(weight, scales, biases, width // scales.shape[-1], weight.shape[-1] * 32 // width)


class _Linear(nn.QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        out: mx.array = _product(x, self.weight, self.scales, self.biases)
        return out + self.bias if "bias" in self else out


class _Embedding(nn.QuantizedEmbedding):
    def as_linear(self, x: mx.array) -> mx.array:
        out: mx.array = _product(x, self.weight, self.scales, self.biases)
        return out


def _dequantise_for_products(model: Any) -> None:
    """See the module's docstring; only the affine mode has this form."""
    for module in model.modules():
        if getattr(module, "mode", "") == "affine":
            for plain, ours in ((nn.QuantizedLinear, _Linear), (nn.QuantizedEmbedding, _Embedding)):
                if type(module) is plain:
                    module.__class__ = ours
