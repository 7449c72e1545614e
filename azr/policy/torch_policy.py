"""The policy on PyTorch: sample groups, learn from samples, save and load. On a CUDA GPU where there is one.

Master weights are float32 on the Transformers model (PEFT's adapter for LoRA, every weight for full fine-tuning).
Two copies compute with them: merged weights in the update's precision inside the linear layers, and a merged model in
the generation's precision. Both are refreshed after each update.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy import text
from azr.policy.attention import NAME as ATTENTION
from azr.policy.attention import TreeLayout, hidden_states
from azr.policy.base import Progress
from azr.policy.generation import Generator
from azr.policy.identity import FORMAT, check_identity, read_identity
from azr.policy.linear import ADAPTER, merged_weight, replace_linears, speed_up_sampling
from azr.policy.models import load_model
from azr.policy.packing import pack
from azr.policy.precision import DTYPES, choose_device, resolve_precision
from azr.policy.update import Updater
from azr.records import Group, Sample, Sampling


class TorchPolicy:
    """A causal language model with LoRA (or full) training."""

    longest = 1 << 30  # tokens of a row, beside the model's own context

    def __init__(self, model: ModelConfig, train: TrainConfig) -> None:
        self.config, self.train = model, train
        self.thinking_tokens = model.thinking_tokens
        if model.threads:
            torch.set_num_threads(model.threads)
        if model.device == "mps":
            raise UserError("model.device: mps is for model.quantization=4bit; else take an MLX model on a Mac")
        self.device = choose_device(model)
        loaded = load_model(model.name, model.style)
        self.name, self.tokenizer, self.style = loaded.name, loaded.tokenizer, loaded.style
        self.model = loaded.model
        if getattr(self.model.config, "quantization_config", None) is not None:
            raise UserError(
                f"model.name: {model.name!r} is published in packed weights; set model.quantization=4bit (for "
                "bitsandbytes'), or take the model in full precision"
            )
        check_supported(self.model, self.name)
        self.fingerprint = fingerprint_of(self.model)
        self.generation_precision, self.update_precision = resolve_precision(self.model, model, self.device)
        dtype = DTYPES[self.generation_precision]
        self.generator = Generator(
            copy.deepcopy(self.model).to(self.device, dtype), self.tokenizer, end_ids(self.model, self.tokenizer), dtype
        )
        if self.device.type == "cpu":
            speed_up_sampling(self.generator.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)
            self.wrapped = self._add_adapter()  # on the CPU: a seed gives the same adapter everywhere
        self.model.to(self.device)
        self.linears = replace_linears(self.model, DTYPES[self.update_precision])
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=train.learning_rate, weight_decay=0.0)
        self.updater = Updater(self.model, train, DTYPES[self.update_precision], self._without_adapter)
        self.updates = 0
        self.refresh()

    def _add_adapter(self) -> Any:
        if self.config.adapter == "full":
            self.model.requires_grad_(True)
            return None
        lora = peft.LoraConfig(
            r=self.config.lora_rank, lora_alpha=self.config.lora_alpha, target_modules="all-linear",
            task_type="CAUSAL_LM",
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks Transformers for what is renamed there
            return peft.get_peft_model(self.model, lora, adapter_name=ADAPTER)

    @torch.no_grad()
    def refresh(self) -> None:
        """Merge the newest weights into the copies that compute."""
        if self.config.adapter == "full":
            for target, source in zip(self.generator.model.parameters(), self.model.parameters(), strict=True):
                target.copy_(source)
            return
        dtype = DTYPES[self.update_precision]
        for name, linear in self.linears.items():
            merged = merged_weight(linear.layer)
            target = self.generator.model.get_submodule(name).weight
            target.copy_(merged)
            linear.merged = target if target.dtype == dtype else merged.to(dtype)

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        """See `Policy.generate`. A prompt longer than the model's context loses its beginning."""
        if not prompts or samples_per_prompt < 1:
            return [Group(prompt, (), ()) for prompt in prompts]
        context = min(self.longest, getattr(self.model.config, "max_position_embeddings", self.longest))
        room = max(1, context - sampling.max_new_tokens)
        ids = [text.encode(self.tokenizer, prompt, sampling.chat)[-room:] for prompt in prompts]
        with self.device:
            completions = self.generator.generate(ids, samples_per_prompt, sampling, progress)
        return [Group(*row) for row in zip(prompts, ids, map(tuple, completions), strict=True)]

    @contextmanager
    def untrained(self) -> Iterator[None]:
        """See `Policy.untrained`. The adapter's frozen base weights take the merged ones' place for a while."""
        if self.wrapped is None:
            raise UserError("the untrained weights are not kept with model.adapter=full: take lora")
        with torch.no_grad():
            for name, linear in self.linears.items():
                self.generator.model.get_submodule(name).weight.copy_(linear.layer.get_base_layer().weight)
        try:
            yield
        finally:
            self.refresh()

    @contextmanager
    def _without_adapter(self) -> Iterator[None]:
        """The layers that learn compute with the base's frozen weights for a while."""
        held = {name: linear.merged for name, linear in self.linears.items()}
        for linear in self.linears.values():
            linear.merged = linear.layer.get_base_layer().weight
        try:
            yield
        finally:
            for name, linear in self.linears.items():
                linear.merged = held[name]

    def update(self, samples: Sequence[Sample], progress: Progress | None = None) -> dict[str, float]:
        """See `Policy.update`. One optimizer step on all samples; none if no sample carries a signal."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.device:
            metrics = self.updater.accumulate(samples, progress)
        metrics |= {"grad_norm": 0.0, "skipped": 1.0}
        if metrics["trained_tokens"] == 0:
            return metrics
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.train.clip_grad))
        metrics["grad_norm"] = norm
        if norm == norm and norm != float("inf"):
            self.optimizer.step()
            self.updates += 1
            metrics["skipped"] = 0.0
            self.refresh()
        self.optimizer.zero_grad(set_to_none=True)
        return metrics

    def format_chat(self, user: str) -> str:
        """See `Policy.format_chat`. Control tokens spelled out in `user` are broken by a space."""
        return text.chat_prompt(self.tokenizer, user, self.thinking_tokens > 0)

    def save(self, folder: Path) -> None:
        """adapter/ (PEFT's own format) or weights.safetensors, optimizer.safetensors, policy.json."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.wrapped is not None:
            self.wrapped.save_pretrained(folder / "adapter")
            (folder / "adapter" / "README.md").unlink(missing_ok=True)  # PEFT's card is an empty form
        else:
            save_file(_contiguous(self.parameters), folder / "weights.safetensors")
        states = {}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                states[f"{key}.{name}"] = value
        save_file(_contiguous(states), folder / "optimizer.safetensors")
        (folder / "policy.json").write_text(json.dumps(self._identity() | {"updates": self.updates}, indent=1))

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {
            "format": FORMAT, "model": self.name, "fingerprint": self.fingerprint, "adapter": self.config.adapter,
            "lora_rank": self.config.lora_rank, "lora_alpha": self.config.lora_alpha,
            "generation_precision": self.generation_precision, "update_precision": self.update_precision,
            "threads": torch.get_num_threads(),
        }  # fmt: skip

    def load(self, folder: Path) -> None:
        """See `Policy.load`. Nothing is changed unless every file is whole and fits."""
        stored = read_identity(folder)
        check_identity(folder, stored, self._identity())
        if self.wrapped is None:
            weights = _read_tensors(folder / "weights.safetensors")
        else:
            found = _read_tensors(folder / "adapter" / "adapter_model.safetensors")
            weights = {
                k.removeprefix("base_model.model.").replace(".weight", f".{ADAPTER}.weight"): v
                for k, v in found.items()
            }
        if {n: p.shape for n, p in self.parameters.items()} != {n: w.shape for n, w in weights.items()}:
            raise UserError(f"{folder}: the checkpoint's weights are not this model's; resume with its own model")
        states = _read_tensors(folder / "optimizer.safetensors")
        by_parameter: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in states.items():
            kind, _, name = key.partition(".")
            by_parameter.setdefault(name, {})[kind] = value
        if set(by_parameter) - set(self.parameters):
            raise UserError(f"{folder}: the optimizer state is not this model's; resume with its own model")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        self.optimizer.state.clear()
        for name, state in by_parameter.items():
            parameter = self.parameters[name]
            self.optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in state.items()
            }
        self.updates = int(stored.get("updates", 0))
        self.refresh()

    def describe(self) -> dict[str, str | int | float]:
        """See `Policy.describe`."""
        held = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for t in [*self.model.parameters(), *self.generator.model.parameters()]
            + [linear.merged for linear in self.linears.values() if linear.merged is not None]
        }
        return {
            "name": self.name, "style": self.style, "adapter": self.config.adapter, "device": self.device.type,
            "backend": "torch", "quantization": "none", "fingerprint": self.fingerprint,
            "parameters": sum(p.numel() for p in self.generator.model.parameters()),
            "trained_parameters": sum(p.numel() for p in self.parameters.values()),
            "generation_precision": self.generation_precision, "update_precision": self.update_precision,
            "threads": torch.get_num_threads(), "micro_batch_tokens": self.train.micro_batch_tokens,
            "bytes": sum(held.values()), "updates": self.updates,
        }  # fmt: skip


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: missing or truncated ({error}); take an older checkpoint") from error


