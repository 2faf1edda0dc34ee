"""A manager's `live`: Rich's `Live` by type and names, drawn by the display that the output calls for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live

from ridgepole.launch import global_rank
from ridgepole.permanences.progress.bars import Bars
from ridgepole.permanences.progress.display import Display, displays, is_worker
from ridgepole.permanences.progress.lines import Lines
from ridgepole.permanences.progress.notebook import Notebook
from ridgepole.permanences.progress.screen import Screen
from ridgepole.permanences.progress.task import LazyTask


class BarsLive(Live):
    """The live display of a manager's bars.

    It shows itself when the first task is added. `start()`, or `with`, holds it open until `stop()`; otherwise it
    leaves its rows on the screen when nothing runs any more.

    Args:
        console: Where to draw.
        bars: All bars by name: the manager's own dictionary.
        get_time: The clock, in seconds.
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
        """All tasks, in the order of their bars."""
        return [task for bar in list(self._bars.values()) for task in list(bar.cells.values())]

    def show(self) -> None:
        """Shows the tasks from now on, where they are not shown already."""
        if self.closed:
            return
        with self._lock:
            self.display.attach(self)

    def forked(self) -> None:
        """Makes the locks anew in a forked child, where the thread that holds one may be missing."""
        self._lock = threading.RLock()
        for bar in list(self._bars.values()):
            bar.forked()

    def start(self, refresh: bool = False) -> None:
        """Holds the display open until `stop`.

        Args:
            refresh: Also draw at once.
        """
        self.held = True
        self._started = True
        self.show()
        if refresh:
            self.refresh()

    def stop(self) -> None:
        """Leaves the rows on the screen as they are and gives the terminal back."""
        self.held = False
        self._started = False
        if self._display is not None:
            self._display.detach(self)

    def close(self) -> None:
        """Stops for good: what is tracked later counts, and shows nothing."""
        self.stop()
        self.closed = True

    def refresh(self) -> None:
        """Draws now."""
        if any(not task.ended for task in self.tasks()):
            self.show()
        if self._display is not None:
            self._display.refresh()

    def task_changed(self) -> None:
        """Learns that a task has begun or ended."""
        if self._display is not None:
            self._display.task_changed()

    @property
    def display(self) -> Display:
        """The display in use; where there is none, that of the terminal, which others may be drawing on or pausing."""
        display = self._display
        if display is None or not (display.active or display.pauses or display.off):
            display = self._display = display_for(self.console)
        return display


def display_for(console: Console) -> Display:
    """The display that a console's output calls for; one for all managers that share a terminal."""
    if global_rank() != 0 or console.quiet:
        return Display()
    if console.is_jupyter:
        return Notebook(console)
    if not draws_on(console):
        return Lines(console)
    return Display() if is_worker() else displays().screen(console, Screen)


def draws_on(console: Console) -> bool:
    """Whether bars can be drawn: on a terminal that is not dumb, or where the console was told that it is one."""
    if not console.is_terminal or console.is_dumb_terminal or not console.is_interactive:
        return False
    if os.environ.get("FORCE_COLOR") and not getattr(console, "_force_terminal", None):
        # FORCE_COLOR asks for colours; it does not make a file a terminal.
        isatty = getattr(console.file, "isatty", None)
        return bool(isatty is not None and isatty())
    return True
