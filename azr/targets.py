"""What training is measured against, besides the untrained model: published scores with their protocol and source."""

from __future__ import annotations

from pydantic import Field

from azr.section import Section


class Reference(Section):
    """A published score: only worth something beside a score of the same protocol."""

    model: str
    benchmark: str
    protocol: str
    pass_at_1: float = Field(ge=0, le=100)  # per cent
    source: str


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


class TargetsConfig(Section):
    references: tuple[Reference, ...] = Field(
        REFERENCES, description="published pass@1 in per cent, each with its protocol and source"
    )
