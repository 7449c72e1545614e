"""The memory plan: what it counts, what it refuses, and what it offers instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr import plan_command
from azr.config import Config, ModelConfig, TasksConfig, TrainConfig
from azr.errors import UserError
from azr.plan import largest_micro_batch, plan_of, planned, preflight, table
from azr.plan_time import step_seconds, tokens_of
from azr.policy.auto import GIB, UNUSED_GPU, Machine
from azr.policy.generation import Generator
from azr.policy.geometry import EMBEDDED, QWEN, QWEN_MLX, geometry_of
from azr.policy.memory import RUNTIME, completion_tokens, mlx_rows, torch_cache_share, torch_rows
from azr.policy.models import make_tiny_model
from azr.policy.torch_policy import TorchPolicy

MAC = Machine(True, 48 * GIB)
CARD = Machine(False, 64 * GIB, 12 * GIB)
LAPTOP = Machine(False, 16 * GIB)


def config_of(name: str = EMBEDDED, micro_batch: int = 2048, **model: Any) -> Config:
    train = TrainConfig(micro_batch_tokens=micro_batch, kl_weight=0.0 if model.get("adapter") == "full" else 0.1)
    return Config(model=ModelConfig(name=name, **model), train=train)


def test_a_4_bit_model_of_4_billion_fits_a_mac_of_48_gb() -> None:
    plan = preflight(config_of(QWEN_MLX), MAC)
    assert (plan.backend, plan.precision, plan.quantized) == ("mlx", "bfloat16", True)
    assert 2.1 * GIB < plan.weights < 2.6 * GIB  # 4.02e9 weights at 4.5 bit
    assert plan.budget == 36 * GIB
    assert plan.checkpointed


def test_16_rows_of_1024_tokens_are_planned_within_12_gb() -> None:
    tasks = TasksConfig(prompts=2, proposals_per_prompt=8, solved=2, attempts=8, references=4, proposal_tokens=604)
    plan = plan_of(Config(model=ModelConfig(name=QWEN_MLX), tasks=tasks), MAC)
    assert (plan.rows, plan.length) == (16, 1024)
    assert plan.peak < 12 * 1000**3


def test_parts_add_up_and_the_larger_phase_counts() -> None:
    plan = plan_of(config_of(), LAPTOP)
    parts = plan.weights + plan.adapter + plan.optimizer + plan.runtime
    assert plan.peak == parts + max(plan.cache + plan.sampling, plan.activations)
    assert plan.weights == geometry_of(EMBEDDED).parameters * 8  # masters and a copy, float32
    assert replace(plan, cache=100 * GIB).peak == parts + 100 * GIB + plan.sampling
    assert all(word in table(plan) for word in ("weights", "peak", "budget", "fits"))


@pytest.mark.parametrize(
    ("config", "held"),  # GiB, measured: docs/hardware.md and docs/experiments.md
    [
        (Config(model=ModelConfig(name=EMBEDDED, generation_precision="bfloat16", update_precision="bfloat16"),
            tasks=TasksConfig.model_validate({"prompts": 8, "solved": 32, "attempts": 16})), 5.50),
        (Config(model=ModelConfig(name=EMBEDDED, quantization="4bit"), tasks=TasksConfig(
            prompts=3, solved=6, attempts=6, proposal_tokens=80)), 1.69),
        (Config(model=ModelConfig(name=QWEN, quantization="4bit", style="completion"), tasks=TasksConfig(
            prompts=1, proposals_per_prompt=8, solved=1, attempts=8, references=6, proposal_tokens=8, answer_tokens=8,
        ), train=TrainConfig(micro_batch_tokens=704)), 5.47),
    ],
)  # fmt: skip
def test_what_runs_on_a_cpu_held_is_planned(config: Config, held: float) -> None:
    plan = plan_of(config, replace(LAPTOP, memory=24 * GIB))
    assert plan.peak == pytest.approx(held * GIB, rel=0.15)


def test_more_tokens_a_micro_batch_need_more_until_blocks_compute_twice() -> None:
    sizes = (64, 128, 1024)
    plain = [plan_of(config_of(), LAPTOP, tokens).activations for tokens in sizes]
    assert plain[0] < plain[1] < plain[2]
    packed = [plan_of(config_of(QWEN, quantization="4bit"), CARD, tokens) for tokens in sizes]
    assert [plan.checkpointed for plan in packed] == [False, False, True]
    assert packed[2].activations < packed[1].activations


def test_full_training_and_float_weights_need_more() -> None:
    lora, full = (plan_of(config_of(adapter=kind), LAPTOP).peak for kind in ("lora", "full"))
    assert full > lora
    packed = plan_of(config_of(QWEN, quantization="4bit"), CARD)
    assert packed.precision == "bfloat16" and packed.budget == 12 * GIB - GIB // 2
    assert packed.weights < plan_of(config_of(QWEN), LAPTOP).weights / 5


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("generation", ["float32", "bfloat16"])
@pytest.mark.parametrize("update", ["float32", "bfloat16"])
def test_the_weights_that_pytorch_holds_are_planned(tmp_path: Path, adapter: str, generation: str, update: str) -> None:
    folder = str(make_tiny_model(tmp_path, hidden=128))
    precision: dict[str, Any] = {"generation_precision": generation, "update_precision": update}
    config = config_of(folder, style="completion", adapter=adapter, threads=1, **precision)
    found = plan_of(config, LAPTOP)
    held = TorchPolicy(config.model, config.train).describe()["bytes"]
    assert found.weights + found.adapter == pytest.approx(held, rel=0.02)  # norms are left out
    assert found.mixed == (generation != update)
    assert ("a copy for each phase" in table(found)) == found.mixed


def test_a_gpu_without_bfloat16_is_planned_in_float32() -> None:
    config = config_of(QWEN, quantization="4bit")
    assert plan_of(config, replace(CARD, cuda_bfloat16=False)).precision == "float32"


def test_a_gpu_that_pytorch_cannot_use_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = replace(LAPTOP, unused_gpu=True)
    monkeypatch.setattr("azr.plan.this_machine", lambda: machine)
    _, line = planned(config_of(EMBEDDED, quantization="4bit"))
    assert UNUSED_GPU in line and "\n" not in line
    assert UNUSED_GPU in planned(config_of(EMBEDDED))[1]
    monkeypatch.setattr(plan_command, "this_machine", lambda: replace(machine, memory=GIB))
    plan_command.run(config_of(EMBEDDED, quantization="4bit"))
    assert UNUSED_GPU in capsys.readouterr().err


def test_the_micro_batch_is_fitted_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(False, 5 * GIB)
    monkeypatch.setattr("azr.plan.this_machine", lambda: machine)
    config = config_of(micro_batch=32_768)
    best = largest_micro_batch(config, machine)
    assert 64 <= best < 32_768
    assert plan_of(config, machine, best).fits and not plan_of(config, machine, 2 * best).fits
    assert preflight(config).micro_batch == best
    fitted, line = planned(config)
    assert fitted == best and f"micro-batches of {best} tokens, as 32768 do not fit" in line and "\n" not in line
    assert planned(config_of(micro_batch=best)) == (best, preflight(config).line())


def test_a_model_that_cannot_fit_is_refused() -> None:
    with pytest.raises(UserError, match="smaller model") as caught:
        preflight(config_of(QWEN), LAPTOP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tasks",
    [
        {},
        {"prompts": 1, "proposals_per_prompt": 16, "solved": 1, "attempts": 2, "proposal_tokens": 604},
        {"solved": 64, "attempts": 64, "answer_tokens": 100},
        {"prompts": 1, "proposals_per_prompt": 300},
    ],
)
@pytest.mark.parametrize("gpu", [0, 12 * GIB, 80 * GIB])
def test_the_rows_that_pytorch_decodes_together_are_planned(tasks: dict[str, Any], gpu: int) -> None:
    """Against the generator's own cut, with prompts as long as planned."""
    config = Config(
        model=ModelConfig(name=EMBEDDED, generation_precision="float32"), tasks=TasksConfig.model_validate(tasks)
    )
    geometry = geometry_of(EMBEDDED)
    found, token = plan_of(config, replace(LAPTOP, cuda_memory=gpu)), geometry.cache_bytes(4)
    generator = object.__new__(Generator)
    generator.cache_bytes, generator.token_bytes = torch_cache_share(gpu), token
    generator.max_rows = torch_rows(gpu, geometry.vocabulary)
    most = []
    for prompts, size, own in zip(
        (config.tasks.prompts, config.tasks.solved),
        (config.tasks.proposals_per_prompt, config.tasks.attempts),
        completion_tokens(config),
        strict=True,
    ):
        prompt = (0,) * (found.length - max(completion_tokens(config)))
        for chunk in generator._chunks([prompt] * prompts, size, own):
            rows = sum(item.count for item in chunk)
            most.append((token * (len(chunk) * len(prompt) + rows * own), rows))
    assert (found.cache, found.rows) == max(most)


