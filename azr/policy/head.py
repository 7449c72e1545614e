"""The language-model head on some hundred tokens at a time: log-probabilities, and the gradient back through it."""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor


class Head:
    """The head of a model with its weights in one precision, converted once for all tokens of an update."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.own = model.get_output_embeddings()
        self.dtype = dtype
        self.weight = self.own.weight.detach().to(dtype)

    def log_softmax(self, hidden: Tensor, temperatures: Tensor) -> Tensor:
        """Log-probabilities (T, V) of the distribution that tokens are drawn from, float32, from hidden states
        (T, hidden) and temperatures (T,)."""
        scale = 1 / temperatures.unsqueeze(1)  # on the hidden states: a hundredth of the logits
        logits = torch.nn.functional.linear((hidden * scale).to(self.dtype), self.weight).float()
        if self.own.bias is not None:
            logits += self.own.bias * scale
        return logits.log_softmax(-1)

    def backward(self, hidden: Tensor, gradient: Tensor, temperatures: Tensor) -> Tensor:
        """Gradient by the hidden states (T, hidden), given that by the logits (T, V). Where the head itself is trained,
        its own gradient grows by its share."""
        scale = 1 / temperatures.unsqueeze(1)
        if self.own.bias is not None and self.own.bias.requires_grad:
            _add_gradient(self.own.bias, (gradient * scale).sum(0))
        gradient = gradient.to(self.dtype)
        if self.own.weight.requires_grad:
            _add_gradient(self.own.weight, gradient.t() @ (hidden * scale).to(self.dtype))
        return (gradient @ self.weight) * scale


def _add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    gradient = gradient.to(parameter.dtype)
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
