"""A manager's `live`, and the displays for files and notebooks.

`BarsLive` is Rich's `Live` by type and names. The display that suits the output draws it: a
`Screen`, plain `Lines`, or a `Notebook`.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live

from ridgepole.launch import global_rank
from ridgepole.progress import text
from ridgepole.progress.bars import Bars
from ridgepole.progress.display import Display, RowSource, displays, is_worker
from ridgepole.progress.rows import RowRenderer
from ridgepole.progress.screen import Screen
from ridgepole.progress.task import LazyTask

LINE_SECONDS = 30.0
_OFF = ("0", "false", "off", "no")


class Lines(Display):
    """One line at the start of a task, one every 30 s while it moves, and one at its end.

    A task that is run repeatedly (a bar of every epoch) writes at most one line in 30 s, and a last
    line when the display is closed.
    """

    shows = True
    period = 1.0

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def paint(self, *, force: bool = False) -> None:  # noqa: ARG002 - a file has no redraws
        """Write what is due."""
        for source in self._sources:
            self._report(source, closing=False)
        self._forget_done(lambda task: task.end_reported)

    def notice(self) -> None:
        """Write at once that a task has begun or ended."""
        self.paint()

    def finish(self, source: RowSource | None) -> None:
        """Report the ends that have not been reported."""
        for one in self._sources if source is None else [source]:
            self._report(one, closing=True)

    def _report(self, source: RowSource, *, closing: bool) -> None:
        now = source.now()
        for task in source.tasks():
            task.look(now)
            task.note_wanted = True
            line = _due(task, now, closing=closing)
            if line:
                task.reported_at, task.reported_count = now, task.completed
                task.end_reported = task.ended or closing
                self._write(f"{task.description}: {line}\n")

    def _write(self, line: str) -> None:
        stream: IO[str] = self._console.file
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(line.encode(encoding, "replace").decode(encoding))
        stream.flush()


def _due(task: LazyTask, now: float, *, closing: bool) -> str:
    """Return the line that is due about a task, or an empty string."""
    if not task.moved or task.end_reported or task.hidden:
        return ""
    rested = task.reported_at is None or now - task.reported_at >= LINE_SECONDS
    if task.ended or closing:
        return _end(task, now) if rested or closing or task.passes == 1 else ""
    if task.reported_at is None and task.active:
        return f"{task.count_text()} started"
    # An explicitly advanced task is first reported when it has moved.
    return _middle(task, now) if rested and task.completed != task.reported_count else ""


def _middle(task: LazyTask, now: float) -> str:
    left = task.seconds_left(now)
    uneven = "expected_seconds" in task.fields
    parts = [
        task.count_text() + (f" ({_percent(task.completed, task.total)}%)" if task.total else ""),
        "" if uneven else text.pace(task.rate, task.unit),
        f"{text.duration(left)} left" if left is not None else f"{text.spent(task.seconds_spent(now))} so far",
        *_notes(task),
    ]
    return ", ".join(part for part in parts if part)


def _percent(completed: float, total: float) -> int:
    """Return the share that is done in per cent; 100 only at the end."""
    return 100 if completed >= total else min(99, round(100 * completed / total))


def _end(task: LazyTask, now: float) -> str:
    took = text.spent(task.seconds_spent(now))
    count = task.count_text()
    head = f"{count} done in {took}" if task.finished else f"stopped at {count} after {took}"
    return ", ".join(part for part in (head, text.pace(task.rate, task.unit), *_notes(task)) if part)


def _notes(task: LazyTask) -> list[str]:
    return [text.clean(task.status) if task.bar.with_status else "", task.note_text]


class Notebook(Display):
    """Shows all rows as one text in the console's width, replaced at most twice a second."""

    shows = True
    period = 0.5

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._renderer = RowRenderer(
            Console(no_color=True, color_system=None, force_terminal=False, width=console.width)
        )
        self._handle: Any = None
        self._shown = ""

    def paint(self, *, force: bool = False) -> None:  # noqa: ARG002 - unchanged text is not sent
        """Replace the text if it has changed."""
        tasks = []
        for source in self._sources:
            now = source.now()
            for task in source.tasks():
                task.look(now)
                task.note_wanted = True
                if task.visible and not task.retired:
                    tasks.append(task)
        rows = self._renderer.paint(tasks, tasks[0].get_time(), self._console.width) if tasks else []
        self._show("\n".join(rows))

    def finish(self, source: RowSource | None) -> None:  # noqa: ARG002 - all rows are in one output
        """Show the last state; the next task gets an output of its own."""
        self.paint()
        for one in self._sources:
            for task in one.tasks():
                task.retired = task.retired or task.ended
        self._handle, self._shown = None, ""

    def notice(self) -> None:
        """Leave the output behind at the end of a loop; the next cell gets its own."""
        if self._idle_sources():
            self.finish(None)
            self._forget_done(lambda task: task.ended)

    def _show(self, rows: str) -> None:
        if rows == self._shown:
            return
        self._shown = rows
        bundle = {"text/plain": rows}
        if self._handle is None:
            self._handle = importlib.import_module("IPython.display").display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class BarsLive(Live):
    """The live display of a manager's bars.

    It appears when the first task is added. `start()`, or `with`, holds it open until `stop()`.
    Otherwise it leaves its rows on the screen once nothing runs.
    """

    def __init__(self, console: Console, bars: dict[str, Bars], get_time: Callable[[], float]) -> None:
        def picture() -> RenderableType:
            return Group(*bars.values())

        super().__init__(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=picture,
        )
        self.held = False
        self.closed = False
        self.now = get_time
        self._bars = bars
        self._display: Display | None = None

    def tasks(self) -> list[LazyTask]:
        """Return all tasks, in the order of their bars."""
        return [task for bar in list(self._bars.values()) for task in list(bar.cells.values())]

    def show(self) -> None:
        """Show the tasks from now on."""
        if self.closed:
            return
        with self._lock:
            self.display.attach(self)

    def forked(self) -> None:
        """Create new locks in a forked child: the thread that holds one may be missing."""
        self._lock = threading.RLock()
        for bar in list(self._bars.values()):
            bar.forked()

    def start(self, refresh: bool = False) -> None:
        """Hold the display open until `stop`."""
        self.held = True
        self._started = True
        self.show()
        if refresh:
            self.refresh()

    def stop(self) -> None:
        """Leave the rows on the screen and release the terminal."""
        self.held = False
        self._started = False
        if self._display is not None:
            self._display.detach(self)

    def close(self) -> None:
        """Stop for good: later tasks count without a display."""
        self.stop()
        self.closed = True

    def refresh(self) -> None:
        """Draw now."""
        if any(not task.ended for task in self.tasks()):
            self.show()
        if self._display is not None:
            self._display.refresh()

    def task_changed(self) -> None:
        """Notify the display that a task has begun or ended."""
        if self._display is not None:
            self._display.task_changed()

    @property
    def display(self) -> Display:
        """Return the display in use, else the one for the console's output."""
        display = self._display
        if display is None or not (display.active or display.pauses or display.off):
            display = self._display = display_for(self.console)
        return display


def display_for(console: Console) -> Display:
    """Return the display for a console's output; managers on one terminal share it."""
    off = os.environ.get("RIDGEPOLE_PROGRESS", "").lower() in _OFF
    if global_rank() != 0 or console.quiet or off or is_worker():
        return Display()
    if console.is_jupyter:
        return Notebook(console)
    if not draws_on(console):
        return Lines(console)
    return displays().screen(console, Screen)


def draws_on(console: Console) -> bool:
    """Tell whether bars can be drawn: on a terminal, or if the console is forced to be one."""
    if not console.is_terminal or console.is_dumb_terminal or not console.is_interactive:
        return False
    if os.environ.get("FORCE_COLOR") and not getattr(console, "_force_terminal", None):
        # FORCE_COLOR requests colours; it does not turn a file into a terminal.
        isatty = getattr(console.file, "isatty", None)
        return bool(isatty is not None and isatty())
    return True
