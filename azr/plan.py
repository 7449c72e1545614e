"""What a training will hold in memory and how long a step will take, before anything is loaded.

The sums count what the policies keep (see `policy/`): weights as they are stored, the adapter with gradient and Adam's
two moments, keys and values of the rows that decode together, and what one micro-batch keeps for its backward pass.
Sampling and learning follow one another, so the peak has the larger of the two. `policy/memory.py` has the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from azr.config import Config
from azr.errors import UserError
from azr.policy.auto import GIB, UNUSED_GPU, Machine, this_machine
from azr.policy.geometry import UnknownShape
from azr.policy.memory import PREFILL_TOKENS, RUNTIME, VLLM_ASLEEP, VLLM_SHARE, Setting, longest_row

MINIMUM_MICRO_BATCH = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes, and what they were computed for."""

    name: str
    backend: str
    engine: str
    precision: str
    quantized: bool
    mixed: bool  # sampling and learning may differ in precision, so that each holds weights of its own
    weights: int
    adapter: int
    optimizer: int
    cache: int
    rows: int
    length: int
    sampling: int  # logits of the rows
    activations: int
    checkpointed: bool
    micro_batch: int
    runtime: int
    budget: int

    @property
    def fixed(self) -> int:
        return self.weights + self.adapter + self.optimizer + self.runtime

    @property
    def peak(self) -> int:
        return self.fixed + max(self.cache + self.sampling, self.activations)

    def line(self) -> str:
        return f"about {gigabytes(self.peak)} at most, of {gigabytes(self.budget)} (azr plan shows the parts)"

    @property
    def fits(self) -> bool:
        return self.peak <= self.budget


def plan_of(config: Config, machine: Machine, micro_batch: int | None = None) -> Plan:
    """The budget of a configuration on a machine. Raises UserError if the model's shape cannot be had."""
    model, how = config.model, Setting.of(config, machine)
    geometry, length = how.geometry, longest_row(config)
    lora = model.adapter == "lora"
    trained = geometry.adapter_parameters(model.lora_rank) if lora else geometry.parameters
    tokens = micro_batch or config.train.micro_batch_tokens
    rows, cache = how.cache(config, length)
    activations, checkpointed = how.activations(tokens, bool(config.train.kl_weight))
    sampling = rows * geometry.vocabulary * 4 * 3 + how.dequantised()
    runtime = RUNTIME[how.path] + how.beside(rows, max(tokens, length, PREFILL_TOKENS))
    if model.engine == "vllm":  # with weights and logits of its own
        cache, sampling = int(machine.cuda_memory * VLLM_SHARE), 0
        runtime += VLLM_ASLEEP
    return Plan(
        name=model.name, backend=how.backend, engine=model.engine, precision=how.precision,
        quantized=how.packed, mixed=how.mixed, weights=how.weights(model),
        adapter=trained * 4 if lora else 0, optimizer=trained * 4 * 3, cache=cache, rows=rows, length=length,
        sampling=sampling, activations=activations, checkpointed=checkpointed, micro_batch=tokens,
        runtime=runtime, budget=how.budget,
    )  # fmt: skip


def preflight(config: Config, machine: Machine | None = None) -> Plan:
    """The plan of a training that is to start, its micro-batch fitted: `train.micro_batch_tokens` where that fits, else
    the largest that does. Raises UserError where none does."""
    machine = machine or this_machine()
    plan = plan_of(config, machine)
    if plan.fits:
        return plan
    best = largest_micro_batch(config, machine)
    if best:
        return plan_of(config, machine, best)
    smallest = plan_of(config, machine, MINIMUM_MICRO_BATCH)
    raise UserError(
        f"{plan.name}: {gigabytes(smallest.peak)} of memory are needed, even with the smallest micro-batch, and "
        f"{gigabytes(plan.budget)} can be had; take a smaller model, shorter completions (tasks.proposal_tokens), or "
        "model.quantization=4bit"
    )


def planned(config: Config, micro_batch: int | None = None) -> tuple[int, str]:
    """The micro-batch to train with (`micro_batch`: that of a run that goes on), and the plan in one line. What has no
    shape that could be planned may train all the same, with `train.micro_batch_tokens`."""
    machine = this_machine()
    try:
        if micro_batch is not None:
            plan = plan_of(config, machine, micro_batch)
            return micro_batch, plan.line() if plan.fits else f"{plan.line()}: it may not fit any more"
        plan = preflight(config, machine)
    except UnknownShape as error:
        return micro_batch or config.train.micro_batch_tokens, f"not planned ({error})"
    return plan.micro_batch, "; ".join(filter(None, (plan.line(), fitted(plan, config), warning(plan, machine))))


def fitted(plan: Plan, config: Config) -> str:
    """That the micro-batch is smaller than asked for, in one line; empty where it is not."""
    asked = config.train.micro_batch_tokens
    return f"micro-batches of {plan.micro_batch} tokens, as {asked} do not fit" if plan.micro_batch < asked else ""


def warning(plan: Plan, machine: Machine) -> str:
    """What the user may not expect of a plan, in one line; empty without."""
    missed = machine.unused_gpu and plan.backend == "torch"
    return f"planned for the CPU: {UNUSED_GPU}" if missed else ""


def largest_micro_batch(config: Config, machine: Machine) -> int:
    """The largest power of two of `train.micro_batch_tokens` that fits; 0 if none does."""
    tokens = 1 << (config.train.micro_batch_tokens.bit_length() - 1)
    while tokens >= MINIMUM_MICRO_BATCH:
        if plan_of(config, machine, tokens).fits:
            return tokens
        tokens //= 2
    return 0


def table(plan: Plan) -> str:
    """The budget for people."""
    how = "blocks computed twice" if plan.checkpointed else "kept whole"
    cached = "all that vLLM takes while it samples"
    if plan.engine == "own":
        cached = f"{plan.rows} rows x {plan.length} tokens, {plan.precision}"
    lines = [
        ("weights", plan.weights, _held(plan)),
        ("adapter", plan.adapter, "float32"),
        ("gradient and optimizer", plan.optimizer, "float32"),
        ("cache", plan.cache, cached),
        ("sampling", plan.sampling, f"logits of {plan.rows} rows"),
        ("activations", plan.activations, f"micro-batch of {plan.micro_batch} tokens, {how}"),
        ("runtime", plan.runtime, "interpreter, libraries, gaps"),
        ("peak", plan.peak, "with the larger of sampling and learning"),
        ("budget", plan.budget, "fits" if plan.fits else "DOES NOT FIT"),
    ]
    head = f"{plan.name} with {plan.backend}"
    return "\n".join([head, *(f"  {name:<24}{gigabytes(size):>10}  {note}" for name, size, note in lines)])


def gigabytes(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def _held(plan: Plan) -> str:
    """In which form the weights are held."""
    if plan.quantized:
        return "4 bit"
    if plan.backend == "mlx":
        return plan.precision
    return f"float32 masters and {'a copy for each phase' if plan.mixed else f'a copy in {plan.precision}'}"
