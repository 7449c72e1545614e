"""The allocator's settings: added once, never over somebody's own, and in force in the command that runs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from azr.allocator import SETTINGS, VARIABLE, tuned


def test_settings_are_added_once_and_others_stay() -> None:
    ours = tuned("")
    assert set(ours.split(":")) == {f"{name}={value}" for name, value in SETTINGS.items()}
    assert tuned(ours) == ours
    mixed = tuned("glibc.malloc.hugetlb=0:glibc.cpu.x86_ibt=on")
    assert mixed.startswith("glibc.malloc.hugetlb=0:glibc.cpu.x86_ibt=on:")
    assert mixed.count("hugetlb") == 1 and tuned(mixed) == mixed


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_the_command_starts_over_with_the_settings_and_keeps_its_arguments() -> None:
    show = "import os, sys; from azr import allocator; allocator.tune(); print(os.environ['GLIBC_TUNABLES'], sys.argv)"
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", show, "a b"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{tuned('')} ['-c', 'a b']"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_tensors_leave_room_for_the_next_of_their_size() -> None:
    """A few kept among many freed ones, as in a forward pass that keeps each block's input. Without the settings the
    process held 656 MiB, for 16 MiB of tensors."""
    show = """if True:
        from azr import allocator
        allocator.tune()
        import psutil, torch
        torch.set_num_threads(1)
        resident = lambda: psutil.Process().memory_info().rss / 2**20
        before, kept = resident(), []
        for step in range(40):
            kept.append(torch.zeros(100_000 + step))
            for _ in range(6):
                sums = torch.zeros(1_000_000) + 1
                kept.append([torch.zeros(3) for _ in range(5)])
                sums = sums + 1
        print(resident() - before)
    """

    def growth(settings: str) -> float:
        environment = os.environ | {VARIABLE: settings}
        return float(
            subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, check=True).stdout
        )

    ours = growth("")
    assert ours < 100
    if platform.libc_ver()[0] == "glibc":
        assert growth("glibc.malloc.tcache_count=7:glibc.malloc.mxfast=128") > 2 * ours
