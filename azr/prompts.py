"""Every prompt text, and the strict parsing of what comes back.

Two styles. `completion` continues a document, for small models: the shape of the answer is shown, not described.
`chat` asks, and wants the answer between <answer> tags, for instruction-tuned models. What a completion must contain is
the same in both. Parsing never guesses: text that breaks the form is rejected with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from azr.constructs import constructs
from azr.constructs import lines as count_lines
from azr.program import parse
from azr.records import Task, TaskType

FENCE = "```"
PROPOSAL_STOP = ("\n```",)
ANSWER_STOP = ("\n",)
PROGRAM_STOP = ("\n```",)
CHAT_STOP = ("</answer>",)
LONGEST_TEXT = 20_000  # characters; nothing longer is read


@dataclass(frozen=True, slots=True)
class Example:
    """A task as the proposer's prompt shows it. Induction shows several calls and a message."""

    program: str
    inputs: tuple[str, ...]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a proposer prompt asks for: constructs (see constructs.py) and a number of lines; 0 asks for nothing."""

    constructs: tuple[str, ...] = ()
    lines: int = 0


NO_WISH = Wish()


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


# Format examples of our own for the completion style: they fill up the references while the buffer has too few.
# They are never in the buffer, and nothing is trained on them. The identity triplet is the paper's seed.
IDENTITY = Example("def f(a):\n    return a", ("'Hello world'",))
FORMAT_EXAMPLES = (
    Example(
        "def f(nums):\n    total = 0\n    for n in nums:\n        if n % 2 == 0:\n            total += n\n"
        "    return total",
        ("[3, 4, 8, 5]",),
    ),
    Example(
        "def f(text, k):\n    words = text.split()\n    return [w[::-1] for w in words if len(w) > k]",
        ("'the quick brown fox', 3",),
    ),
    Example(
        "def f(d, key):\n    if key not in d:\n        return sorted(d)\n    return d[key] * 2",
        ("{'a': 1, 'b': 5}, 'b'",),
    ),
    Example("def f(x, y):\n    while y:\n        x, y = y, x % y\n    return x", ("48, 36",)),
)
INDUCTION_EXAMPLES = (
    Example(
        FORMAT_EXAMPLES[0].program,
        ("[3, 4, 8, 5]", "[]", "[1, 3]", "[2]", "[10, -4, 7]", "[0, 0, 6]", "[5, 2, 2]", "[8]", "[9, 12]", "[1]"),
        "Adds up the even numbers.",
    ),
    Example(
        FORMAT_EXAMPLES[1].program,
        (
            "'the quick brown fox', 3",
            "'a bb ccc', 1",
            "'', 2",
            "'hello', 5",
            "'one two', 0",
            "'Python is fun', 2",
            "'x', 1",
            "'to be or not', 2",
            "'abc def', 2",
            "'level up', 4",
        ),
        "Reverses the words longer than k.",
    ),
    Example(
        FORMAT_EXAMPLES[2].program,
        (
            "{'a': 1, 'b': 5}, 'b'",
            "{}, 'x'",
            "{'k': 2}, 'z'",
            "{1: 2, 3: 4}, 3",
            "{'q': 0}, 'q'",
            "{'b': 1, 'a': 2}, 'c'",
            "{5: 7}, 5",
            "{'x': -3}, 'x'",
            "{2: 2, 1: 1}, 0",
            "{'n': 10}, 'n'",
        ),
        "Twice the value of a key, or all keys in order.",
    ),
    Example(
        FORMAT_EXAMPLES[3].program,
        ("48, 36", "7, 3", "10, 5", "0, 4", "81, 27", "6, 4", "100, 75", "9, 9", "13, 1", "21, 14"),
        "The greatest common divisor.",
    ),
)


def example_of(task: Task) -> Example:
    return Example(task.program, tuple(pair.input for pair in task.pairs), task.message)


# --- proposing ---------------------------------------------------------------------------------------------------


def _calls(inputs: Sequence[str]) -> str:
    return "\n".join(f"f({text})" for text in inputs)


def _numbered(inputs: Sequence[str]) -> str:
    """Calls with their numbers: a small model writes the right number of them only if it can see the count."""
    return "\n".join(f"{number}: f({text})" for number, text in enumerate(inputs, 1))


def _induction_block(example: Example, inputs: int) -> str:
    message = example.message or "Look at the calls."
    calls = _numbered(example.inputs[:inputs])
    return f"{FENCE}python\n{example.program}\n{FENCE}\n{FENCE}calls\n{calls}\n# {message}\n{FENCE}\n"


def propose_completion(references: Sequence[Example], wish: Wish = NO_WISH) -> str:
    """Prompt for a program and one input (deduction, abduction). The completion goes on after `def f(`.

    A wish stands in the last heading; the references' own headings then say the same of them.
    """
    parts = ["A list of different Python functions, each with an example call.\n"]
    for number, example in enumerate(references, 1):
        heading = _heading(number, _label(example.program, wish) if wish.lines else "")
        parts.append(f"{heading}{FENCE}python\n{example.program}\n\n{_calls(example.inputs[:1])}\n{FENCE}\n")
    wanted = f"{', '.join(wish.constructs)}; {wish.lines} lines" if wish.lines else ""
    parts.append(f"{_heading(len(references) + 1, wanted)}{FENCE}python\ndef f(")
    return "".join(parts)


def _heading(number: int, label: str) -> str:
    return f"\n# Function {number}{f': {label}' if label else ''}\n"


def _label(program: str, wish: Wish) -> str:
    """What a wish would have had to say to get this program: its constructs (wished ones first) and its lines."""
    used = sorted(constructs(program), key=lambda name: (name not in wish.constructs, name))
    return f"{', '.join(used[: max(len(wish.constructs), 1)]) or 'return'}; {count_lines(program)} lines"


def propose_induction_completion(references: Sequence[Example], program: str, inputs: int) -> str:
    """Prompt for `inputs` inputs of a given program and a message. The completion goes on after `1: f(`."""
    parts = [f"Python functions, each with {inputs} different calls and a short description.\n"]
    parts += [f"\n{_induction_block(example, inputs)}" for example in references]
    parts.append(f"\n{FENCE}python\n{program}\n{FENCE}\n{FENCE}calls\n1: f(")
    return "".join(parts)


_PROPOSE_CHAT = """You write small Python tasks for another programmer. Here are tasks that exist already:

