"""What training is measured against: published scores with their protocol and source, and the goals of a run."""

from __future__ import annotations

from pydantic import Field, model_validator

from azr.section import Section


class Reference(Section):
    """A published score: only worth something beside a score of the same protocol."""

    model: str
    benchmark: str
    protocol: str
    pass_at_1: float = Field(ge=0, le=100)  # per cent
    source: str


class Goal(Section):
    """To score above another model on a benchmark, under the same protocol."""

    benchmark: str
    above: str  # "untrained" (this run's own model before training), or the `model` of a reference
    by: float = Field(0.0, ge=0)  # percentage points; 0 asks for any significant gain


UNTRAINED = "untrained"
_EVALPLUS_COLUMNS = ("humaneval", "humaneval+", "mbpp", "mbpp+")
_EVALPLUS_SCORES: dict[str, tuple[float | None, ...]] = {
    "GPT-3.5-Turbo (Nov 2023)": (76.8, 70.7, 82.5, 69.7),
    "Claude 2": (69.5, 61.6, None, None),
    "Claude 3 Haiku": (76.8, 68.9, 80.2, 68.8),
    "Claude 3 Opus": (82.9, 77.4, 89.4, 73.3),
    "Claude 3.5 Sonnet": (87.2, 81.7, 89.4, 74.3),
    "CodeLlama-7B": (37.8, 35.4, 59.5, 46.8),
    "CodeLlama-34B": (51.8, 43.9, 69.3, 56.3),
    "CodeLlama-70B-Instruct": (72.0, 65.9, None, None),
}
_CODECHAIN = "CodeChain, arXiv 2310.08992"
_CODE_LLAMA = "Code Llama paper, arXiv 2308.12950"
REFERENCES = (
    *(
        Reference(model=model, benchmark=benchmark, protocol="evalplus", pass_at_1=score, source="EvalPlus leaderboard")
        for model, scores in _EVALPLUS_SCORES.items()
        for benchmark, score in zip(_EVALPLUS_COLUMNS, scores, strict=True)
        if score is not None
    ),
    *(
        Reference(model=model, benchmark=benchmark, protocol=protocol, pass_at_1=score, source=source)
        for model, benchmark, protocol, score, source in (
            ("GPT-3.5", "humaneval", "0-shot", 48.1, "GPT-4 technical report"),
            ("GPT-3.5", "mbpp", "3-shot", 52.2, _CODE_LLAMA),
            ("Code Llama 34B", "humaneval", "0-shot", 48.8, _CODE_LLAMA),
            ("Code Llama 34B", "mbpp", "3-shot", 55.0, _CODE_LLAMA),
            ("GPT-3.5", "apps-introductory", "codechain", 48.0, _CODECHAIN),
            ("GPT-3.5", "apps-interview", "codechain", 19.4, _CODECHAIN),
            ("GPT-3.5", "apps-competition", "codechain", 5.4, _CODECHAIN),
            ("GPT-3.5", "apps", "codechain", 22.3, _CODECHAIN),
            ("Claude 3 Opus", "apps", "undisclosed", 70.2, "Claude 3 model card"),
        )
    ),
)
GOALS = (
    *(Goal(benchmark=benchmark, above=UNTRAINED) for benchmark in ("humaneval", "mbpp", "apps")),
    *(Goal(benchmark=benchmark, above="CodeLlama-7B") for benchmark in ("humaneval", "mbpp")),
    *(Goal(benchmark=benchmark, above="GPT-3.5-Turbo (Nov 2023)") for benchmark in ("humaneval", "mbpp")),
    *(Goal(benchmark=benchmark, above="Claude 3 Haiku") for benchmark in ("humaneval", "mbpp")),
)


class TargetsConfig(Section):
    goals: tuple[Goal, ...] = Field(
        GOALS, description="what to beat, under the same protocol; by: percentage points, 0 means any significant gain"
    )
    references: tuple[Reference, ...] = Field(
        REFERENCES, description="published pass@1 in per cent, each with its protocol and source"
    )

    @model_validator(mode="after")
    def _goals_name_references(self) -> TargetsConfig:
        known = {(reference.model, reference.benchmark) for reference in self.references}
        for goal in self.goals:
            if goal.above != UNTRAINED and (goal.above, goal.benchmark) not in known:
                raise ValueError(f"no reference of {goal.above!r} on {goal.benchmark!r}: a goal needs one")
        return self