def test_a_model_of_unknown_shape_is_not_planned_and_not_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"n_embd": 4}')
    tokens, line = planned(config_of(str(tmp_path), micro_batch=512))
    assert "does not tell the model's shape" in line and tokens == 512


def test_a_large_gpu_decodes_more_rows_together_if_their_logits_are_small() -> None:
    small, large = geometry_of(EMBEDDED).vocabulary, geometry_of(QWEN).vocabulary
    assert torch_rows(0, small) == torch_rows(12 * GIB, large) == 256
    assert torch_rows(80 * GIB, small) == 2048
    assert 1000 < torch_rows(80 * GIB, large) < torch_rows(140 * GIB, large) <= 2048


def test_rows_under_mlx_follow_the_share_of_memory() -> None:
    assert mlx_rows(1000, 300, 1 << 40) == 64
    assert mlx_rows(1000, 300, 10 * 2 * 512 * 1000) == 10
    assert mlx_rows(1000, 300, 1) == 1


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 40), st.integers(1, 50), st.integers(60, 400),
    st.integers(1, 30),
)  # fmt: skip
def test_no_chunk_is_larger_than_the_cache(lengths: list[int], count: int, steps: int, share: int, rows: int) -> None:
    """But a single row that is. Every row decodes once, and the prompts of a chunk have equally many."""
    generator = object.__new__(Generator)
    generator.cache_bytes, generator.token_bytes, generator.max_rows = share, 1, rows
    chunks = generator._chunks([(i,) * length for i, length in enumerate(lengths)], count, steps)
    decoded = [row for chunk in chunks for item in chunk for row in range(item.first_row, item.first_row + item.count)]
    assert sorted(decoded) == list(range(len(lengths) * count))
    for chunk in chunks:
        assert len({item.count for item in chunk}) == 1
        total = sum(item.count for item in chunk)
        held = len(chunk) * max(lengths[item.prompt] for item in chunk) + total * steps
        assert total <= rows and (held <= share or (len(chunk) == 1 and total == 1))


