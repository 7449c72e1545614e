"""One self-play step's sampling and learning on random weights of a model's true shape: memory against the plan's.

    python benchmarks/memory.py --model Qwen/Qwen3-4B --backend mlx

Neither network nor the model's files are needed: random weights in bfloat16 are written to the cache folder once (2
bytes a weight), by a process of its own, and packed to 4 bit as any model's. Printed: the plan, the measured peak and
their ratio, tokens a second, and the share of the memory's bandwidth that reading the weights takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil

from azr.allocator import tune
from azr.config import Config, ModelConfig, TasksConfig, TrainConfig
from azr.plan import Plan, gigabytes, plan_of, table
from azr.policy.auto import GIB, this_machine
from azr.policy.base import Policy
from azr.policy.choice import make_policy
from azr.policy.geometry import BUILT_IN, Geometry
from azr.policy.memory import PROMPT_TOKENS, REFERENCE_TOKENS
from azr.records import Group, Sample, Sampling

COPIED = 1 << 28  # bytes: more than a processor's cache


def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    geometry = BUILT_IN[given.model]
    if given.layers:
        geometry = replace(geometry, layers=given.layers)
    with ProcessPoolExecutor(1, get_context("spawn")) as child:  # its memory is not to count here
        folder = child.submit(random_model, geometry).result()
    config = config_of(str(folder), given)
    plan = plan_of(config, this_machine())
    print(table(plan))
    started = time.perf_counter()
    policy = make_policy(config.model, config.train)
    resident = psutil.Process().memory_info().rss
    print(
        f"loaded in {time.perf_counter() - started:.0f} s: {gigabytes(resident)} resident, at most {gigabytes(peak())}"
    )
    forget_peak()  # the files' pages are in it
    read = step(policy, given, plan)
    report(plan, given.backend)
    most = bandwidth(given.backend)  # at last: its arrays would count in the peak
    print(
        f"reading the weights: {read / 1e9:.1f} GB/s, {read / most:.0%} of the {most / 1e9:.1f} GB/s that a copy moves"
    )
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", choices=sorted(BUILT_IN), default="Qwen/Qwen3-4B", help="whose shape")
    parser.add_argument("--backend", choices=["mlx", "torch"], required=True)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="sampled a row")
    parser.add_argument("--prompt", type=int, default=180, help="tokens of the prompt")
    parser.add_argument("--micro-batch", type=int, help="tokens (all there are)")
    parser.add_argument("--layers", type=int, default=0, help="fewer layers than the model has, for a trial")
    return parser.parse_args(arguments)


def config_of(folder: str, given: argparse.Namespace) -> Config:
    """Tasks for which the plan counts just these rows and tokens."""
    references = max(1, (given.prompt - PROMPT_TOKENS) // REFERENCE_TOKENS)
    return Config(
        model=ModelConfig(name=folder, backend=given.backend, quantization="4bit", style="completion"),
        train=TrainConfig(micro_batch_tokens=given.micro_batch or max(64, given.prompt + given.rows * given.tokens)),
        tasks=TasksConfig(
            prompts=1, proposals_per_prompt=given.rows, solved=1, attempts=given.rows, references=references,
            proposal_tokens=given.tokens, answer_tokens=given.tokens,
        ),
    )  # fmt: skip


def step(policy: Policy, given: argparse.Namespace, plan: Plan) -> float:
    """Sample one group, learn from it. Returns the bytes of weights that sampling read a second."""
    policy.generate(["x"], 1, Sampling(2, seed=1))  # libraries load at the first call
    started = time.perf_counter()
    [group] = policy.generate(["x" * given.prompt], given.rows, Sampling(given.tokens, seed=1))
    seconds = time.perf_counter() - started
    sampled = sum(len(completion.token_ids) for completion in group.completions)
    print(f"sampling: {sampled} tokens in {seconds:.1f} s, {sampled / seconds:.1f} a second")
    steps = max(len(completion.token_ids) for completion in group.completions)
    started = time.perf_counter()
    metrics = policy.update(samples_of(group))
    print(f"learning: {metrics['forwarded_tokens']:.0f} tokens in {time.perf_counter() - started:.1f} s")
    print(f"mean absolute log-probability difference of the two: {metrics['logprob_gap']:.2g}")
    return plan.weights * steps / seconds  # decoding reads every weight once for all rows


def samples_of(group: Group) -> list[Sample]:
    return [
        Sample("solve", "deduction", group.prompt_ids, c.token_ids, c.logprobs, 1.0, 1.0 if i % 2 else -1.0)
        for i, c in enumerate(group.completions)
    ]


def report(plan: Plan, backend: str) -> None:
    """The measured peak beside the planned one: of the device's memory where there is one, else of the process."""
    measured, planned = peak(), plan.peak
    if backend == "mlx":
        import mlx.core as mx

        from azr.policy.mlx_models import on_metal

        print(f"MLX's own peak: {gigabytes(mx.get_peak_memory())}")
        if on_metal():  # the process's size does not tell what the GPU holds
            measured, planned = mx.get_peak_memory(), plan.peak - plan.runtime
    else:
        import torch

        if torch.cuda.is_available():
            measured = torch.cuda.max_memory_allocated() + GIB // 4  # the context is not PyTorch's
    print(f"peak: measured {gigabytes(measured)}, planned {gigabytes(planned)}, ratio {measured / planned:.2f}")


