"""policy.json of a saved policy: what a checkpoint must agree with to be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from azr.errors import UserError

FORMAT = 1
MUST_AGREE = ("format", "backend", "model", "fingerprint", "adapter", "lora_rank", "lora_alpha")


def read_identity(folder: Path) -> dict[str, Any]:
    """policy.json of a saved policy, which holds the resolved precision and the thread count too."""
    try:
        stored = json.loads((folder / "policy.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: policy.json is missing or broken ({error}); take an older checkpoint") from error
    if not isinstance(stored, dict):
        raise UserError(f"{folder}: policy.json is broken; take an older checkpoint")
    if isinstance(stored.get("format"), int) and stored["format"] > FORMAT:
        raise UserError(f"{folder}: saved by a newer version of azr (format {stored['format']}); update azr")
    return stored


def check_identity(folder: Path, stored: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises UserError where a saved policy is not one that this run could have saved."""
    stored = {"backend": "torch"} | stored  # PyTorch's does not say so
    own = {"backend": "torch"} | own
    for key in MUST_AGREE:
        if stored.get(key) != own[key]:
            raise UserError(
                f"{folder}: the checkpoint has {key} {stored.get(key)!r}, this run has {own[key]!r}; "
                "resume with the settings it was made with"
            )
