"""What the engine's benchmarks share: the policy under test, prompts of an exact length, alternating timed trials."""

from __future__ import annotations

import inspect
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from azr import prompts
from azr.config import ModelConfig, TrainConfig
from azr.policy import text
from azr.policy.models import EMBEDDED, embedded_folder, make_tiny_model
from azr.policy.torch_policy import TorchPolicy
from azr.records import Completion, Sample


@dataclass(frozen=True, slots=True)
class Size:
    """Groups of `group` completions of `new` tokens each, on prompts of `prompt` tokens."""

    prompts: int
    group: int
    prompt: int
    new: int

    @property
    def rows(self) -> int:
        return self.prompts * self.group

    @property
    def sampled(self) -> int:
        return self.rows * self.new

    def __str__(self) -> str:
        return f"{self.prompts} prompts of {self.prompt} tokens x {self.group} completions of {self.new}"


@dataclass(slots=True)
class Trials:
    """Wall and CPU seconds of one arm, one entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)  # seconds of named parts of a round

    @property
    def seconds(self) -> float:
        return statistics.median(self.wall)

    def part(self, name: str) -> float:
        return statistics.median(self.parts[name])

    def add(self, wall: float, cpu: float, parts: Mapping[str, float]) -> None:
        self.wall.append(wall)
        self.cpu.append(cpu)
        for name, seconds in parts.items():
            self.parts.setdefault(name, []).append(seconds)

    def __str__(self) -> str:
        rounds = " ".join(f"{seconds:.2f}" for seconds in self.wall)
        busy = sum(self.cpu) / sum(self.wall)
        parts = "".join(f", {name} {self.part(name):.2f}" for name in self.parts)
        return f"{self.seconds:8.2f} s (rounds {rounds}{parts}; {busy:.1f} cores busy)"


def timed(trials: Trials, arm: Callable[[], Mapping[str, float]]) -> None:
    """One round of one arm, which returns the seconds of its parts."""
    wall, cpu = time.perf_counter(), time.process_time()
    parts = arm()
    trials.add(time.perf_counter() - wall, time.process_time() - cpu, parts)


def alternate(arms: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int) -> dict[str, Trials]:
    """Every arm once a round, in turn: what slows the machine down slows all of them."""
    trials = {name: Trials() for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            timed(trials[name], arm)
    for name, result in trials.items():
        print(f"  {name:<22}{result}")
    return trials


def model_folder(quick: bool) -> Path:
    """The embedded model, or a tiny random one that only shows that the benchmark runs."""
    return make_tiny_model(Path(tempfile.mkdtemp(prefix="azr-tiny-"))) if quick else embedded_folder()


def load_policy(folder: Path, quick: bool, full_length: bool, kl_weight: float = 0.0) -> TorchPolicy:
    """Our policy with LoRA and the default settings, but without the divergence unless it is given a weight: TRL has
    none. `full_length`: no token ends a completion."""
    model = ModelConfig(name=str(folder) if quick else EMBEDDED, style="completion")
    policy = TorchPolicy(model, TrainConfig(kl_weight=kl_weight))
    if full_length:
        policy.generator.end_ids = set()
    described = policy.describe()
    print(
        f"{EMBEDDED if not quick else 'a tiny random model (figures mean nothing)'}: {described['parameters']:,} "
        f"parameters, {described['trained_parameters']:,} trained; generation {described['generation_precision']}, "
        f"update {described['update_precision']}; {described['threads']} threads, torch {torch.__version__}, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    return policy


def exact_prompts(policy: TorchPolicy, count: int, tokens: int) -> list[str]:
    """Different texts of exactly that many tokens that share no prefix: Python source, cut."""
    source = inspect.getsource(prompts)
    found: list[str] = []
    start = 0
    while len(found) < count:
        begin, start = start, start + 97
        if begin + 100 > len(source):
            raise RuntimeError(f"the source text is too short for {count} prompts of {tokens} tokens")
        ids = text.encode(policy.tokenizer, f"{len(found)}: {source[begin:]}{source}", control_tokens=False)[:tokens]
        candidate = policy.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        if text.encode(policy.tokenizer, candidate, control_tokens=False) == ids:  # else cut inside a character
            found.append(candidate)
    return found


def samples_of(written: Iterable[tuple[tuple[int, ...], Completion]]) -> list[Sample]:
    """Every (prompt ids, completion) as a training sample with a signal: none is left out of the update."""
    return [
        Sample("solve", "deduction", prompt_ids, c.token_ids, c.logprobs, 1.0, 1.0 if i % 2 else -1.0)
        for i, (prompt_ids, c) in enumerate(written)
    ]


class Laps:
    """Seconds of the named parts of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now
