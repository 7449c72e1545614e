"""Who may read: host names, origins and the token are checked, and every answer carries a strict policy.

Covered: a page on another site that reads through the visitor's browser (Origin, Sec-Fetch-Site, no CORS headers), DNS
rebinding (the Host header has to be a name of ours), framing, injected markup (no inline script or style, no foreign
source, trusted types), readers on the network (any address but loopback needs a token). Only GET and HEAD are answered.
Not covered: eavesdropping. Put a TLS proxy or an SSH tunnel between the dashboard and a network you do not trust.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import platform
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azr.errors import UserError

SHORTEST_TOKEN = 16  # characters

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

ASK_FOR_TOKEN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>AZR</title></head>
<body><main><h1>AZR dashboard</h1><form method="get" action="/">
<label>Token (<code>dashboard.token</code> of the configuration): <input name="token" type="password" required></label>
<button>Open</button></form></main></body></html>
"""


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without brackets) reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_binding(host: str, token: str) -> None:
    """Raises UserError for an address that other machines can reach without a token that is hard to guess, and for a
    token that browsers cannot send."""
    if not (token.isascii() and token.isprintable()):
        raise UserError("dashboard.token has characters that a web address cannot hold: take letters and digits")
    if is_loopback(host):
        return
    if len(token) < SHORTEST_TOKEN:
        problem = f"is shorter than {SHORTEST_TOKEN} characters" if token else "is empty"
        raise UserError(
            f"dashboard.host {host} can be reached from other machines, but dashboard.token {problem}: "
            "set a long random token, or keep 127.0.0.1"
        )


def bind(host: str, port: int, option: str) -> socket.socket:
    """A listening socket. Raises UserError, naming the option, if the port is taken or the address is not ours."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(info[0], socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter: no name that the network knows, such as a..b
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}: {reason}: correct dashboard.host") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): choose another port with {option}"
        ) from error
    return listener


class Guard:
    """ASGI middleware around everything that a port serves. `token` is asked for if it is not empty."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, token: str = "") -> None:
        self.app = app
        self.token = token
        self.cookie = f"azr_{port}"
        self.secret = hashlib.sha256(b"azr dashboard\0" + token.encode()).hexdigest()
        self.local_only = is_loopback(host)
        self.names: set[str] = set()
        if not self.local_only:  # asking for the full name can take a while
            self.names = {host.lower(), platform.node().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        refusal = self._refuse(scope)
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This interface is read-only.", 405, {"allow": "GET, HEAD"})
        if not self._known(host):
            return PlainTextResponse(f"Unknown host name {host[:100]!r}.", 421)
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return PlainTextResponse("Requests from other origins are refused.", 403)
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if foreign and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("Requests from other sites are refused.", 403)
        return self._ask_token(scope, headers) if self.token else None

    def _known(self, host: str) -> bool:
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0].lower()
        if is_loopback(name):
            return True
        if self.local_only:
            return False
        try:  # an address cannot be rebound
            ipaddress.ip_address(name)
            return True
        except ValueError:
            return name in self.names

    def _ask_token(self, scope: Scope, headers: Headers) -> Response | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._same(given, self.token):
            return None
        query = parse_qs(scope["query_string"].decode("ascii", "replace"))
        given = query.pop("token", [""])[0]
        if given and self._same(given, self.token):
            answer = RedirectResponse("/" + scope["path"].lstrip("/") + "?" + urlencode(query, doseq=True), 303)
            answer.set_cookie(self.cookie, self.secret, httponly=True, samesite="lax")
            return answer
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            morsel = None
        if morsel is not None and self._same(morsel.value, self.secret):
            return None
        if scope["path"] == "/":
            return Response(ASK_FOR_TOKEN, 401, media_type="text/html")
        return PlainTextResponse("A token is needed: send `Authorization: Bearer TOKEN`.", 401)

    @staticmethod
    def _same(given: str, wanted: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
