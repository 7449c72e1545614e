"""Partial attention with its log-sum-exp, and a packed prefix tree's attention made of it for a CPU in float32.

The tree is a list of parts (a node's queries on itself, causally; a node's descendants on the node, fully), so that no
masked score is ever computed. Parts are joined by their log-sum-exp, as in FlashAttention (Dao et al., 2022), whose CPU
kernels in PyTorch do the work; given the joined output and log-sum-exp, the kernel's backward is exact for each part.
"""

from __future__ import annotations

from typing import Any

import torch

from azr.policy.attention_ranges import PaddedRanges, similar
from azr.policy.packing import Packed

Tensor = torch.Tensor
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def partial_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Output (N, H, T, D) and log-sum-exp (N, H, T) of query (N, H, T, D) on key and value (N, H, S, D).

    Causal: the first query sees the first key only. `mask` is added to the scores.
    """
    out: tuple[Tensor, Tensor] = _flash(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
    return out


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Join two partial attentions of the same queries: outputs (..., D) and their log-sum-exps (...)."""
    both = torch.logaddexp(lse, part_lse)
    return out * (lse - both).exp().unsqueeze(-1) + part * (part_lse - both).exp().unsqueeze(-1), both


class Parts:
    """The parts of a tree: its ranges in padded batches, and the nodes that have descendants."""

    def __init__(self, packed: Packed) -> None:
        self.inner = [(n.start, n.end, n.subtree_end) for n in packed.nodes if n.subtree_end > n.end]
        self.batches = similar((n.start, n.end) for n in packed.nodes)


def _load(ranges: PaddedRanges, x: Tensor, heads: int) -> Tensor:
    """(T, K, D) -> (N, heads, L, D), each of the K heads repeated for its share of the heads."""
    x = ranges.load(x).transpose(1, 2)
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _store(ranges: PaddedRanges, target: Tensor, x: Tensor) -> None:
    """target (T, H, ...) takes x (N, H, L, ...)."""
    target.index_copy_(0, ranges.rows, ranges.valid_of(x.transpose(1, 2)))


def _sum_heads(ranges: PaddedRanges, target: Tensor, x: Tensor) -> None:
    """target (T, K, D) takes x (N, H, L, D), summed over the heads that share one of the K."""
    _store(ranges, target, x.unflatten(1, (target.shape[1], -1)).sum(2) if x.shape[1] != target.shape[1] else x)


def _heads_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).unsqueeze(0)  # (T, K, D) -> (1, K, T, D)


def _by_kv_head(x: Tensor, kv_heads: int) -> Tensor:
    """(T, H, D) -> (1, K, H / K * T, D): the query heads that share keys become further queries of one head."""
    return x.unflatten(1, (kv_heads, -1)).permute(1, 2, 0, 3).flatten(1, 2).unsqueeze(0)


def _from_kv_head(x: Tensor, tokens: int) -> Tensor:
    """The inverse of `_by_kv_head`."""
    return x[0].unflatten(1, (-1, tokens)).permute(2, 0, 1, 3).flatten(1, 2)


class FlashAttention(torch.autograd.Function):
    """query (T, H, D), key and value (T, K, D) -> out (T, H, D)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, tree: Parts, scale: float) -> Tensor:
        tokens, heads, _ = query.shape
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        lse = query.new_empty(tokens, heads, dtype=torch.float32)
        for batch in tree.batches:
            q, k, v = (_load(batch, x, heads) for x in (query, key, value))
            parts = partial_attention(q, k, v, scale, causal=True)
            _store(batch, out, parts[0])
            _store(batch, lse, parts[1])
        for start, end, last in tree.inner:
            q = _by_kv_head(query[end:last], key.shape[1])
            parts = partial_attention(q, _heads_first(key[start:end]), _heads_first(value[start:end]), scale)
            part, part_lse = (_from_kv_head(x, last - end) for x in (parts[0], parts[1].unsqueeze(-1)))
            out[end:last], lse[end:last] = merge(out[end:last], lse[end:last], part, part_lse.squeeze(-1))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.tree, ctx.scale = tree, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, out, lse = ctx.saved_tensors
        grad = grads[0]
        heads, kv_heads = query.shape[1], key.shape[1]
        grad_q, grad_k, grad_v = (
            torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
        )
        for batch in ctx.tree.batches:
            q, k, v, o, g = (_load(batch, x, heads) for x in (query, key, value, out, grad))
            g = g.transpose(1, 2).contiguous()
            g.flatten(0, 1)[batch.padding] = 0
            part_lse = _load(batch, lse.unsqueeze(-1), heads).squeeze(-1)
            dq, dk, dv = _flash_backward(g.transpose(1, 2), q, k, v, o, part_lse, 0.0, True, scale=ctx.scale)
            _store(batch, grad_q, dq)
            _sum_heads(batch, grad_k, dk)
            _sum_heads(batch, grad_v, dv)
        for start, end, last in ctx.tree.inner:
            q, o, g, part_lse = (_by_kv_head(x[end:last], kv_heads) for x in (query, out, grad, lse.unsqueeze(-1)))
            k, v = _heads_first(key[start:end]), _heads_first(value[start:end])
            dq, dk, dv = _flash_backward(g, q, k, v, o, part_lse.squeeze(-1), 0.0, False, scale=ctx.scale)
            grad_q[end:last] += _from_kv_head(dq, last - end)
            grad_k[start:end] += dk[0].transpose(0, 1)
            grad_v[start:end] += dv[0].transpose(0, 1)
        return grad_q, grad_k, grad_v, None, None
