"""What the policies hold in memory, in bytes: constants and shares that they and the plan (plan.py) agree on.

Constants were measured on SmolLM2-135M (see docs/hardware.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from azr.config import Config, ModelConfig
from azr.errors import UserError
from azr.policy.auto import GIB, Machine
from azr.policy.choice import backend_of
from azr.policy.geometry import EMBEDDED, Geometry, geometry_of

# By path: interpreter, libraries and buffers kept for reuse; numbers that a block keeps a token for its backward pass,
# so many times hidden and so many times intermediate. "torch", without 4 bit, is fitted to a run of the embedded model.
RUNTIME = {"torch": 450 << 20, "nf4": 250 << 20, "mlx": 500 << 20}
BLOCK_WIDTH = {"torch": (12, 6), "nf4": (18, 9), "mlx": (17, 8)}
# PyTorch on a CPU: gaps between the pieces of memory that a phase takes and frees. Fitted to what the embedded model
# and one step of Qwen3-4B's shape held: docs/hardware.md.
GAPS = {"torch": 2 << 30, "nf4": 1 << 29}
HEAD_TOKENS = 128  # logits rows at a time, in update.py and mlx_update.py
HEAD_COPIES, HEAD_COPIES_KL = 8, 5  # arrays of their size at once, and what MLX needs more for the untrained model's
ROWS = {"torch": 256, "mlx": 64}
LARGE_GPU_ROWS = 2048
PREFILL_TOKENS = 4096  # of prompts that pass the model together, in generation.py
TORCH_CACHE = 3 << 29  # keys and values of the rows that decode together: 1.5 GiB, more on a large GPU
VLLM_SHARE = 0.5  # of a GPU's memory, for vLLM's engine while it is awake
VLLM_ASLEEP = 3 << 29  # what it keeps while the policy learns: an estimate, not measured
CHECKPOINT_FROM = 2 << 30
PROMPT_TOKENS, REFERENCE_TOKENS = 100, 80  # of a proposer's prompt: fixed part, and each task shown


@dataclass(frozen=True, slots=True)
class Setting:
    """How a configuration runs on a machine."""

    geometry: Geometry
    backend: str
    device: str
    packed: bool  # weights in 4 bit
    precision: str
    mixed: bool
    gpu: int  # memory of the CUDA GPU that it runs on; 0 without
    budget: int

    @classmethod
    def of(cls, config: Config, machine: Machine) -> Setting:
        """Raises UserError if the model's shape or its device cannot be had."""
        model, geometry = config.model, geometry_of(config.model.name)
        backend = backend_of(model)
        packed = model.quantization == "4bit" or (
            backend == "mlx" and (model.quantization == "auto" or geometry.weight_bits < 16)
        )
        device = _device(model, backend, machine)
        if not machine.cuda_memory and (device == "cuda" or model.engine == "vllm"):
            raise UserError(
                "model.device, model.engine: no CUDA GPU that PyTorch can use is here; set them to auto and own"
            )
        one_set = packed or backend == "mlx"
        return cls(
            geometry, backend, device, packed,
            precision=_precision(config, machine, device, one_set),
            mixed=not one_set and model.generation_precision != model.update_precision,
            gpu=machine.cuda_memory if device == "cuda" else 0,
            budget=memory_budget(machine, device),
        )  # fmt: skip

    @property
    def path(self) -> str:
        """Whose constants are taken."""
        return "nf4" if self.packed and self.backend == "torch" else self.backend

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return 2 if self.precision == "bfloat16" else 4

    def weights(self, model: ModelConfig) -> int:
        if self.mixed:
            return _weights_in_two(self.geometry, model)
        return _weights(self.geometry, self.backend, self.packed, self.size)

    def cache(self, config: Config, length: int) -> tuple[int, int]:
        """Rows that decode together, and bytes of their keys and values."""
        token = self.geometry.cache_bytes(self.size)
        if self.backend == "mlx":
            return _mlx_cache(config, token, length, self.budget)
        most = torch_rows(self.gpu, self.geometry.vocabulary)
        return _torch_cache(config, token, length, torch_cache_share(self.gpu), most)

    def dequantised(self) -> int:
        """Without a kernel of its own for 4 bit, MLX on a CPU holds the head dequantised, twice while it learns."""
        head = self.geometry.vocabulary * self.geometry.hidden * self.size
        return head if self.packed and self.backend == "mlx" and self.device == "cpu" else 0

    def activations(self, tokens: int, kl: bool) -> tuple[int, bool]:
        """Bytes that a micro-batch keeps, and whether its blocks are computed twice."""
        geometry = self.geometry
        plain = self.backend == "torch" and not self.packed
        checkpointed = not plain and checkpointing_pays(self.path, geometry, tokens, self.size)
        copies = HEAD_COPIES + (HEAD_COPIES_KL if kl and self.backend == "mlx" else 0)
        logits = min(HEAD_TOKENS, tokens) * geometry.vocabulary * 4 * copies
        head = geometry.vocabulary * geometry.hidden * self.size
        converted = head if plain and self.size == 2 else 0  # of float32 masters, while it learns
        kept = kept_bytes(self.path, geometry, tokens, self.size, checkpointed)
        return kept + logits + 2 * self.dequantised() + converted, checkpointed

    def beside(self, rows: int, tokens: int) -> int:
        """What the device holds besides: gaps on a CPU, buffers on a GPU. `tokens`: of the longest packed row."""
        if self.backend == "torch" and self.device == "cpu":
            return GAPS[self.path]
        on_gpu = self.device == "cuda" or (self.device == "metal" and self.backend == "torch")
        return _gpu_bytes(self.geometry, rows, tokens, self.size) if on_gpu else 0


