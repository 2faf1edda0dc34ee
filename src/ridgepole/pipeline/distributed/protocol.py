"""Exchange lines of JSON between ranks, once both ends have proven to know the token.

The token is in a file that only the user can read, and is never sent: each end answers the other's
random challenge with an HMAC. A received message can't run code.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import queue
import secrets
import socket
import threading
import weakref
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

Message = dict[str, Any]

LONGEST = 1 << 20
"""The most bytes of one line."""

HANDSHAKE_SECONDS = 5.0


class RefusedError(OSError):
    """The other end refused this rank, with a reason."""


def encode(message: Message) -> bytes:
    """Return a message as a line."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line.

    Raises:
        ValueError: If it is not a message.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message


def pack(value: Any) -> list[str]:
    """Return a large value of plain JSON as pieces that each fit into a message."""
    text = base64.b64encode(zlib.compress(json.dumps(value).encode(), 1)).decode()
    return [text[start : start + LONGEST // 2] for start in range(0, len(text), LONGEST // 2)]


def unpack(pieces: list[str]) -> Any:
    """Return the value of all pieces."""
    return json.loads(zlib.decompress(base64.b64decode("".join(pieces))))


def proof(token: bytes, side: str, challenge: str) -> str:
    """Return one side's answer to a challenge, which can't be sent back as the other side's."""
    return hmac.digest(token, f"{side} {challenge}".encode(), "sha256").hex()


def challenge() -> str:
    """Return a random text that was never answered before."""
    return secrets.token_hex(16)


def listen() -> socket.socket:
    """Open a socket on a free port, for IPv6 and IPv4 if the machine has both."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 is built in, but disabled
            return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", 0), backlog=1024)


def keep_alive(connection: socket.socket) -> None:
    """Make the kernel notice within half a minute that the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connect(address: tuple[str, int], token: bytes, hello: Message) -> Connection:
    """Connect to a server and prove to belong to its launch; `hello` describes this rank.

    Raises:
        RefusedError: If the right server refuses this rank.
        OSError: If no server answers, or another program does.
    """
    connection = socket.create_connection(address, timeout=HANDSHAKE_SECONDS)
    try:
        lines = connection.makefile("rb")
        mine = challenge()
        try:
            theirs = str(decode(lines.readline(LONGEST))["challenge"])
            answer = {"proof": proof(token, "rank", theirs), "challenge": mine}
            connection.sendall(encode(hello | answer))
            reply = decode(lines.readline(LONGEST))
        except (ValueError, KeyError) as error:
            raise ConnectionError("not a Ridgepole server, or it has closed the connection") from error
        if not hmac.compare_digest(str(reply.get("proof", "")), proof(token, "hub", mine)):
            raise ConnectionError("the server belongs to another launch")
        if "refused" in reply:
            raise RefusedError(str(reply["refused"]))
        connection.settimeout(None)
        keep_alive(connection)
    except BaseException:
        connection.close()
        raise
    return Connection(connection, lines)


class Connection:
    """A rank's connection to the server: one thread reads, one writes."""

    def __init__(self, connection: socket.socket, lines: BinaryIO) -> None:
        self._socket, self._lines = connection, lines
        # Its put() may be called from a signal handler, whatever lock the interrupted code holds.
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="ridgepole-ranks-out", daemon=True)
        close_in_children(self)

    def start(self, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        """Begin to read and write.

        Args:
            on_message: Called with each message, in a thread.
            on_end: Called when the other end is gone, in a thread.
        """
        self._writer.start()
        threading.Thread(target=self._read, args=(on_message, on_end), name="ridgepole-ranks-in", daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message without blocking."""
        self._out.put(encode(message))

    def close(self, seconds: float = 5.0) -> None:
        """Send the remaining messages, then close."""
        self._out.put(None)
        if self._writer.is_alive():
            self._writer.join(seconds)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def descriptors(self) -> list[int]:
        """Return what a forked child must close: the connection has to end with this process."""
        return [self._socket.fileno()]

    def _write(self) -> None:
        while (data := self._out.get()) is not None:
            try:
                self._socket.sendall(data)
            except OSError:  # the reading thread notices and reports it
                return

    def _read(self, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := self._lines.readline(LONGEST):
                on_message(decode(line))
        on_end()


def close_in_children(holder: Any) -> None:
    """Close the `descriptors()` of an object in forked children, such as a DataLoader's workers.

    Otherwise a worker that outlives a killed rank would keep its connections open, and the rank
    would look alive.
    """
    reference = weakref.ref(holder)  # fork hooks can't be removed

    def close() -> None:
        alive = reference()
        for descriptor in alive.descriptors() if alive is not None else ():
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    os.register_at_fork(after_in_child=close)
