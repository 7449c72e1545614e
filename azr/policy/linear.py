"""Linear layers that compute with one merged weight, and still train a LoRA adapter.

PEFT owns the adapter (A, B, scale); its forward adds the low-rank product to every layer's output, in several passes
over the activations. Here W + scale * B A is formed once after each update, the forward and backward pass use that one
matrix, and the gradients of A and B follow from the chain rule: the same function, a third fewer operations.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor
ADAPTER = "default"  # PEFT's name of the only adapter


class _MergedLora(torch.autograd.Function):
    """y = x (W + s B A)^T + b with gradients for x, A and B; x (T, in), A (r, in), B (out, r)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, merged: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return F.linear(x, merged, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, merged, a, b = ctx.saved_tensors
        grad = grads[0]
        grad_x = grad @ merged if ctx.needs_input_grad[0] else None
        down = grad @ (b * ctx.scale).to(grad.dtype)  # (T, r)
        up = x @ (a * ctx.scale).to(x.dtype).t()  # (T, r)
        return grad_x, None, None, (down.t() @ x).to(a.dtype), (grad.t() @ up).to(b.dtype), None


class TrainedLinear:
    """The replacement forward of one layer during the update."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype
        self.merged: Tensor | None = None  # None: the layer's own weight is trained

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        shape = x.shape[:-1]
        x = x.to(self.dtype)
        if self.merged is None:
            bias = self.layer.bias
            return F.linear(x, self.layer.weight.to(self.dtype), bias if bias is None else bias.to(self.dtype))
        base = self.layer.get_base_layer()
        bias = None if base.bias is None else base.bias.to(self.dtype)
        a, b = self.layer.lora_A[ADAPTER].weight, self.layer.lora_B[ADAPTER].weight
        out: Tensor = _MergedLora.apply(x.flatten(0, -2), self.merged, bias, a, b, self.layer.scaling[ADAPTER])
        return out.unflatten(0, shape)


def merged_weight(layer: nn.Module) -> Tensor:
    """W + scale * B A in float32, (out, in)."""
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return torch.addmm(layer.get_base_layer().weight, b, a, alpha=layer.scaling[ADAPTER])


def replace_linears(model: nn.Module, dtype: torch.dtype) -> dict[str, TrainedLinear]:
    """Give every linear layer of the model's blocks its replacement forward; returns them by the layer's name."""
    head = model.get_output_embeddings()
    replaced = {}
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLinear) or (type(layer) is nn.Linear and layer is not head and "lora_" not in name):
            if name.endswith(".base_layer"):
                continue
            replaced[name] = layer.forward = TrainedLinear(layer, dtype)
    return replaced