def completion_tokens(config: Config) -> tuple[int, int]:
    """The longest proposal and the longest answer, in tokens. They depend on the style (see `solver.attempt`)."""
    model, tasks = config.model, config.tasks
    # Whether a model has a chat template is known once it is loaded: others than the embedded one count as if.
    if model.style == "chat" or (model.style == "auto" and model.name != EMBEDDED):
        longest = tasks.proposal_tokens + model.thinking_tokens
        return longest, longest
    answers = (tasks.answer_tokens, tasks.proposal_tokens if "induction" in tasks.types else 0)
    return tasks.proposal_tokens, max(answers)


def block_width(path: str, geometry: Geometry) -> int:
    """Numbers that one block keeps a token for its backward pass."""
    hidden, intermediate = BLOCK_WIDTH[path]
    return hidden * geometry.hidden + intermediate * geometry.intermediate


def kept_bytes(path: str, geometry: Geometry, tokens: int, size: int, checkpointed: bool) -> int:
    """Of a micro-batch's activations, for its backward pass: of every block, or its input alone and one block's.

    Under MLX a prompt's keys and values, and their gradients, stand beside the inputs.
    """
    if not checkpointed:
        return tokens * geometry.layers * block_width(path, geometry) * size
    shared = 4 * geometry.kv_heads * geometry.head_width if path == "mlx" else 0
    return tokens * (geometry.layers * (geometry.hidden + shared) + block_width(path, geometry)) * size


def checkpointing_pays(path: str, geometry: Geometry, tokens: int, size: int) -> bool:
    """Whether blocks should keep only their input and compute twice: it costs a forward pass more."""
    return kept_bytes(path, geometry, tokens, size, checkpointed=False) > CHECKPOINT_FROM


def memory_budget(machine: Machine, device: str) -> int:
    """What a training may take: all that a GPU has but half a gigabyte, three quarters of a Mac, nine tenths else."""
    if device == "cuda":
        return machine.cuda_memory - GIB // 2
    return machine.memory * 3 // 4 if device == "metal" else min(machine.memory, _container_limit()) * 9 // 10


def _device(model: ModelConfig, backend: str, machine: Machine) -> str:
    if backend == "mlx":
        return "metal" if machine.apple_silicon else "cpu"
    if model.device != "auto":
        return "metal" if model.device == "mps" else model.device
    return "cuda" if machine.cuda_memory else "cpu"


