"""A policy that says what it is told to: the whole loop runs in a second with it, without torch.

Token ids are code points, so any text is a legal completion; `update` records its samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from azr.errors import UserError
from azr.policy.base import Progress
from azr.records import Completion, Group, Sample, Sampling

Script = Callable[[str, int], str]  # (prompt, number of the completion since the start) -> text


class ScriptedPolicy:
    """Completions from a function, or from a list in turn (from its start again when it ends)."""

    def __init__(self, script: Script | Sequence[str], style: str = "completion") -> None:
        self.script: Script = script if callable(script) else lambda _, number: script[number % len(script)]
        self.style = style
        self.thinking_tokens = 0
        self.count = 0  # completions written
        self.updates: list[list[Sample]] = []
        self.is_untrained = False  # whether `untrained` is open: a script may look at it

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        """See `Policy.generate`; stop strings and the token limit (code points here) are honoured."""
        groups = []
        for number, prompt in enumerate(prompts):
            completions = tuple(self._completion(prompt, sampling) for _ in range(samples_per_prompt))
            groups.append(Group(prompt, tuple(map(ord, prompt)), completions))
            if progress:
                progress(number + 1, len(prompts))
        return groups

    def _completion(self, prompt: str, sampling: Sampling) -> Completion:
        text = self.script(prompt, self.count)
        self.count += 1
        found = [(text.find(stop), stop) for stop in sampling.stop if stop and stop in text]
        if found:
            place, stop = min(found)
            if place + len(stop) <= sampling.max_new_tokens:
                ids = tuple(map(ord, text[: place + len(stop)]))
                return Completion(ids, text[:place], (-1.0,) * len(ids), "stop")
        if len(text) >= sampling.max_new_tokens:
            ids = tuple(map(ord, text[: sampling.max_new_tokens]))
            return Completion(ids, text[: sampling.max_new_tokens], (-1.0,) * len(ids), "length")
        ids = (*map(ord, text), 0)
        return Completion(ids, text, (-1.0,) * len(ids), "eos")

    @contextmanager
    def untrained(self) -> Iterator[None]:
        """See `Policy.untrained`."""
        self.is_untrained = True
        try:
            yield
        finally:
            self.is_untrained = False

    def update(self, samples: Sequence[Sample], progress: Progress | None = None) -> dict[str, float]:
        """Records the samples; the metrics of a model that learnt nothing."""
        self.updates.append(list(samples))
        carrying = [s for s in samples if s.advantage]
        if progress:
            progress(1, 1)
        return {
            "loss": 0.0,
            "grad_norm": 0.0,
            "entropy": 0.0,
            "importance_ratio": 1.0,
            "importance_capped": 0.0,
            "logprob_gap": 0.0,
            "clip_fraction": 0.0,
            "zero_advantage": 1 - len(carrying) / len(samples) if samples else 0.0,
            "trained_tokens": float(sum(len(s.completion_ids) for s in carrying)),
            "forwarded_tokens": 0.0,
            "skipped": float(not carrying),
        }

    def format_chat(self, user: str) -> str:
        """See `Policy.format_chat`."""
        return f"<user>{user}</user>\n"

    def save(self, folder: Path) -> None:
        """Its counter, in policy.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "policy.json").write_text(json.dumps({"count": self.count}))

    def load(self, folder: Path) -> None:
        """See `Policy.load`."""
        try:
            self.count = int(json.loads((folder / "policy.json").read_text())["count"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: policy.json is missing or broken; take an older checkpoint") from error

    def describe(self) -> dict[str, str | int | float]:
        """See `Policy.describe`."""
        return {"name": "scripted", "style": self.style, "parameters": 0, "trained_parameters": 0, "device": "none"}
