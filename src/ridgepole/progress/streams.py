"""Keep the program's output whole, in order and above the bars.

The stream objects stay in place; only their `write` and `flush` are replaced. So output arrives
from every holder of a stream: `sys.stdout` and `sys.stderr`, wrappers around them (a tee, Rich's
proxies), logging handlers, Loguru, a display around ours.
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

from ridgepole.progress.pending_output import LONGEST_LINE, RESET, PendingOutput

_COLOR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = re.compile(r"\x1b\[0*m")
_ALTERNATE = re.compile(r"\x1b\[\?(?:47|1047|1049)([hl])")
ERASE_BELOW = "\x1b[J"
_TAKEN = ("write", "flush")


class Stream:
    """The `write` and `flush` of a terminal's stream while bars may be live.

    Without live bars, output passes through. Complete lines go above the bars. Pending output (an
    unfinished line as of `print(".", end="")`, the rows of another progress display) is shown
    between them and the bars. A program that switches to the terminal's alternate screen has it to
    itself until it switches back.

    Before the first frame, an unfinished line is held back, as in a line-buffered stream. Once it
    is on the terminal, bars start below it, and the rest of the line would be apart from it.

    Args:
        screen: The screen that shows the output.
        real: The stream.

    Attributes:
        real: The stream.
        raw_write: Its own `write`.
        raw_flush: Its own `flush`.
        idle: Whether it was restored, or is to be.
        pending: The output that may still change.
    """

    def __init__(self, screen: _Screen, real: IO[str]) -> None:
        self._screen = screen
        self.real = real
        self.raw_write: Callable[[str], int] = real.write
        self.raw_flush: Callable[[], None] = real.flush
        self.idle = True
        self.pending = PendingOutput(screen.take_back)
        self._before: dict[str, Any] | None = None  # replacements on the stream before ours
        self._held = ""  # an unfinished line before the first frame, or in a forked child
        self._ink = ""  # colours that are still switched on

    def take_over(self) -> None:
        """Replace the stream's `write` and `flush`, again if other code has restored them."""
        if self._before is not None and self.real.write != self.raw_write:
            return  # ours is in place, or other code has wrapped ours
        top = getattr(self.real.write, "__self__", None)
        if isinstance(top, Stream) and top.idle:  # could not be restored while it was wrapped
            top.restore()
        self.idle = False
        with contextlib.suppress(AttributeError, TypeError):  # it can't be changed
            self._before = {name: vars(self.real)[name] for name in _TAKEN if name in vars(self.real)}
            self.raw_write, self.raw_flush = self.real.write, self.real.flush
            for name in _TAKEN:
                setattr(self.real, name, getattr(self, name))

    def restore(self) -> None:
        """Restore the stream's own methods, unless other code has wrapped ours."""
        self.idle = True
        with contextlib.suppress(OSError, ValueError):  # closed, or the terminal is gone
            self.release()
        if self._before is None or self.real.write != self.write:
            return
        for name in _TAKEN:
            if name in self._before:
                setattr(self.real, name, self._before[name])
            else:
                delattr(self.real, name)
        self._before = None

    def write(self, text: str) -> int:
        """Write above the bars."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        screen = self._screen
        with screen.lock:
            if text == screen.frame:  # our own frame, back from a tee
                self.raw_write(text)
            elif screen.engaged:  # from a signal handler, in the middle of other output
                screen.later.append((self, text))
            else:
                screen.engaged = True
                try:
                    self._forward(text)
                finally:
                    screen.engaged = False
                if screen.later:
                    screen.catch_up()
        return len(text)

    def _forward(self, text: str) -> None:
        switch = _ALTERNATE.search(text) if "\x1b[?" in text else None
        if switch is not None:
            self._switch(text[: switch.start()], switch, text[switch.end() :])
        elif self._screen.taking_lines():
            self._take(text)
        elif self._screen.shown_by_parent() and self._is_terminal():
            self._write_in_child(text)
        elif self._screen.awaits_frame():
            self._hold(text)
        else:
            self.raw_write(text)

    def _switch(self, before: str, switch: re.Match[str], behind: str) -> None:
        """Write a text in which a program enters or leaves the terminal's alternate screen."""
        if before:
            self._forward(before)
        self.release()
        if switch[1] == "h":
            self._screen.suspend()
        self.raw_write(switch[0])
        if switch[1] == "l":
            self.raw_flush()
            self._screen.resume()
        if behind:
            self._forward(behind)

    def _hold(self, text: str) -> None:
        """Write whole lines, and hold an unfinished one back until it is flushed."""
        if not text.isascii():
            self._encodable(text)  # raises now, as the stream would
        whole, newline, self._held = (self._held + text).rpartition("\n")
        if newline:
            self.raw_write(whole + newline)
        # A line-buffered stream shows the rest too; one without a buffer shows everything at once.
        shows = newline or "\r" in text or getattr(self.real, "write_through", False)
        if self._held and (shows or len(self._held) > LONGEST_LINE):
            self._show_held()

    def _show_held(self) -> None:
        """Show the unfinished line above bars if there are any to show, else by itself."""
        self._screen.open_frame()
        self.release()
        self.raw_flush()

    def release(self) -> None:
        """Write the unfinished line that was held back, if any."""
        held, self._held = self._held, ""
        if held:
            self.raw_write(held)

    def take_held(self) -> None:
        """Show the unfinished line that was held back as pending output from now on."""
        held, self._held = self._held, ""
        if held:
            self.pending.feed(held if held.isascii() else self._encodable(held))

    def drop_held(self) -> None:
        """Forget the unfinished line: in a forked child it is its parent's."""
        self._held = ""

    def _write_in_child(self, text: str) -> None:
        """Write whole lines and erase the parent's bars that may be below them."""
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
        """Show the pending output, if any, and flush the real stream."""
        with self._screen.lock:
            if self._screen.engaged:
                return
            if not self.pending.empty and self._screen.taking_lines():
                self._screen.show_pending()
                return
            if self._held and self._screen.awaits_frame():
                self._show_held()
                return
        self.release()
        self.raw_flush()

    def _take(self, text: str) -> None:
        lines = self.pending.feed(text if text.isascii() else self._encodable(text))
        if lines:
            self._screen.show_lines([self._colored(line) for line in lines])

    def _encodable(self, text: str) -> str:
        """Return a text as the stream's encoding shows it; raise as the stream would."""
        encoding = getattr(self.real, "encoding", None) or "utf-8"
        return text.encode(encoding, getattr(self.real, "errors", None) or "strict").decode(encoding, "replace")

    def _colored(self, text: str) -> str:
        """Return a text in the current colours, reset at its end."""
        if "\x1b" not in text and not self._ink:
            return text
        inked = self._ink + text
        for color in _COLOR.findall(text):
            self._ink = "" if _RESET.fullmatch(color) else (self._ink + color)[-100:]
        return inked + RESET

    def clear(self) -> list[str]:
        """Release the pending output, the unfinished line last, when the bars go."""
        *lines, begun = self.pending.clear()
        lines = [self._colored(line) for line in lines]
        begun, self._ink = self._ink + begun, ""
        return [*lines, begun]


