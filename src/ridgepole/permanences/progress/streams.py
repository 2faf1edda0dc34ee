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

# Escape codes that only change how text looks may pass: colours (SGR) and links (OSC 8). What moves the cursor or
# erases would tear the bars apart, and is left out.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_LOOKS = re.compile(r"\x1b(?:\[[0-9;:]*m|\]8;[^\x07\x1b]*(?:\x07|\x1b\\))")
_COLOR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = re.compile(r"\x1b\[0*m")
RESET = "\x1b[0m"
ERASE_BELOW = "\x1b[J"
_LONGEST_TAIL = 4000


class Stream:
    """Stands in for `sys.stdout` or `sys.stderr` while bars are live, and passes everything on while they are not.

    Complete lines go above the bars. The start of a line that is not complete yet (`print(".", end="")`, or another
    progress bar that works with carriage returns) is shown in the row above the bars, until the rest comes.

    Args:
        screen: Who shows it.
        real: The stream that it stands in for.
    """

    def __init__(self, screen: Sink, real: TextIO) -> None:
        self._screen = screen
        self.real = real
        self.tail = ""
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
        self.tail += text
        if "\n" in text:
            whole, self.tail = self.tail, ""
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
            if self.tail and self._screen.taking_lines():
                self._screen.show_tail()
                return
        if self.tail:  # in a forked child
            whole, self.tail = self.tail, ""
            self.real.write(whole)
        self.real.flush()

    def _take(self, text: str) -> None:
        self.tail += _ESCAPE.sub(_only_looks, text) if "\x1b" in text else text
        if "\n" in self.tail:
            lines, _, self.tail = self.tail.rpartition("\n")
            self._screen.show_lines(self._inked(lines) + "\n")
        # Of a line that was overwritten only the newest version counts; it may grow without end otherwise.
        if "\r" in self.tail:
            self.tail = self.tail.rstrip("\r").rpartition("\r")[2] + "\r" * self.tail.endswith("\r")
        if len(self.tail) > _LONGEST_TAIL:
            self._screen.show_lines(self._inked(self.tail) + "\n")
            self.tail = ""

    def _inked(self, text: str) -> str:
        """A text in the colours that are on, which are off behind it, so that the bars keep theirs."""
        if "\x1b" not in text and not self._ink:
            return text
        inked = self._ink + text
        for color in _COLOR.findall(text):
            self._ink = "" if _RESET.fullmatch(color) else (self._ink + color)[-100:]
        return inked + RESET

    def rest(self) -> str:
        """Hands over the start of a line, in the colours that are on, when the bars go."""
        rest, self.tail = self._ink + self.tail, ""
        self._ink = ""
        return rest

    def preview(self) -> str:
        """The start of a line as plain text, for the row above the bars."""
        plain = _ESCAPE.sub("", self.tail).rstrip("\r").rpartition("\r")[2]
        return "".join(char if char.isprintable() else " " for char in plain)


def _only_looks(match: re.Match[str]) -> str:
    return match[0] if _LOOKS.fullmatch(match[0]) else ""


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

    def show_lines(self, text: str) -> None:
        """Shows complete lines above the bars."""
        ...

    def show_tail(self) -> None:
        """Shows the start of a line in the row above the bars."""
        ...


class Redirection:
    """Puts stand-ins in the place of the streams that write to one terminal, and takes them away again.

    Args:
        screen: Who shows what is written.
    """

    def __init__(self, screen: Sink) -> None:
        self._screen = screen
        self._streams: dict[int, Stream] = {}
        self._input: tuple[Callable[..., str], Callable[..., str]] | None = None

    def stand_in(self, real: TextIO) -> Stream:
        """The stand-in of a stream: always the same one, as loggers and debuggers may have kept it."""
        stream = self._streams.get(id(real))
        if stream is None or stream.real is not real:
            stream = self._streams[id(real)] = Stream(self._screen, real)
        return stream

    @property
    def streams(self) -> list[Stream]:
        """All stand-ins."""
        return list(self._streams.values())

    def install(self, terminal: IO[str]) -> None:
        """Redirects `sys.stdout` and `sys.stderr` where they are this terminal: the stream that bars are drawn on."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, Stream) and same_terminal(stream, terminal):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
                setattr(sys, name, self.stand_in(stream))

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
