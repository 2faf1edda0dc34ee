"""Rows on a terminal.

After every frame the cursor stands, visible, at the start of the row above the bars. So each frame erases what is
below the cursor and draws anew: it needs to know nothing about the frame before. A resize, a line that a subprocess
writes, or the death of the process at any moment leaves nothing behind that the next line would not overwrite.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from ridgepole.permanences.progress.display import IDLE_SECONDS, Display, Source
from ridgepole.permanences.progress.region import LOOKS, Region, cut
from ridgepole.permanences.progress.rows import Painter
from ridgepole.permanences.progress.streams import Redirection, Stream, real
from ridgepole.permanences.progress.task import LazyTask

# A synchronised update (DEC private mode 2026): terminals that know it show the frame at once, others ignore it.
BEGIN = "\x1b[?2026h"
END = "\x1b[?25h\x1b[?2026l"
# This row, then all below from the next row on: erasing from the screen's first cell makes some terminals (tmux) keep
# what was there in their history, frame by frame. The cursor is saved, as there may be no next row.
ERASE = "\r\x1b[K\x1b7\x1b[B\x1b[J\x1b8"
TAIL_PERIOD = 0.05
NOTE_PERIOD = 0.5
HISTORY_LINES = 200


class Screen(Display):
    """A terminal with bars at its lower end. Several managers share it.

    Args:
        console: The first manager's console: where to draw, and with which colours.
    """

    shows = True

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._painter = Painter(console)
        self._redirection = Redirection(self)
        self._out = self._redirection.stream(real(console.file))
        self._open = False
        self._in_child = False
        self.frame: str | None = None
        self.later: list[tuple[Stream, str]] = []
        self._lent = False
        self._paused_at = 0.0
        self._rows: list[str] = []
        self._seen: object = None
        self._history: deque[str] = deque(maxlen=HISTORY_LINES)
        self._lifted = 0  # rows between the cursor and the first row that is drawn anew
        self._idle_since: float | None = None
        self._drawn_at = 0.0
        self._noted_at = 0.0

    def attach(self, source: Source) -> None:
        """Shows the tasks of a source from now on."""
        with self.guarded():
            self._idle_since = None
        super().attach(source)
        with self.guarded():
            if self._sources:
                self._redirection.take_over(self._out.real)
                self._redirection.install_input(self._asking)

    # -- frames -------------------------------------------------------------------------------------------------

    def paint(self, *, force: bool = False) -> None:
        """Draws where something has changed; leaves the rows behind where nothing runs any more."""
        if self.pauses:
            return
        clock = time.monotonic()
        tasks = self._look(clock)
        if self._left_alone(clock):
            self.settle()
            return
        if not tasks and not self._open:
            return
        self._redirection.take_over(self._out.real)  # again: others may have put new streams in place
        size = self._size()
        seen = (
            size,
            int(clock),
            [(task.id, task.completed, task.note_text, task.status, task.ended) for task in tasks],
        )
        if seen == self._seen and not force:
            return
        self._seen = seen
        rows = self._draw_rows(tasks, max(1, size.columns - 1), max(1, size.lines - 1))
        if rows != self._rows or force or not self._open:
            self._rows = rows
            self._ensure_open(size.columns)
            self._frame()

    def _look(self, clock: float) -> list[LazyTask]:
        """The tasks to show, with their counts taken in."""
        wanted = clock - self._noted_at >= NOTE_PERIOD
        if wanted:
            self._noted_at = clock
        tasks = []
        for source in self._sources:
            now = source.now()
            for task in source.tasks():
                task.look(now)
                task.note_wanted |= wanted
                if task.visible and not task.retired:
                    tasks.append(task)
        return tasks

    def _draw_rows(self, tasks: list[LazyTask], width: int, height: int) -> list[str]:
        if not tasks:
            return []
        now = tasks[0].get_time()
        if len(tasks) <= height:
            return self._painter.paint(tasks, now, width)
        # More rows than the screen has: those that run come first, but keep their order on the screen.
        chosen = sorted(range(len(tasks)), key=lambda at: (tasks[at].ended, at))[: height - 1]
        rows = self._painter.paint([tasks[at] for at in sorted(chosen)], now, width)
        return [*rows, self._painter.more(len(tasks) - len(chosen), width)]

    def _size(self) -> os.terminal_size:
        """Columns and rows: what the console says, but never more than the terminal has (`COLUMNS` may be stale)."""
        size = self._console.size
        try:
            own = os.get_terminal_size(self._out.real.fileno())
        except (AttributeError, OSError, ValueError):
            return os.terminal_size((size.width, size.height))
        return os.terminal_size((min(size.width, own.columns or 80), min(size.height, own.lines or 25)))

    def _frame(self, above: str = "") -> None:
        """Writes one frame: lines above, what may still change of foreign output, the bars, and the cursor back up."""
        size = self._size()
        region = self._live_region()
        lines, row = (region.visible(), region.row) if region else ([""], 0)
        hidden = max(0, len(lines) - max(1, size.lines - len(self._rows)))  # more than there is room for
        lines, row = [cut(line, size.columns) for line in lines[hidden:]], max(0, row - hidden)
        below = len(lines) - 1 - row + len(self._rows)
        across = cell_len(LOOKS.sub("", lines[row]))
        back = (f"\x1b[{below}A\r" if below else "\r") + (f"\x1b[{across}C" if across else "")
        start = self._to_top()
        self._lifted = row
        self._write(BEGIN + start + ERASE + above + "\r\n".join([*lines, *self._rows]) + back + END)
        self._drawn_at = time.monotonic()

    def _live_region(self) -> Region | None:
        """What may still change; of two streams the one with more of it."""
        regions = [stream.region for stream in self._redirection.streams if not stream.region.empty]
        return max(regions, key=lambda region: len(region.lines), default=None)

    def _to_top(self) -> str:
        """Moves the cursor to the first row of what is to be drawn anew."""
        return f"\x1b[{self._lifted}A" if self._lifted else ""

    def _write(self, text: str) -> None:
        self.frame = text
        try:
            self._out.raw_write(text)
            self._out.raw_flush()
        finally:
            self.frame = None

    # -- taking and giving back the terminal --------------------------------------------------------------------

    def _ensure_open(self, width: int) -> None:
        if self._open:
            return
        self._out = self._redirection.stream(real(self._console.file))
        self._redirection.take_over(self._out.real)
        # Where the cursor stands behind the start of a line, this moves to the next one; else it stays.
        self._write(" " * width + "\r")
        self._open = True

    def released(self) -> None:
        """Gives `input` and the streams back when nobody shows anything any more."""
        if self._lent:  # who has the other screen is not heard any more
            self._lent, self.pauses = False, self.pauses - 1
        self._redirection.remove_input()
        self._redirection.give_back()

    def _shut(self, rows: list[str]) -> None:
        """Leaves rows behind, above whatever comes next, and gives the terminal back."""
        if not self._open:
            return
        self._open = False
        cleared = [stream.clear() for stream in self._redirection.streams]
        lines = [line for *whole, _ in cleared for line in whole]
        self._rows, self._seen = [], None
        whole = "".join(line + "\r\n" for line in [*lines, *rows])
        # What is begun comes last of all: it may end in the middle of a code.
        self._write(BEGIN + self._to_top() + ERASE + whole + END + "".join(begun for *_, begun in cleared))
        self._lifted = 0
        self._history.clear()

    def abandon(self) -> None:
        """Gives the streams back without writing."""
        self._open = False
        for stream in self._redirection.streams:
            stream.clear()
        self.released()

    def finish(self, source: Source | None) -> None:
        """Leaves the rows of a source (of all: None) behind, for good; the others' stay live below them."""
        tasks = self._look(time.monotonic())
        mine = tasks if source is None else [task for task in source.tasks() if task in tasks]
        width = max(1, self._size().columns - 1)
        rows = self._draw_rows(mine, width, len(mine))
        if rows and not self.pauses:
            self._ensure_open(width + 1)
        others = any(task not in mine for task in tasks) or len(self._sources) > 1
        for task in mine:
            task.retired = task.ended or source is not None
        if not self._open:
            return
        if others and source is not None:
            self._rows = self._draw_rows([task for task in tasks if task not in mine], width, self._size().lines - 1)
            self._seen = None
            self._frame("".join(row + "\r\n" for row in rows))
        else:
            self._shut(rows)

    def settle(self) -> None:
        """Leaves the rows behind where nothing runs and nobody holds the screen."""
        if not self._sources or not self._idle_sources():
            return
        self.finish(None)
        self._forget_done(lambda task: task.ended)

    def _left_alone(self, clock: float) -> bool:
        """Whether nothing has been running for a while."""
        if not self._idle_sources():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = clock
        return clock - self._idle_since >= IDLE_SECONDS

    def notice(self) -> None:
        """Leaves the rows behind at once at an interactive prompt, which is not written through our streams."""
        if hasattr(sys, "ps1") or sys.flags.interactive:
            self.settle()

    # -- pauses -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the bars off and gives the terminal back for a while."""
        with self.guarded():
            self.settle()
            if not self.pauses:
                self._paused_at = time.monotonic()
                self._shut([])
            self.pauses += 1
        try:
            yield
        finally:
            with self.guarded():
                self.pauses = max(0, self.pauses - 1)
                if not self.pauses:
                    self._leave_out(time.monotonic() - self._paused_at)
                    self._come_back()

    def _leave_out(self, seconds: float) -> None:
        for source in self._sources:
            for task in source.tasks():
                task.skip(seconds)

    def _come_back(self) -> None:
        """Shows the rows again at once: what is printed next stands above them."""
        if self._sources and not self.off:
            self.paint(force=True)

    def lend(self) -> None:
        """Takes the bars off: another program has gone to the terminal's other screen."""
        with self.guarded():
            if not self._lent and self._sources:
                self.settle()
                self._shut([])
                self.pauses += 1
                self._lent = True

    def lend_no_more(self) -> None:
        """Shows the bars again: it has come back."""
        with self.guarded():
            if self._lent:
                self._lent = False
                self.pauses = max(0, self.pauses - 1)
                self._come_back()

    def _asking(self, question: Callable[..., str]) -> Callable[..., str]:
        """An `input` (also the debugger's) during which the bars are away."""

        @functools.wraps(question)
        def ask(*args: Any, **kwargs: Any) -> str:
            with self.paused():
                return question(*args, **kwargs)

        return ask

    def forked(self) -> None:
        """Falls silent in a forked child; what the child prints wipes away the bars below it, as the parent's does."""
        shown = self._open
        super().forked()
        self.pauses, self._lent, self.engaged, self.frame, self.later = 0, False, False, None, []
        if shown:
            self._in_child = True
            self._redirection.take_over(self._out.real)

    # -- what the program prints --------------------------------------------------------------------------------

    def taking_lines(self) -> bool:
        """Whether lines go above bars; where nothing runs any more the bars are left behind first."""
        if self._open and threading.current_thread() is not self._thread:
            with self.guarded():
                self.settle()
        return self._open

    def shown_by_parent(self) -> bool:
        """Whether this is a forked child, and its parent's bars may stand below what it prints."""
        return self._in_child

    def show_lines(self, lines: list[str]) -> None:
        """Shows complete lines above the bars. Errors of the terminal are the printing code's, as without bars."""
        self._history.extend(lines)
        self._frame("".join(line + "\n" for line in lines))

    def take_back(self, count: int) -> list[str]:
        """Takes the last lines that were shown off again; at most so many, those that have scrolled away included."""
        columns, room = self._size()
        room -= 1 + len(self._rows) + self._lifted
        back: list[str] = []
        while len(back) < count and self._history:
            back.insert(0, self._history.pop())
            height = max(1, -(-cell_len(LOOKS.sub("", back[0])) // max(1, columns)))
            self._lifted += height if height <= room else 0
            room = room - height if height <= room else 0
        return back

    def catch_up(self) -> None:
        """Writes what came from a signal's handler in the middle of other output."""
        while self.later and not self.engaged:
            stream, text = self.later.pop(0)
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)

    def show_region(self) -> None:
        """Shows what may still change, unless the screen was drawn just now: then the next frame does."""
        if time.monotonic() - self._drawn_at >= TAIL_PERIOD:
            self._frame()
