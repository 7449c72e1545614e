"""Who may read the dashboard, and where it may listen."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from azr.config import DashboardConfig
from azr.dashboard import api, server
from azr.dashboard.guard import Guard, bind, check_binding
from azr.errors import UserError

HOST = {"host": "localhost:8080"}
TOKEN = "a-long-token-for-tests"


async def _answering(scope: Any, receive: Any, send: Any) -> None:
    await api.answer({"ok": True})(scope, receive, send)


def test_the_guard() -> None:
    app = Guard(_answering, host="127.0.0.1", port=8080)
    client = TestClient(app)
    cases: list[tuple[dict[str, str], int]] = [
        ({}, 200),
        ({"host": "127.0.0.1:9"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "localhost.evil.example"}, 421),
        ({"host": "127.0.0.1.nip.io"}, 421),
        ({"host": "192.168.1.5:8080"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://localhost:8080"}, 200),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ]
    for headers, status in cases:
        assert client.get("/", headers={**HOST, **headers}).status_code == status, headers
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client.request(method, "/", headers=HOST).status_code == 405, method
    answer = client.get("/", headers=HOST)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_token() -> None:
    client = TestClient(Guard(_answering, host="0.0.0.0", port=8080, token=TOKEN), follow_redirects=False)
    host = {"host": "192.168.1.5:8080"}
    assert client.get("/api/runs", headers=host).status_code == 401
    page = client.get("/", headers=host)
    assert page.status_code == 401
    assert "<script" not in page.text
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    for bad in (f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", "Bearer \xff"):
        refused = client.get("/api/runs", headers=[(b"host", b"10.0.0.1"), (b"authorization", bad.encode("latin-1"))])
        assert refused.status_code == 401, bad
    assert client.get("/api/runs", headers={**host, "authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/?token=wrong", headers=host).status_code == 401
    entry = client.get(f"/?token={TOKEN}&view=tasks", headers=host)
    assert (entry.status_code, entry.headers["location"]) == (303, "/?view=tasks")
    cookie = entry.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    pair = {"cookie": cookie.partition(";")[0]}
    assert client.get("/api/runs", headers={**host, **pair}).status_code == 200
    assert client.get("/api/runs", headers={**host, "cookie": "azr_8080=0"}).status_code == 401
    # Redirects stay here: a path that starts with two slashes would name another host.
    for slashes in ("/%2F", "/%2F%2F", "/%2F%2F%2F"):
        away = client.get(f"{slashes}evil.example/?token={TOKEN}", headers=host)
        assert away.headers["location"].startswith("/evil.example/")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "gpu.example"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(UserError, match=r"dashboard\.token is empty"):
        check_binding(host, "")
    with pytest.raises(UserError, match="shorter than 16"):
        check_binding(host, "short")
    check_binding(host, TOKEN)
    for local in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        check_binding(local, "")


@pytest.mark.parametrize("token", ["é" * 20, "a long token\nwith two lines", "\x7f" * 20])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_token_that_no_browser_can_send_is_refused(token: str, host: str) -> None:
    with pytest.raises(UserError, match=r"dashboard\.token has characters"):
        check_binding(host, token)


def test_the_browser_is_sent_the_token_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(server, "has_display", lambda: True)
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.setattr(server.threading, "Timer", lambda _, function, arguments: _Now(function, arguments))
    token = "abc+def/ghi==&x y#z"
    server.announce(DashboardConfig(token=token), browser=True)
    assert parse_qs(urlsplit(opened[0]).query)["token"] == [token]


class _Now:
    """A timer that does not wait."""

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.start = lambda: function(*arguments)


def test_a_host_that_is_no_name_is_one_line() -> None:
    with pytest.raises(UserError, match=r"cannot listen on a\.\.b: .*correct dashboard\.host"):
        bind("a..b", 0, "--dashboard-port")


def test_a_host_is_known_however_it_is_written() -> None:
    client = TestClient(Guard(_answering, host="Server1.Lan", port=8080, token=TOKEN))
    answer = client.get("/", headers={"host": "server1.lan:8080", "authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200


def test_a_busy_port_names_the_option() -> None:
    with bind("127.0.0.1", 0, "--dashboard-port") as held, pytest.raises(UserError) as caught:
        bind("127.0.0.1", held.getsockname()[1], "--dashboard-port")
    assert "--dashboard-port" in str(caught.value)
    assert "\n" not in str(caught.value)
