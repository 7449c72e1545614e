"""Errors that are the user's to mend. The command line prints one line and exits with 2."""

from __future__ import annotations

import errno
import re


class UserError(Exception):
    """What is wrong, where, and how to mend it: one line, shown without a traceback."""


def is_disk_full(error: BaseException | None) -> bool:
    """Also when a native writer reports it in words only (safetensors does)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if re.search(r"No space left|StorageFull|os error 28|code: 28\b", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
