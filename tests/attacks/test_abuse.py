"""Every attack of abuse_cases.py, as root and as an ordinary user: no breach, and the next program runs as ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from abuse_cases import CASES

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the Linux defences")


@pytest.fixture(scope="module", params=["root", "ordinary"])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How all the attacks ended, run by this user."""
    user = request.param
    if user == "root" and os.geteuid() != 0:
        pytest.skip("not root")
    folder = tmp_path_factory.mktemp("host")
    folder.chmod(0o777)
    become = user == "ordinary" and os.geteuid() == 0
    for parent in list(folder.parents)[:3] if become else ():
        parent.chmod(parent.stat().st_mode | 0o011)
    script = str(ROOT / "tests" / "attacks" / "host.py")
    done = subprocess.run(
        [sys.executable, script, "ordinary" if become else "as it is", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["summary"]["user"] == 0) == (user == "root")
    return found


@pytest.mark.parametrize("name", CASES)
def test_no_breach(outcome: dict[str, Any], name: str) -> None:
    found = outcome["cases"][name]
    assert "BREACH" not in str(found["outputs"])
    assert found["status"] in CASES[name].ends, found
    assert found["next_unaffected"], found


def test_the_host_is_untouched(outcome: dict[str, Any]) -> None:
    summary = outcome["summary"]
    assert summary["files"] == ["AZR_CANARY"]
    assert summary["content"] == "untouched"
    assert not summary["connected"]
    assert summary["bystander_alive"]
    assert summary["descriptors_leaked"] == 0


def test_the_defences_are_up(outcome: dict[str, Any]) -> None:
    defences = outcome["summary"]["defences"]
    assert any(name.startswith("seccomp") for name in defences)
    assert {"rlimits", "no-new-privileges", "no capabilities"} <= set(defences)
    assert ("unprivileged user" in defences) == (outcome["summary"]["user"] == 0)
