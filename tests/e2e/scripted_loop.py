"""A policy that plays by a script, the scripts, and a small run's configuration and rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stored_rows import dump_rows, newest_run

from azr.config import Config, CurriculumConfig
from azr.datatypes import ARGUMENTS
from azr.policy.scripted import ScriptedPolicy
from azr.store import Store

# Every mean but `data`: what most scripts propose is about numbers only.
MEANS = [mean for mean in CurriculumConfig().means if mean != "data"]

RESOLVED: dict[str, str | int | float] = {
    "generation_precision": "float32",
    "update_precision": "float32",
    "threads": 1,
    "micro_batch_tokens": 2048,
}


class Scripted(ScriptedPolicy):
    def describe(self) -> dict[str, str | int | float]:
        return super().describe() | RESOLVED


def clever(prompt: str, number: int) -> str:
    """Proposes `x + n` for ever new n, solves every other task."""
    if prompt.endswith("calls\n1: f"):
        return f"({number})\n2: f(-1)\n# adds something\n```"
    if prompt.startswith("A list of different"):
        return f"(x):\n    return x + {number}\n\nf({number})\n```"
    if prompt.endswith("=="):
        source, _, given = prompt.rpartition("\nf(")
        value = int(given.split(")")[0]) + int(source.split()[-1])
        return f" {value if number % 2 else 'wrong'}\n"
    if prompt.endswith("python\ndef f"):
        return "(x):\n    return x\n```"
    return "(0)\n"


STATEMENTS = (
    "for i in range(3):\n        x += i",
    "x = x * 2 if x % 2 else x - 1",
    "y = [x, x + 1]\n    x = sum(y)",
    "while x > 40:\n        x -= 7",
    "s = str(x)\n    x = len(s) + x",
    "x = max(x, 9 - x)",
    "d = {x: 2}\n    x = x + d[x]",
    "x = sorted((x, 5))[0] + x",
)


def inventive(prompt: str, number: int) -> str:
    """As `clever`, but no two programs are alike: statements chosen by the number's digits. Every third is hollow."""
    if not prompt.startswith("A list of different") and not prompt.endswith("=="):
        return clever(prompt, number)
    if prompt.endswith("=="):  # our own program: it may run here
        source, _, given = prompt[prompt.rindex("\ndef f(") :].rpartition("\nf(")
        names: dict[str, Any] = {}
        exec(source, names)
        return f" {names['f'](int(given.split(')')[0])) if number % 2 else 'wrong'}\n"
    if number % 3 == 0:
        return f"(x):\n    return x if x != {99 + number} else x\n\nf({number})\n```"
    chosen = [STATEMENTS[number // 8**place % 8] for place in (0, 1, 2)]
    return f"(x):\n    {chr(10).join(chosen).replace(chr(10), chr(10) + '    ')}\n    return x\n\nf({number})\n```"


def typed(prompt: str, number: int) -> str:
    """As `inventive`, about the first argument that the prompt names. What is about a dict is never valid."""
    if prompt.endswith("=="):  # our own program: it may run here
        source, _, given = prompt[prompt.rindex("\ndef f(") :].rpartition("\nf(")
        names: dict[str, Any] = {}
        exec(source, names)
        output = eval("f(" + given.removesuffix(" =="), names)
        return f" {output if number % 2 else 'wrong'}\n"
    asked = re.search(r"\ndef f\((\w+)$", prompt)
    if asked is None:
        return inventive(prompt, number)
    name = asked[1]
    value = {"str": f"'{number}b'", "list": f"[{number}, 2]", "number": number, "dict": None}[ARGUMENTS[name]]
    return f"):\n    rows = [{name}] * {2 + number % 5}\n    return rows + [{number}]\n\nf({value})\n```"


def config(**changes: Any) -> Config:
    """The plain loop, small; `changes` are keys by section."""
    values: dict[str, Any] = {
        "model": {"name": "smollm2-135m"},
        "train": {"steps": 4, "save_every": 2},
        "tasks": {
            "prompts": 3,
            "proposals_per_prompt": 2,
            "solved": 4,
            "attempts": 4,
            "induction_inputs": 2,
            "proposal_tokens": 200,
        },
        "curriculum": {"enabled": False},
        "executor": {"lanes": 1},
    }
    for section, keys in changes.items():
        values[section] = values.get(section, {}) | keys
    return Config.model_validate(values)


def rows(place: Path) -> dict[str, Any]:
    with Store(place / "data" / "azr.sqlite") as store:
        return dump_rows(newest_run(store))
