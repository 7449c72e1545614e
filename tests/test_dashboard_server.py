"""The dashboard's server: the JSON interface against the store, and the events."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up_store
import pytest
from starlette.testclient import TestClient

from azr.config import DashboardConfig
from azr.dashboard import api
from azr.dashboard.events import KEPT, EventLog
from azr.dashboard.guard import Guard
from azr.dashboard.highlight import highlight
from azr.dashboard.hub import Hub
from azr.dashboard.library import Library
from azr.dashboard.server import make_app
from azr.dashboard.stream import Live
from azr.evaluation.core import wilson
from azr.records import Task
from azr.store import Run, Store

HOST = {"host": "localhost:8080"}
TOKEN = "a-long-token-for-tests"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Store, Run]]:
    """A workspace with one short run, hostile texts included."""
    root = tmp_path_factory.mktemp("workspace")
    with Store(root / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store, steps=20)
        for step in range(1, 11):
            made_up_store.record(run, step)
        run.record_event(3, "alarm", "diversity is collapsing")
        made_up_store.add_evaluations(store, run)
        run.finish("finished")
        yield root, store, run


@pytest.fixture(scope="module")
def client(filled: tuple[Path, Store, Run]) -> Iterator[TestClient]:
    followed = Hub(DashboardConfig(training_port=_free_port()), filled[0], "127.0.0.1")
    with TestClient(Guard(make_app(followed), host="127.0.0.1", port=8080), headers=HOST) as found:
        yield found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_steps_are_the_stores_rows_exactly(client: TestClient, filled: tuple[Path, Store, Run]) -> None:
    _, store, run = filled
    rows = client.get(f"/api/runs/{run.id}/steps").json()
    stored = store.query("SELECT step, metrics, timings FROM steps WHERE run = ? ORDER BY step", run.id)
    assert [row["step"] for row in rows] == [row["step"] for row in stored]
    for shown, row in zip(rows, stored, strict=True):
        assert (shown["metrics"], shown["timings"]) == (json.loads(row["metrics"]), json.loads(row["timings"]))
    assert [row["step"] for row in client.get(f"/api/runs/{run.id}/steps?after=7").json()] == [8, 9, 10]
    assert [row["step"] for row in client.get(f"/api/runs/{run.id}/steps?limit=2").json()] == [9, 10]


def test_series_agree_with_the_rows_to_six_digits(client: TestClient, filled: tuple[Path, Store, Run]) -> None:
    _, store, run = filled
    names = client.get(f"/api/runs/{run.id}/names").json()
    found = client.get(f"/api/runs/{run.id}/series", params={"names": ",".join(names)}).json()
    assert found["steps"] == list(range(1, 11))
    for row in store.query("SELECT step, metrics, timings FROM steps WHERE run = ?", run.id):
        for name, value in (json.loads(row["metrics"]) | json.loads(row["timings"])).items():
            assert found["columns"][name][row["step"] - 1] == pytest.approx(value, rel=1e-5), name
    [counted] = store.query(
        "SELECT AVG(solve_rate = 1) AS all_, AVG(LENGTH(program)) AS size FROM tasks WHERE run = ? AND step = 4", run.id
    )
    assert found["columns"]["tasks/solved_all"][3] == pytest.approx(counted["all_"])
    assert found["columns"]["tasks/characters"][3] == pytest.approx(counted["size"], rel=1e-5)
    for kind, condition in [("", "1"), ("/deduction", "type = 'deduction'"), ("/induction", "type = 'induction'")]:
        [measured] = store.query(
            f"""SELECT AVG(difficulty ->> 'nodes') AS nodes FROM tasks
            WHERE run = ? AND step = 5 AND difficulty != '{{}}' AND {condition}""",
            run.id,
        )
        assert found["columns"][f"difficulty/nodes{kind}"][4] == pytest.approx(measured["nodes"], rel=1e-5)
    bins = [found["columns"].get(name, [0] * 10)[3] for name in found["columns"] if name.startswith("tasks/solved_")]
    assert sum(bins) == pytest.approx(1)


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ({}, "1"),
        ({"type": "induction"}, "type = 'induction'"),
        ({"outcome": "some_solved"}, "solve_rate > 0 AND solve_rate < 1"),
        ({"outcome": "all_solved", "type": "deduction"}, "solve_rate = 1 AND type = 'deduction'"),
        ({"step": "4"}, "step = 4"),
        ({"q": "sorted(set"}, "program LIKE '%sorted(set%'"),
        ({"q": "%"}, "instr(program || pairs || message, '%')"),
        ({"q": "100_"}, "instr(program || pairs || message, '100_')"),
    ],
)
def test_task_pages_hold_every_match_once(
    client: TestClient, filled: tuple[Path, Store, Run], query: dict[str, str], condition: str
) -> None:
    _, store, run = filled
    seen: list[tuple[int, str]] = []
    before: str | None = ""
    while before is not None:
        page = client.get(f"/api/runs/{run.id}/tasks", params={**query, "before": before}).json()
        seen += [(row["step"], row["task_id"]) for row in page["rows"]]
        before = page["next"]
    wanted = store.query(
        f"SELECT step, task_id FROM tasks WHERE run = ? AND {condition} ORDER BY step DESC, idx DESC", run.id
    )
    assert seen == [(row["step"], row["task_id"]) for row in wanted]


def test_hostile_texts_arrive_whole(client: TestClient, filled: tuple[Path, Store, Run]) -> None:
    _, store, run = filled
    for step in range(1, 11):
        hostile = made_up_store.HOSTILE[step % len(made_up_store.HOSTILE)]
        rows = client.get(f"/api/runs/{run.id}/tasks", params={"step": step}).json()["rows"]
        bad = next(row for row in rows if row["program"].startswith("def f(x)"))
        task = client.get(f"/api/runs/{run.id}/tasks/{bad['task_id']}", params={"step": step}).json()
        assert task["pairs"] == [{"input": hostile, "output": hostile}]
        assert "".join(piece for _, piece in task["highlighted"]) == task["program"]
        assert {attempt["text"] for attempt in task["attempts"]} == {hostile}
        assert sum(attempt["correct"] for attempt in task["attempts"]) == 1
        index = store.query("SELECT MAX(idx) AS idx FROM proposals WHERE run = ? AND step = ?", run.id, step)[0]["idx"]
        proposal = client.get(f"/api/runs/{run.id}/proposals/{step}/{index}").json()
        assert (proposal["text"], proposal["status"]) == (hostile, "invalid")
    listed = client.get(f"/api/runs/{run.id}/tasks").text
    assert len(listed) < 200_000  # a megabyte line is cut in lists
    assert "gold" not in listed


def test_unknown_rows_and_bad_numbers(client: TestClient, filled: tuple[Path, Store, Run]) -> None:
    run = filled[2].id
    for path in ("/api/runs/99", f"/api/runs/{run}/tasks/none", f"/api/runs/{run}/proposals/1/999", "/api/nonsense"):
        assert client.get(path).status_code == 404, path
    for path in (
        "/api/runs/x",
        f"/api/runs/{run}/tasks?step=one",
        f"/api/runs/{run}/series?after=x",
        f"/api/runs/{10**20}",  # more than the store's 64 bits
        f"/api/runs/{10**20}/names",
        f"/api/runs/{run}/tasks?step={10**20}",
        f"/api/runs/{run}/proposals/1/{10**20}",
    ):
        assert client.get(path).status_code == 400, path
    for path in ("/../azr_config.yaml", "/%2e%2e/server.py", "/server.py", "/dashboard.py"):
        assert client.get(path).status_code == 404, path


def test_evaluations_count_the_executed_samples(client: TestClient, filled: tuple[Path, Store, Run]) -> None:
    rows = client.get(f"/api/runs/{filled[2].id}/evaluations").json()
    assert [(row["step"], row["correct"], row["samples"]) for row in rows] == [(None, 3, 20), (10, 5, 20), (20, 8, 20)]
    problems = client.get(f"/api/evaluations/{rows[1]['id']}").json()
    assert sum(problem["correct"] for problem in problems) == 5
    assert {problem["status"] for problem in problems} == {"ok", "wrong"}
    for row in rows:
        assert row["score"] == row["correct"] / 20
        assert [row["low"], row["high"]] == list(wilson(row["correct"], 20))


def test_a_name_that_no_file_has_is_not_found(client: TestClient) -> None:
    assert client.get("/" + "a" * 300 + ".js").status_code == 404


def test_events_resume_where_a_viewer_was() -> None:
    log = EventLog()
    for number in range(5):
        log.add("step", {"step": number})
    first = _read(log, None, 2)
    assert "event: reset" in first[1]
    [missed] = _read(log, f"{log.epoch}-2", 2)[1:]
    assert re.findall(r'"step":(\d)', missed) == ["2", "3", "4"]
    assert "reset" not in missed
    for strange in ("", "x", f"{log.epoch}-", f"{log.epoch}-99", "other-2", f"{log.epoch}-²"):
        assert "event: reset" in _read(log, strange, 2)[1], strange


def test_only_the_newest_progress_is_kept_and_the_log_is_bounded() -> None:
    log = EventLog()
    log.add("step", {"step": 1})
    for done in range(10_000):
        log.add("progress", {"done": done})
    assert [event.data for event in log.after(0)] == ['{"step":1}', '{"done":9999}']
    for step in range(2 * KEPT):
        log.add("step", {"step": step})
    assert len(log.after(0)) == KEPT
    assert log.position(f"{log.epoch}-1") is None


def test_progress_of_a_training(tmp_path: Path) -> None:
    times = iter([0.0, 0.01, 0.05, 0.5, 0.6, 0.7, 0.8, 0.9])
    live = Live(DashboardConfig(), database=tmp_path / "azr.sqlite", steps=10, clock=lambda: next(times, 1.0))
    live.phase(3, "solve")
    live.progress(1, 8)  # too soon after the phase: not worth an event
    live.progress(4, 8)
    live.step(3, {"solve/rate": 0.5}, {"seconds/step": 2.0, "tokens/s": 100.0, "memory/resident_bytes": 5.0}, _task())
    live.note("alarm", "collapse")
    kinds = [(event.kind, json.loads(event.data)) for event in live.log.after(0)]
    assert [kind for kind, _ in kinds] == ["progress", "step", "note"]
    assert kinds[0][1]["seconds_left"] == 14.0
    assert kinds[2][1] == {"kind": "alarm", "text": "collapse", "step": 3}


def test_the_live_stream_is_guarded_too(tmp_path: Path) -> None:
    live = Live(DashboardConfig(), database=tmp_path / "data" / "azr.sqlite", steps=10)
    client = TestClient(live.app())
    assert client.get("/api/live", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/api/live", headers=HOST).json()["now"]["phase"] == "starting"
    missing = client.get("/api/runs", headers=HOST)
    assert missing.status_code == 503
    assert "no database" in missing.json()["error"]


def test_highlighting_changes_no_character() -> None:
    for text in (*made_up_store.HOSTILE, "def f(x):\n\treturn 'a' # b\r\n\n", ""):
        assert "".join(piece for _, piece in highlight(text)) == text
    assert ["keyword", "def"] in highlight("def f(x): return 1")


def test_the_dashboard_imports_no_torch() -> None:
    code = (
        "import sys, azr.dashboard.server, azr.dashboard.beside; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_store_that_is_being_written_is_read(tmp_path: Path) -> None:
    library = Library(tmp_path / "data" / "azr.sqlite")
    with Store(library.database) as store:
        run = made_up_store.start(store)
        for step in range(1, 4):
            made_up_store.record(run, step, tasks=1, attempts=1)
            assert json.loads(library.series(run.id, ["solve/rate"], step - 1))["steps"] == [step]
    library.close()


def test_a_store_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    library = Library(tmp_path / "data" / "azr.sqlite")
    seen = []
    for steps in (2, 1):
        with Store(library.database) as store:
            run = made_up_store.start(store)
            for step in range(1, steps + 1):
                made_up_store.record(run, step, tasks=1, attempts=1)
        seen.append(json.loads(library.series(1, ["solve/rate"], -1))["steps"])
        library.database.rename(tmp_path / f"moved-{steps}.sqlite")
        for rest in library.database.parent.iterdir():
            rest.unlink()
    assert seen == [[1, 2], [1]]


def test_a_connection_to_a_replaced_store_is_not_kept(tmp_path: Path) -> None:
    library = Library(tmp_path / "data" / "azr.sqlite")
    with Store(library.database) as store:
        made_up_store.start(store)
    version = library.version()
    with library.reading():
        library.database.rename(tmp_path / "moved.sqlite")
        with Store(library.database):
            pass
        assert library.known("runs") is None  # what somebody else asks: it finds that the file is another
        library.remember("runs", version, (200, "[1]"))
    with library.reading() as other:
        assert other.query("SELECT id FROM runs") == []
    assert library.known("runs") is None
    library.close()


def _read(log: EventLog, last_id: str | None, parts: int) -> list[str]:
    async def read() -> list[str]:
        stream = log.follow(last_id)
        return [await anext(stream) for _ in range(parts)]

    return asyncio.run(read())


def _task() -> Task:
    return made_up_store.task_of("deduction", 1)


async def _answering(scope: Any, receive: Any, send: Any) -> None:
    await api.answer({"ok": True})(scope, receive, send)
