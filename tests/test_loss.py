"""The loss: numbers worked by hand, the tensor version against the plain one, and both against TRL's."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from azr.policy.loss import logits_gradient, token_losses, token_weights
from azr.policy.loss_spec import policy_loss, token_loss

LN2 = math.log(2)
ROLES = ["propose", "solve", "solve", "solve"]


@pytest.mark.parametrize(
    ("logprob", "old", "generator", "advantage", "expected"),
    [
        (-1.0, -1.0, -1.0, 2.0, -2.0),  # ratio 1, weight 1: minus the advantage
        (LN2 - 3, -3.0, -3.0, 1.0, -1.2),  # ratio 2, clipped to 1.2
        (LN2 - 3, -3.0, -3.0, -1.0, 2.0),  # a bad token that became likelier: not clipped
        (-LN2 - 3, -3.0, -3.0, 1.0, -0.5),  # a good token that became rarer: not clipped
        (-LN2 - 3, -3.0, -3.0, -1.0, 0.8),  # ratio 1/2, clipped to 0.8
        (-1.0, -1.0, -1.0 - LN2 / 2, 1.0, -math.sqrt(2)),  # weight exp(ln 2 / 2), below the cap
        (-1.0, -1.0, -1.0 - 2 * LN2, 1.0, -2.0),  # weight 4, capped at 2
        (-1.0, -1.0, -1.0 + LN2, 1.0, -0.5),  # weight 1/2: only the upper side is truncated
    ],
)
def test_token_loss_by_hand(logprob: float, old: float, generator: float, advantage: float, expected: float) -> None:
    assert token_loss(logprob, old, generator, advantage, 0.2, 2.0) == pytest.approx(expected)


def test_weighting_by_hand() -> None:
    rows = [[-1.0], [-1.0, -2.0, -3.0]]
    # Losses are -3 for the one token of the first sequence, +1 for each of the three of the second.
    assert policy_loss(rows, rows, rows, [3.0, -1.0], 0.2, 2.0, ROLES[:2], "sequence") == pytest.approx((-3 + 1) / 2)
    assert policy_loss(rows, rows, rows, [3.0, -1.0], 0.2, 2.0, ROLES[:2], "token") == pytest.approx((-3 + 3) / 4)
    rows, roles = [[-1.0], [-1.0], [-1.0, -2.0]], ["solve", "solve", "propose"]
    found = policy_loss(rows, rows, rows, [3.0, 1.0, -1.0], 0.2, 2.0, roles, "role")
    assert found == pytest.approx((-(3 + 1) / 2 + 1) / 2)


def test_weights_by_hand() -> None:
    assert token_weights([1, 4], ROLES[:2], "sequence") == [1 / 2, 1 / 8]
    assert token_weights([1, 4], ROLES[:2], "token") == [1 / 5, 1 / 5]
    assert token_weights([], [], "token") == token_weights([], [], "role") == []
    assert token_weights([1, 4, 2], ["propose", "solve", "solve"], "role") == [1 / 2, 1 / 16, 1 / 8]
    assert token_weights([1, 4], ["solve"] * 2, "role") == [1 / 2, 1 / 8]  # the only role there is
    assert token_weights([0, 2], ROLES[:2], "sequence") == [1 / 2, 1 / 4]  # the empty one still counts


def tensor_loss(
    logprobs: list[list[float]], old: list[list[float]], generator: list[list[float]], advantages: list[float],
    weighting: str,
) -> float:  # fmt: skip
    total = 0.0
    weights = token_weights([len(row) for row in logprobs], ROLES[: len(logprobs)], weighting)
    for i, advantage in enumerate(advantages):
        new, before, sampled = (torch.tensor(x[i], dtype=torch.float64) for x in (logprobs, old, generator))
        losses = token_losses(new, before, sampled, torch.full_like(new, advantage), 0.2, 2.0)
        total += float(losses.sum()) * weights[i]
    return total


number = st.floats(-5, 0)
token = st.tuples(number, number, number)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.lists(token, min_size=1, max_size=5), st.floats(-3, 3)), min_size=1, max_size=4),
    st.sampled_from(["role", "sequence", "token"]),
)
def test_tensors_reproduce_the_specification(
    batch: list[tuple[list[tuple[float, float, float]], float]], weighting: str
) -> None:
    new, before, sampled = ([[t[k] for t in row] for row, _ in batch] for k in range(3))
    advantages = [advantage for _, advantage in batch]
    expected = policy_loss(new, before, sampled, advantages, 0.2, 2.0, ROLES[: len(new)], weighting)
    assert tensor_loss(new, before, sampled, advantages, weighting) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("loss_type", "weighting"), [("grpo", "sequence"), ("bnpo", "token")])
def test_trl_agrees(loss_type: str, weighting: str) -> None:
    """GRPOTrainer's own loss, called on fixed tensors with the model's part replaced."""
    trainer = pytest.importorskip("trl", reason="trl is not installed").GRPOTrainer
    random = torch.Generator().manual_seed(0)
    lengths = [5, 2, 7]
    logprobs, old, generator = (-3 * torch.rand((3, 7), generator=random, dtype=torch.float64) for _ in range(3))
    mask = (torch.arange(7) < torch.tensor(lengths).unsqueeze(1)).long()
    advantages = torch.tensor([1.5, -0.7, 0.3], dtype=torch.float64)
    fake = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, torch.zeros_like(logprobs), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", beta=0.0, loss_type=loss_type, epsilon_low=0.2, epsilon_high=0.2,
        args=SimpleNamespace(delta=None), use_vllm=True, vllm_importance_sampling_correction=True,
        current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, **_: x, num_processes=1
        ),
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.zeros(3, 2, dtype=torch.long), "prompt_mask": torch.ones(3, 2, dtype=torch.long),
        "completion_ids": torch.zeros(3, 7, dtype=torch.long), "completion_mask": mask, "advantages": advantages,
        "old_per_token_logps": old, "importance_sampling_ratio": (old - generator).exp().clamp(max=2.0),
    }  # fmt: skip
    theirs = float(trainer._compute_loss(fake, None, inputs))
    new, before, sampled = (
        [row[:n] for row, n in zip(x.tolist(), lengths, strict=True)] for x in (logprobs, old, generator)
    )
    assert policy_loss(new, before, sampled, advantages.tolist(), 0.2, 2.0, ROLES[:3], weighting) == pytest.approx(
        theirs, rel=1e-9
    )
    assert tensor_loss(new, before, sampled, advantages.tolist(), weighting) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("anchored", [True, False])
def test_the_gradient_by_the_logits_is_the_one_of_autograd(anchored: bool) -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 11, generator=random, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(5, 11, generator=random, dtype=torch.float64).log_softmax(-1)
    slope, weight = (torch.randn(5, generator=random, dtype=torch.float64) for _ in range(2))
    targets = torch.tensor([0, 3, 3, 10, 7])
    everything = logits.log_softmax(-1)
    kl = (everything.exp() * (everything - reference)).sum(-1)
    loss = (everything.gather(1, targets.unsqueeze(1)).squeeze(1) * slope).sum()
    (expected,) = torch.autograd.grad(loss + (kl * weight).sum() * anchored, logits)
    known = everything.detach()
    found, found_kl = logits_gradient(
        known, known.exp(), targets, slope, reference.clone() if anchored else None, weight
    )
    assert torch.allclose(found, expected)
    assert torch.allclose(found_kl, kl.detach() * anchored)