class _Screen(Protocol):
    """The part of a screen that its streams use; see `Screen`.

    Attributes:
        engaged: Whether the thread that holds the lock is in the middle of output.
        frame: The frame that the screen itself is writing now.
        later: Output of the engaged thread itself.
    """

    engaged: bool
    frame: str | None
    later: list[tuple[Stream, str]]

    @property
    def lock(self) -> AbstractContextManager[Any]: ...
    def catch_up(self) -> None: ...
    def taking_lines(self) -> bool: ...
    def shown_by_parent(self) -> bool: ...
    def show_lines(self, lines: list[str]) -> None: ...
    def take_back(self, count: int) -> list[str]: ...
    def show_pending(self) -> None: ...
    def awaits_frame(self) -> bool: ...
    def open_frame(self) -> None: ...
    def suspend(self) -> None: ...
    def resume(self) -> None: ...


class Redirection:
    """Takes over the streams that write to one terminal, and restores them."""

    def __init__(self, screen: _Screen) -> None:
        self._screen = screen
        self._streams: dict[int, Stream] = {}
        self._input: tuple[Callable[..., str], Callable[..., str]] | None = None

    def stream(self, real: IO[str]) -> Stream:
        """Return the `Stream` of a stream: always the same object."""
        stream = self._streams.get(id(real))
        if stream is None:
            stream = self._streams[id(real)] = Stream(self._screen, real)
        return stream

    @property
    def streams(self) -> list[Stream]:
        """Return all streams that were ever taken over."""
        return list(self._streams.values())

    def take_over(self, terminal: IO[str]) -> None:
        """Take over the streams that now write to this terminal: those of `sys` and the given one.

        A replacement of `sys.stdout` (a tee into a file) is left alone: it leads to the real one.
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
        """Replace `input`, whose prompt bypasses Python's streams, by what `ask` makes of it."""
        if self._input is None:
            self._input = (builtins.input, ask(builtins.input))
            builtins.input = self._input[1]

    def remove_input(self) -> None:
        """Restore the real `input`, unless other code has replaced ours."""
        if self._input is not None and builtins.input is self._input[1]:
            builtins.input = self._input[0]
        self._input = None

    def restore(self) -> None:
        """Restore all streams."""
        for stream in self.streams:
            stream.restore()


def real(stream: IO[str]) -> IO[str]:
    """Return the terminal's own stream if a wrapper (a tee into a file) has replaced it."""
    for place, own in ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)):
        if stream is place and own is not None and not _is_real(stream) and same_terminal(own, stream):
            return own
    return stream


def _is_real(stream: object) -> bool:
    """Tell whether a stream writes by itself, not through another stream."""
    return isinstance(stream, (io.TextIOWrapper, codecs.StreamWriter, codecs.StreamReaderWriter))


def same_terminal(stream: Any, terminal: IO[str]) -> bool:
    """Tell whether two streams write to the same terminal."""
    if stream is terminal:
        return True
    try:
        return bool(stream.isatty()) and _device(stream) == _device(terminal)
    except (AttributeError, OSError, ValueError):
        return False


def _device(stream: Any) -> int:
    return os.fstat(stream.fileno()).st_rdev
