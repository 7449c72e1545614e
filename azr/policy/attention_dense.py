"""Attention inside a packed prefix tree by plain products, one softmax a token, for a CPU in bfloat16.

The children of one node see the same ancestors, so their queries meet the ancestors' keys in one product, and their own
keys in another; both go into one table of scores. Scores are rounded to the dtype of the queries, as in eager
attention, and exist for some heads and some siblings at a time only. The backward pass computes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from azr.policy.attention_ranges import PaddedRanges, Range, similar
from azr.policy.packing import Packed

Tensor = torch.Tensor
SIBLING_ROWS = 2048  # queries that meet the ancestors' keys together, a head
SCORES = 1 << 24  # entries of one table, which should stay in the cache


class Siblings:
    """Children of one node: N ranges of similar length, padded to L, and the A rows of their ancestors.

    Inside, with K key heads that R query heads each share: queries (K, N, R, L, D), own keys (K, N, L, D), ancestors'
    keys (K, A, D), scores (K, N, R, L, A + L). Values are laid out as keys are.
    """

    def __init__(self, ancestors: list[Range], ranges: PaddedRanges) -> None:
        self.ancestors, self.ranges = ancestors, ranges
        self.before = torch.cat([torch.arange(*ancestor) for ancestor in ancestors]) if ancestors else None
        self.seen = len(self.before) if self.before is not None else 0
        self.later = torch.ones(ranges.longest, ranges.longest, dtype=torch.bool).triu(1)

    def queries(self, x: Tensor, kv_heads: int, zero_padding: bool = False) -> Tensor:
        """(T, H, D) -> (K, N, R, L, D)."""
        x = self.ranges.load(x)
        if zero_padding:
            x.flatten(0, 1)[self.ranges.padding] = 0
        return x.unflatten(2, (kv_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(T, K, D) -> ancestors' (K, A, D), own (K, N, L, D)."""
        own = self.ranges.load(x).permute(2, 0, 1, 3).contiguous()
        if self.before is None:
            return own.new_empty(own.shape[0], 0, own.shape[3]), own
        return x.index_select(0, self.before).transpose(0, 1).contiguous(), own

    def store(self, target: Tensor, x: Tensor) -> None:
        """target (T, H, D) takes x (K, N, R, L, D)."""
        target.index_copy_(0, self.ranges.rows, self.ranges.valid_of(x.permute(1, 3, 0, 2, 4)).flatten(1, 2))

    def store_keys(self, target: Tensor, shared: Tensor, own: Tensor) -> None:
        """target (T, K, D) takes what `keys` would have read from it: its own rows anew, its ancestors' on top."""
        target.index_copy_(0, self.ranges.rows, self.ranges.valid_of(own.permute(1, 2, 0, 3)).to(target.dtype))
        first = 0
        for start, end in self.ancestors:
            target[start:end] += shared[:, first : first + end - start].transpose(0, 1)
            first += end - start

    def heads_at_a_time(self, kv_heads: int, heads: int) -> Iterator[slice]:
        """Key heads whose scores exist together."""
        each = heads // kv_heads * self.ranges.count * self.ranges.longest * (self.seen + self.ranges.longest)
        step = max(1, SCORES // each)
        for first in range(0, kv_heads, step):
            yield slice(first, first + step)

    def weights(self, query: Tensor, shared: Tensor, own: Tensor, scale: float) -> Tensor:
        """Each query's weights (K, N, R, L, A + L): a softmax over its ancestors and what is not later than itself."""
        scores = self.products(query, shared, own, scale)
        scores[..., self.seen :].masked_fill_(self.later, float("-inf"))
        return scores.softmax(-1)

    def products(self, x: Tensor, shared: Tensor, own: Tensor, scale: float = 1.0) -> Tensor:
        """x (K, N, R, L, D) with the ancestors' and its own range's keys or values -> (K, N, R, L, A + L)."""
        out = x.new_empty(*x.shape[:-1], self.seen + x.shape[-2])
        for part, other in ((self._shared(out), shared), (self._own(out), own.flatten(0, 1))):
            if other.shape[1]:
                rows = x.view(other.shape[0], -1, x.shape[-1])
                torch.baddbmm(part, rows, other.mT, beta=0, alpha=scale, out=part)
        return out

    def combine(self, weights: Tensor, shared: Tensor, own: Tensor) -> Tensor:
        """Weights (K, N, R, L, A + L) over keys or values -> (K, N, R, L, D)."""
        out = torch.bmm(self._own(weights), own.flatten(0, 1)).view(*weights.shape[:-1], own.shape[-1])
        if self.seen:
            out += torch.bmm(self._shared(weights), shared).view(out.shape)
        return out

    def gather(self, weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The transpose of `combine`: x (K, N, R, L, D) -> ancestors' (K, A, D), own (K, N, L, D)."""
        shared, own = (
            torch.bmm(part.contiguous().mT, x.view(part.shape[0], -1, x.shape[-1]))
            for part in (self._shared(weights), self._own(weights))
        )
        return shared, own.view(*x.shape[:2], -1, x.shape[-1])

    def _shared(self, scores: Tensor) -> Tensor:
        """The ancestors' columns, (K, N * R * L, A)."""
        return scores.flatten(1, 3)[..., : self.seen]

    def _own(self, scores: Tensor) -> Tensor:
        """The own range's columns, (K * N, R * L, L)."""
        return scores.flatten(2, 3).flatten(0, 1)[..., self.seen :]


def siblings(packed: Packed) -> list[Siblings]:
    """Every range of the tree in one of the batches, which comes before those of its descendants."""
    children: dict[int, list[Range]] = {}
    for node in packed.nodes:
        children.setdefault(node.parent, []).append((node.start, node.end))
    found = []
    for parent, ranges in children.items():
        ancestors: list[Range] = []
        while parent >= 0:
            node = packed.nodes[parent]
            ancestors.insert(0, (node.start, node.end))
            parent = node.parent
        found += [Siblings(ancestors, batch) for batch in similar(ranges, SIBLING_ROWS)]
    return found


class DenseAttention(torch.autograd.Function):
    """query (T, H, D), key and value (T, K, D) -> out (T, H, D)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, tree: list[Siblings], scale: float) -> Tensor:
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        for some in tree:
            q, (shared_k, own_k), (shared_v, own_v) = (
                some.queries(query, key.shape[1]), some.keys(key), some.keys(value)
            )  # fmt: skip
            joined = torch.empty_like(q)
            for heads in some.heads_at_a_time(key.shape[1], query.shape[1]):
                weights = some.weights(q[heads], shared_k[heads], own_k[heads], scale)
                joined[heads] = some.combine(weights, shared_v[heads], own_v[heads])
            some.store(out, joined)
        ctx.save_for_backward(query, key, value)
        ctx.tree, ctx.scale = tree, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        kv_heads = key.shape[1]
        grad_q = torch.empty_like(query, memory_format=torch.contiguous_format)
        # Shared rows get a part from each batch of their descendants, which all come later: summed in float32.
        grad_k, grad_v = (torch.empty_like(x, dtype=torch.float32) for x in (key, value))  # no default device here
        for some in ctx.tree:
            q, g = some.queries(query, kv_heads), some.queries(grads[0], kv_heads, zero_padding=True)
            (shared_k, own_k), (shared_v, own_v) = some.keys(key), some.keys(value)
            slope_q = torch.empty_like(q)
            for heads in some.heads_at_a_time(kv_heads, query.shape[1]):
                keys = shared_k[heads], own_k[heads]
                weights = some.weights(q[heads], *keys, ctx.scale)
                some.store_keys(grad_v[:, heads], *some.gather(weights, g[heads]))
                slope = some.products(g[heads], shared_v[heads], own_v[heads])
                slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
                slope_q[heads] = some.combine(slope, *keys)
                some.store_keys(grad_k[:, heads], *some.gather(slope, q[heads]))
            some.store(grad_q, slope_q)
        grad_q *= ctx.scale
        grad_k *= ctx.scale
        return grad_q, grad_k.to(key.dtype), grad_v.to(value.dtype), None, None
