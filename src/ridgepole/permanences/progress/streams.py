"""Keeping what the program prints whole, in order and above the bars.

The streams themselves stay where they are; only their `write` and `flush` are taken over. So everybody is heard who
holds one: `sys.stdout` and `sys.stderr`, whatever others put on top of these (a tee, Rich's proxies), logging
handlers, Loguru, a display around ours.
"""

from __future__ import annotations

import builtins
import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol

from ridgepole.permanences.progress.region import RESET, Region

_COLOR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = re.compile(r"\x1b\[0*m")
_ALTERNATE = re.compile(r"\x1b\[\?(?:47|1047|1049)([hl])")
ERASE_BELOW = "\x1b[J"
_TAKEN = ("write", "flush")


class Stream:
    """The `write` and `flush` of a terminal's stream while bars may be live; all passes through where they are not.

    Complete lines go above the bars. What may still change (the start of a line as of `print(".", end="")`, the rows
    of another progress display) is shown between them and the bars. A program that switches to the terminal's other
    screen has it to itself until it switches back.

    Args:
        screen: Who shows it.
        real: The stream.

    Attributes:
        real: The stream.
        raw_write: Its own `write`.
        raw_flush: Its own `flush`.
        idle: Whether it was given back, or is to be.
    """

    def __init__(self, screen: Sink, real: IO[str]) -> None:
        self._screen = screen
        self.real = real
        self.raw_write: Callable[[str], int] = real.write
        self.raw_flush: Callable[[], None] = real.flush
        self.idle = True
        self.region = Region(screen.take_back)
        self._before: dict[str, Any] | None = None  # what others had put on the stream before us
        self._held = ""  # in a forked child: the start of a line
        self._ink = ""  # colours that were switched on and not off again

    def take_over(self) -> None:
        """Takes the stream's `write` and `flush` over; also again, where somebody has put the real ones back."""
        if self._before is not None and self.real.write != self.raw_write:
            return  # there is ours, or what others have put on top of ours
        top = getattr(self.real.write, "__self__", None)
        if isinstance(top, Stream) and top.idle:  # could not leave earlier, as there was something on top of it
            top.give_back()
        self.idle = False
        with contextlib.suppress(AttributeError, TypeError):  # it can't be changed
            self._before = {name: vars(self.real)[name] for name in _TAKEN if name in vars(self.real)}
            self.raw_write, self.raw_flush = self.real.write, self.real.flush
            for name in _TAKEN:
                setattr(self.real, name, getattr(self, name))

    def give_back(self) -> None:
        """Puts the real ones back, where nobody has put something else on top."""
        self.idle = True
        if self._before is None or self.real.write != self.write:
            return
        for name in _TAKEN:
            if name in self._before:
                setattr(self.real, name, self._before[name])
            else:
                delattr(self.real, name)
        self._before = None

    def write(self, text: str) -> int:
        """Writes above the bars."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        screen = self._screen
        with screen.lock:
            if text == screen.frame:  # our own, back from a tee that it is drawn on
                self.raw_write(text)
            elif screen.engaged:  # from a signal's handler, in the middle of other output
                screen.later.append((self, text))
            else:
                screen.engaged = True
                try:
                    self._pass_on(text)
                finally:
                    screen.engaged = False
                if screen.later:
                    screen.catch_up()
        return len(text)

    def _pass_on(self, text: str) -> None:
        switch = _ALTERNATE.search(text) if "\x1b[?" in text else None
        if switch is not None:
            self._switch(text[: switch.start()], switch, text[switch.end() :])
        elif self._screen.taking_lines():
            self._take(text)
        elif self._screen.shown_by_parent() and self._is_terminal():
            self._write_in_child(text)
        else:
            self.raw_write(text)

    def _switch(self, before: str, switch: re.Match[str], behind: str) -> None:
        """Writes a text in which a program goes to the terminal's other screen, or comes back from it."""
        if before:
            self._pass_on(before)
        if switch[1] == "h":
            self._screen.lend()
        self.raw_write(switch[0])
        if switch[1] == "l":
            self.raw_flush()
            self._screen.lend_no_more()
        if behind:
            self._pass_on(behind)

    def _write_in_child(self, text: str) -> None:
        """Writes whole lines, and wipes away the parent's bars that may stand below them."""
        self._held += text
        if "\n" in text:
            whole, self._held = self._held, ""
            self.raw_write(ERASE_BELOW + whole)

    def _is_terminal(self) -> bool:
        try:
            return self.real.isatty()
        except ValueError:  # closed
            return False

    def flush(self) -> None:
        """Shows the start of a line, if there is one, and flushes the real stream."""
        with self._screen.lock:
            if self._screen.engaged:
                return
            if not self.region.empty and self._screen.taking_lines():
                self._screen.show_region()
                return
        if self._held:
            whole, self._held = self._held, ""
            self.raw_write(whole)
        self.raw_flush()

    def _take(self, text: str) -> None:
        lines = self.region.feed(text if text.isascii() else self._sayable(text))
        if lines:
            self._screen.show_lines([self._inked(line) for line in lines])

    def _sayable(self, text: str) -> str:
        """What the stream makes of a text in its encoding; raises as the stream does where it can't say it."""
        encoding = getattr(self.real, "encoding", None) or "utf-8"
        return text.encode(encoding, getattr(self.real, "errors", None) or "strict").decode(encoding, "replace")

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
    """What a stream needs of the screen that shows its lines.

    Attributes:
        engaged: Whether the thread that holds the lock is in the middle of output.
        frame: What the screen itself is writing just now.
        later: Output that came from the very thread that was engaged.
    """

    engaged: bool
    frame: str | None
    later: list[tuple[Stream, str]]

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Taken for whatever changes what is shown."""
        ...

    def catch_up(self) -> None:
        """Writes what came while the thread was engaged."""
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

    def lend(self) -> None:
        """Takes the bars off: another program has gone to the terminal's other screen."""
        ...

    def lend_no_more(self) -> None:
        """Shows the bars again: it has come back."""
        ...


