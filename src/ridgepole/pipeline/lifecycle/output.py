"""Let a run outlive its output: a closed pipe, a terminal that is gone, a full disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.ECONNRESET)
"""The reader has ended, or the terminal; it does not come back."""


class EnduringOutput:
    """Drops what can't be written to stdout and stderr, for as long as the block lasts.

    `print` in a training loop raises otherwise: Ctrl-C ends `tee` too, and the run would fail
    before it reaches its checkpoint. The stream objects stay in place, and only their `write` and
    `flush` are replaced. Other streams than those of the interpreter are left alone.
    """

    def __init__(self) -> None:
        self._streams: list[_Enduring] = []

    def __enter__(self) -> None:
        named = {id(stream): stream for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}
        for stream in named.values():
            if isinstance(stream, io.TextIOWrapper):
                self._streams.append(_Enduring(stream))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream.restore()


class _Enduring:
    """One stream."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream: Any = stream
        self._before = {name: vars(self._stream)[name] for name in ("write", "flush") if name in vars(self._stream)}
        self._write: Callable[[str], int] = stream.write
        self._flush: Callable[[], None] = stream.flush
        for name in ("write", "flush"):
            setattr(self._stream, name, getattr(self, name))

    def restore(self) -> None:
        """Write what is left, and restore the stream's own methods."""
        with contextlib.suppress(ValueError):  # closed
            self.flush()
        if self._stream.write != self.write:  # other code has wrapped ours
            return
        for name in ("write", "flush"):
            if name in self._before:
                setattr(self._stream, name, self._before[name])
            else:
                delattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return self._write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        try:
            self._flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Let the stream end nowhere, if nothing can be written to it any more."""
        if error.errno not in _GONE:
            return
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.dup2(null, self._stream.fileno())
            finally:
                os.close(null)
            self._flush()
