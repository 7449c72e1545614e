"""Strict parsing of what the model writes: off-contract output is rejected with a reason, never guessed."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from azr.program import parse
from azr.prompts import FENCE
from azr.records import TaskType

LONGEST_TEXT = 20_000  # characters; nothing longer is read
# What reading a literal can raise; OverflowError: a complex number whose parts are too large for a float.
_NOT_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class ParsedProposal:
    """A proposal that keeps the form, or the reason why it does not (then `program` is None)."""

    program: str | None
    inputs: tuple[str, ...] = ()
    message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    answer: str | None
    reason: str = ""


def _literal_arguments(call: ast.expr) -> str | None:
    """The argument list of `f(<literals>)` on one line, or None."""
    if not (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "f" and not call.keywords
    ):
        return None
    try:
        for argument in call.args:
            ast.literal_eval(argument)
        return ", ".join(ast.unparse(argument) for argument in call.args)
    except _NOT_LITERAL:
        return None


def _split_calls(text: str) -> tuple[list[ast.stmt], list[str]] | str:
    """Statements before the trailing calls of `f`, and the calls' argument lists; or the reason."""
    if len(text) > LONGEST_TEXT:
        return "too long"
    if "\r" in text:
        return "carriage return"  # Python and str.split("\n") would count lines differently
    tree = parse(text)
    if tree is None:
        return "not Python"
    body = list(tree.body)
    calls: list[str] = []
    while body and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, ast.Call):
        arguments = _literal_arguments(body[-1].value)
        if arguments is None:
            return "the call of f is not made of literals"
        calls.append(arguments)
        body.pop()
    return body, calls[::-1]


def parse_proposal(text: str) -> ParsedProposal:
    """Read `def f…` with exactly one call of `f` after it. `text` is the whole block, fences apart."""
    split = _split_calls(text)
    if isinstance(split, str):
        return ParsedProposal(None, reason=split)
    body, calls = split
    if len(calls) != 1:
        return ParsedProposal(None, reason="no example call of f" if not calls else "more than one call of f")
    if not body or not (isinstance(body[-1], ast.FunctionDef) and body[-1].name == "f"):
        return ParsedProposal(None, reason="the last definition is not f")
    program = "\n".join(text.split("\n")[: body[-1].end_lineno]).strip("\n")
    return ParsedProposal(program, tuple(calls))


def parse_induction_proposal(text: str, inputs: int) -> ParsedProposal:
    """Read exactly `inputs` different calls of `f`, numbered from 1, and then one `# message` line."""
    listed, _, last = text.strip("\n").rpartition("\n")
    lines = listed.split("\n")
    if not all(line.startswith(f"{number}: ") for number, line in enumerate(lines, 1)):
        return ParsedProposal(None, reason="the calls are not numbered")
    calls_text = "\n".join(line.partition(": ")[2] for line in lines)
    message = " ".join(last.lstrip("#").split())
    if not last.startswith("#") or not message:
        return ParsedProposal(None, reason="no message")
    split = _split_calls(calls_text)
    if isinstance(split, str):
        return ParsedProposal(None, reason=split)
    body, calls = split
    if body:
        return ParsedProposal(None, reason="something other than calls of f")
    if len(calls) != inputs:
        return ParsedProposal(None, reason=f"{len(calls)} calls of f instead of {inputs}")
    if len(set(calls)) != len(calls):
        return ParsedProposal(None, reason="a call is repeated")
    return ParsedProposal("", tuple(calls), message[:200])


def chat_answer(text: str) -> str | None:
    """What stands between <answer> and its stop, after any thinking; None if the form is broken."""
    after_thought = text.rpartition("</think>")[2]
    _, tag, answer = after_thought.partition("<answer>")
    if not tag or "<answer>" in answer or ("<think>" in after_thought):
        return None
    return answer.strip()


def unfenced(text: str) -> str | None:
    """The inside of one ```python block that is the whole text; None if it is not just that."""
    stripped = text.strip()
    if not (stripped.startswith(f"{FENCE}python\n") and stripped.endswith(f"\n{FENCE}")):
        return None
    inside = stripped[len(FENCE) + len("python\n") : -len(FENCE) - 1]
    return None if FENCE in inside else inside


def parse_literal_answer(text: str) -> ParsedAnswer:
    """One literal (deduction). Whether it is the right one is the judge's business."""
    text = text.strip()
    if not text or "\n" in text or len(text) > LONGEST_TEXT:
        return ParsedAnswer(None, "not one literal")
    try:
        ast.literal_eval(text)
    except _NOT_LITERAL:
        return ParsedAnswer(None, "not a literal")
    return ParsedAnswer(text)


def parse_arguments_answer(text: str) -> ParsedAnswer:
    """`(…)`: the brackets of a call of `f`, nothing after (abduction). The answer is what stands between them."""
    stripped = text.strip()
    if not stripped.startswith("("):
        return ParsedAnswer(None, "not a call of f")
    if not stripped.endswith(")"):
        return ParsedAnswer(None, "the call is not closed")
    tree = parse(f"f{stripped}") if len(stripped) <= LONGEST_TEXT and "\n" not in stripped else None
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return ParsedAnswer(None, "not a call of f")
    if _literal_arguments(tree.body[0].value) is None:
        return ParsedAnswer(None, "not literals")
    return ParsedAnswer(stripped[1:-1].strip())


def parse_program_answer(text: str) -> ParsedAnswer:
    """A program that defines `f` (induction)."""
    tree = parse(text) if len(text) <= LONGEST_TEXT else None
    if tree is None:
        return ParsedAnswer(None, "not Python")
    if not any(isinstance(n, ast.FunctionDef) and n.name == "f" for n in tree.body):
        return ParsedAnswer(None, "no function f")
    return ParsedAnswer(text.strip("\n"))


PARSE_ANSWER: dict[TaskType, Callable[[str], ParsedAnswer]] = {
    "deduction": parse_literal_answer,
    "abduction": parse_arguments_answer,
    "induction": parse_program_answer,
}
