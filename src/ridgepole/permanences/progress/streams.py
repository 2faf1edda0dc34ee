"""Keeping what the program prints whole, in order and above the bars."""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol, TextIO, cast

from ridgepole.permanences.progress.region import RESET, Region

_COLOR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = re.compile(r"\x1b\[0*m")
ERASE_BELOW = "\x1b[J"


class Stream:
    """Stands in for `sys.stdout` or `sys.stderr` while bars are live, and passes everything on while they are not.

    Complete lines go above the bars. What may still change (the start of a line as of `print(".", end="")`, the rows
    of another progress display) is shown between them and the bars.

    Args:
        screen: Who shows it.
        real: The stream that it stands in for.
    """

    def __init__(self, screen: Sink, real: TextIO) -> None:
        self._screen = screen
        self.real = real
        self.region = Region(screen.take_back)
        self._held = ""  # in a forked child: the start of a line
        self._ink = ""  # colours that were switched on and not off again

    def __getattr__(self, name: str) -> Any:
        if name == "real":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.real, name)

    def write(self, text: str) -> int:
        """Writes above the bars."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._screen.lock:
            if self._screen.taking_lines():
                self._take(text)
                return len(text)
        if self._screen.shown_by_parent() and self._is_terminal():
            return self._write_in_child(text)
        return self.real.write(text)

    def _write_in_child(self, text: str) -> int:
        """Writes whole lines, and wipes away the parent's bars that may stand below them."""
        self._held += text
        if "\n" in text:
            whole, self._held = self._held, ""
            self.real.write(ERASE_BELOW + whole)
        return len(text)

    def _is_terminal(self) -> bool:
        try:
            return self.real.isatty()
        except ValueError:  # closed
            return False

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Shows the start of a line, if there is one, and flushes the real stream."""
        with self._screen.lock:
            if not self.region.empty and self._screen.taking_lines():
                self._screen.show_region()
                return
        if self._held:
            whole, self._held = self._held, ""
            self.real.write(whole)
        self.real.flush()

    def _take(self, text: str) -> None:
        lines = self.region.feed(text)
        if lines:
            self._screen.show_lines([self._inked(line) for line in lines])

    def _inked(self, text: str) -> str:
        """A text in the colours that are on, which are off behind it, so that the bars keep theirs."""
        if "\x1b" not in text and not self._ink:
            return text
        inked = self._ink + text
        for color in _COLOR.findall(text):
            self._ink = "" if _RESET.fullmatch(color) else (self._ink + color)[-100:]
        return inked + RESET

    def clear(self) -> list[str]:
        """Hands over what may still change, the line that is begun last, when the bars go."""
        *lines, begun = self.region.clear()
        lines = [self._inked(line) for line in lines]
        begun, self._ink = self._ink + begun, ""
        return [*lines, begun]


class Sink(Protocol):
    """What a stream needs of the screen that shows its lines."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Taken for whatever changes what is shown."""
        ...

    def taking_lines(self) -> bool:
        """Whether lines are to be shown above bars just now."""
        ...

    def shown_by_parent(self) -> bool:
        """Whether this is a forked child, and its parent's bars may stand below what it prints."""
        ...

    def show_lines(self, lines: list[str]) -> None:
        """Shows complete lines above the bars."""
        ...

    def take_back(self, count: int) -> list[str]:
        """Takes the last lines that were shown off again; at most so many."""
        ...

    def show_region(self) -> None:
        """Shows what may still change."""
        ...


class Redirection:
    """Puts stand-ins in the place of the streams that write to one terminal, and takes them away again.

    Args:
        screen: Who shows what is written.

    Attributes:
        foreign: Whether another display had put its own streams in place, and will take ours away with them.
    """

    def __init__(self, screen: Sink) -> None:
        self._screen = screen
        self._streams: dict[int, Stream] = {}
        self._put: dict[str, Stream] = {}  # where our streams were put; they may lie below others by now
        self.foreign = False
        self._input: tuple[Callable[..., str], Callable[..., str]] | None = None

    def stand_in(self, real: TextIO) -> Stream:
        """The stand-in of a stream: always the same one, as loggers and debuggers may have kept it."""
        stream = self._streams.get(id(real))
        if stream is None or stream.real is not real:
            stream = self._streams[id(real)] = Stream(self._screen, real)
        return stream

    def real(self, stream: IO[str]) -> IO[str]:
        """The real stream below a stand-in, or below what others have put on top of one."""
        for name, put in self._put.items():
            if stream is getattr(sys, name):
                return put.real
        return stream.real if isinstance(stream, Stream) else stream

    @property
    def streams(self) -> list[Stream]:
        """All stand-ins."""
        return list(self._streams.values())

    def install(self, terminal: IO[str]) -> None:
        """Redirects `sys.stdout` and `sys.stderr` where they are this terminal: the stream that bars are drawn on.

        Also again, where another display has put the real ones back. What it has put on top of ours leads to ours.
        """
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None or isinstance(stream, Stream) or (name in self._put and id(stream) not in self._streams):
                continue
            if same_terminal(stream, terminal):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
                self._put[name] = self.stand_in(stream)
                setattr(sys, name, self._put[name])
                self.foreign |= stream is not getattr(sys, f"__{name}__")

    def install_input(self, ask: Callable[[Callable[..., str]], Callable[..., str]]) -> None:
        """Replaces `input`, which writes its prompt past Python's streams.

        Args:
            ask: Makes a function that pauses the bars while the given one runs.
        """
        if self._input is None:
            self._input = (builtins.input, ask(builtins.input))
            builtins.input = self._input[1]

    def remove_input(self) -> None:
        """Puts the real `input` back, where nobody has put something else in its place."""
        if self._input is not None and builtins.input is self._input[1]:
            builtins.input = self._input[0]
        self._input = None

    def remove(self) -> None:
        """Puts the real ones back, where nobody has put something else in their place."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, Stream) and self._streams.get(id(stream.real)) is stream:
                setattr(sys, name, stream.real)
                self._put.pop(name, None)

    def adopt_handlers(self, terminal: IO[str]) -> None:
        """Leads logging handlers that already hold one of the real streams to its stand-in.

        Called without the screen's lock: a handler that is writing holds its own and waits for ours.
        """
        for handler in _stream_handlers():
            stream = handler.stream
            if not isinstance(stream, Stream) and same_terminal(stream, terminal):
                handler.setStream(cast("TextIO", self.stand_in(stream)))

    def release_handlers(self) -> None:
        """Gives handlers their real stream back; called without the screen's lock."""
        for handler in _stream_handlers():
            stream = handler.stream
            if isinstance(stream, Stream) and self._streams.get(id(stream.real)) is stream:
                handler.setStream(stream.real)


def _stream_handlers() -> list[logging.StreamHandler[TextIO]]:
    """Handlers of all loggers that write to a stream; `logging.lastResort` looks `sys.stderr` up by itself."""
    loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]


def same_terminal(stream: Any, terminal: IO[str]) -> bool:
    """Whether two streams write to the same terminal; a stream that is piped into a file is left alone."""
    if stream is terminal:
        return True
    try:
        return bool(stream.isatty()) and _device(stream) == _device(terminal)
    except (AttributeError, OSError, ValueError):
        return False


def _device(stream: Any) -> int:
    return os.fstat(stream.fileno()).st_rdev
