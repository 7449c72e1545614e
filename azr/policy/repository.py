"""A model's files in the Hugging Face hub's local cache."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from azr.errors import UserError
from azr.policy.geometry import EMBEDDED
from azr.policy.hub import hub_reachable

# No pickles: a stranger's could run anything.
MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def hub_folder(name: str) -> Path:
    """The folder in the local cache with a model's files, downloaded where it lacks some.

    Raises UserError if they cannot be had. Other parts of AZR may have put single files there (geometry.py).
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError, FileNotFoundError):
        folder = Path(snapshot_download(name, allow_patterns=MODEL_FILES, local_files_only=True))
        if has_weights(folder):
            return folder
    if not hub_reachable():
        raise UserError(
            f"model.name: {name!r} is not in the local cache and the Hugging Face hub cannot be reached; "
            f"take the embedded model: --set model.name={EMBEDDED}"
        )
    try:
        folder = Path(snapshot_download(name, allow_patterns=MODEL_FILES))
    except Exception as error:  # its client lets through what a proxy or a broken connection raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"model.name: cannot load the model {name!r} ({reason}); check the name, or take {EMBEDDED}"
        ) from error
    if not has_weights(folder):
        raise UserError(f"model.name: {name!r} holds no weights as safetensors; take another, or {EMBEDDED}")
    return folder


def has_weights(folder: Path) -> bool:
    """Whether a folder has its configuration and all its weights, in one file or in shards that an index names."""
    found = {path.name for path in folder.glob("*.safetensors") if path.exists()}
    wanted: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        try:
            wanted |= set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return False
    return (folder / "config.json").is_file() and bool(found) and wanted <= found
