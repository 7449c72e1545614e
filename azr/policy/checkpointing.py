"""Transformer blocks that keep only their input for the backward pass, which computes the rest again."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from azr.policy.attention import active_layout, attending

CHECKPOINT_FROM = 2 << 30  # bytes of activations of one micro-batch from which it pays: a forward pass more


def pays(layers: int, hidden: int, intermediate: int, tokens: int, number_bytes: int) -> bool:
    """Whether a micro-batch's activations would be large. A block keeps about 8 hidden + 4 intermediate a token."""
    return tokens * layers * (8 * hidden + 4 * intermediate) * number_bytes > CHECKPOINT_FROM


def checkpoint_blocks(model: Any, tokens: int, dtype: torch.dtype) -> None:
    """Let the blocks of a model compute twice where it pays for micro-batches of that many tokens."""
    config = model.config
    if pays(config.num_hidden_layers, config.hidden_size, config.intermediate_size, tokens, dtype.itemsize):
        for block in model.get_decoder().layers:
            setattr(block, "forward", _Checkpointed(block.forward))  # noqa: B010 (a method, for the type checker)


class _Checkpointed:
    """A block's forward. The backward pass runs it again, attending as the forward pass did."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        layout = active_layout()

        def run(*inner: Any) -> Any:
            with attending(layout):
                return self.forward(*inner, **kwargs)

        return checkpoint(run, *args, use_reentrant=False)
