"""Typed configuration: defaults here, then the YAML file, then `--set section.key=value`.

Unknown keys fail with the nearest name, wrong types are refused rather than converted. This module imports neither
torch nor any other heavy library.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from azr.errors import UserError
from azr.records import TaskType
from azr.section import Section, each_once
from azr.targets import TargetsConfig

# What a resumed run may change; everything else has to be as in the checkpoint, or the run would not be the same run.
MAY_CHANGE_ON_RESUME = (
    "model.device",  # what it resolves to may not
    "train.steps",
    "train.save_every",
    "train.keep_checkpoints",
    "evaluation.*",
    "dashboard.*",
    "tracking.*",
    "targets.*",
)


class ModelConfig(Section):
    name: str = Field(
        "auto",
        description="`smollm2-135m` (embedded), a Hugging Face id, or a local folder; auto takes what fits the machine",
    )
    backend: Literal["auto", "torch", "mlx"] = Field(
        "auto", description="library that computes; auto takes MLX for models in its format, else PyTorch"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where PyTorch computes; auto takes a CUDA GPU, else the CPU; mps is for a base in 4 bit"
    )
    engine: Literal["own", "vllm"] = Field(
        "own", description="what samples; vllm is for a base in 4 bit on a CUDA GPU, and was not run (docs/hardware.md)"
    )
    quantization: Literal["auto", "none", "4bit"] = Field(
        "auto", description="weights of the frozen base; auto takes 4bit with MLX, and else the model's own"
    )
    style: Literal["auto", "completion", "chat"] = Field("auto", description="prompt style; auto takes the model's own")
    adapter: Literal["lora", "full"] = Field("lora", description="train a LoRA adapter, or every weight")
    lora_rank: int = Field(16, ge=1, description="rank of the LoRA adapter")
    lora_alpha: int = Field(32, ge=1, description="LoRA scale; the update is multiplied by alpha / rank")
    generation_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description=(
            "precision while sampling; auto measures which is faster; a GPU has its own, MLX and NF4 on a CPU float32"
        ),
    )
    update_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the update's forward and backward pass; auto as above"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes every core")
    thinking_tokens: int = Field(
        0,
        ge=0,
        description="tokens for a chat model to think in, added to each limit; after them a thought is closed; 0: none",
    )


class TrainConfig(Section):
    steps: int = Field(200, ge=1, description="self-play steps of the whole run")
    seed: int = Field(0, ge=0, lt=1 << 63, description="seed of everything random")
    save_every: int = Field(10, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(3, ge=1, description="newest checkpoints of this run that are kept")
    learning_rate: float = Field(
        1e-4, gt=0, description="AdamW learning rate (for LoRA; `adapter: full` wants about 1e-6)"
    )
    clip_grad: float = Field(1.0, gt=0, description="largest gradient norm")
    clip_ratio: float = Field(0.2, gt=0, lt=1, description="PPO clip; inert with one update a step")
    importance_cap: float = Field(2.0, ge=1, description="cap of the truncated importance weight (trainer / generator)")
    kl_weight: float = Field(0.1, ge=0, description="weight in the loss of the KL divergence from the untrained model")
    loss_weighting: Literal["role", "sequence", "token"] = Field(
        "role", description="what has the same weight in the loss"
    )
    baseline: Literal["type_role", "leave_one_out"] = Field(
        "leave_one_out",
        description="TRR++ baseline per task type and role, or a prompt's other samples (a task's other attempts)",
    )
    baseline_weighting: Literal["sequence", "token"] = Field(
        "sequence", description="what weighs the same in baselines"
    )
    std_floor: float = Field(0.1, ge=0, description="smallest standard deviation that an advantage is divided by")
    micro_batch_tokens: int = Field(2048, ge=64, description="tokens of one packed forward and backward pass")
    reward: Literal["graded", "full", "format"] = Field(
        "graded",
        description="graded: wrong answers of the wrong type cost more; full: the paper's; format: form only (control)",
    )


class TasksConfig(Section):
    types: tuple[TaskType, ...] = Field(
        ("deduction", "abduction", "induction"), min_length=1, description="task types to play"
    )
    prompts: int = Field(6, ge=1, description="proposer prompts a step, dealt over the types")
    proposals_per_prompt: int = Field(8, ge=1, description="proposals sampled from each prompt")
    references: int = Field(4, ge=1, description="buffered tasks shown in a proposer prompt (paper: 6)")
    solved: int = Field(
        16, ge=1, description="tasks solved a step: new ones, and buffered ones (see curriculum.rehearsal)"
    )
    attempts: int = Field(8, ge=2, description="sampled attempts a task (G; paper: 8)")
    induction_inputs: int = Field(
        3, ge=2, le=10, description="inputs of an induction task; half are hidden (paper: 10; small models lose count)"
    )
    proposal_tokens: int = Field(110, ge=8, description="longest proposal, in tokens")
    answer_tokens: int = Field(
        40, ge=4, description="longest answer, in tokens; induction and the chat style get proposal_tokens"
    )
    proposal_temperature: float = Field(0.8, gt=0, description="sampling temperature of the proposer (paper: 1)")
    answer_temperature: float = Field(0.8, gt=0, description="sampling temperature of the solver (paper: 1)")
    proposer_reward: Literal["paper", "repo", "4p(1-p)"] = Field(
        "paper", description="learnability reward as a function of the solve rate, without the mean band"
    )
    buffer_size: int = Field(2048, ge=16, description="tasks kept per type; the oldest leave first")

    _no_type_twice = field_validator("types")(each_once)


Mean = Literal[
    "vacuity", "band", "data", "references", "rehearsal", "renewal", "easing",
]  # fmt: skip


class CurriculumConfig(Section):
    enabled: bool = Field(True, description="adaptive difficulty; off is the plain loop")
    means: tuple[Mean, ...] = Field(
        get_args(Mean),
        description="parts of adaptive difficulty; leave one out to do without it (docs/how-it-works.md)",
    )
    band_low: float = Field(0.4, gt=0, lt=1, description="smoothed solve rate of new tasks below which the level falls")
    band_high: float = Field(
        0.7, gt=0, lt=1, description="smoothed solve rate of new tasks above which the level rises"
    )
    start_level: float = Field(1.0, ge=0, le=10, description="level of every task type at the first step, 0 to 10")
    rehearsal: float = Field(0.5, ge=0, le=1, description="share of the solved tasks that are buffered ones")
    untrained_every: int = Field(
        0, ge=0, description="steps between attempts of the untrained model at new tasks; 0 is off"
    )

    _no_mean_twice = field_validator("means")(each_once)

    @model_validator(mode="after")
    def _band_has_a_width(self) -> CurriculumConfig:
        if self.band_low >= self.band_high:
            raise ValueError("band_low must be below band_high")
        return self


class ExecutorConfig(Section):
    lanes: int = Field(0, ge=0, description="programs run side by side; 0 takes every core")
    cpu_seconds: float = Field(1.0, gt=0, le=3600, description="CPU time of one program on one input batch")
    memory_mb: int = Field(256, ge=32, le=1 << 20, description="memory of one program, MiB")
    allow_weaker_isolation: bool = Field(False, description="run although the kernel offers no seccomp")


class EvaluationConfig(Section):
    every: int = Field(0, ge=0, description="steps between evaluations while training; 0 is off")
    benchmarks: tuple[str, ...] = Field(("humaneval", "mbpp"), description="benchmarks of an evaluation")
    max_tasks: int = Field(0, ge=0, description="seeded subset of each benchmark; 0 takes all, while training 40")
    data_dir: str = Field("", description="folder with benchmark files; empty takes the hub")


class DashboardConfig(Section):
    port: int = Field(8080, ge=1, le=65535, description="port of the dashboard")
    training_port: int = Field(8081, ge=1, le=65535, description="port of the training's live stream")
    host: str = Field("127.0.0.1", description="address to bind; any but loopback needs a token")
    token: str = Field("", description="token asked of viewers; needed when host is not loopback")


class TrackingConfig(Section):
    backend: Literal["none", "wandb", "trackio"] = Field("none", description="experiment tracker (optional extra)")
    project: str = Field("azr", description="project name in the tracker")


class Config(Section):
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    tasks: TasksConfig = TasksConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    executor: ExecutorConfig = ExecutorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    targets: TargetsConfig = TargetsConfig()
    dashboard: DashboardConfig = DashboardConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _the_untrained_model_is_kept(self) -> Config:
        asked = {"curriculum.untrained_every": self.curriculum.untrained_every, "train.kl_weight": self.train.kl_weight}
        for key, value in asked.items():
            if value and self.model.adapter == "full":
                raise ValueError(f"{key} needs model.adapter=lora, which keeps the untrained weights; else set it to 0")
        return self


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Defaults, then the YAML file at `path`, then `overrides` of the form `section.key=value`.

    Raises UserError (one line) for a file that is missing or no YAML, an unknown key, a wrong type or value.
    """
    values = _read_yaml(path) if path else {}
    config = _validate(values, str(path))
    if overrides:
        for override in overrides:
            _apply(values, override)
        config = _validate(values, "--set")
    return config