class Redirection:
    """Takes over the streams that write to one terminal, and gives them back.

    Args:
        screen: Who shows what is written.
    """

    def __init__(self, screen: Sink) -> None:
        self._screen = screen
        self._streams: dict[int, Stream] = {}
        self._input: tuple[Callable[..., str], Callable[..., str]] | None = None

    def stream(self, real: IO[str]) -> Stream:
        """What is taken over of a stream: always the same object."""
        stream = self._streams.get(id(real))
        if stream is None:
            stream = self._streams[id(real)] = Stream(self._screen, real)
        return stream

    @property
    def streams(self) -> list[Stream]:
        """All that were ever taken over."""
        return list(self._streams.values())

    def take_over(self, terminal: IO[str]) -> None:
        """Takes over the streams of this terminal, whichever there are by now: those of `sys`, and the one given.

        What others have put in the place of `sys.stdout` (a tee into a file) is left alone: it leads to the real one.
        """
        known = [one for one in (sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr) if one is not None]
        for stream in (terminal, *(one for one in known if _is_real(one) and same_terminal(one, terminal))):
            taken = self._streams.get(id(stream))
            if taken is None:
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
                taken = self.stream(stream)
            taken.take_over()

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

    def give_back(self) -> None:
        """Gives all streams back."""
        for stream in self.streams:
            stream.give_back()


def real(stream: IO[str]) -> IO[str]:
    """The terminal's own stream, where something else (a tee into a file) was put in its place."""
    for place, own in ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)):
        if stream is place and own is not None and not _is_real(stream) and same_terminal(own, stream):
            return own
    return stream


def _is_real(stream: object) -> bool:
    """Whether a stream writes by itself, not through another one."""
    return isinstance(stream, (io.TextIOWrapper, codecs.StreamWriter, codecs.StreamReaderWriter))


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
