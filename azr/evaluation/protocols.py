"""How a benchmark is put to a model: prompt, sampling, stops, and how the answer is read. Each way has a name and hash.

Two scores are comparable only if their protocols are: the hash covers the data, every prompt, the sampling, the limits,
the reading and judging rules, and what the model generated with: backend, quantization, precision.

- `completion` continues text. HumanEval and the EvalPlus sets: the stub (0-shot). MBPP: three solved tasks before it
  (`mbpp-3shot`, Austin et al. 2021). APPS: its own QUESTION/ANSWER form. CRUXEval: the solver's prompt of the training.
- `chat` asks for a code block in the model's chat template.
- `azr-think` asks for thinking between <think> tags and the answer between <answer> tags.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from azr import parsing, prompts
from azr.errors import UserError
from azr.evaluation import extraction
from azr.evaluation.extraction import Extraction
from azr.evaluation.problems import Benchmark, InputPrediction, OutputPrediction, Problem, StandardInput
from azr.evaluation.scoring import LIMITS, RULES
from azr.policy.base import Policy
from azr.records import Pair, Sampling, Task

STYLES = ("completion", "chat", "azr-think")
_HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\nassert", "\n```")
_TOKENS = {"completion": 512, "chat": 1024, "azr-think": 2048}
_PREDICTION_TOKENS = {"completion": 64, "chat": 256, "azr-think": 2048}
# Published protocols that ours agrees with, by (benchmark, own name), and the tasks that their scores are on.
_PUBLISHED = {
    ("humaneval", "completion"): ("0-shot", frozenset(f"HumanEval/{number}" for number in range(164))),
    ("mbpp", "mbpp-3shot"): ("3-shot", frozenset(map(str, range(11, 511)))),
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of asking one benchmark."""

    name: str
    benchmark: str
    style: str
    data: str  # digest of the benchmark
    prompts: str  # digest of every prompt
    temperature: float
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int
    limits: dict[str, float]
    rules: int
    engine: dict[str, str]

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def describe(self, problems: Sequence[Problem]) -> dict[str, Any]:
        """As JSON values. `comparable`: the published protocols whose scores may stand beside one on these problems."""
        return {**asdict(self), "stop": list(self.stop), "comparable": self._comparable(problems)}

    def _comparable(self, problems: Sequence[Problem]) -> list[str]:
        published, tasks = _PUBLISHED.get((self.benchmark, self.name), ("", frozenset()))
        shortened = self.temperature > 0 or self.max_new_tokens < _TOKENS[self.style]
        return [] if shortened or {problem.id for problem in problems} != tasks else [published]

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.max_new_tokens, self.temperature, self.stop, seed, chat=self.style != "completion")


def engine(policy: Policy) -> dict[str, str]:
    """What of the machinery can alter what a model generates; of a policy that does not say, PyTorch unquantised."""
    known = {"backend": "torch", "quantization": "none", "generation_precision": "", **policy.describe()}
    names = ["backend", "quantization", "generation_precision", *(["engine"] if "engine" in known else [])]
    return {name: str(known[name]) for name in names}


def choose(
    benchmark: Benchmark,
    policy: Policy,
    style: str = "auto",
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> tuple[Protocol, dict[str, str]]:
    """The protocol, and the prompt of every problem by its id. Raises UserError for a style that cannot be."""
    style = policy.style if style == "auto" else style
    if style not in STYLES:
        raise UserError(f"unknown protocol {style!r}: choose among auto, {', '.join(STYLES)}")
    shots = _shots(benchmark) if benchmark.name == "mbpp" and style == "completion" else ()
    texts = {problem.id: prompt(problem, style, policy, shots) for problem in benchmark.problems}
    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode()).hexdigest()
    prediction = isinstance(benchmark.problems[0].checks[0], (InputPrediction, OutputPrediction))
    tokens = (_PREDICTION_TOKENS if prediction else _TOKENS)[style]
    protocol = Protocol(
        name="mbpp-3shot" if shots else style,
        benchmark=benchmark.name,
        style=style,
        data=benchmark.digest,
        prompts=digest,
        temperature=temperature,
        max_new_tokens=max_new_tokens or tokens,
        stop=_stops(benchmark.name, style),
        seed=seed,
        limits=LIMITS,
        rules=RULES,
        engine=engine(policy),
    )
    return protocol, texts


def _stops(benchmark: str, style: str) -> tuple[str, ...]:
    if style == "azr-think":
        return ("</answer>",)
    if style == "chat":
        return ()
    return {
        "humaneval": _HUMANEVAL_STOPS,
        "humaneval+": _HUMANEVAL_STOPS,
        "mbpp": ("[DONE]",),
        "mbpp+": ('\n"""', "\nassert", "\n```", "\nprint", "\nif __name__"),
        "apps": ("\nQUESTION:",),
        "cruxeval-i": prompts.ANSWER_STOP,
        "cruxeval-o": prompts.ANSWER_STOP,
    }[benchmark]


