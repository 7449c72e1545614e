"""Attention over packed rows, plugged into any Transformers model that uses its attention interface.

The model sees one row (batch 1) of tokens with explicit positions. Which token may see which is a tree of ranges
(`packing`). What computes it was chosen by measurement (docs/results.md, docs/hardware.md): on a CPU PyTorch's flash
kernel in float32 (`attention_flash`) and plain products in bfloat16 (`attention_dense`), each range with the ranges
that it sees; on a GPU one product with a mask over the whole row (`attention_masked`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from azr.errors import UserError
from azr.policy.attention_dense import DenseAttention, siblings
from azr.policy.attention_flash import FlashAttention, Parts
from azr.policy.attention_masked import masked_attention, tree_mask
from azr.policy.packing import Packed
from azr.policy.precision import running_on

NAME = "azr"  # the attention implementation's name in Transformers
Tensor = torch.Tensor


class Layout(Protocol):
    """Who attends to whom in the running forward pass."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query (T, H, D), key and value (T, K, D) -> (T, H, D)."""
        ...


_active: list[Layout] = []
_calls = [0]


@contextlib.contextmanager
def attending(layout: Layout) -> Iterator[None]:
    """Every attention of a model in this block goes by the layout."""
    _active.append(layout)
    try:
        yield
    finally:
        _active.pop()


def active_layout() -> Layout:
    return _active[-1]


def hidden_states(model: Any, layout: Layout, tokens: Tensor, positions: Tensor) -> Tensor:
    """Final hidden states (T, hidden) of one packed row of tokens (T,) at positions (T,), attending by `layout`."""
    calls = _calls[0]
    with attending(layout):
        embedded = model.get_input_embeddings()(tokens.unsqueeze(0))
        out = model.get_decoder()(inputs_embeds=embedded, position_ids=positions.unsqueeze(0), use_cache=False)
    if _calls[0] == calls:  # else the sequences of a row would silently see one another
        raise RuntimeError(f"the model did not use the attention {NAME!r}: was its configuration changed?")
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None,
    dropout: float = 0.0, sliding_window: int | None = None, softcap: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The function that Transformers calls: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D)."""
    if sliding_window is not None or softcap is not None:
        raise UserError(
            "model.name: this model's attention (sliding window or soft cap) is not supported; take another"
        )
    _calls[0] += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return _active[-1].attend(module.layer_idx, q, k, v, scale).unsqueeze(0), None


AttentionInterface.register(NAME, _attention)  # no mask is registered, so Transformers builds none


class TreeLayout:
    """Attention inside a packed prefix tree. Optionally keeps each layer's keys and values (for a prefill)."""

    def __init__(self, packed: Packed, dtype: torch.dtype, keep: bool = False) -> None:
        self.dtype = dtype
        self.kept: dict[int, tuple[Tensor, Tensor]] | None = {} if keep else None
        if running_on() != "cpu":
            self.tree: Any = tree_mask(packed, dtype)
        else:
            self.tree = Parts(packed) if dtype == torch.float32 else siblings(packed)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = query.to(self.dtype), key.to(self.dtype), value.to(self.dtype)
        if self.kept is not None:
            self.kept[layer] = (key, value)
        if isinstance(self.tree, Tensor):
            return masked_attention(query, key, value, self.tree, scale)
        attention = FlashAttention if isinstance(self.tree, Parts) else DenseAttention
        out: Tensor = attention.apply(query, key, value, self.tree, scale)
        return out
