"""Lines of JSON between ranks, after both ends have proven that they know the launch's token.

The token lies in a file that only the user can read and never goes over the wire: each end answers the other's random
challenge with an HMAC. Nothing that is received can run code.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import secrets
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any, BinaryIO

Message = dict[str, Any]

LONGEST = 1 << 20
"""Bytes of one line at most."""

HANDSHAKE_SECONDS = 5.0


class RefusedError(OSError):
    """The other end does not want this rank, and says why."""


def encode(message: Message) -> bytes:
    """One message as a line."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of a line.

    Raises:
        ValueError: If it is none.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message


def proof(token: bytes, side: str, challenge: str) -> str:
    """The answer to a challenge; of one side, so that it can't be sent back as the other's."""
    return hmac.digest(token, f"{side} {challenge}".encode(), "sha256").hex()


def challenge() -> str:
    """A text that nobody has answered before."""
    return secrets.token_hex(16)


def listen() -> socket.socket:
    """A socket on a free port, for IPv6 and IPv4 where the machine has both."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # built in, and switched off
            return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", 0), backlog=1024)


def keep_alive(connection: socket.socket) -> None:
    """Lets the kernel notice within half a minute that the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connect(address: tuple[str, int], token: bytes, hello: Message) -> Link:
    """Connects to a hub and proves to be of its launch.

    Args:
        address: Host and port.
        token: The launch's.
        hello: What the hub is to know of this rank.

    Returns:
        The connection.

    Raises:
        RefusedError: If the hub is the right one and does not want this rank.
        OSError: If nobody is there, or it is somebody else.
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
            raise ConnectionError("it is no Ridgepole, or it has closed") from error
        if not hmac.compare_digest(str(reply.get("proof", "")), proof(token, "hub", mine)):
            raise ConnectionError("it is another launch's")
        if "refused" in reply:
            raise RefusedError(str(reply["refused"]))
        connection.settimeout(None)
        keep_alive(connection)
    except BaseException:
        connection.close()
        raise
    return Link(connection, lines)


class Link:
    """A rank's connection to the hub: one thread reads, one writes.

    Args:
        connection: The socket.
        lines: What reads from it.
    """

    def __init__(self, connection: socket.socket, lines: BinaryIO) -> None:
        self._socket, self._lines = connection, lines
        # Its put() may be called from a signal's handler, whatever the interrupted code holds.
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="ridgepole-ranks-out", daemon=True)
        close_in_children(self)

    def start(self, take: Callable[[Message], None], ended: Callable[[], None]) -> None:
        """Begins to read and write.

        Args:
            take: Is told each message, in a thread.
            ended: Is told that the other end is gone.
        """
        self._writer.start()
        threading.Thread(target=self._read, args=(take, ended), name="ridgepole-ranks-in", daemon=True).start()

    def send(self, message: Message) -> None:
        """Sends a message; never blocks."""
        self._out.put(encode(message))

    def close(self, seconds: float = 5.0) -> None:
        """Sends what is left, then closes."""
        self._out.put(None)
        if self._writer.is_alive():
            self._writer.join(seconds)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def descriptors(self) -> list[int]:
        """What a forked child must not keep open: the end of this process has to end the connection."""
        return [self._socket.fileno()]

    def _write(self) -> None:
        while (data := self._out.get()) is not None:
            try:
                self._socket.sendall(data)
            except OSError:  # the reading thread finds out, too, and tells
                return

    def _read(self, take: Callable[[Message], None], ended: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := self._lines.readline(LONGEST):
                take(decode(line))
        ended()


def close_in_children(holder: Any) -> None:
    """Closes the `descriptors()` of an object in forked children, such as a DataLoader's workers.

    A worker that outlives a killed rank would otherwise keep its connections open, and it would look alive.
    """
    reference = weakref.ref(holder)  # such hooks can't be taken back

    def close() -> None:
        alive = reference()
        for descriptor in alive.descriptors() if alive is not None else ():
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    os.register_at_fork(after_in_child=close)
