from __future__ import annotations

import os
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from azr import cli
from azr.config import Config, load_config
from azr.config_text import to_yaml
from azr.errors import UserError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AZR_WORKSPACE", raising=False)


def azr(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of azr.train.main, which only notes them."""
    calls: list[dict[str, Any]] = []

    @contextmanager
    def showing(config: Config, root: Path, **choices: bool) -> Iterator[tuple[()]]:
        yield ()

    def main(config: Config, *, resume: Path | None, workspace: Path, views: tuple[()], usual: Config) -> int:
        calls.append({"config": config, "resume": resume, "workspace": workspace, "usual": usual})
        return 0

    module = types.ModuleType("azr.train")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "azr.train", module)
    monkeypatch.setattr("azr.train", module, raising=False)
    monkeypatch.setattr("azr.dashboard.beside.showing", showing)
    return calls


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from azr import cli\n"
        "try:\n    cli.main(sys.argv[1:])\n"
        "except SystemExit as done:\n    assert not done.code, done.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'yaml', 'azr.config', 'azr.train'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for command in (["--help"], ["train", "--help"], ["config", "show", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "azr", "grade", "none.jsonl"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("azr: cannot read none.jsonl") and done.stderr.count("\n") == 1


def test_train_gets_the_configuration_and_the_workspace(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    Path("my.yaml").write_text("train: {steps: 4, seed: 2}")
    options = ["--config", "my.yaml", "--set", "train.steps=6", "--dashboard-port", "9000", "--training-port", "9001"]
    assert azr("train", *options, "--benchmark", "humaneval,mbpp+", "--max-tasks", "5") == 0
    [call] = trained
    expected = ["train.steps=6", "train.seed=2", "dashboard.port=9000", "dashboard.training_port=9001"]
    expected += ["evaluation.benchmarks=[humaneval, mbpp+]", "evaluation.max_tasks=5"]
    assert call == {"config": load_config(None, expected), "resume": None, "workspace": tmp_path, "usual": Config()}


def test_the_workspaces_own_configuration_is_the_default(
    trained: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "project"
    (workspace / "config").mkdir(parents=True)
    (workspace / "config" / "azr_config.yaml").write_text("train: {steps: 77}")
    monkeypatch.setenv("AZR_WORKSPACE", str(workspace))
    assert azr("train", "--set", "train.seed=3") == 0
    assert trained[0]["config"] == load_config(None, ["train.steps=77", "train.seed=3"])
    assert trained[0]["usual"] == load_config(None, ["train.steps=77"])
    assert trained[0]["workspace"] == workspace


def test_resume_is_looked_for_here_and_then_in_the_workspace(
    trained: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, here = tmp_path / "project", tmp_path / "here"
    there = workspace / "models" / "checkpoint-0010"
    there.mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("AZR_WORKSPACE", str(workspace))
    assert azr("train", "--resume", "models/checkpoint-0010") == 0
    mine = here / "models" / "checkpoint-0010"
    mine.mkdir(parents=True)
    assert azr("train", "--resume", "models/checkpoint-0010") == 0
    assert [call["resume"] for call in trained] == [there, mine]
    assert azr("train", "--resume", "models/checkpoint-0011") == 2
    error = capsys.readouterr().err
    assert error == f"azr: --resume models/checkpoint-0011: no such checkpoint; the newest is {there}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "none.yaml"], "cannot read the configuration none.yaml"),
        (["train", "--set", "train.stps=1"], "did you mean train.steps?"),
        (["train", "--steps", "3"], "No such option: --steps"),
        (["train", "extra"], "extra"),
        (["train", "--config"], "--config"),
        (["trian"], "No such command 'trian'"),
        (["dashboard", "--dashboard-port", "99999"], "--dashboard-port"),
        (["dashboard", "--no-browser", "--training-host", "box:9000"], "--training-host"),
        (["eval", "--max-tasks", "many"], "--max-tasks"),
        (["eval", "--resume", "models/checkpoint-0001"], "no such checkpoint"),
        (["eval", "--benchmark", "humanevil"], "choose among humaneval, mbpp, apps"),
        (["eval", "--benchmark", "mbpp", "--benchmark-path", "none.jsonl"], "no file or folder none.jsonl"),
        (["eval", "--benchmark", "mbpp"], "--benchmark-path FILE|FOLDER"),
        (["eval", "--k", "0"], "--k 0"),
        (["eval", "--k", "10"], "add --samples 10"),
        (["eval", "--samples", "5"], "add --temperature"),
        (["eval", "compare", "a", "b"], "no database"),
        (["validate", "none.jsonl"], "cannot read none.jsonl"),
        (["grade", "none.jsonl"], "cannot read none.jsonl"),
        (["export", "peft"], "there is no checkpoint"),
        (["export", "ggml"], "ggml"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], message: str, trained: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert azr(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("azr: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not trained


def test_a_busy_port_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        assert azr("dashboard", "--no-browser", "--dashboard-port", port) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert port in captured.err and "--dashboard-port" in captured.err


def test_errors_of_the_training_reach_the_user(
    trained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(error: BaseException) -> Any:
        def main(*_: object, **__: object) -> int:
            raise error

        return main

    monkeypatch.setattr("azr.train.main", failing(UserError("one\nlong   story")))
    assert azr("train") == 2
    assert capsys.readouterr().err == "azr: one long story\n"
    monkeypatch.setattr("azr.train.main", failing(KeyboardInterrupt()))
    assert azr("train") == 130
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("azr.train.main", failing(RuntimeError("a bug of ours")))
    with pytest.raises(RuntimeError):
        cli.main(["train"])


def test_config_show_prints_what_loads_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert azr("config", "show", "--set", "train.steps=3", "--set", "tasks.types=[abduction]") == 0
    text = capsys.readouterr().out
    assert "# self-play steps of the whole run\n  steps: 3\n" in text
    Path("shown.yaml").write_text(text)
    assert load_config(Path("shown.yaml")) == load_config(None, ["train.steps=3", "tasks.types=[abduction]"])


def test_a_character_that_the_terminal_lacks_is_replaced() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "azr", "config", "show", "--set", "model.name=é"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and r"name: \xe9" in done.stdout


@pytest.mark.parametrize("text", ["\u0085x", "a\u2028b", "ü", "\x1b[2J", "1e5", "a\nb", "~", "yes"])
def test_any_text_is_shown_so_that_it_loads_again(text: str, tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    config = Config.model_validate({"tracking": {"project": text}})
    shown.write_text(to_yaml(config), encoding="utf-8")
    assert len(to_yaml(config).splitlines()) == len(to_yaml(Config()).splitlines())
    assert load_config(shown) == config


def test_the_newest_checkpoint_is_that_of_the_highest_step(capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("9990", "10000"):
        (Path("models") / f"checkpoint-{step}").mkdir(parents=True)
    assert azr("eval", "--resume", "models/none") == 2
    assert "the newest is" in (message := capsys.readouterr().err) and "checkpoint-10000" in message


def test_output_that_nobody_reads_is_no_traceback() -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m azr config show | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
