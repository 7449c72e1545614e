"""How fast the engine is: against TRL's GRPO, against Transformers' `generate`, against the matmul limit.

    python benchmarks/step.py decode|rollout|limit|fixed|trl|all [--quick] [--rounds N]

Every comparison runs both sides in this process, in turn, on the same weights, prompts and numbers of tokens, after a
warm-up; figures are medians over the rounds. No completion ends before its limit, except where `fixed` says so.
`--quick` takes a tiny random model and small sizes: it shows that the benchmark runs, and no more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from engine_fixed import FixedStep
from engine_peers import HuggingFaceGenerate, TrlStep
from engine_setup import Laps, Size, Trials, alternate, exact_prompts, load_policy, model_folder, samples_of, timed
from transformers.utils import logging as transformers_logging

from azr.allocator import tune
from azr.config import ExecutorConfig, TrainConfig
from azr.executor import Executor
from azr.policy.precision import DTYPES, HOPELESS
from azr.policy.torch_policy import TorchPolicy
from azr.records import Sampling

DECODE = Size(prompts=8, group=8, prompt=32, new=110)
ROLLOUT = Size(prompts=8, group=8, prompt=400, new=110)
STEP = Size(prompts=6, group=8, prompt=400, new=110)
QUICK = Size(prompts=2, group=4, prompt=40, new=12)


@dataclass(slots=True)
class Run:
    """What the parts share."""

    quick: bool
    rounds: int
    trl_precision: str
    folder: Path
    policy: TorchPolicy

    def size(self, size: Size) -> Size:
        return QUICK if self.quick else size


def sample(policy: TorchPolicy, texts: list[str], size: Size) -> Mapping[str, float]:
    """Our generation; `decode` is the time from the first sampled token to the last."""
    times: list[float] = []
    policy.generate(texts, size.group, Sampling(size.new), lambda done, total: times.append(time.perf_counter()))
    assert len(times) == size.new, (len(times), size.new)
    return {"decode": times[-1] - times[0]}


def against_generate(run: Run, size: Size) -> None:
    """Ours and `generate` in both precisions. The peer is the faster of the two."""
    texts = exact_prompts(run.policy, size.prompts, size.prompt)
    peers = {f"generate {name}": HuggingFaceGenerate(run.folder, dtype) for name, dtype in usable().items()}
    arms: dict[str, Callable[[], Mapping[str, float]]] = {"ours": partial(sample, run.policy, texts, size)}
    arms |= {name: partial(peer, texts, size) for name, peer in peers.items()}
    short = Size(size.prompts, size.group, size.prompt, 3)
    sample(run.policy, texts, short)
    for peer in peers.values():
        peer(texts, short)
    print(f"\n{size}: {size.sampled} sampled tokens")
    trials = alternate(arms, run.rounds)
    decoded = size.rows * (size.new - 1)
    for name, trial in trials.items():
        rate, decode = size.sampled / trial.seconds, decoded / trial.part("decode")
        print(f"  {name:<22}{rate:8.0f} tokens/s end to end, {decode:8.0f} tokens/s decoding")
    ours = trials.pop("ours")
    fastest = min(trials, key=lambda name: trials[name].seconds)
    print(f"  end to end: {trials[fastest].seconds / ours.seconds:.2f} x {fastest}")
    fastest = min(trials, key=lambda name: trials[name].part("decode"))
    print(f"  decoding at {size.rows} rows: {trials[fastest].part('decode') / ours.part('decode'):.2f} x {fastest}")


def usable() -> dict[str, torch.dtype]:
    """The precisions that this processor computes in; one that it emulates would take hours and win nothing."""
    rates = {name: matmul_rate(dtype, 256) for name, dtype in DTYPES.items()}
    for name in [name for name, rate in rates.items() if rate * HOPELESS < rates["float32"]]:
        print(f"  {name} is emulated here ({rates[name] / 1e9:.1f} GFLOPS) and left out")
        del rates[name]
    return {name: DTYPES[name] for name in rates}


def against_trl(run: Run) -> None:
    """One GRPO step each: sample all groups, one LoRA update on all of their tokens."""
    size = run.size(STEP)
    texts = exact_prompts(run.policy, size.prompts, size.prompt)
    trained: list[float] = []

    def our_step() -> Mapping[str, float]:
        laps = Laps()
        groups = run.policy.generate(texts, size.group, Sampling(size.new, seed=len(trained)))
        laps.lap("sample")
        written = [(group.prompt_ids, c) for group in groups for c in group.completions]
        trained.append(run.policy.update(samples_of(written))["trained_tokens"])
        laps.lap("update")
        assert trained[-1] == size.sampled, trained
        return laps.seconds

    peer = TrlStep(run.folder, texts, size, run.rounds, run.trl_precision)
    peer.warm_up()
    our_step()
    ours = Trials()
    theirs = peer.run(between=lambda: timed(ours, our_step))
    assert peer.sampled == run.rounds * size.sampled
    print(f"\n{size}: {size.sampled} tokens sampled and trained on, LoRA, {torch.get_num_threads()} threads")
    print(f"  ours                  {ours}")
    print(f"  TRL, {run.trl_precision:<17}{theirs}")
    print(f"  a step: {theirs.seconds / ours.seconds:.1f} x TRL's")


def matmul_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """The most operations a second that a large square product reaches here: best of ten."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(11):
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def limit(run: Run) -> None:
    """Share of the matmul rate in decoding and in the update. Counted: products with the model's weights, no more."""
    size = run.size(DECODE)
    policy, texts = run.policy, exact_prompts(run.policy, size.prompts, size.prompt)
    with torch.inference_mode():
        rates = {name: matmul_rate(dtype) for name, dtype in usable().items()}
    model = policy.generator.model
    head = model.get_output_embeddings().weight.numel()
    blocks = sum(m.weight.numel() for m in model.modules() if type(m) is torch.nn.Linear) - head
    long = run.size(STEP)
    groups = policy.generate(exact_prompts(policy, long.prompts, long.prompt), long.group, Sampling(long.new))
    samples = samples_of([(group.prompt_ids, c) for group in groups for c in group.completions])
    metrics: dict[str, float] = {}

    def update() -> Mapping[str, float]:
        metrics.update(policy.update(samples))
        return {}

    sample(policy, texts, size)
    update()
    print("\nthe matmul limit: " + ", ".join(f"{name} {rate / 1e9:.0f} GFLOPS" for name, rate in rates.items()))
    trials = alternate({"sampling": partial(sample, policy, texts, size), "update": update}, run.rounds)
    decoded = size.rows * (size.new - 1) / trials["sampling"].part("decode")
    most = rates[policy.generation_precision] / (2 * (blocks + head))
    print(f"  decoding at {size.rows} rows: {decoded:.0f} of {most:.0f} tokens/s, {decoded / most:.0%} of the limit")
    # Forward, and the gradient of the activations; LoRA asks for no gradient of the weights.
    work = 4 * (blocks * metrics["forwarded_tokens"] + head * metrics["trained_tokens"])
    share = work / trials["update"].seconds / rates[policy.update_precision]
    print(f"  update on {metrics['forwarded_tokens']:.0f} packed tokens: {share:.0%} of the limit")


