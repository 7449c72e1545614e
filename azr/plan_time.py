"""How long a step will take with every completion at its longest: the model's largest product is timed here, and the
products of a step are counted. Attention, longer prompts than usual and the time that a GPU waits for its launches are
not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from azr.config import Config
from azr.plan import Plan
from azr.policy.geometry import Geometry
from azr.policy.memory import PROMPT_TOKENS, REFERENCE_TOKENS, completion_tokens

SAMPLING_ROWS, UPDATE_ROWS = 64, 256
SECONDS = 0.4  # of each trial


def step_seconds(config: Config, plan: Plan, geometry: Geometry) -> dict[str, float]:
    """Seconds of sampling, of learning, and of both, when every completion is as long as it may be."""
    product = _mlx_product(geometry, plan) if plan.backend == "mlx" else _torch_product(config, geometry, plan)
    rows = min(SAMPLING_ROWS, plan.rows)
    sampled, prompts = tokens_of(config)
    work = 2 * (geometry.linear_parameters + geometry.vocabulary * geometry.hidden)
    size = 2 * geometry.hidden * geometry.intermediate
    slow, fast = _rate(product, rows) * size, _rate(product, UPDATE_ROWS) * size  # operations a second
    passes = 3 if plan.checkpointed else 2  # forward, again if checkpointed, and back; LoRA's own are small
    passes += bool(config.train.kl_weight)  # the untrained model's forward pass
    sampling = sampled * work / slow + prompts * work / fast
    learning = passes * (sampled + prompts) * work / fast
    return {"sampling": sampling, "learning": learning, "step": sampling + learning}


def tokens_of(config: Config) -> tuple[int, int]:
    """Tokens sampled, at most, and tokens of prompts, a step."""
    tasks, (proposal, answer) = config.tasks, completion_tokens(config)
    proposals = tasks.prompts * tasks.proposals_per_prompt * proposal
    answers = tasks.solved * tasks.attempts * answer
    prompt = PROMPT_TOKENS + tasks.references * REFERENCE_TOKENS
    return proposals + answers, (tasks.prompts + tasks.solved) * prompt


def _rate(product: Callable[[int], None], rows: int) -> float:
    """Rows that pass the product a second. The first pass warms up; where it is slow, it is the measurement."""
    started = time.perf_counter()
    product(rows)
    if time.perf_counter() - started > SECONDS:
        return rows / (time.perf_counter() - started)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        product(rows)
        count += rows
    return count / (time.perf_counter() - started)


def _torch_product(config: Config, geometry: Geometry, plan: Plan) -> Callable[[int], None]:
    import torch

    dtype = getattr(torch, plan.precision)
    from azr.policy.precision import choose_device

    device = choose_device(config.model)
    if plan.quantized:
        from bitsandbytes.nn import Linear4bit

        layer: torch.nn.Module = Linear4bit(
            geometry.hidden, geometry.intermediate, bias=False, compute_dtype=dtype, quant_type="nf4"
        )
    else:
        layer = torch.nn.Linear(geometry.hidden, geometry.intermediate, bias=False, dtype=dtype)
    layer.to(device)

    def product(rows: int) -> None:
        with torch.no_grad():
            layer.train()(torch.ones(rows, geometry.hidden, dtype=dtype, device=device))
        if device.type != "cpu":
            torch.accelerator.synchronize()

    if device.type != "cpu":
        product(1)  # the libraries load
    return product


def _mlx_product(geometry: Geometry, plan: Plan) -> Callable[[int], None]:
    import mlx.core as mx
    from mlx import nn

    from azr.policy.mlx_models import DTYPES, product_layer

    layer = nn.Linear(geometry.hidden, geometry.intermediate, bias=False)
    layer.set_dtype(DTYPES[plan.precision])
    layer = product_layer(layer, plan.quantized)

    def product(rows: int) -> None:
        mx.eval(layer(mx.ones((rows, geometry.hidden), dtype=DTYPES[plan.precision])))

    return product
