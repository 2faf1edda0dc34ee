"""Take the streams of this process, also what code in C and workers write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ridgepole.threads import start_thread
from ridgepole.watch.console import Console
from ridgepole.watch.lines import LineRecorder
from ridgepole.watch.terminal import copy_size, copy_stream, open_terminal, write_all

_HIGH = 20


class Capture:
    """Replaces the standard output and error of this process by others, which a helper reads.

    Where a stream is a terminal, the other one is a terminal, too. Both streams are one where they
    lead to the same place, so that the order of what is written stays.

    Attributes:
        streams: The end to read from, and the real stream, for each.
    """

    def __init__(self) -> None:
        """Open the ends.

        Raises:
            OSError: If a stream is closed, or there are too many open files.
        """
        self._opened: list[int] = []
        self._begun = False
        try:
            self._real = [self._keep(fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _HIGH)) for stream in (1, 2)]
            first = self._open(1)
            same = os.path.sameopenfile(1, 2) or (os.isatty(1) and os.isatty(2))
            second = first if same else self._open(2)
        except OSError:
            self.close()
            raise
        self._writing = [first[1], second[1]]
        self.streams = [(first[0], self._real[0])] + ([] if same else [(second[0], self._real[1])])

    def _keep(self, fd: int) -> int:
        self._opened.append(fd)
        return fd

    def _open(self, stream: int) -> tuple[int, int]:
        reading, writing = open_terminal(stream) if os.isatty(stream) else os.pipe()
        return self._keep(reading), self._keep(writing)

    def begin(self) -> None:
        """Replace the streams."""
        _flush()
        for stream, writing in zip((1, 2), self._writing, strict=True):
            os.dup2(writing, stream)
        self._close_writing()
        self._begun = True

    def _close_writing(self) -> None:
        for fd in set(self._writing):
            self._opened.remove(fd)
            os.close(fd)

    def read_here(self) -> None:
        """Leave only the ends to read from, in a forked helper."""
        self._close_writing()

    def end(self) -> None:
        """Restore the streams."""
        if self._begun:
            self._begun = False
            _flush()
            for stream, real in zip((1, 2), self._real, strict=True):
                os.dup2(real, stream)

    def close(self) -> None:
        """Close what was opened."""
        while self._opened:
            os.close(self._opened.pop())

    def show(self) -> None:
        """Show what workers still write, without keeping it, until they end: the helper is gone."""
        threads = [threading.Thread(target=_show, args=pair, daemon=True) for pair in self.streams]
        for thread in threads:
            start_thread(thread)


def _show(reading: int, real: int) -> None:
    never = os.pipe()[0]
    copy_stream(reading, never, lambda data: write_all(real, data))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


class Recording:
    """The helper's side: shows what the run writes, and keeps its lines.

    Args:
        path: The file.
        streams: The end to read from, and the real stream, for each.
        secrets: Texts that are replaced.
        parent: The process that is told when its terminals have another size.
    """

    def __init__(self, path: Path, streams: Sequence[tuple[int, int]], secrets: Sequence[str], parent: int) -> None:
        self._done_out, self._done_in = os.pipe()
        self._console: Console | None = None
        with contextlib.suppress(OSError):  # a full disk loses the record, and nothing else
            path.parent.mkdir(exist_ok=True)
            self._console = Console(path)
        self._streams, self._secrets, self._parent = streams, secrets, parent
        self._threads = [threading.Thread(target=self._copy, args=pair, daemon=True) for pair in streams]
        if any(os.isatty(real) for _, real in streams):
            signal.signal(signal.SIGWINCH, lambda _number, _frame: self._resize())
        for thread in self._threads:
            thread.start()

    def _copy(self, reading: int, real: int) -> None:
        shows = True
        recorder = LineRecorder(self._keep, self._secrets)

        def take(data: bytes) -> None:
            nonlocal shows
            if shows:
                try:
                    write_all(real, data)
                except OSError:  # the reader, or the terminal, is gone: the run continues
                    shows = False
            recorder.feed(data)

        copy_stream(reading, self._done_out, take)
        recorder.close()

    def _keep(self, lines: bytes) -> None:
        if self._console is not None:
            self._console.write(lines)

    def _resize(self) -> None:
        for reading, real in self._streams:
            if os.isatty(real):
                copy_size(real, reading)
        with contextlib.suppress(OSError):
            os.kill(self._parent, signal.SIGWINCH)

    def close(self) -> None:
        """Show and keep the rest; the run has ended, or has its own streams again."""
        os.close(self._done_in)
        for thread in self._threads:
            thread.join()
        if self._console is not None:
            self._console.close()
