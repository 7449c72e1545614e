"""Every prompt text. What comes back is read by parsing.py.

Two styles. `completion` continues a document, for small models: the shape of the answer is shown, not described.
`chat` asks, and wants the answer between <answer> tags, for instruction-tuned models. What a completion must contain is
the same in both.

No completion prompt ends with an open bracket. Tokenizers have one token for `('` and for `([`, many for `(text` too:
after a lone `(` a model hardly ever writes these, but numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from azr import datatypes
from azr.records import Task, TaskType

FENCE = "```"
PROPOSAL_STOP = ("\n```",)
ANSWER_STOP = ("\n",)
PROGRAM_STOP = ("\n```",)
CHAT_STOP = ("</answer>",)


@dataclass(frozen=True, slots=True)
class Example:
    """A task as the proposer's prompt shows it. Induction shows several calls and a message."""

    program: str
    inputs: tuple[str, ...]
    message: str = ""


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


def propose_completion(references: Sequence[Example], argument: str = "") -> str:
    """Prompt for a program and one input (deduction, abduction), with a name for its first argument or none.

    The completion goes on after `opening`.
    """
    parts = ["A list of different Python functions, each with an example call.\n"]
    for number, example in enumerate(references, 1):
        block = f"{example.program}\n\n{_calls(example.inputs[:1])}\n"
        parts.append(f"\n# Function {number}\n{FENCE}python\n{block}{FENCE}\n")
    parts.append(f"\n# Function {len(references) + 1}\n{FENCE}python\n{opening(argument)}")
    return "".join(parts)


def opening(argument: str) -> str:
    """The beginning of a program that a completion goes on with."""
    return f"def f({argument}" if argument else "def f"


def propose_induction_completion(references: Sequence[Example], program: str, inputs: int) -> str:
    """Prompt for `inputs` inputs of a given program and a message. The completion goes on after `1: f`."""
    parts = [f"Python functions, each with {inputs} different calls and a short description.\n"]
    parts += [f"\n{_induction_block(example, inputs)}" for example in references]
    parts.append(f"\n{FENCE}python\n{program}\n{FENCE}\n{FENCE}calls\n1: f")
    return "".join(parts)


_PROPOSE_CHAT = """You write small Python tasks for another programmer. Here are tasks that exist already:

{references}

Write one new task that is different from all of these: a deterministic function named `f` (standard library only, no
files, no network, no randomness, no time) and one input for it, as a call of `f` with literals. {goal}{argument}
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


def propose_chat(kind: TaskType, references: Sequence[Example], argument: str = "") -> str:
    shown = "\n\n".join(f"{FENCE}python\n{e.program}\n\n{_calls(e.inputs[:1])}\n{FENCE}" for e in references)
    wanted = f" Its first argument is a {datatypes.ARGUMENTS[argument]}, called `{argument}`." if argument else ""
    return _PROPOSE_CHAT.format(references=shown, goal=_GOALS[kind], argument=wanted)


def propose_induction_chat(references: Sequence[Example], program: str, inputs: int) -> str:
    shown = "\n".join(_induction_block(example, inputs) for example in references)
    return _PROPOSE_INDUCTION_CHAT.format(program=program, inputs=inputs, references=shown)


# --- solving -----------------------------------------------------------------------------------------------------

# One output of each common type. A small model answers like the examples, most of all like the last: after one in
# capitals a third of its texts were in capitals, and without a tuple it hardly ever writes one (docs/experiments.md).
_DEDUCE_HEADER = """What each Python call returns.

def f(n, s):
    return n + 1, s
f(4, 'ab') == (5, 'ab')

def f(nums, k):
    return [n * k for n in nums]
f([1, 2, 5], 3) == [3, 6, 15]

def f(a, b):
    if a > b:
        return b
    return a * 10
f(4, 9) == 40

def f(text, n):
    return text + '-' * n
f('bird', 2) == 'bird--'

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
    """Prompt whose continuation is the answer: the output, the brackets of a call, or the program after `def f`."""
    if task.type == "induction":
        return f"{_INDUCE_HEADER}{_examples(task)}{FENCE}python\ndef f"
    pair = task.pairs[0]
    if task.type == "deduction":
        return f"{_DEDUCE_HEADER}{task.program}\nf({pair.input}) =="
    return f"{_ABDUCE_HEADER}{task.program}\n# returns {pair.output}\nf"


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
