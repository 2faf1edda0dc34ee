"""A run in the terminal: status, curves and the tail of the log, as text that rich can draw."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepole import rundir
from ridgepole.metrics.summary import goal_of
from ridgepole.rundir import RunInfo
from ridgepole.view.columns import Points, RunColumns
from ridgepole.view.container import Array
from ridgepole.view.reduce import in_order, reduce

_STYLES = {"running": "bold cyan", "finished": "green", "failed": "red", "crashed": "red", "interrupted": "yellow"}
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille pattern by row and column, as the Unicode standard numbers the dots."""
_ROWS = 5
_TAIL_BYTES = 16 << 10


def chosen_metrics(columns: RunColumns, patterns: Sequence[str], most: int) -> list[str]:
    """Return the metrics to draw: those that fit a pattern, else those with a known goal first."""
    names = list(columns.metrics)
    if patterns:
        names = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    else:
        names.sort(key=lambda name: goal_of(name) is None)
    return names[:most]


def render(
    run: RunInfo, columns: RunColumns, *, patterns: Sequence[str], width: int, height: int, now: float
) -> RenderableType:
    """Return one picture of a run, at most as large as the terminal.

    Args:
        run: The run.
        columns: Its numbers, up to now.
        patterns: Patterns of the metrics to draw; the most telling ones if empty.
        width: Columns of the terminal.
        height: Rows of the terminal.
        now: Seconds since the epoch.
    """
    across = 2 if width >= 100 else 1
    panel = _ROWS + 2
    names = chosen_metrics(columns, patterns, across * max(1, (height - 8) // panel))
    grid = Table.grid(padding=(0, 2))
    if patterns and not names:
        logged = ", ".join(columns.metrics) or "nothing yet"
        grid.add_row(_printable(f"no metric fits {' or '.join(map(repr, patterns))}; logged is: {logged}"))
    for at in range(0, len(names), across):
        grid.add_row(*(_curve(name, columns.points(name), width // across - 2) for name in names[at : at + across]))
    used = 2 + panel * math.ceil(len(names) / across)
    tail = _tail(run.path / rundir.RUN_LOG, max(0, min(8, height - used - 1)), width)
    return Group(_head(run, columns, now), grid, tail)


def _head(run: RunInfo, columns: RunColumns, now: float) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(run.status.replace("_", " "), _STYLES.get(run.status, ""))
    text.append(_printable(f" · {run.labels.name or run.id} · {run.fields.get('pipeline') or '-'}"))
    steps = columns.step.view()
    if len(steps):
        text.append(f" · step {int(steps[-1])}")
    started, ended = run.fields.get("started"), run.fields.get("ended")
    if isinstance(started, int | float):
        passed = int((ended if isinstance(ended, int | float) else now) - started)
        text.append(f" · {passed // 3600}:{passed // 60 % 60:02d}:{passed % 60:02d}")
    return text


def _curve(name: str, points: Points | None, width: int) -> Text:
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(_printable(name), "bold")
    if points is None or not len(points.value):
        return title
    title.append(f"  {points.value[-1]:.4g}")
    finite = points.value[np.isfinite(points.value)]
    if len(finite):
        title.append(f"  {finite.min():.4g} to {finite.max():.4g}", "dim")
    plot = braille(points.step.astype("<f8"), points.value, max(10, width), _ROWS)
    return Text("\n").join([title, *(Text(line, "cyan") for line in plot), Text("")])


def braille(x: Array, y: Array, width: int, rows: int) -> list[str]:
    """Draw a curve with braille patterns, two dots wide and four high a character.

    Each column of dots has everything from its smallest to its largest value, so no spike is lost.
    """
    x, y = in_order(x, y)
    keep = np.isfinite(y)
    x, y = x[keep], y[keep]
    if not len(x):
        return [" " * width] * rows
    dots_x, dots_y = 2 * width, 4 * rows
    curve = reduce(x, y, float(x[0]), float(x[-1]), dots_x)
    low = curve.low if curve.low is not None else curve.y
    high = curve.high if curve.high is not None else curve.y
    span_x, bottom, top = float(x[-1] - x[0]) or 1.0, float(y.min()), float(y.max())
    if top - bottom == math.inf:  # halve what spans more than the largest float
        low, high, bottom, top = low / 2, high / 2, bottom / 2, top / 2
    span_y = top - bottom or 1.0
    places = ((curve.x - x[0]) / span_x * (dots_x - 1)).astype(int)
    down, up = (np.rint((each - bottom) / span_y * (dots_y - 1)).astype(int) for each in (low, high))
    cells = np.zeros((rows, width), int)
    before: tuple[int, int] | None = None
    for column, first, last in zip(places.tolist(), down.tolist(), up.tolist(), strict=True):
        lowest, highest = first, last
        if before is not None:  # join it to the column before
            lowest, highest = min(first, before[1]), max(last, before[0])
        for dot in range(lowest, highest + 1):
            row = dots_y - 1 - dot
            cells[row // 4, column // 2] |= _DOTS[row % 4][column % 2]
        before = (first, last)
    return ["".join(chr(0x2800 + cell) for cell in row) for row in cells.tolist()]


def _tail(path: Path, lines: int, width: int) -> Text:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            found = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        found = []
    shown = [Text(_printable(line)[:width], "dim") for line in found[-lines:]] if lines else []
    return Text("\n").join(shown)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "·" for char in text)
