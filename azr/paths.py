"""Paths as a user gives them."""

from __future__ import annotations

from pathlib import Path

from azr.errors import UserError


def user_path(path: Path) -> Path:
    """The path with `~` resolved. Raises UserError for one that the system cannot even look for."""
    try:
        found = path.expanduser()
        found.exists()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user: write the folder out") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)[:100]}: {getattr(error, 'strerror', None) or error}: give another path") from None
    return found
