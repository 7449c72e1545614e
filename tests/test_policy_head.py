"""The head's own forward and backward pass against autograd's through the plain formula."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from azr.policy.head import Head


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_gradients_are_those_of_autograd(bias: bool, trained: bool) -> None:
    random = torch.Generator().manual_seed(0)
    own = torch.nn.Linear(6, 11, bias=bias, dtype=torch.float64).requires_grad_(trained)
    hidden = torch.randn(5, 6, generator=random, dtype=torch.float64, requires_grad=True)
    temperatures = 0.5 + torch.rand(5, generator=random, dtype=torch.float64)
    down = torch.randn(5, 11, generator=random, dtype=torch.float64)
    head = Head(SimpleNamespace(get_output_embeddings=lambda: own), torch.float64)

    logits = own(hidden) / temperatures.unsqueeze(1)
    found = head.log_softmax(hidden.detach(), temperatures)
    assert torch.allclose(found.double(), logits.log_softmax(-1), atol=1e-6)  # ours ends in float32
    wanted = torch.autograd.grad((logits * down).sum(), [hidden, *(own.parameters() if trained else [])])
    for _ in range(2):  # gradients add up over the pieces of an update
        back = head.backward(hidden.detach(), down, temperatures)
    assert torch.allclose(back, wanted[0])
    for parameter, expected in zip(own.parameters(), wanted[1:], strict=trained):
        assert parameter.grad is not None and torch.allclose(parameter.grad, 2 * expected)
    assert trained or all(parameter.grad is None for parameter in own.parameters())
