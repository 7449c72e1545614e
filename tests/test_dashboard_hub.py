"""Which training the dashboard follows: here, on another host, killed, refusing; and what it then says."""

from __future__ import annotations

import asyncio
import platform
import socket
import time
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import made_up_store
import pytest
from starlette.testclient import TestClient

from azr.config import Config, DashboardConfig
from azr.dashboard import beside, events, hub, server
from azr.dashboard.beside import showing, shown_already
from azr.dashboard.hub import Hub
from azr.dashboard.server import make_app
from azr.dashboard.stream import Live
from azr.errors import UserError
from azr.store import Store

TOKEN = "a-long-token-for-tests"


def test_states_of_a_run(tmp_path: Path) -> None:
    async def state(followed: Hub) -> dict[str, Any]:
        found = await followed.status()
        await followed.client.aclose()
        return found

    def now() -> dict[str, Any]:
        return asyncio.run(state(Hub(DashboardConfig(), tmp_path, "127.0.0.1")))

    waiting = now()
    assert waiting["state"] == "waiting"
    assert "127.0.0.1:8081" in waiting["message"]
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        assert now()["state"] == "waiting"
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        assert now()["state"] == "crashed"  # "running" in the store, and nobody holds the workspace
        for status in ("finished", "interrupted", "failed"):
            run.finish(status)
            assert now()["state"] == status
        made_up_store.start(store).finish("finished")
        store.resume_run(run.id, 1, name=run.name, config=run.config, versions={}, describe={})
        assert (now()["state"], now()["run"]) == ("crashed", run.id)  # the run that was resumed, not the highest number
    damaged_store = tmp_path / "other" / "data" / "azr.sqlite"
    damaged_store.parent.mkdir(parents=True)
    damaged_store.write_bytes(b"no database at all, but a file of some length")
    damaged = asyncio.run(state(Hub(DashboardConfig(), tmp_path / "other", "127.0.0.1")))
    assert damaged["state"] == "waiting"
    assert "not an AZR database" in damaged["message"]


def test_a_status_is_of_one_moment(tmp_path: Path) -> None:
    """A training that answers while the store is being read must not be "waiting" and at work in one status."""
    followed = Hub(DashboardConfig(), tmp_path, "127.0.0.1")

    class AnswersMeanwhile:
        database = tmp_path / "none"

        def reading(self) -> None:
            followed.now, followed.connected = {"phase": "propose"}, True
            raise UserError("nothing here yet")

    followed.library = AnswersMeanwhile()  # type: ignore[assignment]

    async def twice() -> list[dict[str, Any]]:
        found = [await followed.status(), await followed.status()]
        await followed.client.aclose()
        return found

    told = [(status["state"], status["now"]) for status in asyncio.run(twice())]
    assert told == [("waiting", None), ("training", {"phase": "propose"})]


def test_a_training_and_its_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = {"port": free_port(), "training_port": free_port()}
    config = Config.model_validate({"dashboard": ports})
    address = f"http://127.0.0.1:{ports['port']}/api/status"
    with showing(config, tmp_path, dashboard=True, browser=False) as [live]:
        live.phase(1, "propose")
        for _ in range(200):
            with suppress(httpx.HTTPError):
                status = httpx.get(address).json()
                if status["now"]:
                    break
            time.sleep(0.05)
        assert (status["state"], status["now"]["phase"]) == ("training", "propose")
        # A second one in this workspace finds the first; one of another workspace finds the port taken.
        assert shown_already(config.dashboard, tmp_path)
        assert not shown_already(config.dashboard, tmp_path / "other")
        with (
            pytest.raises(UserError, match="--training-port"),
            showing(config, tmp_path / "other", dashboard=True, browser=False),
        ):
            pass
        with showing(config, tmp_path / "other", dashboard=False, browser=False) as views:
            assert views == ()
        assert "no live stream" in capsys.readouterr().err
    for _ in range(100):
        try:
            httpx.get(address)
        except httpx.HTTPError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the dashboard outlived a training that ended by itself")


def test_a_training_in_another_workspace(tmp_path: Path) -> None:
    settings = DashboardConfig(training_port=free_port())
    there = tmp_path / "there" / "data" / "azr.sqlite"
    followed = Hub(settings, tmp_path / "here", "127.0.0.1")
    with Store(there) as store, TestClient(make_app(followed)) as client:
        assert client.get("/api/status").json()["state"] == "waiting"
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        with Live(settings, database=there, steps=9):
            until(lambda: client.get("/api/status").json()["state"] == "training")
            assert not client.get("/api/status").json()["remote"]
            assert [row["name"] for row in client.get("/api/runs").json()] == [run.name]
        run.finish("finished")
        until(lambda: client.get("/api/status").json()["state"] == "finished")
        assert client.get("/api/runs/1/series?names=solve/rate").json()["steps"] == [1]  # its history stays