def _precision(config: Config, machine: Machine, device: str, one_set: bool) -> str:
    """bfloat16 where `auto` will take it; a CPU's `auto` is measured later, and float32 is the larger."""
    phases = {config.model.generation_precision, config.model.update_precision}
    asked = phases - {"auto"}
    if one_set and asked:
        return asked.pop()
    if not asked:
        return "bfloat16" if device == "metal" or (device == "cuda" and machine.cuda_bfloat16) else "float32"
    return "bfloat16" if phases == {"bfloat16"} else "float32"


def _gpu_bytes(geometry: Geometry, rows: int, tokens: int, size: int) -> int:
    """What only a GPU holds: the graph's own buffers, and the mask of a packed row of `tokens`, as it is made."""
    return rows * geometry.vocabulary * 4 * 3 + tokens**2 * (size + 3)


def _weights(geometry: Geometry, backend: str, packed: bool, size: int) -> int:
    if not packed:
        if backend == "mlx":
            return geometry.parameters * size
        return geometry.parameters * (4 + size)  # float32 masters, and the copy that samples
    if backend == "mlx":  # a scale and an offset for 64 weights, embeddings too
        return int(geometry.parameters * (0.5 + 2 * size / 64))
    return int(geometry.linear_parameters * 0.516 + geometry.embedding_parameters * size)  # scales in 8 bit


def _weights_in_two(geometry: Geometry, model: ModelConfig) -> int:
    """Float32 masters, a copy that samples, and with LoRA the linear layers once more, merged, for the update."""
    sampled = 2 if model.generation_precision == "bfloat16" else 4
    merged = geometry.linear_parameters * (6 - sampled) if model.adapter == "lora" else 0
    return geometry.parameters * (4 + sampled) + merged


def longest_row(config: Config) -> int:
    """Tokens of the longest row: a proposer's prompt and the longest completion."""
    return PROMPT_TOKENS + config.tasks.references * REFERENCE_TOKENS + max(completion_tokens(config))


def mlx_cache_share(budget: int) -> int:
    """What the MLX policy gives to keys and values."""
    return budget // 4


def mlx_rows(token_bytes: int, length: int, share: int) -> int:
    """Rows that decode together under MLX. Its cache grows in steps of 256 tokens, by copying: twice is held then."""
    return max(1, min(ROWS["mlx"], share // (2 * token_bytes * (-(-length // 256) * 256))))


def torch_cache_share(cuda_memory: int) -> int:
    """What the PyTorch policies give to keys and values; `cuda_memory`: of the GPU, 0 on a CPU."""
    return max(TORCH_CACHE, cuda_memory // 16)


def torch_rows(cuda_memory: int, vocabulary: int) -> int:
    """Rows that decode together at most: a step costs a large GPU hardly more for many, but their logits take room."""
    logits = vocabulary * 4 * 6  # float32: three at a time, and as much in the graph's own buffers
    return max(ROWS["torch"], min(LARGE_GPU_ROWS, cuda_memory // 16 // logits))


def _mlx_cache(config: Config, token: int, length: int, budget: int) -> tuple[int, int]:
    """Rows that decode together, and bytes of their keys and values: every row has its own copy of its prompt."""
    tasks = config.tasks
    asked = max(tasks.prompts * tasks.proposals_per_prompt, tasks.solved * tasks.attempts)
    rows = min(asked, mlx_rows(token, length, mlx_cache_share(budget)))
    return rows, rows * 2 * token * (-(-length // 256) * 256)


def _torch_cache(config: Config, token: int, length: int, share: int, most: int) -> tuple[int, int]:
    """The same, of the phase with the larger cache: a group's prompt is held once, and a group is parted only where it
    is larger than the share."""
    tasks, longest, found = config.tasks, completion_tokens(config), [(0, 0)]
    prompt = length - max(longest)
    for groups, size, own in zip(
        (tasks.prompts, tasks.solved), (tasks.proposals_per_prompt, tasks.attempts), longest, strict=True
    ):
        rows = max(1, min(size, most, (share // token - prompt) // own))
        group = token * (prompt + rows * own)
        together = max(1, min(groups, most // size, share // group))
        found.append((together * group, together * rows))
    cache, rows = max(found)
    return rows, cache


def _container_limit() -> int:
    """Of the control group, where there is one."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return 1 << 62