def test_a_resumed_run_is_planned_with_its_own_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr.plan.this_machine", lambda: replace(LAPTOP, memory=1 * GIB))
    kept, line = planned(config_of(EMBEDDED), 1024)
    assert kept == 1024 and "may not fit any more" in line
    monkeypatch.setattr("azr.plan.this_machine", lambda: LAPTOP)
    assert "fit" not in planned(config_of(EMBEDDED), 1024)[1]


def test_the_command_says_whether_it_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_command, "this_machine", lambda: Machine(False, 1 * GIB))
    assert plan_command.run(config_of()) == 1
    printed = capsys.readouterr()
    assert "DOES NOT FIT" in printed.out and "it does not fit" in printed.err


@pytest.mark.parametrize(
    ("style", "types", "longest"),
    [
        ("chat", ("deduction",), (160, 160)),
        ("chat", ("deduction", "induction"), (160, 160)),
        ("completion", ("deduction",), (110, 40)),
        ("completion", ("deduction", "induction"), (110, 110)),
    ],
)
def test_completions_are_planned_at_their_longest(style: str, types: Any, longest: tuple[int, int]) -> None:
    tasks = TasksConfig(types=types, prompts=2, proposals_per_prompt=3, solved=5, attempts=7)
    config = Config(model=ModelConfig(name=QWEN, style=style, thinking_tokens=50), tasks=tasks)
    assert completion_tokens(config) == longest
    assert tokens_of(config)[0] == 2 * 3 * longest[0] + 5 * 7 * longest[1]
    assert plan_of(config, LAPTOP).length == plan_of(config_of(thinking_tokens=50), LAPTOP).length - 110 + longest[0]


def test_the_embedded_model_does_not_think_and_others_may() -> None:
    assert completion_tokens(config_of(EMBEDDED, thinking_tokens=50)) == (110, 110)
    assert completion_tokens(config_of(QWEN, thinking_tokens=50)) == (160, 160)


def test_the_time_of_a_step_grows_with_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(geometry_of(EMBEDDED), hidden=64, intermediate=64)
    config = config_of(generation_precision="float32", update_precision="float32")
    plan = plan_of(config, LAPTOP)
    seconds = step_seconds(config, plan, tiny)
    assert seconds["step"] == pytest.approx(seconds["sampling"] + seconds["learning"])
    assert min(seconds.values()) > 0
    monkeypatch.setattr("azr.plan_time._rate", lambda product, rows: 1000.0)
    more = config.model_copy(update={"tasks": config.tasks.model_copy(update={"proposal_tokens": 220})})
    few, many = step_seconds(config, plan, tiny), step_seconds(more, plan, tiny)
    assert all(many[name] > few[name] for name in ("sampling", "learning", "step"))


def test_the_untrained_models_pass_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr.plan_time._rate", lambda product, rows: 1000.0)
    tiny = replace(geometry_of(EMBEDDED), hidden=64, intermediate=64)
    config = config_of(generation_precision="float32", update_precision="float32")
    without = config.model_copy(update={"train": config.train.model_copy(update={"kl_weight": 0.0})})
    three, two = (step_seconds(c, plan_of(c, LAPTOP), tiny)["learning"] for c in (config, without))
    assert three == pytest.approx(1.5 * two)


def test_the_mask_of_the_longest_row_is_planned_on_a_gpu() -> None:
    def mask(proposal_tokens: int, micro_batch: int) -> tuple[float, int]:
        """Bytes planned for it in bfloat16, and the tokens of the longest row."""
        tasks, train = TasksConfig(proposal_tokens=proposal_tokens), TrainConfig(micro_batch_tokens=micro_batch)
        found = plan_of(Config(model=ModelConfig(name=QWEN), tasks=tasks, train=train), CARD)
        return found.runtime - RUNTIME["torch"] - found.rows * 151936 * 12, found.length

    assert mask(500, 2048)[0] == 4096**2 * 5  # a prefill's
    assert mask(500, 8192)[0] == 8192**2 * 5
    held, length = mask(30000, 2048)
    assert held == length**2 * 5
