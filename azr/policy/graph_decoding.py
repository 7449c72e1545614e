"""Decoding on a CUDA GPU, where launching a step's thousand small kernels takes longer than running them.

Every shape stays the same from step to step, so that one CUDA graph, recorded at the second step, replays the whole
step: model, head, sampling. Finished rows stay in the batch and are ignored.
"""

from __future__ import annotations

import torch

from azr.policy.attention import hidden_states
from azr.policy.decoding import Decoding, choose

Tensor = torch.Tensor


class StaticLayout:
    """One new token a row, of the whole cache: places that hold nothing yet are masked.

    Rows are `per_item` to a prompt, in the prompts' order; `place` (1,) is where the new token's keys and values go.
    """

    def __init__(
        self, prefix: list[tuple[Tensor, Tensor]], lengths: Tensor, per_item: int, steps: int, place: Tensor
    ) -> None:
        keys = prefix[0][0]  # (items, K, Pmax, D)
        self.items, self.kv_heads, self.longest, width = keys.shape
        self.prefix, self.per_item, self.place = prefix, per_item, place
        rows = self.items * per_item
        self.own = torch.zeros((len(prefix), 2, rows, self.kv_heads, steps, width), dtype=keys.dtype)
        absent = (torch.arange(self.longest) >= lengths.unsqueeze(1)).repeat_interleave(per_item, 0)
        absent = torch.cat([absent, torch.ones(rows, steps, dtype=torch.bool)], 1)
        self.mask = torch.zeros(absent.shape).masked_fill(absent, float("-inf"))[:, None, None]  # (R, 1, 1, P + S)

    def open(self) -> None:
        """The new token's place can be seen from now on."""
        self.mask.index_fill_(3, self.place + self.longest, 0.0)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        keys, values = self.own[layer]  # (R, K, S, D)
        keys.index_copy_(2, self.place, key.unsqueeze(2))
        values.index_copy_(2, self.place, value.unsqueeze(2))
        prefix_keys, prefix_values = self.prefix[layer]
        grouped = query.unflatten(1, (self.kv_heads, -1))  # (R, K, H/K, D)
        before = self._by_row(self._by_item(grouped) @ prefix_keys.mT)
        scores = torch.cat([before, grouped @ keys.mT], -1).float() * scale + self.mask
        weights = scores.softmax(-1).to(value.dtype)
        seen = self._by_row(self._by_item(weights[..., : self.longest]) @ prefix_values)
        return (seen + weights[..., self.longest :] @ values).flatten(1, 2)

    def _by_item(self, x: Tensor) -> Tensor:
        """(R, K, Q, N) -> (items, K, per_item * Q, N): the group's rows are further queries on the same keys."""
        return x.unflatten(0, (self.items, self.per_item)).transpose(1, 2).flatten(2, 3)

    def _by_row(self, x: Tensor) -> Tensor:
        """The inverse of `_by_item`."""
        return x.unflatten(2, (self.per_item, -1)).transpose(1, 2).flatten(0, 1)


class GraphDecoding(Decoding):
    """Every row stays in its place."""

    def run(self) -> None:
        generator, steps = self.generator, self.sampling.max_new_tokens
        assert all(item.count == self.per_item for item in self.items)  # as the generator cuts groups
        rows = list(self.ids)  # batch row -> row of the call
        live = dict(enumerate(rows))
        prefix, last = generator.prefill(self.prompts)
        self.uniform = self.noise[rows].to(last.device)
        lengths = torch.tensor([len(p) for p in self.prompts])
        self.lengths = lengths.repeat_interleave(self.per_item)
        self.place = torch.zeros(1, dtype=torch.long)
        self.layout = StaticLayout(prefix, lengths, self.per_item, steps, self.place)
        self.tokens = torch.zeros(len(rows), dtype=torch.long)
        self.sampled = torch.zeros((2, len(rows)), dtype=torch.float64)  # tokens and log-probabilities: one copy back
        self._sample(generator.logits(last).repeat_interleave(self.per_item, 0))
        for step in range(steps):
            tokens, logprobs = self.sampled.tolist()
            for slot, row in list(live.items()):
                forced = self.append(row, int(tokens[slot]), logprobs[slot])
                if forced is not None:
                    self.tokens[slot] = forced
                if self.complete(row, step) is not None:
                    del live[slot]
            self.report(step, len(live))
            if not live:
                return
            self._next(step)

    def _next(self, step: int) -> None:
        """The first step runs by itself, and so prepares the libraries for the recording of the second."""
        if step == 0 or self.tokens.device.type == "cpu":
            self._advance()
            return
        if step == 1:
            self.generator.graph = self._record(self.generator.graph)
        assert self.generator.graph is not None
        self.generator.graph.replay()

    def _record(self, previous: torch.cuda.CUDAGraph | None) -> torch.cuda.CUDAGraph:
        """One step as a graph (recording does not run it), in the memory of the previous batch's.

        PyTorch's context records on one stream for all graphs, without which that memory would not be used again.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=previous.pool() if previous else None):
            self._advance()
        return graph

    def _advance(self) -> None:
        """The next token of every row, from the newest."""
        self.layout.open()
        hidden = hidden_states(self.generator.model, self.layout, self.tokens, self.lengths + self.place)
        self.place.add_(1)
        self._sample(self.generator.logits(hidden))

    def _sample(self, logits: Tensor) -> None:
        uniform = self.uniform.index_select(1, self.place).squeeze(1)
        tokens, logprobs = choose(logits, uniform, self.sampling.temperature)
        self.tokens.copy_(tokens)
        self.sampled[0].copy_(tokens)
        self.sampled[1].copy_(logprobs)