def test_a_training_on_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "platform", types.SimpleNamespace(node=lambda: "another host"))  # than the training's
    settings = DashboardConfig(training_port=free_port(), token=TOKEN)
    there = tmp_path / "there" / "data" / "azr.sqlite"
    followed = Hub(settings, tmp_path / "here", "127.0.0.1")
    with Store(there) as store, TestClient(make_app(followed)) as client:
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        with Live(settings, database=there, steps=9) as live:
            until(lambda: client.get("/api/status").json()["remote"])
            assert client.get("/api/status").json()["state"] == "training"
            assert [row["name"] for row in client.get("/api/runs").json()] == [run.name]
            assert client.get("/api/runs/1/series?names=solve/rate").json()["steps"] == [1]
            assert client.get("/api/runs/1/tasks?limit=1").json()["rows"]
            told = followed.events.newest
            made_up_store.record(run, 2, tasks=1, attempts=1)
            live.step(2, {}, {}, made_up_store.task_of("deduction", 1))
            until(lambda: any(event.kind == "changed" for event in followed.events.after(told)))
            assert client.get("/api/runs/1/series?names=solve/rate&after=1").json()["steps"] == [2]
        until(lambda: client.get("/api/status").json()["state"] == "lost")
        assert client.get("/api/runs").status_code == 503
        with Live(settings, database=there, steps=9):
            until(lambda: client.get("/api/status").json()["state"] == "training")
    assert not (tmp_path / "here").exists()


def test_a_training_that_refuses_says_why(tmp_path: Path) -> None:
    port = free_port()
    followed = Hub(DashboardConfig(training_port=port, token="another-token-of-16"), tmp_path / "here", "127.0.0.1")
    settings = DashboardConfig(training_port=port, token=TOKEN)
    live = Live(settings, database=tmp_path / "there" / "data" / "azr.sqlite", steps=9)
    with TestClient(make_app(followed)) as client:
        with live:
            until(lambda: client.get("/api/status").json()["refusal"])
            status = client.get("/api/status").json()
            assert "dashboard.token" in status["refusal"] and "401" in status["refusal"]
            assert status["state"] == "waiting"
        until(lambda: not client.get("/api/status").json()["refusal"])


@pytest.mark.parametrize("host", ["box:9000", "http://box", "box/", "gpu box", "user@box", "256.1.1.1", ""])
def test_a_training_host_that_is_none_is_refused_before_a_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(server, "bind", lambda *_: pytest.fail("the port was taken"))
    with pytest.raises(UserError, match="--training-host") as caught:
        server.main(DashboardConfig(), tmp_path, training_host=host, browser=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["box", "GPU-box_2.lan", "10.0.0.7", "::1", "fe80::1%eth0"])
def test_a_training_host_is_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    followed = Hub(DashboardConfig(), tmp_path, host)
    assert followed.client.base_url.host == host.lower()


def test_a_terminal_keeps_the_dashboard_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is how it is meant to end: no interrupted command."""
    process = types.SimpleNamespace(start=lambda: None, terminate=lambda: ended.append(True), join=interrupt)
    ended: list[bool] = []
    monkeypatch.setattr(
        beside.multiprocessing, "get_context", lambda _: types.SimpleNamespace(Process=lambda **_: process)
    )
    monkeypatch.setattr(beside, "sys", types.SimpleNamespace(stdin=types.SimpleNamespace(isatty=lambda: True)))
    config = Config.model_validate({"dashboard": {"port": free_port(), "training_port": free_port()}})
    with showing(config, tmp_path, dashboard=True, browser=False):
        pass
    assert "until Ctrl-C" in capsys.readouterr().out
    assert ended == [True]


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_end_of_a_training_is_told_within_five_seconds() -> None:
    """However it ends: a closed connection is noticed at once, a silent one after SILENCE_SECONDS."""
    assert hub.SILENCE_SECONDS + hub.WATCH_SECONDS + events.POLL_SECONDS < 5
    assert events.BEAT_SECONDS + events.POLL_SECONDS < hub.SILENCE_SECONDS / 1.5


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "who",
    [
        {"database": "/" + "a" * 400},
        {"database": "a\0b"},
        {"database": "/root/of/another/user"},
        {"database": 7},
        [],
        1,
    ],
)
def test_whatever_answers_on_the_port_the_dashboard_goes_on(tmp_path: Path, who: Any) -> None:
    """Another user's training, or another program."""
    if isinstance(who, dict):
        who |= {"host": platform.node(), "now": None}

    async def follow() -> bool:
        followed = Hub(DashboardConfig(), tmp_path, "127.0.0.1")
        await followed.client.aclose()
        answer = httpx.MockTransport(lambda request: httpx.Response(200, json=who))
        followed.client = httpx.AsyncClient(base_url="http://127.0.0.1:1", transport=answer)
        running = asyncio.create_task(followed.run())
        await asyncio.sleep(0.3)
        alive = not running.done()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await followed.client.aclose()
        return alive

    assert asyncio.run(follow())
