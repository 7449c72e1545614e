"""Group-shaped sampling: a prompt is computed once for its whole group, shared headers once for all prompts.

All rows decode together. Each row's own keys and values go into a preallocated cache; a prompt's are stored once and
read by its whole group. Finished rows leave the batch at once (the last row takes their place). Randomness is one
uniform number a row and token, drawn beforehand, so that a row does not depend on when others finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from azr.policy.attention import TreeLayout, flash, hidden_states, merge
from azr.policy.base import Progress
from azr.policy.packing import pack, split
from azr.policy.text import StopFinder
from azr.records import Completion, Sampling

Tensor = torch.Tensor
MAX_ROWS = 256
CACHE_BYTES = 3 << 29  # 1.5 GiB of keys and values
PREFILL_TOKENS = 4096


@dataclass(slots=True)
class _Item:
    """Rows of one prompt that decode together."""

    prompt: int
    first_row: int
    count: int


class DecodeLayout:
    """One new token a row: attention over the prompt (shared by the group) and over the row's own tokens."""

    def __init__(self, prefix: list[tuple[Tensor, Tensor]], mask: Tensor | None, rows: int, per_item: int, steps: int):
        keys = prefix[0][0]  # (items, K, Pmax, D)
        self.prefix, self.mask, self.per_item = prefix, mask, per_item
        self.items, self.kv_heads = keys.shape[0], keys.shape[1]
        shape = (len(prefix), 2, rows, self.kv_heads, steps, keys.shape[3])
        self.own = torch.empty(shape, dtype=keys.dtype)
        self.step = 0
        self.slots = torch.arange(rows)  # row -> item * per_item + place in the group

    def begin(self, step: int, rows: int) -> None:
        self.step, self.rows = step, rows
        full = torch.zeros(self.items * self.per_item, dtype=torch.long)
        full[self.slots[:rows]] = torch.arange(rows)
        self.of_slot = full

    def move(self, source: int, target: int) -> None:
        """Row `target` has finished; row `source` takes its place."""
        self.own[:, :, target, :, : self.step + 1] = self.own[:, :, source, :, : self.step + 1]
        self.slots[target] = self.slots[source]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, width = query.shape
        own = self.own[layer, :, :rows]  # (2, R, K, S, D)
        own[0, :, :, self.step] = key
        own[1, :, :, self.step] = value
        keys, values = own[:, :, :, : self.step + 1]
        grouped = query.unflatten(1, (self.kv_heads, -1))  # (R, K, H/K, D)
        out, lse = flash(grouped, keys, values, 0.0, False, scale=scale)
        # (items, K, G * H/K, D): the group's rows are further queries on the same keys
        asked = grouped.index_select(0, self.of_slot).unflatten(0, (self.items, self.per_item)).transpose(1, 2)
        prefix_keys, prefix_values = self.prefix[layer]
        mask = None if self.mask is None else self.mask.expand(-1, -1, self.per_item * grouped.shape[2], -1)
        part, part_lse = flash(asked.flatten(2, 3), prefix_keys, prefix_values, 0.0, False, attn_mask=mask, scale=scale)
        slots = self.slots[:rows]
        part = part.unflatten(2, (self.per_item, -1)).transpose(1, 2).flatten(0, 1).index_select(0, slots)
        part_lse = part_lse.unflatten(2, (self.per_item, -1)).transpose(1, 2).flatten(0, 1).index_select(0, slots)
        return merge(out, lse, part, part_lse)[0].reshape(rows, heads, width)


