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

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
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
        merged = self.merged.to(self.dtype)  # the untrained weights come in float32
        out: Tensor = _MergedLora.apply(x.flatten(0, -2), merged, bias, a, b, self.layer.scaling[ADAPTER])
        return out.unflatten(0, shape)


FEW_ROWS = 256


class SamplingLinear:
    """The replacement forward of one layer while sampling: W x^T for few rows, where that order runs a quarter faster.

    Measured on AVX-512 with 64 rows: 320 to 390 GFLOPS in bfloat16 against 250 for x W^T, 160 against 110 in float32.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        if len(flat) > FEW_ROWS or self.layer.bias is not None:
            return F.linear(x, self.layer.weight, self.layer.bias)
        return (self.layer.weight @ flat.t()).t().contiguous().view(*x.shape[:-1], -1)


def speed_up_sampling(model: Any) -> None:
    """Give every linear layer of a model that only samples its replacement forward."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            setattr(layer, "forward", SamplingLinear(layer))  # noqa: B010 (a method, for the type checker)


def merged_weight(layer: Any) -> Tensor:
    """W + scale * B A in float32, (out, in)."""
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    merged: Tensor = torch.addmm(layer.get_base_layer().weight, b, a, alpha=layer.scaling[ADAPTER])
    return merged


def replace_linears(model: Any, dtype: torch.dtype) -> dict[str, TrainedLinear]:
    """Give every linear layer of the model's blocks its replacement forward; returns them by the layer's name."""
    head = model.get_output_embeddings()
    replaced = {}
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLinear) or (type(layer) is nn.Linear and layer is not head and "lora_" not in name):
            if name.endswith(".base_layer"):
                continue
            replaced[name] = TrainedLinear(layer, dtype)
            setattr(layer, "forward", replaced[name])  # noqa: B010
    return replaced
