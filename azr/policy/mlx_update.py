"""Gradients of the policy loss in MLX: a group's prompt is computed once, its completions continue from it.

One micro-batch holds completions of one prompt. The prompt without its last token passes the layers once, and its keys
and values, with their gradients, are those of every completion. The language-model head runs on completion tokens only,
some hundred at a time, forward and backward: the logits of a whole batch never exist.

As in `update.py` there is one optimizer step a batch: the log-probabilities before the update, which correct for the
generator's, are recomputed by this very forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from azr.config import TrainConfig
from azr.errors import UserError
from azr.policy.base import Progress
from azr.policy.loss import token_weights
from azr.policy.mlx_models import body_of, logits_of
from azr.records import Sample

HEAD_TOKENS = 128  # logits rows at a time
Cache = tuple[mx.array, mx.array]


class Layer:
    """One layer's cache while training: the keys and values of a prefix (1, K, P, D), if any, before a row's own."""

    def __init__(self, prefix: Cache | None = None) -> None:
        self.prefix = prefix
        self.offset = 0 if prefix is None else prefix[0].shape[2]
        self.kept: Cache | None = None

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> str | None:
        if window_size is not None:
            raise UserError("model.name: this model's attention (sliding window) is not supported; take another")
        return None if length == 1 else "causal"

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> Cache:
        self.kept = keys, values
        if self.prefix is None:
            return keys, values
        rows = len(keys)
        return tuple(
            mx.concatenate([mx.broadcast_to(before, (rows, *before.shape[1:])), own], axis=2)
            for before, own in zip(self.prefix, (keys, values), strict=True)
        )


class Checkpointed:
    """A transformer block that keeps only its input for the backward pass, which computes the rest again."""

    def __init__(self, block: Any) -> None:
        self.block = block

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        prefix = cache.prefix

        def run(parameters: Any, x: mx.array, before: Sequence[mx.array]) -> tuple[mx.array, mx.array, mx.array]:
            self.block.update(parameters)
            inner = Layer((before[0], before[1]) if before else None)
            out = self.block(x, mask, inner)
            assert inner.kept is not None
            return out, *inner.kept

        out, *kept = mx.checkpoint(run)(self.block.trainable_parameters(), x, list(prefix or ()))
        cache.kept = tuple(kept)
        return out


class Batch:
    """Completions of one prompt, padded to the longest, as arrays."""

    def __init__(self, prompt: tuple[int, ...], members: Sequence[tuple[Sample, float]]) -> None:
        longest = max(len(sample.completion_ids) for sample, _ in members)
        rows = [((prompt[-1], *sample.completion_ids[:-1]), sample.completion_ids) for sample, _ in members]
        self.prefix = mx.array([prompt[:-1]]) if len(prompt) > 1 else None
        self.tokens = mx.array([list(row) + [0] * (longest - len(row)) for row, _ in rows])
        self.places = mx.array([i * longest + t for i, (row, _) in enumerate(rows) for t in range(len(row))])
        columns = [
            (target, generated, sample.advantage, token_weight, sample.temperature)
            for sample, weight in members
            for target, generated, token_weight in zip(
                sample.completion_ids, sample.logprobs, sample.weights(weight), strict=True
            )
        ]
        self.targets = mx.array([c[0] for c in columns])
        self.numbers = mx.array([c[1:] for c in columns], dtype=mx.float32)  # columns 1 to 4
        self.before: mx.array | None = None  # the untrained model's hidden states, if the loss needs them
        self.forwarded = len(prompt) - 1 + self.tokens.size


class MlxUpdater:
    """Computes the gradient of one batch of samples.

    `without_adapter` opens a context in which `model` computes as before any training; needed for `train.kl_weight`.
    """

    def __init__(
        self,
        model: Any,
        train: TrainConfig,
        checkpoint: bool,
        without_adapter: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.model, self.train = model, train
        self.checkpoint, self.without_adapter = checkpoint, without_adapter

    def accumulate(
        self, samples: Sequence[Sample], progress: Progress | None = None
    ) -> tuple[Any | None, dict[str, float]]:
        """The gradient as a tree of the trainable parameters (None without signal), and the batch's metrics."""
        weights = token_weights([s.own_tokens for s in samples], [s.role for s in samples], self.train.loss_weighting)
        chosen = [i for i, s in enumerate(samples) if s.advantage and math.isfinite(s.advantage) and s.completion_ids]
        batches = micro_batches([samples[i] for i in chosen], self.train.micro_batch_tokens)
        gradient, sums, forwarded = None, mx.zeros(6), 0  # loss, entropy, ratio, capped, |gap|, divergence
        for done, members in enumerate(batches):
            rows = [(samples[chosen[i]], weights[chosen[i]]) for i in members]
            batch = Batch(rows[0][0].prompt_ids, rows)
            if self.train.kl_weight:
                with self.without_adapter():
                    batch.before = mx.stop_gradient(self._hidden(batch))
                    mx.eval(batch.before)
            (_, found), part = mx.value_and_grad(self._objective)(self.model.trainable_parameters(), batch)
            gradient = part if gradient is None else tree_map(mx.add, gradient, part)
            sums = sums + found
            mx.eval(gradient, sums)
            mx.clear_cache()  # shapes differ from batch to batch: their buffers would pile up
            forwarded += batch.forwarded
            if progress:
                progress(done + 1, len(batches))
        trained = sum(samples[i].own_tokens for i in chosen)
        loss, entropy, ratio, capped, gap, kl = (sums / mx.array([1.0] + [max(trained, 1)] * 5)).tolist()
        measured = {"kl": kl} if self.train.kl_weight else {}
        return gradient, measured | {
            "loss": loss, "entropy": entropy, "importance_ratio": ratio, "importance_capped": capped,
            "logprob_gap": gap, "clip_fraction": 0.0,
            "zero_advantage": 1 - len(chosen) / len(samples) if samples else 0.0,
            "trained_tokens": float(trained), "forwarded_tokens": float(forwarded),
        }  # fmt: skip

    def _objective(self, parameters: Any, batch: Batch) -> tuple[mx.array, mx.array]:
        """A number whose gradient is the loss's, and the sums (see `accumulate`).

        The head's gradient with respect to the hidden states is taken on the way, piece by piece; their product with
        it has the loss's gradient.
        """
        self.model.update(parameters)
        hidden = self._hidden(batch)
        total, sums = mx.zeros(()), mx.zeros(6)
        done: list[mx.array] = []
        for first in range(0, len(batch.places), HEAD_TOKENS):
            piece = slice(first, first + HEAD_TOKENS)
            states = hidden[batch.places[piece]].astype(mx.float32)
            fixed = mx.stop_gradient(states)
            if done:  # one piece after the other: evaluated side by side, all their logits would exist at once
                [fixed] = mx.depends([fixed], done)
            before = None if batch.before is None else batch.before[batch.places[piece]]
            head = mx.value_and_grad(self._head)
            (_, found), slope = head(fixed, before, batch.targets[piece], batch.numbers[piece], hidden.dtype)
            done = [mx.stop_gradient(slope), mx.stop_gradient(found)]
            total = total + (states * done[0]).sum()
            sums = sums + done[1]
        return total, sums

    def _hidden(self, batch: Batch) -> mx.array:
        """Hidden states of the rows' tokens, (rows * longest, hidden)."""
        body: Any = body_of(self.model)
        blocks = body.layers
        try:
            if self.checkpoint:
                body.layers = [Checkpointed(block) for block in blocks]
            before = [Layer() for _ in blocks]
            if batch.prefix is not None:
                body(batch.prefix, before)
            hidden: mx.array = body(batch.tokens, [Layer(layer.kept) for layer in before])
        finally:
            body.layers = blocks
        return hidden.reshape(-1, hidden.shape[-1])

    def _log_softmax(self, hidden: mx.array, temperatures: mx.array) -> mx.array:
        logits = logits_of(self.model, hidden) / temperatures[:, None]
        return logits - mx.logsumexp(logits, axis=-1, keepdims=True)

    def _head(
        self, hidden: mx.array, before: mx.array | None, targets: mx.array, numbers: mx.array, dtype: mx.Dtype
    ) -> tuple[mx.array, mx.array]:
        """Loss of some completion tokens (see `loss_spec.py`), and the sums, from hidden states (T, hidden).

        `before`: the untrained model's hidden states, if the divergence from it is part of the loss.
        """
        generator, advantages, weights, temperatures = (numbers[:, i] for i in range(4))
        everything = self._log_softmax(hidden.astype(dtype), temperatures)
        logprobs = mx.take_along_axis(everything, targets[:, None], axis=-1)[:, 0]
        old = mx.stop_gradient(logprobs)
        losses = token_losses(logprobs, old, generator, advantages, self.train.clip_ratio, self.train.importance_cap)
        kl = mx.zeros(())
        if before is not None:
            [before] = mx.depends([before], [old])  # a head of 4-bit weights is dequantised for one product at a time
            reference = mx.stop_gradient(self._log_softmax(before, temperatures))
            kl = (mx.exp(everything) * (everything - reference)).sum(-1)
            losses = losses + self.train.kl_weight * kl
        total = (losses * weights).sum()
        entropy = -(mx.exp(everything) * everything).sum(-1)
        ratio = mx.exp(old - generator)
        capped = (ratio > self.train.importance_cap).astype(mx.float32)
        own = weights != 0  # not what was written for the model
        measured = (entropy, ratio, capped, mx.abs(old - generator), kl)
        sums = mx.stack([total, *((values * own).sum() for values in measured)])
        return total, mx.stop_gradient(sums)


