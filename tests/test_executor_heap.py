"""The zygote's heap: one block, whole huge pages, and nothing in it changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
from azr.executor import heap
kept = heap.reserve()
places = sorted({id(block) >> 20 for block in kept})
runs = [[places[0]]]
for place in places[1:]:
    runs[-1].append(place) if place - runs[-1][-1] <= 1 else runs.append([place])
before = [bytes([i % 256]) * 100 for i in range(20_000)]
heap.use_huge_pages()
assert before == [bytes([i % 256]) * 100 for i in range(20_000)]
covered = [span for span in heap._heap() if span[1] - span[0] >= 3 * 2**20]
print(max(map(len, runs)), sum(start <= id(block) < end for block in kept for start, end in covered) / len(kept))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of mappings")
def test_the_heap_is_one_block_and_keeps_what_is_in_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    side_by_side, share = done.stdout.split()
    assert int(side_by_side) >= 6  # MiB, of 8 that were asked for
    assert float(share) > 0.8  # of what was kept lies in mappings that hold whole huge pages
