"""Transformer blocks that keep only their input for the backward pass, which computes the rest again."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from azr.policy.attention import active_layout, attending
from azr.policy.geometry import shape_of
from azr.policy.memory import checkpointing_pays


def checkpoint_blocks(model: Any, name: str, tokens: int, dtype: torch.dtype) -> None:
    """Let the blocks of a model compute twice where it pays for micro-batches of that many tokens."""
    if checkpointing_pays("nf4", shape_of(name, model.config.to_dict()), tokens, dtype.itemsize):
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