class Generator:
    """Samples from a causal language model (its own copy of the weights)."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: set[int], dtype: torch.dtype) -> None:
        self.model, self.tokenizer, self.end_ids, self.dtype = model, tokenizer, end_ids, dtype
        config = model.config
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        self.token_bytes = config.num_hidden_layers * 2 * kv_heads * width * dtype.itemsize

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[tuple[int, ...]], count: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`count` completions of each tokenised prompt, in order."""
        random = torch.Generator("cpu").manual_seed(sampling.seed)
        noise = torch.rand((len(prompts) * count, sampling.max_new_tokens), generator=random, device="cpu")
        stops = StopFinder(self.tokenizer, sampling.stop)
        done: list[Completion | None] = [None] * (len(prompts) * count)
        total = len(done) * sampling.max_new_tokens
        for items in self._chunks(prompts, count, sampling.max_new_tokens):
            _Decoding(self, prompts, items, sampling, noise, stops, done, progress, total).run()
        return [[c for c in done[i * count : (i + 1) * count] if c is not None] for i in range(len(prompts))]

    def _chunks(self, prompts: Sequence[tuple[int, ...]], count: int, steps: int) -> list[list[_Item]]:
        """Rows that decode together, within MAX_ROWS and CACHE_BYTES; prompts that share a prefix side by side."""
        chunks: list[list[_Item]] = []
        rows = MAX_ROWS + 1
        longest = 0
        for prompt in sorted(range(len(prompts)), key=lambda i: prompts[i]):
            for first in range(0, count, MAX_ROWS):
                size = min(MAX_ROWS, count - first)
                longest = max(longest, len(prompts[prompt]))
                tokens = ((len(chunks[-1]) + 1 if chunks else 1) * longest) + (rows + size) * steps
                if rows + size > MAX_ROWS or tokens * self.token_bytes > CACHE_BYTES:
                    chunks.append([])
                    rows, longest = 0, len(prompts[prompt])
                chunks[-1].append(_Item(prompt, prompt * count + first, size))
                rows += size
        return chunks

    def prefill(self, prompts: list[tuple[int, ...]]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Keys and values of every layer, (prompts, K, Pmax, D) each, and the last tokens' hidden states."""
        longest = max(map(len, prompts))
        prefix: list[tuple[Tensor, Tensor]] = []
        last: Tensor | None = None
        for part in split(prompts, range(len(prompts)), PREFILL_TOKENS):
            packed = pack([prompts[i] for i in part])
            layout = TreeLayout(packed, self.dtype, keep=True)
            ids, positions = torch.tensor(packed.tokens), torch.tensor(packed.positions)
            hidden = hidden_states(self.model, layout, ids, positions)
            assert layout.kept is not None
            rows = [packed.rows_of(i) for i in range(len(part))]
            for layer in sorted(layout.kept):
                if layer == len(prefix):
                    shape = (len(prompts), layout.kept[layer][0].shape[1], longest, layout.kept[layer][0].shape[2])
                    prefix.append((torch.zeros(shape, dtype=self.dtype), torch.zeros(shape, dtype=self.dtype)))
                for stored, computed in zip(prefix[layer], layout.kept.pop(layer), strict=True):
                    for i, row in zip(part, rows, strict=True):
                        stored[i, :, : len(row)] = computed[row].transpose(0, 1)
            last = hidden.new_empty(len(prompts), hidden.shape[1]) if last is None else last
            last[part] = hidden[[r[-1] for r in rows]]
        assert last is not None
        return prefix, last

    def logits(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.model.get_output_embeddings()(hidden).float()
        return out


class _Decoding:
    """One batch of rows from their prompts to their ends."""

    def __init__(
        self, generator: Generator, prompts: Sequence[tuple[int, ...]], items: list[_Item], sampling: Sampling,
        noise: Tensor, stops: StopFinder, done: list[Completion | None], progress: Progress | None, total: int,
    ) -> None:  # fmt: skip
        self.generator, self.sampling, self.stops, self.done = generator, sampling, stops, done
        self.progress, self.total = progress, total
        self.prompts = [prompts[item.prompt] for item in items]
        self.items = items
        self.rows = [item.first_row + i for item in items for i in range(item.count)]  # batch row -> row of the call
        self.noise = noise
        self.ids: dict[int, list[int]] = {row: [] for row in self.rows}
        self.logprobs: dict[int, list[float]] = {row: [] for row in self.rows}

    def run(self) -> None:
        generator, sampling = self.generator, self.sampling
        prefix, last = generator.prefill(self.prompts)
        lengths = torch.tensor([len(p) for p in self.prompts])
        per_item = max(item.count for item in self.items)
        item_of = torch.tensor([i for i, item in enumerate(self.items) for _ in range(item.count)])
        slots = torch.tensor([i * per_item + g for i, item in enumerate(self.items) for g in range(item.count)])
        layout = DecodeLayout(
            prefix, _padding_mask(lengths, last.dtype), len(self.rows), per_item, sampling.max_new_tokens
        )
        layout.slots = slots
        positions = lengths[item_of]
        tokens = self._sample(generator.logits(last)[item_of], 0)
        for step in range(sampling.max_new_tokens):
            kept = self._finish(tokens, step, layout)
            if not self.rows:
                return
            tokens, positions = tokens[kept], positions[kept]
            layout.begin(step, len(self.rows))
            hidden = hidden_states(generator.model, layout, tokens, positions + step)
            tokens = self._sample(generator.logits(hidden), step + 1)

    def _sample(self, logits: Tensor, step: int) -> Tensor:
        """The next token of each row from logits (R, V); appends it and its log-probability to the row."""
        if self.sampling.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            logits = logits / self.sampling.temperature if self.sampling.temperature != 1 else logits
            tokens = _draw(logits, self.noise[self.rows, step].to(logits.device))
        chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        if self.sampling.temperature == 0:
            chosen = torch.zeros_like(chosen)  # greedy: the only outcome
        for row, token, logprob in zip(self.rows, tokens.tolist(), chosen.tolist(), strict=True):
            self.ids[row].append(token)
            self.logprobs[row].append(logprob)
        return tokens

    def _finish(self, tokens: Tensor, step: int, layout: DecodeLayout) -> Tensor:
        """Take finished rows out of the batch; returns which of the batch's rows now fill places 0, 1, …"""
        places = list(range(len(self.rows)))
        place = 0
        while place < len(self.rows):
            row = self.rows[place]
            if self._complete(row, step) is None:
                place += 1
                continue
            last = len(self.rows) - 1
            if place != last:
                if step:
                    layout.move(last, place)
                else:
                    layout.slots[place] = layout.slots[last]
                self.rows[place], places[place] = self.rows[last], places[last]
            self.rows.pop()
            places.pop()
        if self.progress:
            unfinished = sum(c is None for c in self.done)
            steps = self.sampling.max_new_tokens
            self.progress(self.total - unfinished * steps + len(self.rows) * (step + 1), self.total)
        return torch.tensor(places, dtype=torch.long)

    def _complete(self, row: int, step: int) -> Completion | None:
        """Records the row's completion if its newest token ended it."""
        ids = self.ids[row]
        text = self.stops.cut(ids)
        if ids[-1] in self.generator.end_ids:
            completion = Completion(tuple(ids), self.stops.decode(ids[:-1]), tuple(self.logprobs[row]), "eos")
        elif text is not None:
            completion = Completion(tuple(ids), text, tuple(self.logprobs[row]), "stop")
        elif step + 1 == self.sampling.max_new_tokens:
            completion = Completion(tuple(ids), self.stops.decode(ids), tuple(self.logprobs[row]), "length")
        else:
            return None
        self.done[row] = completion
        return completion


def _padding_mask(lengths: Tensor, dtype: torch.dtype) -> Tensor | None:
    """(items, 1, 1, Pmax) to add to scores: minus infinity past a prompt's end; None if all are equally long."""
    longest = int(lengths.max())
    if bool((lengths == longest).all()):
        return None
    hidden = torch.arange(longest) >= lengths.unsqueeze(1)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, float("-inf"))[:, None, None]


def _draw(logits: Tensor, uniform: Tensor, block: int = 256) -> Tensor:
    """Inverse-CDF sampling: logits (R, V), uniform (R,) in [0, 1) -> tokens (R,). Two levels, to read V only once."""
    rows, size = logits.shape
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    blocks = -(-size // block)
    padded = torch.nn.functional.pad(weights, (0, blocks * block - size)).view(rows, blocks, block)
    upper = padded.sum(-1, dtype=torch.float64).cumsum(-1)  # (R, blocks)
    target = uniform.double() * upper[:, -1]
    chosen = torch.searchsorted(upper, target.unsqueeze(1), right=True).clamp(max=blocks - 1)
    before = torch.where(chosen > 0, upper.gather(1, (chosen - 1).clamp(min=0)), 0.0)
    inner = padded[torch.arange(rows), chosen.squeeze(1)].double().cumsum(-1)
    place = torch.searchsorted(inner, target.unsqueeze(1) - before, right=True)
    last = (inner < inner[:, -1:]).sum(-1, keepdim=True)  # rounding must not select past the block's last weight
    return (chosen * block + torch.minimum(place, last)).squeeze(1).clamp(max=size - 1)