def peak() -> int:
    """Most resident bytes of this process so far, or since `forget_peak`."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


def forget_peak() -> None:
    """Count the peak anew from here; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def bandwidth(backend: str) -> float:
    """Bytes a second that one large copy reads and writes where the model computes: the best of a few."""
    copy = _copy_by_mlx() if backend == "mlx" else _copy_by_torch()
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        copy()
        best = min(best, time.perf_counter() - started)
    return 2 * COPIED / best


def _copy_by_mlx() -> Callable[[], None]:
    import mlx.core as mx

    source = mx.zeros(COPIED // 4)
    mx.eval(source)
    return lambda: mx.eval(source + 1)  # a plain copy would share the memory


def _copy_by_torch() -> Callable[[], None]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    source, target = (torch.zeros(COPIED // 4, device=device) for _ in range(2))

    def copy() -> None:
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()

    return copy


def random_model(geometry: Geometry) -> Path:
    """A Transformers folder with random weights of this shape, one file a layer. Made once."""
    import torch
    from safetensors.torch import save_file

    from azr.policy.models import cache_folder, make_tiny_model

    shape = f"{geometry.layers}x{geometry.hidden}x{geometry.intermediate}x{geometry.vocabulary}"
    folder = cache_folder() / f"random-{shape}"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return folder
    make_tiny_model(folder)  # for its tokenizer
    (folder / "model.safetensors").unlink()
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": geometry.hidden,
        "num_hidden_layers": geometry.layers, "intermediate_size": geometry.intermediate,
        "num_attention_heads": geometry.heads, "num_key_value_heads": geometry.kv_heads,
        "head_dim": geometry.head_width, "vocab_size": geometry.vocabulary, "tie_word_embeddings": geometry.tied,
        "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "max_position_embeddings": 40960, "dtype": "bfloat16",
        "eos_token_id": 0, "hidden_act": "silu", "attention_bias": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = torch.Generator(device).manual_seed(0)
    files: dict[str, str] = {}
    for number, part in enumerate(_parts(geometry)):
        weights = {
            name: torch.ones(size, dtype=torch.bfloat16)
            if len(size) == 1
            else (torch.randn(size, generator=random, device=device) * 0.02).bfloat16().cpu()
            for name, size in part.items()
        }
        files |= dict.fromkeys(weights, f"model-{number:05d}.safetensors")
        save_file(weights, folder / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def _parts(geometry: Geometry) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of the weights, layer by layer."""
    ends: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (geometry.vocabulary, geometry.hidden)}
    if not geometry.tied:
        ends["lm_head.weight"] = (geometry.vocabulary, geometry.hidden)
    yield ends | {"model.norm.weight": (geometry.hidden,)}
    attention, feed_forward = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    names = [f"self_attn.{n}" for n in attention] + [f"mlp.{n}" for n in feed_forward]
    for layer in range(geometry.layers):
        stem = f"model.layers.{layer}"
        part: dict[str, tuple[int, ...]] = {
            f"{stem}.{name}.weight": (out, inner) for name, (inner, out) in zip(names, geometry.linears(), strict=True)
        }
        part |= {f"{stem}.self_attn.{n}_norm.weight": (geometry.head_width,) for n in ("q", "k")}
        yield part | {f"{stem}.{n}_layernorm.weight": (geometry.hidden,) for n in ("input", "post_attention")}


if __name__ == "__main__":
    tune()  # as a training does
    sys.exit(main())
