"""Rows in a notebook: one output that is updated in place, without widgets."""

from __future__ import annotations

import importlib
from typing import Any

from rich.console import Console

from ridgepole.permanences.progress.display import Display, Source
from ridgepole.permanences.progress.rows import Painter


class Notebook(Display):
    """Shows all rows as one text that is replaced twice a second at most.

    Args:
        console: For the width of the rows.
    """

    shows = True
    period = 0.5

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._painter = Painter(Console(no_color=True, color_system=None, force_terminal=False, width=console.width))
        self._handle: Any = None
        self._shown = ""

    def paint(self, *, force: bool = False) -> None:  # noqa: ARG002 - what has not changed need not be sent
        """Replaces the text where it has changed."""
        tasks = []
        for source in self._sources:
            now = source.now()
            for task in source.tasks():
                task.look(now)
                task.note_wanted = True
                if task.visible and not task.retired:
                    tasks.append(task)
        rows = self._painter.paint(tasks, tasks[0].get_time(), self._console.width) if tasks else []
        self._show("\n".join(rows))

    def finish(self, source: Source | None) -> None:  # noqa: ARG002 - all rows are in one output
        """Shows the last state; the next task gets an output of its own."""
        self.paint()
        for one in self._sources:
            for task in one.tasks():
                task.retired = task.retired or task.ended
        self._handle, self._shown = None, ""

    def notice(self) -> None:
        """Leaves the output behind at the end of a loop, so that the next cell has its own."""
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