def changed_keys(old: Config, new: Config, may_change: Sequence[str] = MAY_CHANGE_ON_RESUME) -> list[str]:
    """The keys whose values differ and that match no pattern of `may_change`: by default, what a resume refuses."""
    before, after = old.model_dump(), new.model_dump()
    return [
        name
        for name in key_names()
        if _get(before, name) != _get(after, name) and not any(fnmatchcase(name, pattern) for pattern in may_change)
    ]


def key_names() -> Iterator[str]:
    """Every `section.key`, in the order of declaration."""
    for section, field in Config.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type) and issubclass(kind, Section)
        yield from (f"{section}.{key}" for key in kind.model_fields)


def _get(values: Mapping[str, Any], name: str) -> Any:
    section, key = name.split(".")
    return values[section][key]


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 3e-4 is a number (YAML 1.1 has it a string), and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                continue
            if key.value in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: text that looks like a number to it is quoted."""


for _side in (_Loader, Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {error.problem}") from error
    # PyYAML lets these through for `!!bool maybe`, `!!timestamp foo` and `!!int ''`.
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:
        raise UserError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}; check --config") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: byte {error.start} is not UTF-8") from error
    values = _parse(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as `train:`, found {type(values).__name__}")
    # A section with all of its keys commented out is null in YAML.
    return {name: {} if keys is None and name in Config.model_fields else keys for name, keys in values.items()}


def _apply(values: dict[str, Any], override: str) -> None:
    """Put `section.key=value` into `values`, in place."""
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise UserError(f"--set {override}: expected section.key=value, for example train.steps=100")
    if section not in Config.model_fields:
        raise UserError(f"--set: {_unknown(name)}")
    values[section] = {**values.get(section, {}), key: _parse(text, f"--set {override}")}


def _validate(values: Mapping[str, Any], where: str) -> Config:
    """Strictly typed. Through JSON, because there a list may be a tuple and 1 a float, but "1" or true no number."""
    try:
        text = json.dumps(values, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a plain tree of keys and values: {error}") from error
    try:
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        problems = [_problem(dict(detail)) for detail in error.errors(include_url=False)]
        raise UserError(f"{where}: {'; '.join(problems)}") from error


def _problem(detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return _unknown(name)
    if detail["type"] == "model_type":
        return f"{name}: should be a section with keys of its own"
    reason = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
    given = "" if isinstance(detail["input"], dict | list) else f", not {detail['input']!r}"
    return f"{name}: {reason}{given}" if name else reason


def _unknown(name: str) -> str:
    """Says the nearest existing key: the same key in another section first, then the most similar spelling."""
    names = [*Config.model_fields, *key_names()]
    leaf = name.rpartition(".")[2]
    same = [known for known in names if known.rpartition(".")[2] == leaf]
    nearest = same or difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"unknown key {name}; did you mean {nearest[0]}?"
