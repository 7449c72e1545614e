"""The policy on PyTorch with a base in 4 bit: bitsandbytes' NF4 (Dettmers et al., 2023) and a LoRA adapter of PEFT.

An adapter must not be merged into a 4-bit base: rounding would swallow it. So there is one model, which samples and
learns with the adapter beside the base; weights are dequantised layer by layer. On a GPU everything runs there; on
Apple's (`model.device=mps`) it was not run: docs/hardware.md.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy.checkpointing import checkpoint_blocks
from azr.policy.generation import Generator
from azr.policy.models import load_model
from azr.policy.precision import DTYPES, choose_device, gpu_precision
from azr.policy.torch_policy import TorchPolicy, check_supported, end_ids, fingerprint_of
from azr.policy.update import Updater


class Nf4Policy(TorchPolicy):
    """A causal language model with a frozen NF4 base."""

    def __init__(self, model: ModelConfig, train: TrainConfig) -> None:
        if model.adapter == "full":
            raise UserError("model.adapter: a base in 4 bit trains a LoRA adapter only; set model.quantization=none")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError("model.quantization: 4bit needs bitsandbytes; run: pip install -e '.[nf4]'")
        self.config, self.train = model, train
        self.thinking_tokens = model.thinking_tokens
        if model.threads:
            torch.set_num_threads(model.threads)
        self.device = choose_device(model)
        precision = resolve_precision(model, self.device)
        self.generation_precision = self.update_precision = precision
        dtype = DTYPES[precision]
        loaded = load_model(model.name, model.style, _quantization(), self.device)
        self.name, self.tokenizer, self.style = loaded.name, loaded.tokenizer, loaded.style
        self.model = loaded.model
        self.fingerprint = fingerprint_of(self.model)
        _keep_the_layout(self.model)
        with self.device:
            check_supported(self.model, self.name)
        _compute_in(self.model, dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)
            self.wrapped = self._add_adapter()
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # master weights of the adapter
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=train.learning_rate, weight_decay=0.0)
        self.linears = {}
        self.generator = Generator(self.model, self.tokenizer, end_ids(self.model, self.tokenizer), dtype)
        self.updater = Updater(self.model, train, dtype, self.wrapped.disable_adapter)
        checkpoint_blocks(self.model, self.name, train.micro_batch_tokens, dtype)
        self.updates = 0

    def refresh(self) -> None:
        """Nothing is merged: sampling sees the newest adapter at once."""

    @contextlib.contextmanager
    def untrained(self) -> Iterator[None]:
        """See `Policy.untrained`. PEFT leaves the adapter out."""
        with self.wrapped.disable_adapter():
            yield

    def describe(self) -> dict[str, str | int | float]:
        parameters = sum(_numbers(p) for n, p in self.model.named_parameters() if n not in self.parameters)
        return super().describe() | {
            "quantization": "NF4", "parameters": parameters,
        }  # fmt: skip


def resolve_precision(config: ModelConfig, device: torch.device) -> str:
    """The one precision of activations in both phases: `auto` is bfloat16 on a GPU that has it, else float32."""
    asked = {config.generation_precision, config.update_precision} - {"auto"}
    if len(asked) > 1:
        raise UserError(
            "model.generation_precision and model.update_precision: a base in 4 bit samples and learns with one set of "
            "weights; give both the same"
        )
    if asked:
        return asked.pop()
    if device.type == "mps":
        return "bfloat16"  # Metal computes in it from macOS 14 on, which bitsandbytes wants too
    return gpu_precision() if device.type == "cuda" else "float32"


def _quantization() -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip


def _keep_the_layout(model: Any) -> None:
    """Before anything runs: for inference on a CPU with bfloat16 instructions bitsandbytes repacks the weights in place
    at the first forward pass, and the backward pass cannot read that layout."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _compute_in(model: Any, dtype: torch.dtype) -> None:
    """Brings a model packed from float32 to the precision of its activations; the packed weights stay as they are."""
    from bitsandbytes.nn import Linear4bit

    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = module.weight.quant_state.dtype = dtype


def _numbers(parameter: Any) -> int:
    """How many weights a parameter stands for: two a byte where it is packed."""
    return int(parameter.numel()) * (2 if parameter.dtype == torch.uint8 else 1)
