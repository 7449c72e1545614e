"""The protocol that every policy keeps: generate groups, update on samples, save, load, describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from azr.records import Group, Sample, Sampling

Progress = Callable[[int, int], None]  # (done, total) units of the running phase


class Policy(Protocol):
    style: str  # "completion" or "chat": how this model wants to be prompted
    thinking_tokens: int  # chat: what a completion may be longer for its thinking

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        """Sample `samples_per_prompt` completions of each prompt; one Group a prompt, in order.

        Control tokens spelled out in a prompt count as such only with `sampling.chat`.

        The same prompts, weights and `sampling.seed` give the same groups.
        """
        ...

    def untrained(self) -> AbstractContextManager[None]:
        """While it is open, `generate` samples from the model as it was before any training.

        Raises UserError for a policy that no longer has those weights (full fine-tuning).
        """
        ...

    def update(self, samples: Sequence[Sample], progress: Progress | None = None) -> dict[str, float]:
        """One clipped policy-gradient step. Returns metrics (see docs/metrics.md); {} -like zeros without signal."""
        ...

    def format_chat(self, user: str) -> str:
        """The prompt text for one user turn in the model's own chat template, ready to be answered.

        Raises UserError for a model without one.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write adapter (or weights) and optimizer state into `folder` as safetensors and JSON."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises UserError for a truncated file or another model's."""
        ...

    def describe(self) -> dict[str, str | int | float]:
        """Name, fingerprint of the untrained weights, parameters (all, trained), backend, quantization, precision per
        phase, device, threads, tokens of a micro-batch, bytes held.
        """
        ...
