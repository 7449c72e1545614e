"""Typed configuration: defaults here, then the YAML file, then `--set section.key=value`.

Unknown keys fail with the nearest name. This module imports neither torch nor any other heavy library.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from azr.records import TaskType


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    name: str = Field("smollm2-135m", description="`smollm2-135m` (embedded), a Hugging Face id, or a local folder")
    style: Literal["auto", "completion", "chat"] = Field("auto", description="prompt style; auto takes the model's own")
    adapter: Literal["lora", "full"] = Field("lora", description="train a LoRA adapter, or every weight")
    lora_rank: int = Field(16, ge=1, description="rank of the LoRA adapter")
    lora_alpha: int = Field(32, ge=1, description="LoRA scale; the update is multiplied by alpha / rank")
    generation_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision while sampling; auto measures which is faster here"
    )
    update_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the update's forward and backward pass; auto measures"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes every core")


class TrainConfig(Section):
    steps: int = Field(200, ge=1, description="self-play steps of the whole run")
    seed: int = Field(0, ge=0, description="seed of everything random")
    save_every: int = Field(10, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(3, ge=1, description="newest checkpoints of this run that are kept")
    learning_rate: float = Field(3e-4, gt=0, description="AdamW learning rate (LoRA; take about 1e-6 for adapter: full)")
    clip_grad: float = Field(1.0, gt=0, description="largest gradient norm")
    clip_ratio: float = Field(0.2, gt=0, lt=1, description="PPO clip; inert with one update a step")
    importance_cap: float = Field(2.0, ge=1, description="cap of the truncated importance weight (trainer / generator)")
    loss_weighting: Literal["sequence", "token"] = Field("sequence", description="what weighs the same in the loss")
    baseline: Literal["type_role", "leave_one_out"] = Field(
        "type_role", description="TRR++ baseline per task type and role, or each task's other attempts for the solver"
    )
    baseline_weighting: Literal["sequence", "token"] = Field("sequence", description="what weighs the same in a baseline")
    std_floor: float = Field(0.1, ge=0, description="smallest standard deviation that an advantage is divided by")
    micro_batch_tokens: int = Field(2048, ge=64, description="tokens of one packed forward and backward pass")
    reward: Literal["full", "format"] = Field("full", description="format pays for well-formed text only (a control)")


class TasksConfig(Section):
    types: tuple[TaskType, ...] = Field(
        ("deduction", "abduction", "induction"), min_length=1, description="task types to play"
    )
    prompts: int = Field(6, ge=1, description="proposer prompts a step, dealt over the types")
    proposals_per_prompt: int = Field(8, ge=1, description="proposals sampled from each prompt")
    references: int = Field(4, ge=1, description="buffered tasks shown in a proposer prompt (paper: 6)")
    solved: int = Field(16, ge=1, description="tasks solved a step, drawn at random from the valid ones")
    attempts: int = Field(8, ge=2, description="sampled attempts a task (G; paper: 8)")
    induction_inputs: int = Field(6, ge=2, description="inputs of an induction task; half are hidden (paper: 10)")
    proposal_tokens: int = Field(110, ge=8, description="longest proposal, in tokens")
    answer_tokens: int = Field(40, ge=4, description="longest answer, in tokens; induction gets proposal_tokens")
    temperature: float = Field(1.0, gt=0, description="sampling temperature of both roles")
    proposer_reward: Literal["paper", "repo", "4p(1-p)"] = Field(
        "paper", description="learnability reward as a function of the solve rate"
    )
    buffer_size: int = Field(2048, ge=16, description="tasks kept per type; the oldest leave first")


class ExecutorConfig(Section):
    lanes: int = Field(0, ge=0, description="programs run side by side; 0 takes every core")
    cpu_seconds: float = Field(1.0, gt=0, description="CPU time of one program on one input batch")
    memory_mb: int = Field(256, ge=32, description="memory of one program, MiB")
    allow_weaker_isolation: bool = Field(False, description="run although the kernel offers no seccomp")


class EvaluationConfig(Section):
    every: int = Field(0, ge=0, description="steps between evaluations while training; 0 is off")
    benchmarks: tuple[str, ...] = Field(("humaneval", "mbpp"), description="benchmarks of an evaluation")
    max_tasks: int = Field(0, ge=0, description="seeded subset of each benchmark; 0 takes all")
    data_dir: str = Field("", description="folder with benchmark files; empty takes the hub")


class TargetsConfig(Section):
    humaneval: Annotated[dict[str, float], Field(description="reference HumanEval pass@1, per cent")] = {}
    mbpp: Annotated[dict[str, float], Field(description="reference MBPP pass@1, per cent")] = {}
    apps: Annotated[dict[str, float], Field(description="reference APPS pass@1, per cent")] = {}


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
    executor: ExecutorConfig = ExecutorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    targets: TargetsConfig = TargetsConfig()
    dashboard: DashboardConfig = DashboardConfig()
    tracking: TrackingConfig = TrackingConfig()
