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
from azr.policy.attention_masked import masked_attention, tree_mask
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


def expected_attention(packed: Packed, count: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(3, 1)) * 0.25
    chances = scores.masked_fill(~visible(packed, count), float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", chances, value.repeat_interleave(3, 1))


def flash(packed: Packed, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    return FlashAttention.apply(query, key, value, Parts(packed), 0.25)


def dense(packed: Packed, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    return DenseAttention.apply(query, key, value, siblings(packed), 0.25)


def masked(packed: Packed, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    return masked_attention(query, key, value, tree_mask(packed, query.dtype), 0.25)


def agrees(attention: Any, packed: Packed, count: int, seed: int) -> None:
    """Output and gradients are those of attention with a mask over the whole row."""
    random = torch.Generator().manual_seed(seed)
    tokens = len(packed.tokens)
    query, key, value = (torch.randn(tokens, h, 16, generator=random).requires_grad_() for h in (6, 2, 2))
    weight = torch.randn(tokens, 6, 16, generator=random)
    out = attention(packed, query, key, value)
    ours = torch.autograd.grad((out * weight).sum(), (query, key, value))
    expected = expected_attention(packed, count, query, key, value)
    assert torch.allclose(out, expected, atol=1e-5)
    theirs = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, reference, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(sequences, st.integers(1, 3), st.integers(0, 1000))
def test_tree_attention_by_the_kernel_is_masked_attention(
    batch: list[tuple[int, ...]], min_shared: int, seed: int
) -> None:
    agrees(flash, pack(batch, min_shared), len(batch), seed)


@pytest.mark.parametrize("at_a_time", [1, 1 << 24])  # scores: one head's, or all
@settings(max_examples=25, deadline=None)
@given(sequences, st.integers(1, 3), st.integers(1, 30), st.integers(0, 1000))
def test_tree_attention_by_products_is_masked_attention(
    at_a_time: int, batch: list[tuple[int, ...]], min_shared: int, rows: int, seed: int
) -> None:
    with mock.patch.multiple(attention_dense, SCORES=at_a_time, SIBLING_ROWS=rows):
        agrees(dense, pack(batch, min_shared), len(batch), seed)


@settings(max_examples=25, deadline=None)
@given(sequences, st.integers(1, 3), st.integers(0, 1000))
def test_tree_attention_by_a_mask_is_masked_attention(batch: list[tuple[int, ...]], min_shared: int, seed: int) -> None:
    agrees(masked, pack(batch, min_shared), len(batch), seed)


def test_the_kernel_can_read_a_mask_without_copying_it() -> None:
    mask = tree_mask(pack([tuple(range(37))]), torch.bfloat16)
    assert mask.shape == (37, 37) and mask.stride() == (48, 1)


@pytest.mark.parametrize("at_a_time", [1, 1 << 24])
def test_products_in_bfloat16_are_as_good_as_bfloat16(at_a_time: int) -> None:
    """Against the kernel in float32: an error of some thousandths, in the output and in every gradient."""
    head = tuple(range(40))
    packed = pack([(*head, 100 + i, *range(i, 3 * i + 5)) for i in range(8)] + [(7,) * 30])
    random = torch.Generator().manual_seed(0)
    tokens = len(packed.tokens)
    inputs = [torch.randn(tokens, h, 64, generator=random).bfloat16().requires_grad_() for h in (6, 2, 2)]
    weight = torch.randn(tokens, 6, 64, generator=random).bfloat16()
    exact = [x.detach().float().requires_grad_() for x in inputs]
    with mock.patch.multiple(attention_dense, SCORES=at_a_time):
        found = dense(packed, *inputs)
        gradients = torch.autograd.grad((found * weight).sum(), inputs)
    expected = flash(packed, *exact)
    wanted = torch.autograd.grad((expected * weight.float()).sum(), exact)
    for ours, reference in zip((found, *gradients), (expected, *wanted), strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - reference).norm() < 0.01 * reference.norm()


def test_a_processor_takes_the_kernel_in_float32_only() -> None:
    packed = pack([(1, 2, 3)])
    assert isinstance(TreeLayout(packed, torch.float32).tree, Parts)
    assert isinstance(TreeLayout(packed, torch.bfloat16).tree, list)
