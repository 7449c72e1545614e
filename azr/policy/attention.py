"""Attention over packed rows, plugged into any Transformers model that uses its attention interface.

The model sees one row (batch 1) of tokens with explicit positions. Which token may see which is not a mask but a list
of dense parts (a node's queries on itself, causally; a node's descendants on the node, fully), so that no masked score
is ever computed. Parts are joined by their log-sum-exp, as in FlashAttention (Dao et al., 2022), whose CPU kernels in
PyTorch do the work; given the joined output and log-sum-exp, the kernel's backward is exact for each part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from azr.errors import UserError
from azr.policy import attention_parts
from azr.policy.packing import Packed

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


def flash(query: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Partial attention and its log-sum-exp: PyTorch's kernel on a CPU, else plain products (`attention_parts`)."""
    run = _flash_cpu if query.device.type == "cpu" else attention_parts.forward
    return run(query, *rest, **options)


def _flash_backward(grad: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    run = _flash_cpu_backward if grad.device.type == "cpu" else attention_parts.backward
    return run(grad, *rest, **options)


_flash_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Join two partial attentions of the same queries: outputs (..., D) and their log-sum-exps (...)."""
    both = torch.logaddexp(lse, part_lse)
    joined = out * (lse - both).exp().unsqueeze(-1) + part * (part_lse - both).exp().unsqueeze(-1)
    return joined.to(out.dtype), both


class TreeLayout:
    """Attention inside a packed prefix tree. Optionally keeps each layer's keys and values (for a prefill)."""

    def __init__(self, packed: Packed, dtype: torch.dtype, keep: bool = False) -> None:
        self.dtype = dtype
        self.kept: dict[int, tuple[Tensor, Tensor]] | None = {} if keep else None
        self.inner = [(n.start, n.end, n.subtree_end) for n in packed.nodes if n.subtree_end > n.end]
        ranges = sorted(((n.start, n.end) for n in packed.nodes), key=lambda r: r[0] - r[1])
        self.batches = [CausalBatch(batch) for batch in _similar(ranges)]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = query.to(self.dtype), key.to(self.dtype), value.to(self.dtype)
        if self.kept is not None:
            self.kept[layer] = (key, value)
        out: Tensor = _TreeAttention.apply(query, key, value, self, scale)
        return out


def _similar(ranges: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Ranges, longest first, in batches whose padding stays below half."""
    batches: list[list[tuple[int, int]]] = []
    for start, end in ranges:
        if batches and end - start >= (batches[-1][0][1] - batches[-1][0][0]) // 2:
            batches[-1].append((start, end))
        else:
            batches.append([(start, end)])
    return batches


class CausalBatch:
    """N ranges of the row as one padded batch (N, heads, L, D), for causal attention inside each.

    Padding repeats a range's last token: causal attention hides it from the range's own queries before it, and what
    it computes itself is dropped.
    """

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self.count = len(ranges)
        self.longest = max(end - start for start, end in ranges)
        starts = torch.tensor([r[0] for r in ranges]).unsqueeze(1)
        ends = torch.tensor([r[1] for r in ranges]).unsqueeze(1)
        places = starts + torch.arange(self.longest)
        self.valid = (places < ends).flatten().nonzero().squeeze(1)  # places in the padded batch
        self.index = torch.minimum(places, ends - 1).flatten()  # padded batch -> row
        self.rows = self.index[self.valid]  # their rows
        self.padding = (places >= ends).flatten().nonzero().squeeze(1)

    def load(self, x: Tensor, heads: int) -> Tensor:
        """(T, K, D) -> (N, heads, L, D), each of the K heads repeated for its share of the heads."""
        x = x.index_select(0, self.index).unflatten(0, (self.count, self.longest)).transpose(1, 2)
        return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)

    def store(self, target: Tensor, x: Tensor) -> None:
        """target (T, H, ...) takes x (N, H, L, ...)."""
        target.index_copy_(0, self.rows, x.transpose(1, 2).flatten(0, 1).index_select(0, self.valid))

    def sum_heads(self, target: Tensor, x: Tensor) -> None:
        """target (T, K, D) takes x (N, H, L, D), summed over the heads that share one of the K."""
        self.store(target, x.unflatten(1, (target.shape[1], -1)).sum(2) if x.shape[1] != target.shape[1] else x)


def _heads_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).unsqueeze(0)  # (T, K, D) -> (1, K, T, D)


def _by_kv_head(x: Tensor, kv_heads: int) -> Tensor:
    """(T, H, D) -> (1, K, H / K * T, D): the query heads that share keys become further queries of one head."""
    return x.unflatten(1, (kv_heads, -1)).permute(1, 2, 0, 3).flatten(1, 2).unsqueeze(0)


def _from_kv_head(x: Tensor, tokens: int) -> Tensor:
    """The inverse of `_by_kv_head`."""
    return x[0].unflatten(1, (-1, tokens)).permute(2, 0, 1, 3).flatten(1, 2)


class _TreeAttention(torch.autograd.Function):
    """out[t] = softmax over t's visible keys; see the module's docstring."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, scale: float) -> Tensor:
        tokens, heads, _ = query.shape
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        lse = query.new_empty(tokens, heads, dtype=torch.float32)
        for batch in layout.batches:
            parts = flash(*(batch.load(x, heads) for x in (query, key, value)), 0.0, True, scale=scale)
            batch.store(out, parts[0])
            batch.store(lse, parts[1])
        for start, end, last in layout.inner:
            q = _by_kv_head(query[end:last], key.shape[1])
            parts = flash(q, _heads_first(key[start:end]), _heads_first(value[start:end]), scale=scale)
            part, part_lse = (_from_kv_head(x, last - end) for x in (parts[0], parts[1].unsqueeze(-1)))
            out[end:last], lse[end:last] = merge(out[end:last], lse[end:last], part, part_lse.squeeze(-1))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, out, lse = ctx.saved_tensors
        grad = grads[0].to(query.dtype)
        heads, kv_heads = query.shape[1], key.shape[1]
        grad_q, grad_k, grad_v = (
            torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
        )
        for batch in ctx.layout.batches:
            q, k, v, o, g = (batch.load(x, heads) for x in (query, key, value, out, grad))
            g = g.transpose(1, 2).contiguous()
            g.flatten(0, 1)[batch.padding] = 0
            part_lse = batch.load(lse.unsqueeze(-1), heads).squeeze(-1)
            dq, dk, dv = _flash_backward(g.transpose(1, 2), q, k, v, o, part_lse, 0.0, True, scale=ctx.scale)
            batch.store(grad_q, dq)
            batch.sum_heads(grad_k, dk)
            batch.sum_heads(grad_v, dv)
        for start, end, last in ctx.layout.inner:
            q, o, g, part_lse = (_by_kv_head(x[end:last], kv_heads) for x in (query, out, grad, lse.unsqueeze(-1)))
            k, v = _heads_first(key[start:end]), _heads_first(value[start:end])
            dq, dk, dv = _flash_backward(g, q, k, v, o, part_lse.squeeze(-1), 0.0, False, scale=ctx.scale)
            grad_q[end:last] += _from_kv_head(dq, last - end)
            grad_k[start:end] += dk[0].transpose(0, 1)
            grad_v[start:end] += dv[0].transpose(0, 1)
        return grad_q, grad_k, grad_v, None, None
