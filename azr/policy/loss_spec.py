"""The loss in plain Python, on lists of floats: what every backend must reproduce.

One sequence i has tokens t with log-probabilities under the policy being trained (`logprobs`), under the trainer before
the update (`old`) and under the generator that sampled them (`generator`), and one advantage A_i.

    ratio_it  = exp(logprobs_it - old_it)
    weight_it = min(exp(old_it - generator_it), cap)                      truncated importance sampling
    loss_it   = -min(ratio_it A_i, clip(ratio_it, 1 - c, 1 + c) A_i) weight_it
    sequence-weighted:  (1 / N) sum_i (1 / L_i) sum_t loss_it
    token-weighted:     sum_it loss_it / sum_i L_i
    role-weighted:      the mean of the sequence-weighted losses of the roles (proposer, solver) that have sequences

With a single update a step, `old` equals `logprobs` at the only point where the gradient is taken: the ratio is 1, and
the clip cannot bind. It is kept because the loss is defined with it, and tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def policy_loss(
    logprobs: Rows,
    old: Rows,
    generator: Rows,
    advantages: Sequence[float],
    clip_ratio: float,
    importance_cap: float,
    roles: Sequence[str],
    weighting: str,
) -> float:
    """The loss of a batch of sequences; a sequence without tokens adds nothing but counts in N."""
    sums = [
        sum(
            token_loss(*token, advantage, clip_ratio, importance_cap)
            for token in zip(logprobs[i], old[i], generator[i], strict=True)
        )
        for i, advantage in enumerate(advantages)
    ]
    lengths = [len(row) for row in logprobs]
    if weighting == "role":
        means = []
        for role in set(roles):
            own = [total / max(n, 1) for total, n, r in zip(sums, lengths, roles, strict=True) if r == role]
            means.append(sum(own) / len(own))
        return sum(means) / max(len(means), 1)
    if weighting == "sequence":
        return sum(total / max(length, 1) for total, length in zip(sums, lengths, strict=True)) / max(len(sums), 1)
    return sum(sums) / max(sum(lengths), 1)


def token_loss(
    logprob: float, old: float, generator: float, advantage: float, clip_ratio: float, importance_cap: float
) -> float:
    """The loss of one token."""
    ratio = math.exp(logprob - old)
    clipped = min(max(ratio, 1 - clip_ratio), 1 + clip_ratio)
    return -min(ratio * advantage, clipped * advantage) * min(math.exp(old - generator), importance_cap)