def _shots(benchmark: Benchmark) -> tuple[Problem, ...]:
    """The solved tasks 2, 3 and 4, which no test split holds. Raises UserError where the data lacks them."""
    found = {problem.id: problem for problem in benchmark.problems}
    if not all(number in found for number in ("2", "3", "4")):
        raise UserError(
            f"{benchmark.source} lacks tasks 2, 3 and 4, which the 3-shot prompt of MBPP shows: "
            "take the full mbpp.jsonl, or --protocol chat"
        )
    return tuple(found[number] for number in ("2", "3", "4"))


def prompt(problem: Problem, style: str, policy: Policy, shots: Sequence[Problem] = ()) -> str:
    """The text that the model goes on from."""
    if style == "completion":
        return _completion(problem, shots)
    question = _question(problem)
    if style == "azr-think":
        question += (
            "\n\nThink first, between <think> and </think>. Then put the answer, with nothing else, between "
            "<answer> and </answer>."
        )
    elif isinstance(problem.checks[0], (InputPrediction, OutputPrediction)):
        question += "\n\nPut the answer, with nothing else, between <answer> and </answer>."
    else:
        question += "\n\nAnswer with one Python code block."
    return policy.format_chat(question)


def _completion(problem: Problem, shots: Sequence[Problem]) -> str:
    check = problem.checks[0]
    if isinstance(check, OutputPrediction):
        return prompts.solve_completion(_task("deduction", check))
    if isinstance(check, InputPrediction):
        return prompts.solve_completion(_task("abduction", check))
    if problem.benchmark == "mbpp":
        shown = "".join(f"{_mbpp(shot)}[BEGIN]\n{shot.reference.strip()}\n[DONE]\n" for shot in shots)
        return f"{shown}{_mbpp(problem)}[BEGIN]\n"
    if problem.benchmark == "apps":
        form = "Use Standard Input format" if isinstance(check, StandardInput) else "Use Call-Based format"
        return f"\nQUESTION:\n{problem.text}\n{problem.stub}\n{form}\n\nANSWER:\n"
    # Without its last line break: tokenizers join line breaks with the indentation that follows.
    return (problem.stub or problem.text).rstrip()


def _mbpp(problem: Problem) -> str:
    tests = "\n".join(problem.examples)
    return (
        f"You are an expert Python programmer, and here is your task: {problem.text} "
        f"Your code should pass these tests:\n\n{tests}\n"
    )


def _task(kind: Any, check: OutputPrediction | InputPrediction) -> Task:
    return Task(kind, check.program, (Pair(check.input, check.output, b""),))


def _question(problem: Problem) -> str:
    check = problem.checks[0]
    fence = prompts.FENCE
    if isinstance(check, OutputPrediction):
        program = f"{fence}python\n{check.program}\n{fence}"
        return f"{program}\n\nWhat does `f({check.input})` return? Give the value as one Python literal."
    if isinstance(check, InputPrediction):
        program = f"{fence}python\n{check.program}\n{fence}"
        return (
            f"{program}\n\nFind arguments for which `f` returns `{check.output}`. Give a call `f(...)` with literals."
        )
    if isinstance(check, StandardInput):
        return (
            "Write a Python program that solves this problem. It reads standard input and prints to standard output."
            f"\n\n{problem.text}"
        )
    if problem.benchmark in ("humaneval", "humaneval+"):
        asked = "Complete this Python function; repeat all of it, imports and helpers too."
        return f"{asked}\n\n{fence}python\n{problem.stub}{fence}"
    parts = [f"Write a Python function that solves this task.\n\n{problem.text}"]
    if problem.benchmark == "apps":
        parts.append(f"Start from this code:\n\n{fence}python\n{problem.stub}\n{fence}")
    elif problem.examples:
        tests = "\n".join(problem.examples)
        parts.append(f"It has to pass tests such as these:\n\n{fence}python\n{tests}\n{fence}")
    return "\n\n".join(parts)


def read(problem: Problem, style: str, text: str, truncated: bool) -> Extraction:
    """The solution in a completion."""
    check = problem.checks[0]
    if isinstance(check, OutputPrediction):
        return _line(text, truncated) if style == "completion" else extraction.extract_literal(text, truncated)
    if isinstance(check, InputPrediction):
        if style != "completion":
            return extraction.extract_arguments(text, truncated)
        answer = parsing.parse_arguments_answer(text)
        return Extraction(answer.answer) if answer.answer is not None else _none(text, truncated)
    entry = problem.entry
    if style != "completion":
        return extraction.extract_program(text, entry, truncated)
    if problem.benchmark in ("humaneval", "humaneval+", "mbpp+"):
        return extraction.complete(problem.stub.rstrip(), text, entry, truncated)
    if extraction.code_blocks(text):
        return extraction.extract_program(text, entry, truncated)
    return extraction.complete("", text, entry, truncated)


def _line(text: str, truncated: bool) -> Extraction:
    line = text.strip()
    return Extraction(line) if line else _none(text, truncated)


def _none(text: str, truncated: bool) -> Extraction:
    return Extraction(None, "truncated" if truncated else "not_a_literal" if text.strip() else "no_code")