{references}

Write one new task that is different from all of these: a deterministic function named `f` (standard library only, no
files, no network, no randomness, no time) and one input for it, as a call of `f` with literals. {goal}{wish}
Put the task between <answer> and </answer>, in this form and with nothing else inside:
<answer>
```python
def f(...):
    ...

f(...)
```
</answer>"""

_GOALS = {
    "deduction": "Someone who sees function and input must predict the output: make it hard, but possible.",
    "abduction": "Someone who sees function and output must find such an input: make it hard, but possible.",
}

_PROPOSE_INDUCTION_CHAT = """Here is a Python function:

```python
{program}
```

Someone will be shown some of its inputs and outputs and a short message, and must write the function. Write the message
(one line, helpful, without giving the code away) and {inputs} different inputs, each a call of `f` with literals.
Here is how others did it for other functions:

{references}

Put message and calls between <answer> and </answer>, in this form and with nothing else inside:
<answer>
1: f(...)
2: f(...)
# the message
</answer>"""


def propose_chat(kind: TaskType, references: Sequence[Example], wish: Wish = NO_WISH) -> str:
    shown = "\n\n".join(f"{FENCE}python\n{e.program}\n\n{_calls(e.inputs[:1])}\n{FENCE}" for e in references)
    wanted = f" Use {', '.join(wish.constructs)}, in about {wish.lines} lines." if wish.lines else ""
    return _PROPOSE_CHAT.format(references=shown, goal=_GOALS[kind], wish=wanted)


def propose_induction_chat(references: Sequence[Example], program: str, inputs: int) -> str:
    shown = "\n".join(_induction_block(example, inputs) for example in references)
    return _PROPOSE_INDUCTION_CHAT.format(program=program, inputs=inputs, references=shown)


# --- solving -----------------------------------------------------------------------------------------------------

_DEDUCE_HEADER = """What each Python call returns.

def f(nums, k):
    return [n * k for n in nums]
f([1, 2, 5], 3) == [3, 6, 15]

def f(s):
    return s[1:].upper()
f('hello') == 'ELLO'

"""

_ABDUCE_HEADER = """For each Python function, a call that returns the given value.

def f(nums, k):
    return [n * k for n in nums]
# returns [3, 6, 15]
f([1, 2, 5], 3)

def f(s):
    return s[1:].upper()
# returns 'ELLO'
f('hello')

"""

_INDUCE_HEADER = """Python functions that fit the examples.

# Multiplies every number.
# f([1, 2, 5], 3) == [3, 6, 15]
# f([4], 2) == [8]
```python
def f(nums, k):
    return [n * k for n in nums]
```

"""


def _examples(task: Task) -> str:
    lines = [f"# {task.message}\n"] if task.message else []
    return "".join(lines + [f"# f({pair.input}) == {pair.output}\n" for pair in task.shown])


def solve_completion(task: Task) -> str:
    """Prompt whose continuation is the answer: the output, the argument list and `)`, or the program after `def f(`."""
    if task.type == "induction":
        return f"{_INDUCE_HEADER}{_examples(task)}{FENCE}python\ndef f("
    pair = task.pairs[0]
    if task.type == "deduction":
        return f"{_DEDUCE_HEADER}{task.program}\nf({pair.input}) =="
    return f"{_ABDUCE_HEADER}{task.program}\n# returns {pair.output}\nf("


def solve_chat(task: Task) -> str:
    if task.type == "induction":
        return (
            f"Write a Python function `f` that fits these examples:\n\n{_examples(task)}\n"
            "Put the program between <answer> and </answer>, as Python source with nothing else inside."
        )
    pair = task.pairs[0]
    program = f"{FENCE}python\n{task.program}\n{FENCE}"
    if task.type == "deduction":
        return (
            f"{program}\n\nWhat does `f({pair.input})` return? "
            "Put the value between <answer> and </answer>, as one Python literal with nothing else inside."
        )
    return (
        f"{program}\n\nFind arguments for which `f` returns `{pair.output}`. Put one call between <answer> and "
        "</answer>, as `f(...)` with Python literals and nothing else inside."
    )


# --- strict parsing ----------------------------------------------------------------------------------------------


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
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
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
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ParsedAnswer(None, "not a literal")
    return ParsedAnswer(text)


def parse_arguments_answer(text: str) -> ParsedAnswer:
    """`…)`: an argument list and the bracket that closes it, nothing after (abduction)."""
    stripped = text.strip()
    if not stripped.endswith(")"):
        return ParsedAnswer(None, "the call is not closed")
    tree = parse(f"f({stripped}") if len(stripped) <= LONGEST_TEXT and "\n" not in stripped else None
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return ParsedAnswer(None, "not a call of f")
    if _literal_arguments(tree.body[0].value) is None:
        return ParsedAnswer(None, "not literals")
    return ParsedAnswer(stripped[:-1].strip())


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
