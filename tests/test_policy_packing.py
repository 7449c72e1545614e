"""Prefix trees: every token once, every sequence whole, attention as without packing."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from azr.policy import attention_dense
from azr.policy.attention import TreeLayout
from azr.policy.attention_dense import DenseAttention, siblings
from azr.policy.attention_flash import FlashAttention, Parts
from azr.policy.packing import Packed, pack, shared_length, split

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(sequences, st.integers(1, 4))
def test_every_sequence_can_be_read_back(batch: list[tuple[int, ...]], min_shared: int) -> None:
    packed = pack(batch, min_shared)
    for i, sequence in enumerate(batch):
        rows = packed.rows_of(i)
        assert tuple(packed.tokens[r] for r in rows) == sequence
        assert [packed.positions[r] for r in rows] == list(range(len(sequence)))
    for number, node in enumerate(packed.nodes):
        assert node.end > node.start
        if node.parent >= 0:
            parent = packed.nodes[node.parent]
            assert node.parent < number and parent.end <= node.start and node.subtree_end <= parent.subtree_end
    if min_shared == 1:  # then the tree is a trie: as many tokens as there are different prefixes
        assert len(packed.tokens) == len({s[: n + 1] for s in batch for n in range(len(s))})


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(4, 30))
def test_micro_batches_hold_every_sequence_once_within_the_limit(batch: list[tuple[int, ...]], limit: int) -> None:
    parts = split(batch, [s[:2] for s in batch], limit, 2)
    assert sorted(i for part in parts for i in part) == list(range(len(batch)))
    for part in parts:
        assert len(part) == 1 or len(pack([batch[i] for i in part], 2).tokens) <= limit + len(part)


def test_shared_length() -> None:
    assert shared_length((1, 2, 3), (1, 2, 4)) == 2
    assert shared_length((1, 2), (1, 2, 4)) == 2
    assert shared_length((1,), (2,)) == 0
    assert shared_length((), (2,)) == 0


def visible(packed: Packed, count: int) -> torch.Tensor:
    mask = torch.zeros(len(packed.tokens), len(packed.tokens), dtype=torch.bool)
    for i in range(count):
        rows = packed.rows_of(i)
        for place, row in enumerate(rows):
            mask[row, rows[: place + 1]] = True
    return mask


def masked_attention(packed: Packed, count: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(3, 1)) * 0.25
    chances = scores.masked_fill(~visible(packed, count), float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", chances, value.repeat_interleave(3, 1))


def flash(packed: Packed, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    return FlashAttention.apply(query, key, value, Parts(packed), 0.25)


def dense(packed: Packed, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    return DenseAttention.apply(query, key, value, siblings(packed), 0.25)


@pytest.mark.parametrize("attention", [flash, dense])
@pytest.mark.parametrize("at_a_time", [1, 1 << 24])  # scores: one head's, or all
@settings(max_examples=25, deadline=None)
@given(sequences, st.integers(1, 3), st.integers(1, 30), st.integers(0, 1000))
def test_tree_attention_is_masked_attention(
    attention: Any, at_a_time: int, batch: list[tuple[int, ...]], min_shared: int, rows: int, seed: int
) -> None:
    packed = pack(batch, min_shared)
    random = torch.Generator().manual_seed(seed)
    tokens = len(packed.tokens)
    query, key, value = (torch.randn(tokens, h, 16, generator=random).requires_grad_() for h in (6, 2, 2))
    weight = torch.randn(tokens, 6, 16, generator=random)
    with mock.patch.multiple(attention_dense, SCORES={"cpu": at_a_time}, SIBLING_ROWS=rows):
        out = attention(packed, query, key, value)
        ours = torch.autograd.grad((out * weight).sum(), (query, key, value))
    expected = masked_attention(packed, len(batch), query, key, value)
    assert torch.allclose(out, expected, atol=1e-5)
    theirs = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, reference, atol=1e-4)


def test_a_processor_takes_the_kernel_in_float32_only() -> None:
    packed = pack([(1, 2, 3)])
    assert isinstance(TreeLayout(packed, torch.float32).tree, Parts)
    assert isinstance(TreeLayout(packed, torch.bfloat16).tree, list)
