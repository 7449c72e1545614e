"""Group-shaped sampling: a prompt is computed once for its whole group, shared headers once for all prompts.

Randomness is one uniform number a row and token, drawn beforehand, so that a row does not depend on when others
finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from azr.policy.attention import TreeLayout, hidden_states
from azr.policy.base import Progress
from azr.policy.decoding import Item, MovingDecoding
from azr.policy.graph_decoding import GraphDecoding
from azr.policy.memory import PREFILL_TOKENS, torch_cache_share, torch_rows
from azr.policy.packing import pack, split
from azr.policy.precision import running_on
from azr.policy.text import StopFinder
from azr.records import Completion, Sampling

Tensor = torch.Tensor


class Generator:
    """Samples from a causal language model."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: set[int], dtype: torch.dtype) -> None:
        self.model, self.tokenizer, self.end_ids, self.dtype = model, tokenizer, end_ids, dtype
        on_gpu = next(model.parameters()).device.type == "cuda"
        gpu = torch.cuda.get_device_properties(0).total_memory if on_gpu else 0
        self.cache_bytes, self.max_rows = torch_cache_share(gpu), torch_rows(gpu, model.config.vocab_size)
        self.graph: torch.cuda.CUDAGraph | None = None  # the newest, whose memory the next one takes over
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
        decoding = GraphDecoding if running_on() == "cuda" else MovingDecoding
        for items in self._chunks(prompts, count, sampling.max_new_tokens):
            decoding(self, prompts, items, sampling, noise, stops, done, progress, total).run()
        return [[c for c in done[i * count : (i + 1) * count] if c is not None] for i in range(len(prompts))]

    def _chunks(self, prompts: Sequence[tuple[int, ...]], count: int, steps: int) -> list[list[Item]]:
        """Rows that decode together, within max_rows and the cache; prompts that share a prefix side by side."""
        chunks: list[list[Item]] = []
        rows = self.max_rows + 1
        longest = 0
        for prompt in sorted(range(len(prompts)), key=lambda i: prompts[i]):
            room = (self.cache_bytes // self.token_bytes - len(prompts[prompt])) // max(steps, 1)
            most = max(1, min(self.max_rows, room))  # a group that is too large for the cache is parted
            for first in range(0, count, most):
                size = min(most, count - first)
                longest = max(longest, len(prompts[prompt]))
                tokens = ((len(chunks[-1]) + 1 if chunks else 1) * longest) + (rows + size) * steps
                other = bool(
                    chunks and chunks[-1] and chunks[-1][-1].count != size
                )  # all prompts of a chunk have equally many rows
                if rows + size > self.max_rows or tokens * self.token_bytes > self.cache_bytes or other:
                    chunks.append([])
                    rows, longest = 0, len(prompts[prompt])
                chunks[-1].append(Item(prompt, prompt * count + first, size))
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