def fixed(run: Run) -> None:
    """6 x 8 proposals of at most 110 tokens, 16 tasks x 8 attempts of at most 40, the update on all of them."""
    with Executor(ExecutorConfig()) as executor:
        print("\na step of the fixed size (6 x 8 proposals of <= 110 tokens, 16 tasks x 8 attempts of <= 40)")
        for kl_weight in (TrainConfig().kl_weight, 0.0):
            step = FixedStep(load_policy(run.folder, run.quick, full_length=False, kl_weight=kl_weight), executor)
            print(f"train.kl_weight {kl_weight}:")
            step.as_the_loop_runs()
            for name, arm in (("as the loop runs", step.as_the_loop_runs), ("all at full length", step.at_full_length)):
                alternate({name: arm}, run.rounds)
                print(f"  {'':<22}{step.sampled} tokens sampled, {step.trained} trained on")


PARTS: dict[str, Any] = {
    "decode": lambda run: against_generate(run, run.size(DECODE)),
    "rollout": lambda run: against_generate(run, run.size(ROLLOUT)),
    "limit": limit,
    "fixed": fixed,
    "trl": against_trl,
}


def main() -> None:
    tune()  # as the command does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--quick", action="store_true", help="a tiny random model: a smoke test")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of every arm (default 3)")
    parser.add_argument("--trl-precision", choices=list(DTYPES), default="bfloat16", help="the faster one on most CPUs")
    given = parser.parse_args()
    transformers_logging.disable_progress_bar()
    folder = model_folder(given.quick)
    policy = load_policy(folder, given.quick, full_length=True)
    run = Run(given.quick, given.rounds, given.trl_precision, folder, policy)
    for name in PARTS if given.part == "all" else [given.part]:
        PARTS[name](run)


if __name__ == "__main__":
    main()