def token_losses(
    logprobs: mx.array, old: mx.array, generator: mx.array, advantages: mx.array, clip_ratio: float, cap: float
) -> mx.array:
    """PPO's clipped surrogate a token, times the truncated importance weight (see `loss_spec.py`). All (T,)."""
    ratio = mx.exp(logprobs - old)
    surrogate = mx.minimum(ratio * advantages, mx.clip(ratio, 1 - clip_ratio, 1 + clip_ratio) * advantages)
    return -surrogate * mx.minimum(mx.exp(old - generator), cap)


def micro_batches(samples: Sequence[Sample], token_limit: int) -> list[list[int]]:
    """Samples of one prompt, of similar length, about `token_limit` tokens with prompt and padding at most."""
    order = sorted(range(len(samples)), key=lambda i: (samples[i].prompt_ids, len(samples[i].completion_ids), i))
    batches: list[list[int]] = []
    for i in order:
        sample = samples[i]
        if batches:
            rows = len(batches[-1]) + 1
            tokens = len(sample.prompt_ids) + rows * len(sample.completion_ids)  # sorted: this one is the longest
            if samples[batches[-1][0]].prompt_ids == sample.prompt_ids and tokens <= token_limit:
                batches[-1].append(i)
                continue
        batches.append([i])
    return batches
