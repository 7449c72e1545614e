"""The peers on the same model and prompts: Transformers' `generate` and TRL's `GRPOTrainer`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from engine_setup import Size, Trials
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList, TrainerCallback

from azr.config import ModelConfig, TrainConfig


class _Clock(LogitsProcessor):
    """Notes when the logits of each token are there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return scores


class HuggingFaceGenerate:
    """`generate` with its own defaults for the CPU (scaled dot-product attention, dynamic cache), sampling at T = 1."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], size: Size) -> dict[str, float]:
        ids = torch.tensor([self.tokenizer(text)["input_ids"] for text in texts])
        assert ids.shape == (size.prompts, size.prompt), ids.shape
        clock = _Clock()
        out = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), num_return_sequences=size.group, do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, min_new_tokens=size.new, max_new_tokens=size.new, pad_token_id=0,
            logits_processor=LogitsProcessorList([clock]),
        )  # fmt: skip
        assert out.shape == (size.rows, size.prompt + size.new), out.shape
        return {"decode": clock.times[-1] - clock.times[0]}


class TrlStep:
    """TRL's GRPO on the same LoRA, one optimizer step a batch of all groups.

    It gets the settings that are fastest on a CPU: weights and autocast in bfloat16, no gradient checkpointing, no
    reference model (its default), no second forward pass for the old log-probabilities (its default when a batch is
    used once), micro-batches of one group. Rewards are drawn at random: scoring is no part of the comparison.
    """

    def __init__(self, folder: Path, texts: Sequence[str], size: Size, steps: int, precision: str) -> None:
        from datasets import Dataset
        from peft import LoraConfig
        from trl import GRPOConfig, GRPOTrainer

        lora, train, half = ModelConfig(), TrainConfig(), precision == "bfloat16"
        self.size, self.texts, self.sampled = size, texts, 0
        arguments = GRPOConfig(
            output_dir=tempfile.mkdtemp(prefix="azr-trl-"), use_cpu=True, bf16=half, max_steps=steps,
            per_device_train_batch_size=size.group, gradient_accumulation_steps=size.prompts,
            num_generations=size.group, max_completion_length=size.new, gradient_checkpointing=False,
            learning_rate=train.learning_rate, temperature=1.0, shuffle_dataset=False, report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
            generation_kwargs={"min_new_tokens": size.new},
        )  # fmt: skip
        self.trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.bfloat16 if half else torch.float32, attn_implementation="sdpa"
            ),
            processing_class=AutoTokenizer.from_pretrained(folder),
            reward_funcs=self._reward,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": list(texts)}),
            peft_config=LoraConfig(
                r=lora.lora_rank, lora_alpha=lora.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )

    def _reward(self, prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        assert len(set(prompts)) == self.size.prompts
        assert [len(ids) for ids in completion_ids] == [self.size.new] * self.size.rows
        self.sampled += self.size.sampled
        return [float(x) for x in torch.rand(len(prompts))]

    def warm_up(self) -> None:
        """Touch the memory that a step needs: the whole batch for two tokens, one micro-batch with its gradient."""
        tokenizer, model = self.trainer.processing_class, self.trainer.model
        ids = torch.tensor([tokenizer(text)["input_ids"] for text in self.texts])
        assert ids.shape[1] == self.size.prompt, ids.shape
        rows = ids.repeat_interleave(self.size.group, 0)
        with torch.no_grad():
            model.generate(input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=2, pad_token_id=0)
        batch = rows[: self.size.group]
        batch = torch.cat([batch, batch[:, : self.size.new]], 1)
        model(batch, logits_to_keep=self.size.new).logits.logsumexp(-1).mean().backward()
        model.zero_grad()

    def run(self, between: Callable[[], None]) -> Trials:
        """All steps; `between` is called after each, outside the timing."""
        trials = Trials()
        self.trainer.add_callback(_StepTimer(trials, between))
        self.trainer.train()
        return trials


class _StepTimer(TrainerCallback):
    """From the start of a step (before its completions are sampled) to the end of its optimizer step."""

    def __init__(self, trials: Trials, between: Callable[[], None]) -> None:
        self.trials, self.between = trials, between
        self.wall = self.cpu = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.trials.add(time.perf_counter() - self.wall, time.process_time() - self.cpu, {})
        self.between()
