"""Rows on a terminal.

After every frame the cursor is visible at the start of the row above the bars. Each frame erases
everything below the cursor and redraws it, so it does not depend on the frame before. After a
resize, a line that a subprocess writes, or a crash, the next line overwrites whatever is left.
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

from ridgepole.progress.display import IDLE_SECONDS, Display, RowSource
from ridgepole.progress.pending_output import LOOKS, cut
from ridgepole.progress.rows import RowRenderer
from ridgepole.progress.streams import Redirection, Stream, real
from ridgepole.progress.task import LazyTask

# A synchronised update (DEC private mode 2026): terminals that support it show the frame at once.
BEGIN = "\x1b[?2026h"
END = "\x1b[?25h\x1b[?2026l"
# Erase this row, then everything from the next row. Erasing from the screen's first cell makes some
# terminals (tmux) keep every frame in their history. The cursor is saved: there may be no next row.
ERASE = "\r\x1b[K\x1b7\x1b[B\x1b[J\x1b8"
# Rows don't wrap (DECAWM): some terminals (tmux) become narrow up to a quarter of a second before
# they tell the program, and a row that takes two lines would leave one behind.
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
TAIL_PERIOD = 0.05
NOTE_PERIOD = 0.5
HISTORY_LINES = 200


class Screen(Display):
    """A terminal with bars at its lower end. Several managers share it."""

    shows = True

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._renderer = RowRenderer(console)
        self._redirection = Redirection(self)
        self._out = self._redirection.stream(real(console.file))
        self._open = False
        self._in_child = False
        self.frame: str | None = None
        self.later: list[tuple[Stream, str]] = []
        self._suspended = False
        self._paused_at = 0.0
        self._rows: list[str] = []
        self._seen: object = None
        self._history: deque[str] = deque(maxlen=HISTORY_LINES)
        self._cursor_row = 0  # rows from the first redrawn row to the cursor
        self._idle_since: float | None = None
        self._drawn_at = 0.0
        self._noted_at = 0.0

    def attach(self, source: RowSource) -> None:
        """Show the tasks of a source from now on."""
        with self.guarded():
            self._idle_since = None
        super().attach(source)
        with self.guarded():
            if self._sources:
                self._redirection.take_over(self._out.real)
                self._redirection.install_input(self._asking)

    # -- frames ------------------------------------------------------------------------------------

    def paint(self, *, force: bool = False) -> None:
        """Draw if something has changed; leave the rows behind once nothing runs."""
        if self.pauses:
            return
        clock = time.monotonic()
        tasks = self._look(clock)
        if self._is_idle(clock):
            self.finish_idle()
            return
        if not tasks and not self._open:
            return
        self._redirection.take_over(self._out.real)  # again: there may be new streams
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
        """Update the tasks and return those to show."""
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
            return self._renderer.paint(tasks, now, width)
        # More rows than the screen has: running tasks are chosen first; the order stays.
        chosen = sorted(range(len(tasks)), key=lambda at: (tasks[at].ended, at))[: height - 1]
        rows = self._renderer.paint([tasks[at] for at in sorted(chosen)], now, width)
        return [*rows, self._renderer.more(len(tasks) - len(chosen), width)]

    def _size(self) -> os.terminal_size:
        """Return the console's size, limited to the terminal's (`COLUMNS` may be stale)."""
        size = self._console.size
        try:
            own = os.get_terminal_size(self._out.real.fileno())
        except (AttributeError, OSError, ValueError):
            return os.terminal_size((size.width, size.height))
        return os.terminal_size((min(size.width, own.columns or 80), min(size.height, own.lines or 25)))

    def _frame(self, above: str = "") -> None:
        """Write one frame: lines above, pending output, the bars; then move the cursor back up."""
        lines, row = self._pending_lines()
        start = self._to_top()
        self._cursor_row = row
        rows = "\r\n".join([*lines, *self._rows])
        back = _cursor_back(len(lines) - 1 - row + len(self._rows), cell_len(LOOKS.sub("", lines[row])))
        self._write(BEGIN + start + ERASE + above + NO_WRAP + rows + back + WRAP + END)
        self._drawn_at = time.monotonic()

    def _pending_lines(self) -> tuple[list[str], int]:
        """Return the pending output as rows that fit above the bars, and the cursor's row in it.

        Of two streams, the one with more pending lines is shown.
        """
        pending = [stream.pending for stream in self._redirection.streams if not stream.pending.empty]
        if not pending:
            return [""], 0
        longest = max(pending, key=lambda output: len(output.lines))
        size, lines = self._size(), longest.visible()
        hidden = max(0, len(lines) - max(1, size.lines - len(self._rows)))  # no room for these
        return [cut(line, size.columns) for line in lines[hidden:]], max(0, longest.row - hidden)

    def _to_top(self) -> str:
        """Return the code that moves the cursor to the first row to redraw."""
        return f"\x1b[{self._cursor_row}A" if self._cursor_row else ""

    def _write(self, text: str) -> None:
        self.frame = text
        try:
            self._out.raw_write(text)
            self._out.raw_flush()
        finally:
            self.frame = None

    # -- acquiring and releasing the terminal ------------------------------------------------------

    def _ensure_open(self, width: int) -> None:
        if self._open:
            return
        self._out = self._redirection.stream(real(self._console.file))
        self._redirection.take_over(self._out.real)
        # If the cursor is not at the start of a line, this moves it to the next line.
        self._write(" " * width + "\r")
        self._open = True
        for stream in self._redirection.streams:
            stream.take_held()

    def released(self) -> None:
        """Restore `input` and the streams when no source is left."""
        if self._suspended:  # the return from the other screen will not be noticed any more
            self._suspended, self.pauses = False, self.pauses - 1
        self._redirection.remove_input()
        self._redirection.restore()

    def _shut(self, rows: list[str]) -> None:
        """Leave rows behind, above the next output, and release the terminal."""
        if not self._open:
            return
        self._open = False
        cleared = [stream.clear() for stream in self._redirection.streams]
        lines = [line for *whole, _ in cleared for line in whole]
        self._rows, self._seen = [], None
        whole = "".join(line + "\r\n" for line in [*lines, *rows])
        # Unfinished lines come last: they may end in the middle of a code.
        self._write(BEGIN + self._to_top() + ERASE + whole + END + "".join(begun for *_, begun in cleared))
        self._cursor_row = 0
        self._history.clear()

    def abandon(self) -> None:
        """Restore the streams without writing."""
        self._open = False
        for stream in self._redirection.streams:
            stream.clear()
        self.released()

    def finish(self, source: RowSource | None) -> None:
        """Leave the rows of a source (None: of all) behind for good; other rows stay live below."""
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

    def finish_idle(self) -> None:
        """Leave the rows behind if nothing runs and no manager holds the screen."""
        if not self._sources or not self._idle_sources():
            return
        self.finish(None)
        self._forget_done(lambda task: task.ended)

    def _is_idle(self, clock: float) -> bool:
        """Tell whether nothing has run for `IDLE_SECONDS`."""
        if not self._idle_sources():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = clock
        return clock - self._idle_since >= IDLE_SECONDS

    def notice(self) -> None:
        """Leave the rows behind at once at an interactive prompt, which bypasses our streams."""
        if hasattr(sys, "ps1") or sys.flags.interactive:
            self.finish_idle()

    # -- pauses ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the bars and release the terminal for a while."""
        with self.guarded():
            self.finish_idle()
            if not self.pauses:
                self._paused_at = time.monotonic()
                self._shut([])
                for stream in self._redirection.streams:
                    stream.release()
            self.pauses += 1
        try:
            yield
        finally:
            with self.guarded():
                self.pauses = max(0, self.pauses - 1)
                if not self.pauses:
                    self._skip_pause(time.monotonic() - self._paused_at)
                    self._redraw()

    def _skip_pause(self, seconds: float) -> None:
        for source in self._sources:
            for task in source.tasks():
                task.skip(seconds)

    def _redraw(self) -> None:
        """Show the rows again at once, so that the next output goes above them."""
        if self._sources and not self.off:
            self.paint(force=True)

    def suspend(self) -> None:
        """Remove the bars while a program uses the terminal's alternate screen."""
        with self.guarded():
            if not self._suspended and self._sources:
                self.finish_idle()
                self._shut([])
                self.pauses += 1
                self._suspended = True

    def resume(self) -> None:
        """Show the bars again after a program has left the alternate screen."""
        with self.guarded():
            if self._suspended:
                self._suspended = False
                self.pauses = max(0, self.pauses - 1)
                self._redraw()

    def _asking(self, question: Callable[..., str]) -> Callable[..., str]:
        """Wrap `input` (also the debugger's) so that the bars are removed meanwhile."""

        @functools.wraps(question)
        def ask(*args: Any, **kwargs: Any) -> str:
            with self.paused():
                return question(*args, **kwargs)

        return ask

    def forked(self) -> None:
        """Stop drawing in a forked child; its output still erases the parent's bars below it."""
        shown = self._open
        for stream in self._redirection.streams:
            stream.drop_held()
        super().forked()
        self.pauses, self._suspended, self.engaged, self.frame, self.later = 0, False, False, None, []
        if shown:
            self._in_child = True
            self._redirection.take_over(self._out.real)

    # -- what the program prints -------------------------------------------------------------------

    def taking_lines(self) -> bool:
        """Tell whether lines go above bars; finish idle bars first."""
        if self._open and threading.current_thread() is not self._thread:
            with self.guarded():
                self.finish_idle()
        return self._open

    def awaits_frame(self) -> bool:
        """Tell whether a frame may open at any moment."""
        return bool(self._sources) and not (self._open or self.pauses or self.off)

    def open_frame(self) -> None:
        """Draw the first frame if there is anything to show."""
        with self.guarded():
            if self.awaits_frame():
                self.paint()

    def shown_by_parent(self) -> bool:
        """Tell whether this is a forked child whose output may be above its parent's bars."""
        return self._in_child

    def show_lines(self, lines: list[str]) -> None:
        """Show complete lines above the bars. The printing code gets the terminal's errors."""
        self._history.extend(lines)
        self._frame("".join(line + "\n" for line in lines))

    def take_back(self, count: int) -> list[str]:
        """Take back up to `count` of the last lines shown, including lines that scrolled away."""
        columns, room = self._size()
        room -= 1 + len(self._rows) + self._cursor_row
        back: list[str] = []
        while len(back) < count and self._history:
            back.insert(0, self._history.pop())
            height = max(1, -(-cell_len(LOOKS.sub("", back[0])) // max(1, columns)))
            self._cursor_row += height if height <= room else 0
            room = room - height if height <= room else 0
        return back

    def catch_up(self) -> None:
        """Write output that a signal handler produced in the middle of other output."""
        while self.later and not self.engaged:
            stream, text = self.later.pop(0)
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)

    def show_pending(self) -> None:
        """Show the pending output, unless the screen was just drawn: then the next frame does."""
        if time.monotonic() - self._drawn_at >= TAIL_PERIOD:
            self._frame()


def _cursor_back(below: int, across: int) -> str:
    """Return the code that moves the cursor from the last row up to the cursor's row and column."""
    return (f"\x1b[{below}A\r" if below else "\r") + (f"\x1b[{across}C" if across else "")
