"""What each number means, read from the table in docs/metrics.md: the page's hovers come from there.

A row of the table is `| metric | what it is | unit | good or bad |`. A name may end in `/*`, which stands for any last
part. The browser tests check that every number the page shows has a row.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

METRICS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
_ROW = re.compile(r"^\|\s*(`[^|]+`)\s*\|([^|]*)\|([^|]*)\|([^|]*)\|\s*$")


@cache
def explanations() -> dict[str, dict[str, str]]:
    """{metric: {"what", "unit", "good"}}; empty where AZR was installed without its documentation."""
    if not METRICS.is_file():
        return {}
    found = {}
    for line in METRICS.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row:
            what, unit, good = (cell.strip() for cell in row.groups()[1:])
            for name in re.findall(r"`([^`]+)`", row[1]):
                found[name] = {"what": what, "unit": unit, "good": good}
    return found
