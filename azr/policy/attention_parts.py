"""Partial attention with its log-sum-exp in plain products: what PyTorch's CPU kernel computes, on any device.

Shapes as that kernel's: query (N, H, T, D), key and value (N, K, S, D) with K a divisor of H; log-sum-exp (N, H, T).
The scores of one part exist at once, in float32.
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def forward(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, causal: bool = False,
    *, attn_mask: Tensor | None = None, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The part's output (N, H, T, D) and its log-sum-exp, float32. Causal: the first query sees the first key only."""
    scores = _scores(query, _repeat(key, query), causal, attn_mask, scale)
    lse = scores.logsumexp(-1)
    weights = (scores - lse.unsqueeze(-1)).exp().to(value.dtype)
    return weights @ _repeat(value, query), lse


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, dropout: float, causal: bool,
    *, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value, given the joined output and log-sum-exp (FlashAttention-2, algorithm 2)."""
    keys, values = _repeat(key, query), _repeat(value, query)
    weights = (_scores(query, keys, causal, None, scale) - lse.unsqueeze(-1)).exp()  # (N, H, T, S)
    slope = grad.float()
    inner = weights * (slope @ values.float().mT - (slope * out.float()).sum(-1, keepdim=True)) * scale
    grad_query = inner @ keys.float()
    grad_key, grad_value = inner.mT @ query.float(), weights.mT @ slope
    return (
        grad_query.to(query.dtype),
        _fold(grad_key, key).to(key.dtype),
        _fold(grad_value, value).to(value.dtype),
    )


def _scores(query: Tensor, key: Tensor, causal: bool, mask: Tensor | None, scale: float) -> Tensor:
    scores = (query @ key.mT).float() * scale
    if mask is not None:
        scores = scores + mask
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores


def _repeat(x: Tensor, query: Tensor) -> Tensor:
    """Each of the K heads for its share of the query's."""
    return x if x.shape[1] == query.shape[1] else x.repeat_interleave(query.shape[1] // x.shape[1], dim=1)


def _fold(grad: Tensor, x: Tensor) -> Tensor:
    """The inverse for gradients: summed over the heads that share one of the K."""
    return grad if grad.shape[1] == x.shape[1] else grad.unflatten(1, (x.shape[1], -1)).sum(2)
