"""Gradients of the policy loss over packed samples.

Samples that carry no advantage add nothing to the gradient and are left out; the normalisation still counts them. The
others are packed as prefix trees, so a prompt is computed once for all its completions. The language-model head runs
on completion tokens only, some hundred at a time, forward and backward: the logits of a whole batch never exist.

There is one optimizer step a batch, so the trainer's log-probabilities before the update are those of this very
forward pass: no second pass computes them, every ratio is 1, and the clip is inert.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from azr.config import TrainConfig
from azr.policy.attention import TreeLayout, hidden_states
from azr.policy.base import Progress
from azr.policy.head import Head
from azr.policy.loss import importance_weights, logits_gradient, token_losses, token_weights
from azr.policy.packing import pack, split
from azr.policy.precision import widest
from azr.records import Sample

Tensor = torch.Tensor
HEAD_TOKENS = 128  # logits rows at a time: of 49,152 words they stay below what the allocator maps anew each time


class Updater:
    """Accumulates the gradient of one batch of samples into the model's parameters.

    `without_adapter` opens a context in which `model` computes as before any training; needed for `train.kl_weight`.
    """

    def __init__(
        self,
        model: Any,
        train: TrainConfig,
        dtype: torch.dtype,
        without_adapter: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.model, self.train, self.dtype = model, train, dtype
        self.without_adapter = without_adapter

    def accumulate(self, samples: Sequence[Sample], progress: Progress | None = None) -> dict[str, float]:
        """Backward passes over all samples with an advantage. Returns the batch's metrics."""
        weights = token_weights([s.own_tokens for s in samples], [s.role for s in samples], self.train.loss_weighting)
        chosen = [i for i, s in enumerate(samples) if s.advantage and math.isfinite(s.advantage) and s.completion_ids]
        sums = torch.zeros(6, dtype=widest())  # loss, entropy, ratio, capped, |gap|, divergence
        sequences = [samples[i].prompt_ids + samples[i].completion_ids[:-1] for i in chosen]
        batches = split(sequences, [samples[i].prompt_ids for i in chosen], self.train.micro_batch_tokens)
        head = Head(self.model, self.dtype)
        forwarded = 0
        for done, batch in enumerate(batches):
            members = [(samples[chosen[i]], weights[chosen[i]]) for i in batch]
            forwarded += self._micro_batch(members, [sequences[i] for i in batch], head, sums)
            if progress:
                progress(done + 1, len(batches))
        trained = sum(samples[i].own_tokens for i in chosen)
        loss, entropy, ratio, capped, gap, kl = (sums / torch.tensor([1] + [max(trained, 1)] * 5)).tolist()
        measured = {"kl": kl} if self.train.kl_weight else {}
        return measured | {
            "loss": loss, "entropy": entropy, "importance_ratio": ratio, "importance_capped": capped,
            "logprob_gap": gap, "clip_fraction": 0.0,
            "zero_advantage": 1 - len(chosen) / len(samples) if samples else 0.0,
            "trained_tokens": float(trained), "forwarded_tokens": float(forwarded),
        }  # fmt: skip

    def _micro_batch(
        self, members: list[tuple[Sample, float]], sequences: list[tuple[int, ...]], head: Head, sums: Tensor
    ) -> int:
        """Forward and backward pass of one packed row; returns its tokens."""
        packed = pack(sequences)
        rows: list[int] = []
        targets: list[int] = []
        generator: list[float] = []
        advantages: list[float] = []
        weights: list[float] = []
        temperatures: list[float] = []
        for i, (sample, weight) in enumerate(members):
            count = len(sample.completion_ids)
            rows += packed.rows_of(i)[-count:]
            targets += sample.completion_ids
            generator += sample.logprobs
            advantages += [sample.advantage] * count
            weights += sample.weights(weight)
            temperatures += [sample.temperature] * count
        ids, positions = torch.tensor(packed.tokens), torch.tensor(packed.positions)
        layout, before = TreeLayout(packed, self.dtype), None
        if self.train.kl_weight:
            with torch.no_grad(), self.without_adapter():
                before = hidden_states(self.model, layout, ids, positions)
        with torch.enable_grad():
            out = hidden_states(self.model, layout, ids, positions)
            columns = [torch.tensor(x) for x in (rows, targets)]
            columns += [torch.tensor(x, dtype=torch.float32) for x in (generator, advantages, weights, temperatures)]
            grad = torch.zeros_like(out)
            for first in range(0, len(rows), HEAD_TOKENS):
                piece = [c[first : first + HEAD_TOKENS] for c in columns]
                self._head(head, out.detach(), before, grad, piece, sums)
            out.backward(grad)
        return len(packed.tokens)

    def _head(
        self, head: Head, hidden: Tensor, before: Tensor | None, grad: Tensor, columns: list[Tensor], sums: Tensor
    ) -> None:
        """Loss of some completion tokens, its metrics into `sums`, its gradient into `grad` (T, hidden).

        Columns, one entry a token: row, target, the generator's log-probability, advantage, weight, temperature.
        `before`: the untrained model's hidden states, if the divergence from it is part of the loss.
        """
        rows, targets, generator, advantages, weights, temperatures = columns
        hidden = hidden[rows]
        with torch.no_grad():
            everything = head.log_softmax(hidden, temperatures)
            reference = None if before is None else head.log_softmax(before[rows], temperatures)
        logprobs = everything.gather(1, targets.unsqueeze(1)).squeeze(1).requires_grad_()
        old = logprobs.detach()
        losses = token_losses(logprobs, old, generator, advantages, self.train.clip_ratio, self.train.importance_cap)
        total = (losses * weights).sum()
        total.backward()
        assert logprobs.grad is not None
        with torch.no_grad():
            chances = everything.exp()
            entropy = -torch.linalg.vecdot(chances, everything)
            anchor = self.train.kl_weight * weights
            slope, kl = logits_gradient(everything, chances, targets, logprobs.grad, reference, anchor)
            grad.index_add_(0, rows, head.backward(hidden, slope, temperatures).to(grad.dtype))
            total = total + (kl * anchor).sum()
            ratio = (old - generator).exp()
            capped = importance_weights(old, generator, self.train.importance_cap) < ratio
            own = weights != 0  # not what was written for the model
            measured = (entropy, ratio, capped, (old - generator).abs(), kl)
            sums += torch.stack([v.detach().to(sums.dtype) for v in (total, *((m * own).sum() for m in measured))])
