"""The configuration as text for people: commented YAML, and the table of keys in docs/configuration.md.

`python -m azr.config_text` writes config/azr_config.yaml and the table anew; a test fails where they are stale.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from azr.config import Config, Dumper, Section

ROOT = Path(__file__).resolve().parent.parent
YAML_FILE = ROOT / "config" / "azr_config.yaml"
DOCS_FILE = ROOT / "docs" / "configuration.md"
BEGIN, END = "<!-- keys: begin (written by python -m azr.config_text) -->", "<!-- keys: end -->"
HEADER = """\
# AZR's configuration. Every key is here with its default; a key left out takes its default.
# Overridden by `--set section.key=value`. More in docs/configuration.md.
"""


def to_yaml(config: Config) -> str:
    """Every key with its value, and above it its description as a comment. Loading it gives an equal Config."""
    lines: list[str] = []
    for name in Config.model_fields:
        section: Section = getattr(config, name)
        lines += ["", f"{name}:"]
        for key, field in type(section).model_fields.items():
            lines.append(f"  # {explanation(field)}")
            lines += _entry(key, getattr(section, key))
    return HEADER + "\n".join(lines) + "\n"


def to_markdown() -> str:
    """A table per section: key, default, meaning."""
    lines: list[str] = []
    for name, section_field in Config.model_fields.items():
        lines += ["", f"## `{name}`", "", "| key | default | meaning |", "|---|---|---|"]
        for key, field in type(section_field.default).model_fields.items():
            lines.append(f"| `{key}` | {_cell(field.default)} | {explanation(field).replace('|', chr(92) + '|')} |")
    return "\n".join([*lines, ""])


def explanation(field: FieldInfo) -> str:
    """The field's description, with the values it can take where they are few."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return f"{field.description} ({' | '.join(choices)})" if choices else str(field.description)


def with_table(document: str) -> str:
    """`document` with the text between the two marks replaced by the current table."""
    before, after = document.split(BEGIN)[0], document.split(END)[1]
    return f"{before}{BEGIN}\n{to_markdown()}\n{END}{after}"


def as_options(config: Config, keys: Iterable[str]) -> str:
    """`--set section.key=value` for each of the keys, as a shell takes it."""
    values = ((key, getattr(getattr(config, key.split(".")[0]), key.split(".")[1])) for key in keys)
    return " ".join(f"--set {shlex.quote(f'{key}={_scalar(value)}')}" for key, value in values)


def _plain(value: Any) -> Any:
    """A tuple as a list, sections in it as mappings."""
    if not isinstance(value, tuple):
        return value
    return [item.model_dump() if isinstance(item, Section) else item for item in value]


def _cell(default: Any) -> str:
    if isinstance(default, tuple) and default and isinstance(default[0], Section):
        return f"{len(default)} entries"
    return f"`{_scalar(default)}`"


def _entry(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, tuple) and value and isinstance(value[0], Section):
        yield f"  {key}:"
        yield from (f"    - {_scalar(item.model_dump())}" for item in value)
    else:
        yield f"  {key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """On one line, in YAML's flow style; text with escapes where it cannot be printed."""
    plain = _plain(value)
    text = _dump(plain)
    if text.isprintable():
        return text
    return _dump(plain, allow_unicode=False, style='"' if isinstance(plain, str) else None)


def _dump(plain: Any, allow_unicode: bool = True, style: str | None = None) -> str:
    text = yaml.dump(
        plain, Dumper=Dumper, default_flow_style=True, default_style=style, allow_unicode=allow_unicode,
        sort_keys=False, width=float("inf"),
    )  # fmt: skip
    return str(text).removesuffix("...\n").strip()


def main() -> None:
    YAML_FILE.write_text(to_yaml(Config()), encoding="utf-8")
    DOCS_FILE.write_text(with_table(DOCS_FILE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
