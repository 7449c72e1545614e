"""Group-shaped sampling with mlx-lm's BatchGenerator: a prompt is computed once, its group continues from its cache.

BatchGenerator reports log-probabilities of the model's logits as they are. It is therefore given a model whose logits
are float32 and already divided by the temperature: what it reports is the distribution that it samples from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache

from azr.policy.base import Progress
from azr.policy.memory import mlx_rows
from azr.policy.mlx_models import body_of, logits_of
from azr.policy.text import StopFinder, ending
from azr.policy.thinking import ThinkingBudget
from azr.records import Completion, Sampling

PREFILL_TOKENS = 2048


class _Tempered:
    """What BatchGenerator calls: tokens (B, T) -> logits (B, 1, V) of the last token, float32, over the temperature."""

    def __init__(self, model: Any, temperature: float) -> None:
        self.model, self.temperature = model, temperature or 1.0

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        return logits_of(self.model, body_of(self.model)(tokens, cache)[:, -1:]) / self.temperature


class _Sampler:
    """Draws one token a row from log-probabilities (B, V); the n-th draw of a seed is always the same."""

    def __init__(self, sampling: Sampling) -> None:
        self.greedy = sampling.temperature == 0
        self.key = mx.random.key(sampling.seed)

    def __call__(self, logprobs: mx.array) -> mx.array:
        if self.greedy:
            return mx.argmax(logprobs, axis=-1)
        self.key, key = mx.random.split(self.key)
        return mx.random.categorical(logprobs, key=key)


class _Closer:
    """Leaves the next token no choice where a thought has used up its tokens. BatchGenerator shows it a row's tokens
    from the prompt's last one on."""

    def __init__(self, budget: ThinkingBudget, prompt: tuple[int, ...]) -> None:
        self.budget, self.prompt = budget, prompt

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        place = len(tokens) - 1 - self.budget.tokens
        if not 0 <= place < len(self.budget.closing):  # the tokens are not looked at, as that would wait for them
            return logits
        forced = self.budget.next(self.prompt, tokens.tolist()[1:])
        return logits if forced is None else mx.where(mx.arange(logits.shape[-1]) == forced, logits, -mx.inf)


class MlxGenerator:
    """Samples from an mlx-lm model with whatever adapter it has."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: set[int], token_bytes: int, cache_share: int) -> None:
        self.model, self.tokenizer, self.end_ids = model, tokenizer, end_ids
        self.token_bytes, self.cache_share = token_bytes, cache_share  # keys and values of one token; of all rows

    def generate(
        self, prompts: Sequence[tuple[int, ...]], count: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`count` completions of each tokenised prompt, in order."""
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        rows = mlx_rows(self.token_bytes, longest, self.cache_share)
        engine = BatchGenerator(
            _Tempered(self.model, sampling.temperature),
            max_tokens=sampling.max_new_tokens,
            stop_tokens=[[end] for end in sorted(self.end_ids)],
            sampler=_Sampler(sampling),
            completion_batch_size=rows,
            prefill_batch_size=rows,
        )
        try:
            return _Decoding(self, engine, rows, prompts, count, sampling, progress).run()
        finally:
            engine.close()
            mx.clear_cache()

    def prefill(self, prompt: tuple[int, ...]) -> list[Any]:
        """The cache of a prompt without its last token."""
        cache = make_prompt_cache(self.model)
        for first in range(0, len(prompt) - 1, PREFILL_TOKENS):
            body_of(self.model)(mx.array([prompt[first : min(first + PREFILL_TOKENS, len(prompt) - 1)]]), cache)
            mx.eval([layer.state for layer in cache])
        return cache


class _Decoding:
    """All rows of one call, from their prompts to their ends. Prompts are computed when rows for them are free."""

    def __init__(
        self, generator: MlxGenerator, engine: BatchGenerator, rows: int, prompts: Sequence[tuple[int, ...]],
        count: int, sampling: Sampling, progress: Progress | None,
    ) -> None:  # fmt: skip
        self.generator, self.engine, self.rows, self.prompts, self.count = generator, engine, rows, prompts, count
        self.sampling, self.progress = sampling, progress
        self.stops = StopFinder(generator.tokenizer, sampling.stop)
        self.budget = ThinkingBudget(generator.tokenizer, sampling.thinking_tokens)
        self.ids: dict[int, list[int]] = {}  # unfinished rows, by BatchGenerator's number, which counts from 0
        self.logprobs: dict[int, list[float]] = {}
        self.done: dict[int, Completion] = {}

    def run(self) -> list[list[Completion]]:
        total = len(self.prompts) * self.count
        started = 0
        while len(self.done) < total:
            while started < len(self.prompts) and len(self.ids) < self.rows:
                self._start(self.prompts[started])
                started += 1
            self._step()
            if self.progress:
                steps = self.sampling.max_new_tokens
                written = len(self.done) * steps + sum(map(len, self.ids.values()))
                self.progress(written, total * steps)
        return [[self.done[p * self.count + g] for g in range(self.count)] for p in range(len(self.prompts))]

    def _start(self, prompt: tuple[int, ...]) -> None:
        """Put a prompt's group in the queue. The rows only read the cache they share: batching copies it."""
        cache = self.generator.prefill(prompt)
        closers: list[Any] = [_Closer(self.budget, prompt)] if self.budget.closing else []
        rows = self.engine.insert(
            [[prompt[-1]]] * self.count, caches=[cache] * self.count, logits_processors=[closers] * self.count
        )
        for row in rows:
            self.ids[row], self.logprobs[row] = [], []

    def _step(self) -> None:
        responses = self.engine.next_generated()
        chosen = [0.0] * len(responses)
        if self.sampling.temperature:  # greedy: the only outcome, so its log-probability is 0
            picked = mx.stack([response.logprobs[response.token] for response in responses])
            chosen = picked.tolist()
        stopped = []
        for response, logprob in zip(responses, chosen, strict=True):
            row = response.uid
            self.ids[row].append(response.token)
            self.logprobs[row].append(logprob)
            ended = self._finish(row, response.finish_reason)
            if ended and response.finish_reason is None:
                stopped.append(row)
        if stopped:
            self.engine.remove(stopped)

    def _finish(self, row: int, reason: str | None) -> bool:
        """Record the row's completion if its newest token ended it."""
        ids = self.ids[row]
        ended = ending(self.stops, ids, self.generator.end_ids, reason == "length")
        if ended is None:
            return False
        forced = self.budget.forced(self.prompts[row // self.count], ids)
        self.done[row] = Completion(tuple(ids), ended[0], tuple(self.logprobs[row]), ended[1], forced)
        del self.ids[row], self.logprobs[row]
        return True
