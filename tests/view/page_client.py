"""Talks to a server of the page as a browser does, over the loopback or a Unix socket."""

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class UnixConnection(http.client.HTTPConnection):
    """A connection to a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class Answer:
    """The answer to a request."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, dict(response.getheaders()), response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class PageClient:
    """A browser with a cookie."""

    def __init__(self, output: str) -> None:
        """Take the address from what `ridgepole view` has printed, and exchange its token."""
        self.url = urlsplit(re.search(r"http://\S+", output)[0])
        found = re.search(r"on the socket (\S+)", output)
        self.socket = Path(found[1]) if found else None
        self.origin = f"http://{self.url.netloc}"
        entered = self.get(f"/?{self.url.query}&a=b", cookie="")
        assert (entered.status, entered.headers["location"]) == (303, "./?a=b")
        self.set_cookie = entered.headers["set-cookie"]
        self.cookie = self.set_cookie.partition(";")[0]

    def connection(self) -> http.client.HTTPConnection:
        if self.socket is not None:
            return UnixConnection(self.socket)
        return http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=30)

    def get(self, path: str, cookie: str | None = None, **headers: str) -> Answer:
        return self.ask("GET", path, None, cookie, headers)

    def post(self, path: str, value: Any, cookie: str | None = None, **headers: str) -> Answer:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        plain = {"X-Ridgepole": "1", "Content-Type": "application/json", "Origin": self.origin}
        return self.ask(
            "POST", path, body, cookie, plain | {name.replace("_", "-"): text for name, text in headers.items()}
        )

    def ask(self, method: str, path: str, body: bytes | None, cookie: str | None, headers: dict[str, str]) -> Answer:
        connection = self.connection()
        try:
            cookies = {"Cookie": self.cookie if cookie is None else cookie}
            connection.request(
                method, path, body, {name.replace("_", "-"): text for name, text in headers.items()} | cookies
            )
            return Answer(connection.getresponse())
        finally:
            connection.close()


def headers_of(arguments: dict[str, str]) -> dict[str, str]:
    """Headers from arguments, which have no hyphens."""
    return {name.replace("_", "-"): text for name, text in arguments.items()}


class Events:
    """An open stream of events."""

    def __init__(self, client: PageClient, since: str | None = None) -> None:
        self.connection = client.connection()
        path = "/api/events" + (f"?since={since}" if since else "")
        self.connection.request("GET", path, headers={"Cookie": client.cookie})
        self.response = self.connection.getresponse()
        assert self.response.status == 200

    def next(self) -> tuple[str, str, Any]:
        """Wait for an event; return its id, its name and its data."""
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])
        raise EOFError("the stream has ended")

    def close(self) -> None:
        self.response.close()
        self.connection.close()
