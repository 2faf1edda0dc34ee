"""Guard the page's server: token, cookie, host, origin.

Other users of a machine reach its loopback addresses, and other pages in the user's browser do,
too. So every request needs the token or the cookie that it was exchanged for, and a `Host` that is
ours, which a page under another name that resolves to this machine does not have.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
WRITES = frozenset(("/api/labels",))


class Access:
    """An ASGI application that lets through only what is allowed.

    Args:
        app: The application behind it.
        token: The secret of the address.
        instance: The name of this server, which the cookie has.
        hosts: Names, besides those of the loopback, under which the server may be asked.
    """

    def __init__(self, app: ASGIApp, token: str, instance: str, hosts: Iterable[str] = ()) -> None:
        self._app, self._token = app, token
        self._cookie = f"ridgepole-{instance}"
        self._hosts = {host.lower() for host in (*LOOPBACK, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        refusal = self._refusal(scope, headers, query)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        if scope["path"] == "/" and "token" in query:
            await self._exchange(send, query)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(
        self, scope: Scope, headers: MutableMapping[str, str], query: MutableMapping[str, str]
    ) -> tuple[int, str] | None:
        if _hostname(headers.get("host", "")) not in self._hosts:
            return 403, f"this server is not called {headers.get('host', '')!r}: see --allow-host"
        if not self._is_known(headers.get("cookie", ""), query.get("token", "")):
            return 401, "open the address that `ridgepole view` printed: it has the token"
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, f"{scope['method']} is not supported"
        if headers.get("x-ridgepole") != "1" or not headers.get("content-type", "").startswith("application/json"):
            return 403, "a POST needs the header X-Ridgepole: 1 and JSON"
        if scope["path"] in WRITES and not self._is_own(headers.get("origin", ""), headers["host"]):
            return 403, "a change needs the Origin of this server"
        return None

    def _is_known(self, cookies: str, token: str) -> bool:
        if token and _equal(token, self._token):
            return True
        try:
            morsel = SimpleCookie(cookies).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and _equal(morsel.value, self._token)

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
            name = (parts.hostname or "").lower()
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        return parts.netloc.lower() == host.lower() or name in self._hosts - set(LOOPBACK)

    async def _exchange(self, send: Send, query: MutableMapping[str, str]) -> None:
        """Give the cookie for the token, and redirect to the address without it."""
        rest = urlencode([(name, value) for name, value in query.items() if name != "token"])
        cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"location", f"./{'?' + rest if rest else ''}".encode()), (b"set-cookie", cookie.encode())]
        start: Message = {"type": "http.response.start", "status": 303, "headers": headers}
        _add_headers(start)
        await send(start)
        await send({"type": "http.response.body", "body": b""})


def _add_headers(message: Message) -> None:
    present = {name for name, _ in message["headers"]}
    message["headers"] = [
        *message["headers"],
        *((name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in present),
    ]


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": {"message": text}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    _add_headers(start)
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _hostname(host: str) -> str:
    """Return the name in a `Host` header, without port and brackets; empty if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return ""
    return (parts.hostname or "").lower()


def _equal(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode("utf-8", "surrogateescape"), b.encode("utf-8", "surrogateescape"))


def error_json(message: str, **more: Any) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, **more}}
