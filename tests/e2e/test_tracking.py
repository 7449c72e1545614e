"""Experiment trackers: what is sent, and that a training neither starts without a wanted one nor ends with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from stored_rows import newest_run

from azr.config import Config
from azr.errors import UserError
from azr.store import Store
from azr.tracking import Tracker, check_tracker, tracker

pytest_plugins = ["play_fixture"]


class Fake(ModuleType):
    """In place of a tracker's package: remembers how it was called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any, Any]] = []
        self.broken = ""  # the call that fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> None:
            self.calls.append((name, arguments, named))
            if name == self.broken:
                raise RuntimeError("no network\nand more")

        return call


@pytest.fixture(params=["wandb", "trackio"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    module = Fake(request.param)
    module.__spec__ = SimpleNamespace(name=request.param)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, request.param, module)
    yield module


def config_of(backend: str) -> Config:
    return Config.model_validate(
        {"tracking": {"backend": backend, "project": "mine"}, "dashboard": {"token": "secret"}}
    )


def test_every_step_of_a_training_is_sent(play: Any, tmp_path: Path, fake: Fake) -> None:
    backend = fake.__name__
    assert play(train={"steps": 3}, tracking={"backend": backend, "project": "mine"})[0] == 0
    [start] = [named for name, _, named in fake.calls if name == "init"]
    with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
        name = newest_run(store).name
    assert (start["project"], start["name"], start["resume"]) == ("mine", name, "allow")
    assert start["config"]["train"]["steps"] == 3
    assert (start.get("id"), "dir" in start) == ((name, True) if backend == "wandb" else (None, False))
    sent = [arguments for call, arguments, _ in fake.calls if call == "log"]
    assert [numbers["train/step"] if backend == "wandb" else step[0] for numbers, *step in sent] == [1, 2, 3]
    assert all({"propose/valid", "solve/rate", "seconds/step"} <= numbers.keys() for numbers, *_ in sent)
    assert fake.calls[-1][0] == "finish"


def test_the_dashboards_token_is_not_sent(tmp_path: Path, fake: Fake) -> None:
    with tracker(config_of(fake.__name__), "run", tmp_path):
        pass
    assert "secret" not in str(fake.calls)


def test_a_tracker_that_fails_does_not_end_the_training(
    play: Any, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.broken = "log"
    assert play(train={"steps": 3}, tracking={"backend": fake.__name__})[0] == 0
    assert [call for call, _, _ in fake.calls if call in ("log", "finish")] == ["log"]
    assert "nothing more is sent" in caplog.text


def test_a_tracker_that_cannot_start_is_one_line(play: Any, tmp_path: Path, fake: Fake) -> None:
    fake.broken = "init"
    with pytest.raises(UserError, match=r"cannot start \(no network\)") as caught:
        play(tracking={"backend": fake.__name__})
    assert "\n" not in str(caught.value)
    with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
        assert [row["status"] for row in store.query("SELECT status FROM runs")] == ["failed"]


def test_a_tracker_that_is_not_installed_is_told_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr.tracking.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[wandb\]'"):
        check_tracker(config_of("wandb").tracking)
    check_tracker(Config().tracking)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["wandb", "trackio"])
def test_the_real_trackers_take_it(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network: both write into a local folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when it is imported
    pytest.importorskip(backend, reason=f"{backend} is not installed: pip install -e '.[{backend}]'")
    for first in (1, 3):  # as a resumed run, which sends a step once more
        with tracker(config_of(backend), "run-1", tmp_path) as views:
            assert isinstance(views[0], Tracker)
            for step in range(first, first + 3):
                views[0].step(step, {"propose/valid": 0.5}, {"seconds/step": 1.0}, None)
            assert not views[0].failed
    assert any(path.is_file() for path in tmp_path.rglob("*"))
