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


def logits_gradient(
    log_policy: Tensor, policy: Tensor, targets: Tensor, slope: Tensor, log_reference: Tensor | None, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of the loss by the logits (T, V), and KL(policy ‖ reference) a token (T,) in nats, exact.

    `log_policy`, `policy` and `log_reference` (T, V): log-probabilities and probabilities; `slope` (T,): derivative of
    the loss by the log-probability of the targets (T,); `weight` (T,) of the divergence in the loss. With p the policy:
    d log p[target] / d logits = onehot(target) - p, and d KL / d logits = p (log p - log reference - KL).
    `policy` and `log_reference` are overwritten: tables of that size are slow to have anew.
    """
    if log_reference is None:
        kl, factor = torch.zeros_like(slope), (-slope).unsqueeze(1)
    else:
        excess = torch.sub(log_policy, log_reference, out=log_reference)
        kl = torch.linalg.vecdot(policy, excess)
        factor = excess.mul_(weight.unsqueeze(1)).sub_((weight * kl + slope).unsqueeze(1))
    gradient = policy.mul_(factor)
    gradient.scatter_add_(1, targets.unsqueeze(1), slope.unsqueeze(1))
    return gradient, kl


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
