"""Sampling by vLLM, beside a policy on PyTorch with a base in 4 bit. Written against vLLM's documentation (0.11 and
later); it was not run: see docs/hardware.md.

vLLM holds weights of its own in NF4 and gets the newest adapter as files after each update (runtime LoRA). While the
policy learns the engine sleeps: its weights wait in the CPU's memory and its cache is gone. Its log-probabilities are
not quite the trainer's; the update corrects for that with truncated importance weights (`train.importance_cap`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from azr.config import ModelConfig, TrainConfig
from azr.errors import UserError
from azr.policy.base import Progress
from azr.policy.memory import VLLM_SHARE
from azr.policy.models import local_folder
from azr.policy.nf4_policy import Nf4Policy, resolve_precision
from azr.policy.precision import choose_device
from azr.policy.text import StopFinder, ending
from azr.records import Completion, Sampling

CONTEXT = 8192  # longest row; a step's prompts and completions have a tenth of it
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # sizes of adapter that vLLM has kernels for


class VllmGenerator:
    """Completions of tokenised prompts from a vLLM engine in this process. Same interface as `Generator`."""

    def __init__(self, model: Any, name: str, tokenizer: Any, end_ids: set[int], rank: int, dtype: str) -> None:
        # A process of its own would take the terminal's Ctrl-C for its end, and could outlive a killed training.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        self.model, self.tokenizer, self.end_ids = model, tokenizer, end_ids  # the trainer's model, to be described
        self.adapter: Any = None
        longest = min(CONTEXT, getattr(model.config, "max_position_embeddings", CONTEXT))
        torch.cuda.empty_cache()  # what PyTorch keeps for reuse, vLLM cannot have
        self.engine = LLM(
            model=name, dtype=dtype, quantization="bitsandbytes", generation_config="vllm", max_model_len=longest,
            gpu_memory_utilization=VLLM_SHARE, enable_sleep_mode=True, logprobs_mode="processed_logprobs", seed=0,
            enable_lora=True, max_loras=1, max_lora_rank=min(size for size in RANKS if size >= rank),
        )  # fmt: skip
        self.engine.sleep(level=1)

    def use(self, adapter: Path | None, version: int) -> None:
        """Sample with the adapter in this folder from now on, or without any. `version`: its own number, from 1."""
        from vllm.lora.request import LoRARequest

        self.adapter = LoRARequest(f"update-{version}", version, str(adapter)) if adapter else None

    def generate(
        self, prompts: Sequence[tuple[int, ...]], count: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`count` completions of each tokenised prompt, in order."""
        from vllm import SamplingParams

        parameters = [
            SamplingParams(
                n=count, temperature=sampling.temperature, top_p=1.0, seed=sampling.seed + place * count + 1,
                logprobs=0, max_tokens=sampling.max_new_tokens, stop=list(sampling.stop),
                stop_token_ids=sorted(self.end_ids), skip_special_tokens=False, spaces_between_special_tokens=False,
            )
            for place in range(len(prompts))
        ]  # fmt: skip
        torch.cuda.empty_cache()
        with torch.device("cpu"):  # vLLM places its tensors itself, and takes it that the others are the CPU's
            try:
                self.engine.wake_up()
                found = self.engine.generate(
                    [{"prompt_token_ids": list(prompt)} for prompt in prompts], parameters,
                    lora_request=self.adapter, use_tqdm=False,
                )  # fmt: skip
            finally:
                self.engine.sleep(level=1)
        stops = StopFinder(self.tokenizer, sampling.stop)
        if progress:
            progress(len(prompts), len(prompts))
        return [
            [self._completion(output, stops, sampling) for output in sorted(one.outputs, key=lambda o: o.index)]
            for one in found
        ]

    def _completion(self, output: Any, stops: StopFinder, sampling: Sampling) -> Completion:
        """vLLM's tokens up to the first end that this project's own rules see, so that all engines end alike."""
        ids: list[int] = []
        logprobs: list[float] = []
        for token, chosen in zip(output.token_ids, output.logprobs, strict=True):
            ids.append(int(token))
            logprobs.append(float(chosen[token].logprob) if sampling.temperature else 0.0)
            ended = ending(stops, ids, self.end_ids, last=len(ids) == len(output.token_ids))
            if ended is not None:
                return Completion(tuple(ids), ended[0], tuple(logprobs), ended[1])
        raise RuntimeError("vLLM returned no tokens")


class VllmPolicy(Nf4Policy):
    """A causal language model with a frozen NF4 base that learns on PyTorch and samples with vLLM."""

    longest = CONTEXT
    generator: Any

    def __init__(self, model: ModelConfig, train: TrainConfig) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UserError("model.engine: vLLM is not installed; run: pip install vllm, or set model.engine=own")
        if model.thinking_tokens:
            raise UserError("model.thinking_tokens: vLLM cannot close a thought; set it to 0, or model.engine=own")
        if model.lora_rank > max(RANKS):
            raise UserError(f"model.lora_rank: vLLM takes adapters up to rank {max(RANKS)}")
        device = choose_device(model)
        if device.type != "cuda":
            raise UserError("model.engine: vLLM needs a CUDA GPU; set model.engine=own")
        if resolve_precision(model, device) != "bfloat16":
            raise UserError("model.generation_precision: vLLM's adapters want bfloat16; set it, or model.engine=own")
        if "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
            raise UserError("PYTORCH_CUDA_ALLOC_CONF: vLLM cannot sleep with expandable_segments; unset it")
        super().__init__(model, train)
        self.adapters = tempfile.TemporaryDirectory(prefix="azr-adapter-")
        self.versions = 0
        end_ids, precision = self.generator.end_ids, self.generation_precision
        name = str(local_folder(model.name))
        self.generator = VllmGenerator(self.model, name, self.tokenizer, end_ids, model.lora_rank, precision)
        self.refresh()

    def refresh(self) -> None:
        """Hand the newest adapter to vLLM, under a new number: it keeps what it has loaded under a known one."""
        folder = Path(self.adapters.name)
        shutil.rmtree(folder / str(self.versions), ignore_errors=True)
        self.versions += 1
        folder /= str(self.versions)
        self.wrapped.save_pretrained(folder)
        self.generator.use(folder, self.versions)

    @contextmanager
    def untrained(self) -> Iterator[None]:
        """See `Policy.untrained`. vLLM leaves the adapter out."""
        newest = self.generator.adapter
        self.generator.use(None, 0)
        try:
            yield
        finally:
            self.generator.adapter = newest

    def describe(self) -> dict[str, str | int | float]:
        return super().describe() | {"engine": "vllm"}
