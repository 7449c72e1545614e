"""Attention inside a packed prefix tree by one masked product over the row, for a GPU.

It computes what the tree would leave out, which a GPU hardly notices; what it does notice is the launch of many small
products, some a node. PyTorch's memory-efficient kernel takes the mask and keeps no table of scores.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from azr.policy.packing import Packed

Tensor = torch.Tensor
ALIGNMENT = 16  # entries: a mask whose rows begin elsewhere is copied by the kernel, for every layer anew


def tree_mask(packed: Packed, dtype: torch.dtype) -> Tensor:
    """(T, T), added to the scores: 0 where a token is seen, -inf where not.

    Nodes are laid out depth first, so a token's descendants are those up to the end of its node's subtree.
    """
    lengths = torch.tensor([node.end - node.start for node in packed.nodes])
    ends = torch.tensor([node.subtree_end for node in packed.nodes]).repeat_interleave(lengths)
    rows = torch.arange(len(packed.tokens)).unsqueeze(1)
    hidden = (rows < rows.T) | (rows >= ends)
    width = -(-len(packed.tokens) // ALIGNMENT) * ALIGNMENT
    mask = torch.zeros(len(packed.tokens), width, dtype=dtype)[:, : len(packed.tokens)]
    return mask.masked_fill_(hidden, float("-inf"))


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """query (T, H, D), key and value (T, K, D), mask (T, T) -> (T, H, D)."""
    shared = query.shape[1] // key.shape[1]
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (query, *(y.repeat_interleave(shared, 1) for y in (key, value))))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[None, None], scale=scale)
    return out[0].transpose(0, 1)
