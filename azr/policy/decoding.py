"""Rows that decode together, from their prompts to their ends.

Each row's own keys and values go into a preallocated cache; a prompt's are stored once and read by its whole group. On
a CPU finished rows leave the batch at once, and so does a prompt with its last row: the last one takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from azr.policy.attention import hidden_states
from azr.policy.attention_flash import merge, partial_attention
from azr.policy.base import Progress
from azr.policy.precision import running_on, widest
from azr.policy.text import StopFinder, ending
from azr.policy.thinking import ThinkingBudget
from azr.records import Completion, Sampling

if TYPE_CHECKING:
    from azr.policy.generation import Generator

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]  # keys and values


@dataclass(slots=True)
class Item:
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
        self._drop_finished_items()
        full = torch.zeros(self.items * self.per_item, dtype=torch.long)
        full[self.slots[:rows]] = torch.arange(rows)
        self.of_slot = full

    def move(self, source: int, target: int) -> None:
        """Row `target` has finished; row `source` takes its place."""
        self.own[:, :, target, :, : self.step + 1] = self.own[:, :, source, :, : self.step + 1]
        self.slots[target] = self.slots[source]

    def _drop_finished_items(self) -> None:
        """Items without rows are no longer read: the last item takes their place."""
        item_of = self.slots[: self.rows] // self.per_item
        for item in sorted(set(range(self.items)) - set(item_of.tolist()), reverse=True):
            self.items -= 1
            if item == self.items:
                continue
            for stored in [x for layer in self.prefix for x in layer] + ([] if self.mask is None else [self.mask]):
                stored[item] = stored[self.items]
            self.slots[: self.rows] += (item_of == self.items) * (item - self.items) * self.per_item
            item_of = self.slots[: self.rows] // self.per_item

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, width = query.shape
        own = self.own[layer, :, :rows]  # (2, R, K, S, D)
        own[0, :, :, self.step] = key
        own[1, :, :, self.step] = value
        keys, values = own[:, :, :, : self.step + 1]
        grouped = query.unflatten(1, (self.kv_heads, -1))  # (R, K, H/K, D)
        prefix_keys, prefix_values = self.prefix[layer]
        prefix = prefix_keys[: self.items], prefix_values[: self.items]
        flash = query.dtype == torch.float32 and running_on() == "cpu"  # as for whole trees: `attention`
        attend = self._flash if flash else self._dense
        return attend(grouped, prefix, (keys, values), scale).reshape(rows, heads, width)

    def _flash(self, query: Tensor, prefix: Pair, own: Pair, scale: float) -> Tensor:
        """query (R, K, H/K, D) on the prompts' keys and values (items, K, Pmax, D) and on the rows' (R, K, S, D)."""
        out, lse = partial_attention(query, *own, scale)
        asked = self._by_item(query)
        mask = None if self.mask is None else self.mask[: self.items].expand(-1, -1, asked.shape[2], -1)
        part, part_lse = partial_attention(asked, *prefix, scale, mask=mask)
        return merge(out, lse, self._by_row(part), self._by_row(part_lse))[0]

    def _dense(self, query: Tensor, prefix: Pair, own: Pair, scale: float) -> Tensor:
        """The same by plain products and one softmax, which bfloat16 is faster with."""
        seen = self._by_item(query) @ prefix[0].mT
        if self.mask is not None:
            seen += self.mask[: self.items]
        scores = torch.cat((self._by_row(seen), query @ own[0].mT), -1)
        weights = scores.mul_(scale).softmax(-1)
        longest = seen.shape[-1]
        out = self._by_row(self._by_item(weights[..., :longest]) @ prefix[1])
        return out + weights[..., longest:] @ own[1]

    def _by_item(self, x: Tensor) -> Tensor:
        """(R, K, H/K, ...) -> (items, K, G * H/K, ...): a group's rows are further queries on the same keys."""
        return x.index_select(0, self.of_slot).unflatten(0, (self.items, self.per_item)).transpose(1, 2).flatten(2, 3)

    def _by_row(self, x: Tensor) -> Tensor:
        """The inverse of `_by_item`."""
        slots = self.slots[: self.rows]
        return x.unflatten(2, (self.per_item, -1)).transpose(1, 2).flatten(0, 1).index_select(0, slots)


