"""Read what a program prints, by a terminal of its own or a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import pty
import select
import termios
import time
from collections.abc import Callable

_CHUNK = 1 << 16
DRAIN_SECONDS = 1.0
"""Time for output that is still on its way when a program has ended."""


def open_terminal(stream: int) -> tuple[int, int]:
    """Open a terminal that looks as another one, and return its two ends: to read, to write."""
    reading, writing = pty.openpty()
    attributes = termios.tcgetattr(writing)
    attributes[1] &= ~termios.OPOST  # the real terminal turns line ends into its own
    termios.tcsetattr(writing, termios.TCSANOW, attributes)
    copy_size(stream, reading)
    return reading, writing


def copy_stream(reading: int, done: int, take: Callable[[bytes], object]) -> None:
    """Pass output on until its end, or for a moment after its program has ended.

    A child that the program has left behind may keep the stream open for ever.

    Args:
        reading: The stream.
        done: A descriptor that becomes ready when the program has ended.
        take: Called with each piece.
    """
    deadline = math.inf
    try:
        while time.monotonic() < deadline:
            ended = deadline < math.inf
            found = ready([reading] if ended else [reading, done], 0.05 if ended else None)
            if not ended and done in found:
                deadline = time.monotonic() + DRAIN_SECONDS
            if reading in found:
                data = os.read(reading, _CHUNK)
                if not data:
                    return
                take(data)
            elif ended:
                return
    except OSError:  # the end of a terminal; or the reader of ours is gone, and the program's is, too
        return


def ready(streams: list[int], seconds: float | None) -> list[int]:
    """Wait until streams can be read, and return them; `select` takes no numbers above 1023."""
    poll = select.poll()
    for stream in streams:
        poll.register(stream, select.POLLIN)
    return [stream for stream, _ in poll.poll(None if seconds is None else seconds * 1000)]


def write_all(stream: int, data: bytes) -> None:
    """Write all of some data; a stream that another program has made non-blocking is waited for."""
    while data:
        try:
            data = data[os.write(stream, data) :]
        except BlockingIOError:
            time.sleep(0.01)


def copy_size(source: int, target: int) -> None:
    """Give a terminal the size of another one."""
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