def _contiguous(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def fingerprint_of(model: Any) -> str:
    """Hash of every weight's name, shape and first values: tells models of one name and shape apart."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        head = parameter.detach().flatten()[:64].float().cpu().numpy().tobytes()
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + head)
    return digest.hexdigest()[:16]


@torch.inference_mode()
def check_supported(model: Any, name: str) -> None:
    """Packed rows and a separate head must give the model's own logits; a few models scale or mix them differently, and
    the oldest (GPT-2) have no linear layers, but transposed ones."""
    head = model.get_output_embeddings()
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    if not linears or any(type(m).__name__ == "Conv1D" for m in model.modules()):
        raise UserError(f"model.name: {name!r} is made of layers that are not supported; take another model")
    ids = torch.arange(4)
    hidden = hidden_states(model, TreeLayout(pack([(0, 1, 2, 3)]), torch.float32), ids, ids)
    ours = model.get_output_embeddings()(hidden)
    model.set_attn_implementation("eager")
    theirs = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0]
    model.set_attn_implementation(ATTENTION)
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
        raise UserError(f"model.name: {name!r} computes its logits in a way that is not supported; take another model")


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a completion."""
    ends: set[int] = set()
    for value in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ends |= set(value) if isinstance(value, list) else {value} if value is not None else set()
    return ends | {i for token, i in tokenizer.get_added_vocab().items() if token == "<|endoftext|>"}