class Decoding:
    """One batch of rows, and what has been sampled of each."""

    def __init__(
        self, generator: Generator, prompts: Sequence[tuple[int, ...]], items: list[Item], sampling: Sampling,
        noise: Tensor, stops: StopFinder, done: list[Completion | None], progress: Progress | None, total: int,
    ) -> None:  # fmt: skip
        self.generator, self.sampling, self.stops, self.done = generator, sampling, stops, done
        self.progress, self.total = progress, total
        self.budget = ThinkingBudget(generator.tokenizer, sampling.thinking_tokens)
        self.prompts = [prompts[item.prompt] for item in items]
        self.items = items
        self.per_item = max(item.count for item in items)
        self.noise = noise
        self.prompt_of = {item.first_row + i: prompts[item.prompt] for item in items for i in range(item.count)}
        self.ids: dict[int, list[int]] = {row: [] for row in self.prompt_of}
        self.logprobs: dict[int, list[float]] = {row: [] for row in self.prompt_of}

    def run(self) -> None:
        """Fill `done`."""
        raise NotImplementedError

    def append(self, row: int, token: int, logprob: float) -> int | None:
        """Take a row's newest token. Where it is not the model's to choose, returns the one taken in its place."""
        forced = self.budget.next(self.prompt_of[row], self.ids[row])
        self.ids[row].append(token if forced is None else forced)
        self.logprobs[row].append(logprob if forced is None else 0.0)
        return forced

    def complete(self, row: int, step: int) -> Completion | None:
        """Records the row's completion if its newest token ended it."""
        ids = self.ids[row]
        ended = ending(self.stops, ids, self.generator.end_ids, step + 1 == self.sampling.max_new_tokens)
        if ended is None:
            return None
        forced = self.budget.forced(self.prompt_of[row], ids)
        self.done[row] = Completion(tuple(ids), ended[0], tuple(self.logprobs[row]), ended[1], forced)
        return self.done[row]

    def report(self, step: int, rows: int) -> None:
        """`rows` of the batch go on after `step`."""
        if self.progress:
            unfinished = sum(c is None for c in self.done)
            steps = self.sampling.max_new_tokens
            self.progress(self.total - unfinished * steps + rows * (step + 1), self.total)


class MovingDecoding(Decoding):
    """Finished rows leave the batch."""

    def run(self) -> None:
        generator, sampling = self.generator, self.sampling
        self.rows = list(self.ids)  # batch row -> row of the call
        prefix, last = generator.prefill(self.prompts)
        lengths = torch.tensor([len(p) for p in self.prompts])
        item_of = torch.tensor([i for i, item in enumerate(self.items) for _ in range(item.count)])
        slots = torch.tensor([i * self.per_item + g for i, item in enumerate(self.items) for g in range(item.count)])
        mask = padding_mask(lengths, last.dtype)
        layout = DecodeLayout(prefix, mask, len(self.rows), self.per_item, sampling.max_new_tokens)
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
        tokens, logprobs = choose(logits, self.noise[self.rows, step].to(logits.device), self.sampling.temperature)
        for place, (row, token, logprob) in enumerate(zip(self.rows, tokens.tolist(), logprobs.tolist(), strict=True)):
            forced = self.append(row, token, logprob)
            if forced is not None:
                tokens[place] = forced
        return tokens

    def _finish(self, tokens: Tensor, step: int, layout: DecodeLayout) -> Tensor:
        """Take finished rows out of the batch; returns which of the batch's rows now fill places 0, 1, …"""
        places = list(range(len(self.rows)))
        place = 0
        while place < len(self.rows):
            row = self.rows[place]
            if self.complete(row, step) is None:
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
        self.report(step, len(self.rows))
        return torch.tensor(places, dtype=torch.long)


def padding_mask(lengths: Tensor, dtype: torch.dtype) -> Tensor | None:
    """(items, 1, 1, Pmax) to add to scores: minus infinity past a prompt's end; None if all are equally long."""
    longest = int(lengths.max())
    if bool((lengths == longest).all()):
        return None
    hidden = torch.arange(longest) >= lengths.unsqueeze(1)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, float("-inf"))[:, None, None]


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens (R,) and their log-probabilities from logits (R, V) and uniform numbers (R,); greedy at temperature 0."""
    if temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, torch.zeros(len(tokens))  # the only outcome
    logits = logits / temperature if temperature != 1 else logits
    tokens = _draw(logits, uniform)
    return tokens, logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)


def _draw(logits: Tensor, uniform: Tensor, block: int = 256) -> Tensor:
    """Inverse-CDF sampling: logits (R, V), uniform (R,) in [0, 1) -> tokens (R,). Two levels, to read V only once."""
    rows, size = logits.shape
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    blocks = -(-size // block)
    padded = torch.nn.functional.pad(weights, (0, blocks * block - size)).view(rows, blocks, block)
    wide = widest()
    upper = padded.sum(-1).to(wide).cumsum(-1)  # (R, blocks)
    target = uniform.to(wide).clamp(max=1 - torch.finfo(wide).eps) * upper[:, -1]  # never all of it
    chosen = torch.searchsorted(upper, target.unsqueeze(1), right=True).clamp(max=blocks - 1)
    before = torch.where(chosen > 0, upper.gather(1, (chosen - 1).clamp(min=0)), 0.0)
    inner = padded[torch.arange(rows), chosen.squeeze(1)].to(wide).cumsum(-1)
    place = torch.searchsorted(inner, target.unsqueeze(1) - before, right=True)
    last = (inner < inner[:, -1:]).sum(-1, keepdim=True)  # rounding must not select past the block's last weight
    return (chosen * block + torch.minimum(place, last)).squeeze(1).clamp(max=size - 1)
