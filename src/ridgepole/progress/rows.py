"""Tasks as rows of text that line up and fit the width."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from ridgepole.progress import text
from ridgepole.progress.task import LazyTask

WIDEST_BAR = 40
SHORTEST_BAR = 5
TEXT_GAP = "   "
SHORTEST_TEXT = 10
_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that rows are drawn with."""

    done: str = "━"
    rest: str = "─"
    dot: str = "•"
    cut: str = "…"


ASCII = Glyphs("#", "-", "|", "~")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The texts of one task."""

    name: str
    count: str
    rate: str
    time: str
    text: str
    share: float
    color: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Widths of the columns, in cells; 0 for one that does not fit."""

    name: int
    bar: int
    count: int
    rate: int
    time: int
    text: int


def row_of(task: LazyTask, now: float) -> Row:
    """Return the texts of a task."""
    count = task.completed
    total = task.total
    share = 1.0 if total == 0 else min(1.0, max(0.0, count / total)) if total and count == count else 0.0
    if task.ended and not task.finished:
        time = "stopped"
    else:
        time = text.duration(task.seconds_spent(now) if total is None else task.seconds_left(now))
    notes = [text.clean(task.status) if task.bar.with_status else "", task.note_text]
    return Row(
        name=task.description,
        count=f"({task.count_text()})",
        rate=text.pace(task.rate, task.unit),
        time=time,
        text=" ".join(note for note in notes if note),
        share=share,
        color=task.bar.color,
    )


def lay_out(rows: Sequence[Row], width: int) -> Layout:
    """Distribute the width.

    The bar shrinks first; then the rate, the text behind, the bar and the time are dropped.
    """
    name = min(max(cell_len(row.name) for row in rows), max(8, width // 3))
    cells = zip(*((row.count, row.rate, row.time) for row in rows), strict=True)
    count, rate, time = (max(len(cell) for cell in column) for column in cells)
    note = max(cell_len(row.text) for row in rows)
    # In steps of four, so that the bar does not change its length with every digit of a value.
    whole_note = len(TEXT_GAP) + -(-note // 4) * 4 if note else 0
    choices = [
        (rate, time, SHORTEST_BAR, whole_note),
        (0, time, SHORTEST_BAR, whole_note),
        (rate, time, SHORTEST_BAR, 0),
        (0, time, SHORTEST_BAR, 0),
        (0, time, 0, 0),
    ]
    for shown_rate, shown_time, shortest, behind in choices:
        fixed = (name + 2 if name else 0) + count + sum(cell + 3 for cell in (shown_rate, shown_time) if cell)
        room = width - fixed - 1 - behind
        if room >= shortest:
            bar = min(WIDEST_BAR, room) if room >= SHORTEST_BAR else 0
            left = room + behind - bar - len(TEXT_GAP)
            return Layout(name, bar, count, shown_rate, shown_time, left if left >= SHORTEST_TEXT else 0)
    return Layout(name, 0, count, 0, 0, 0)


class RowRenderer:
    """Turns tasks into rows that fit the encoding and colours of a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        encoding = console.encoding
        self._encoding = None if encoding.replace("-", "").startswith("utf") else encoding
        self.glyphs = Glyphs()
        drawn = self.glyphs.done + self.glyphs.rest + self.glyphs.dot + self.glyphs.cut
        if self._safe(drawn) != drawn:
            self.glyphs = ASCII
        self._color = functools.cache(self._codes)

    def _safe(self, line: str) -> str:
        """Replace characters that the encoding of the stream does not have."""
        return line if self._encoding is None else line.encode(self._encoding, "replace").decode(self._encoding)

    def _codes(self, color: str) -> tuple[str, str]:
        """Return the escape codes that switch a colour on and off; empty without colours."""
        system = _SYSTEMS.get(self.console.color_system or "")
        if system is None or self.console.no_color:
            return "", ""
        on, _, off = Style.parse(color).render("|", color_system=system).partition("|")
        return on, off

    def paint(self, tasks: Sequence[LazyTask], now: float, width: int) -> list[str]:
        """Return aligned rows of the tasks, each at most `width` cells wide."""
        if not tasks:
            return []
        rows = [row_of(task, now) for task in tasks]
        layout = lay_out(rows, width)
        return [self._line(row, layout, width) for row in rows]

    def _line(self, row: Row, layout: Layout, width: int) -> str:
        on, off = self._color(row.color)
        dim_on, dim_off = self._color("bright_black")
        full = int(layout.bar * row.share)
        name = set_cell_size(row.name, layout.name) + "  " if layout.name else ""
        bar = self.glyphs.done * full
        rest = self.glyphs.rest * (layout.bar - full)
        tail = (" " if layout.bar else "") + row.count.rjust(layout.count)
        for cell, size in ((row.rate, layout.rate), (row.time, layout.time)):
            if size:
                tail += f" {self.glyphs.dot if cell else ' '} " + cell.rjust(size)
        if layout.text and row.text:
            tail += TEXT_GAP + self._shorten(row.text, layout.text)
        name, tail = self._safe(name), self._safe(tail)
        plain = name + bar + rest + tail
        if cell_len(plain) > width:
            return set_cell_size(plain, width)
        return f"{on}{name}{bar}{off}{dim_on}{rest}{dim_off}{tail}"

    def _shorten(self, note: str, width: int) -> str:
        """Cut a text that is too long and mark the cut: half a number would be another number."""
        if cell_len(note) <= width:
            return note
        return set_cell_size(note, width - 1).rstrip() + self.glyphs.cut

    def more(self, hidden: int, width: int) -> str:
        """Return the last row if there are more tasks than rows on the screen."""
        return set_cell_size(f"+{hidden} more", width).rstrip()
