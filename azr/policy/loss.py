"""The clipped policy-gradient loss on tensors; `loss_spec.py` states the same on plain lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

Tensor = torch.Tensor


def importance_weights(old: Tensor, generator: Tensor, cap: float) -> Tensor:
    """Truncated importance sampling, min(exp(old - generator), cap), a token.

    `old` are the trainer's log-probabilities before the update, `generator` those recorded while sampling: the two
    engines differ in precision, and the weight corrects for it.
    """
    return (old - generator).exp().clamp(max=cap)


def token_losses(
    logprobs: Tensor, old: Tensor, generator: Tensor, advantages: Tensor, clip_ratio: float, cap: float
) -> Tensor:
    """PPO's clipped surrogate (Schulman et al., 2017) a token, times the truncated importance weight. All (T,)."""
    ratio = (logprobs - old).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_ratio, 1 + clip_ratio) * advantages)
    return -surrogate * importance_weights(old, generator, cap)


def divergence(log_policy: Tensor, log_reference: Tensor) -> Tensor:
    """KL(policy ‖ reference) a token in nats, exact, from log-probabilities of the whole vocabulary (T, V). (T,)."""
    return (log_policy.exp() * (log_policy - log_reference)).sum(-1)


def token_weights(lengths: Sequence[int], roles: Sequence[str], weighting: str) -> list[float]:
    """What one token of each sequence weighs in the loss.

    role: proposer and solver weigh the same, the sequences of each share that, however many they are; sequence: every
    sequence weighs the same, its tokens share that; token: every token weighs the same.
    """
    if weighting == "role":
        counts = Counter(roles)
        return [1 / (len(counts) * counts[r] * max(n, 1)) for n, r in zip(lengths, roles, strict=True)]
    if weighting == "sequence":
        return [1 / (len(lengths) * max(length, 1)) for length in lengths]
    return [1 / max(sum(lengths), 1)] * len(lengths)
