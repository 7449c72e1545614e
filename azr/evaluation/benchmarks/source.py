"""Reading a benchmark's rows: local files in their published formats, PyPI packages that ship data, the hub."""

from __future__ import annotations

import decimal
import gzip
import importlib.util
import json
import logging
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr.errors import UserError
from azr.paths import user_path
from azr.policy.hub import hub_reachable

Row = dict[str, Any]
_LOCAL = "give a local copy with --benchmark-path FILE|FOLDER or evaluation.data_dir"


@dataclass(frozen=True, slots=True)
class Hub:
    """A dataset on the Hugging Face hub; with `file`, that file of it is read instead of its loading script."""

    repository: str
    split: str = "test"
    configuration: str | None = None
    file: str | None = None


def find_file(path: Path, names: tuple[str, ...], benchmark: str) -> Path:
    """`path` itself, or the first of `names` in the folder `path`. Raises UserError."""
    path = user_path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"no file or folder {path}: --benchmark-path takes the file of {benchmark}, or its folder")
    for name in names:
        if (path / name).is_file():
            return path / name
    stem = names[0].split(".")[0].lower()
    similar = sorted(item for item in path.iterdir() if item.name.lower().startswith(stem) and ".json" in item.name)
    if similar:
        return similar[0]
    raise UserError(f"{path} holds no data of {benchmark}: looked for {', '.join(names)}")


def read_rows(path: Path) -> list[Row]:
    """The records of a .jsonl or .json file, gzipped or not. Raises UserError with the line that cannot be read."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        text = data.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if text.lstrip().startswith("[") and ".jsonl" not in path.name:
        rows = [_json(text, str(path))]
        rows = rows[0] if isinstance(rows[0], list) else rows
    else:
        lines = text.split("\n")
        rows = [_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: record {number} is no JSON object")
    return rows


def _json(text: str, where: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}") from None


def load_json(text: str) -> Any:
    """JSON whose integers may be of any length: Python reads 4,300 digits at most. Raises ValueError."""
    return json.loads(
        text, parse_int=lambda digits: int(digits) if len(digits) < 4000 else int(decimal.Decimal(digits))
    )


def read_package(module: str, file: str) -> list[Row] | None:
    """The data that an installed package ships; None if it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(spec.submodule_search_locations[0])
    for folder in (root, root.parent):
        if (folder / file).is_file():
            return read_rows(folder / file)
    return None


def read_hub(hub: Hub, benchmark: str) -> list[Row]:
    """The dataset from the hub, or from its cache. Raises UserError that names the local option."""
    try:
        if hub.file is not None:
            from huggingface_hub import hf_hub_download

            _prepare_clients()
            return read_rows(Path(hf_hub_download(hub.repository, hub.file, repo_type="dataset")))
        from datasets import load_dataset

        _prepare_clients()
        return [dict(row) for row in load_dataset(hub.repository, hub.configuration, split=hub.split)]
    except ImportError as error:
        raise UserError(
            f"{benchmark} comes from the hub, which needs the package {error.name}: install it, or {_LOCAL}"
        ) from None
    except UserError:
        raise
    except Exception as error:  # the hub's clients raise errors of many libraries
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(f"{benchmark} cannot be had from {hub.repository} on the hub ({reason}): {_LOCAL}") from None


def _prepare_clients() -> None:
    """The hub's clients, once imported, would retry for minutes and warn of each time: where the hub does not answer
    they are to look into their cache only.
    """
    offline = not hub_reachable()
    for name, settings in (("huggingface_hub", "huggingface_hub.constants"), ("datasets", "datasets.config")):
        logging.getLogger(name).setLevel(logging.ERROR)
        if settings in sys.modules:
            vars(sys.modules[settings])["HF_HUB_OFFLINE"] = offline
