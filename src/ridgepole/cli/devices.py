"""`ridgepole devices`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence

from ridgepole.cli.output import paint, say, say_json
from ridgepole.devices import DeviceReport, survey
from ridgepole.devices.report import leases, table

Line = tuple[str, str]
"""A line and its colour, empty for none."""

_NAME, _SHORT_NAME = 16, 8
"""The characters of a device's name that stay on a narrow terminal, and on a very narrow one."""


def call(arguments: argparse.Namespace) -> int:
    """Show every device and the choice of `Device()`: once, or repeatedly until Ctrl-C."""
    once = _as_json if arguments.json else _as_table
    if arguments.watch is None:
        once(again=False)
    else:
        _watch(arguments.watch, once if arguments.json or not _can_redraw() else _Screen().show)
    return 0


def _watch(every: float, show: Callable[..., None]) -> None:
    while sys.stdout is not None:  # None: closed by the caller, so there is no reader
        show(again=True)
        time.sleep(every)


def _as_json(*, again: bool) -> None:
    # One line for each survey, so that a reader can separate them.
    say_json(survey().as_dict(), indent=None if again else 2, flush=again)


def _as_table(*, again: bool) -> None:
    lines = _lines(survey())
    if again:
        lines = [(time.strftime("%Y-%m-%d %H:%M:%S"), ""), *lines, ("", "")]
    say("\n".join(paint(text, colour, sys.stdout) for text, colour in lines), flush=again)


def _lines(found: DeviceReport) -> list[Line]:
    head, *rest = _fitting(found).splitlines()
    rows, sources = rest[: len(found.rows)], rest[len(found.rows) :]
    lines = [(head, "bold")]
    for text, row in zip(rows, found.rows, strict=True):
        lines.append((text, {"chosen": "green", "rejected": "yellow"}.get(row["verdict"], "")))
    lines += [(text, "dim") for text in sources]
    lines += [(f"  {text}", "") for text in leases(found.rows)]
    choice = f"would choose {found.chosen}" if found.chosen else "would raise an error"
    lines.append((f"Device() {choice}: {found.why}", ""))
    return lines + [(f"note: {note}", "yellow") for note in found.notes]


def _fitting(found: DeviceReport) -> str:
    """Draw the table; on a terminal so that the verdict at the end of each line still fits.

    Cut long names of devices first, to `_NAME` characters at least. Then name fewer processes.
    """
    drawn = table(found.rows)
    if sys.stdout is None or not sys.stdout.isatty():
        return drawn
    width = shutil.get_terminal_size().columns
    longest = max(len(row["name"]) for row in found.rows)
    for most, least in ((4, _NAME), (2, _NAME), (1, _NAME), (0, _NAME), (0, _SHORT_NAME)):
        excess = _width(table(found.rows, processes=most), found) - width
        drawn = table(found.rows, processes=most, name=max(least, longest - max(excess, 0)))
        if _width(drawn, found) <= width:
            break
    return drawn


def _width(drawn: str, found: DeviceReport) -> int:
    return max(map(len, drawn.splitlines()[: len(found.rows) + 1]))


def _can_redraw() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class _Screen:
    """Draw each survey over the one before it, without changing a mode of the terminal."""

    def __init__(self) -> None:
        self._shown: Sequence[str] = ()

    def show(self, *, again: bool) -> None:  # noqa: ARG002 - called as the others are
        """Survey the devices and draw them, cut to the size of the terminal."""
        from rich.cells import cell_len, set_cell_size

        lines = _lines(survey())
        width, height = shutil.get_terminal_size()
        if len(lines) > height - 1:
            hidden = len(lines) - (height - 2)
            lines = [*lines[: height - 2], (f"… {hidden} more lines", "dim")]
        cut = [(text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…", how) for text, how in lines]
        # A terminal that was made narrower has wrapped what stood there.
        up = sum(max(1, -(-cell_len(text) // width)) for text in self._shown)
        back = f"\x1b[{min(up, height - 1)}A\r\x1b[J" if up else ""
        self._shown = [text for text, _ in cut]
        say(back + "\n".join(paint(text, how, sys.stdout) for text, how in cut), flush=True)
