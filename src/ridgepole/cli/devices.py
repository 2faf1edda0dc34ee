"""`ridgepole devices`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence

from ridgepole.cli.output import paint, say, say_json
from ridgepole.permanences.device import Survey, survey
from ridgepole.permanences.device.report import leases, table

Line = tuple[str, str]
"""A line and its colour, empty for none."""


def call(arguments: argparse.Namespace) -> int:
    """Shows every device and what `Device()` would choose: once, or again and again until Ctrl-C."""
    once = _as_json if arguments.json else _as_table
    if arguments.watch is None:
        once(again=False)
    else:
        _watch(arguments.watch, once if arguments.json or not _can_redraw() else _Screen().show)
    return 0


def _watch(every: float, show: Callable[..., None]) -> None:
    while sys.stdout is not None:  # None: closed by the caller, so nobody looks
        show(again=True)
        time.sleep(every)


def _as_json(*, again: bool) -> None:
    # One look a line where there are many, so that a reader can take them apart.
    say_json(survey().as_dict(), indent=None if again else 2, flush=again)


def _as_table(*, again: bool) -> None:
    lines = _lines(survey())
    if again:
        lines = [(time.strftime("%Y-%m-%d %H:%M:%S"), ""), *lines, ("", "")]
    say("\n".join(paint(text, colour, sys.stdout) for text, colour in lines), flush=again)


def _lines(found: Survey) -> list[Line]:
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


def _fitting(found: Survey) -> str:
    """The table; on a terminal with no more processes named than leave room for the verdict at the end of the line."""
    drawn = table(found.rows)
    if sys.stdout is None or not sys.stdout.isatty():
        return drawn
    width = shutil.get_terminal_size().columns
    for most in (2, 1, 0):
        if max(map(len, drawn.splitlines()[: len(found.rows) + 1])) <= width:
            break
        drawn = table(found.rows, processes=most)
    return drawn


def _can_redraw() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class _Screen:
    """Draws each look over the one before it. Leaves no mode of the terminal changed, however the process ends."""

    def __init__(self) -> None:
        self._shown: Sequence[str] = ()

    def show(self, *, again: bool) -> None:  # noqa: ARG002 - called as the others are
        """Takes a look and draws it, cut to the size that the terminal has now."""
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
