"""The fixtures `project` and `ready`: a copy of what run.sh reads, with stand-ins for the interpreters."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = (
    "sh",
    "dirname",
    "readlink",
    "cat",
    "cksum",
    "sed",
    "grep",
    "tail",
    "uname",
    "mkdir",
    "rm",
    "ln",
    "sleep",
    "cp",
    "chmod",
)

# Stands in for python and, copied to .venv/bin/python, for the environment's. Every `-m` call is noted in calls.txt.
# FAIL is a pattern of calls that fail, HANG of calls that wait (to be killed meanwhile).
FAKE_PYTHON = """\
#!/bin/sh
case $1 in
    -c)
        case "$2" in
            *version_info*) exit {version_status} ;;
            *ensurepip*) exit {venv_status} ;;
        esac ;;
    -) cat >/dev/null; echo probe >>"$CALLS"; exit ${{INDEX_STATUS:-1}} ;;
    -m)
        shift
        case "$*" in
            ${{FAIL:-nothing}}*) echo "ERROR: no luck with $1" >&2; exit 1 ;;
        esac
        case "$*" in
            "pip --version") exit 0 ;;
        esac
        echo "$*" >>"$CALLS"
        case "$*" in
            ${{HANG:-nothing}}*) sleep 30 ;;
        esac
        case "$1" in
            venv) rm -rf "$3"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
            pip) case "$*" in *" -e "*) printf '{azr}' >"${{0%python}}azr"; chmod +x "${{0%python}}azr" ;; esac ;;
        esac ;;
esac
"""
FAKE_AZR = r'#!/bin/sh\necho "workspace=$AZR_WORKSPACE"\nfor a in "$@"; do echo "$a"; done\n'


@dataclass
class Project:
    """A copy of what run.sh reads, in a folder with a space in its name, and a PATH without any real Python."""

    root: Path
    bin: Path
    calls_file: Path
    environment: dict[str, str] = field(default_factory=dict)

    def add_python(self, name: str, version_status: int = 0, venv_status: int = 0) -> None:
        text = FAKE_PYTHON.format(version_status=version_status, venv_status=venv_status, azr=FAKE_AZR)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def replace(self, tool: str, output: str) -> None:
        """From now on the tool only prints this."""
        (self.bin / tool).unlink(missing_ok=True)
        (self.bin / tool).write_text(f"#!/bin/sh\necho '{output}'\n")
        (self.bin / tool).chmod(0o755)

    def command(self, *arguments: str, script: Path | None = None) -> list[str]:
        return [str(script or self.root / "run.sh"), *arguments]

    def run(
        self, *arguments: str, script: Path | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, script=script),
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def forget_calls(self) -> None:
        self.calls_file.unlink(missing_ok=True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root, tools = tmp_path / "my project", tmp_path / "bin"
    root.mkdir()
    tools.mkdir()
    for name in ("run.sh", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    calls = tmp_path / "calls.txt"
    return Project(root, tools, calls, {"PATH": str(tools), "CALLS": str(calls), "HOME": str(tmp_path)})


@pytest.fixture
def ready(project: Project) -> Project:
    """The same, already installed."""
    project.add_python("python3")
    assert project.run("config", "show").returncode == 0
    project.forget_calls()
    return project


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line on stderr, which has to be ours; progress lines may stand before it."""
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith("azr: ") for line in lines), lines
    return lines[-1]
