"""Print for the command line: results to stdout, aligned columns, colour only on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from ridgepole.errors import width_of

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}

STATUS_COLOURS = {
    "finished": "green",
    "running": "bold",
    "failed": "red",
    "crashed": "red",
    "interrupted": "yellow",
    "pruned": "dim",
    "finished_with_cleanup_errors": "yellow",
}


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Colour a text if the stream is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or colour not in _CODES:
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


class ReaderGone(Exception):  # noqa: N818 - not an error: the reader, such as `head`, has closed the pipe
    """The reader of stdout is gone."""


def say(text: str = "", *, flush: bool = False) -> None:
    """Print a line of the result.

    Args:
        text: The line.
        flush: Whether to show it at once, while the command continues.

    Raises:
        ReaderGone: If the reader of stdout is gone.
    """
    if sys.stdout is None:  # closed by the caller: `>&-`
        return
    try:
        sys.stdout.write(_encodable(text, sys.stdout) + "\n")
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def complain(text: str) -> None:
    """Print a message on stderr; do nothing if stderr is closed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(_encodable(text, sys.stderr) + "\n")
        sys.stderr.flush()


def flush() -> None:
    """Flush stdout and stderr; ignore a reader that is gone, also at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _encodable(text: str, stream: TextIO) -> str:
    """Replace the characters that the stream's encoding lacks, so that printing never fails."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def say_json(value: Any, *, indent: int | None = 2, flush: bool = False) -> None:
    """Print a result as strict JSON, in characters that the stream's encoding has.

    Args:
        value: The result.
        indent: Spaces for each level, or None for a single line.
        flush: As for `say`.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    say(json.dumps(value, indent=indent, ensure_ascii=not encoding.startswith("utf"), allow_nan=False), flush=flush)


def columns(
    rows: Iterable[Sequence[str]], heads: Sequence[str], colours: dict[str, str] | None = None, *, repeated: int = 0
) -> None:
    """Print rows in aligned columns.

    Args:
        rows: The cells of each row.
        heads: The heads of the columns.
        colours: Cell text to colour.
        repeated: If not 0, a terminal that is too narrow gets several tables, each of them with
            this many of the first columns.
    """
    table = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(width_of(row[i]) for row in table) for i in range(len(heads))]
    first, room = 0, _terminal_width()
    for end in range(repeated + 2, len(heads) + 1) if repeated else ():
        chosen = [*range(repeated), *range(max(first, repeated), end)]
        if len(chosen) > repeated + 1 and _width(widths[i] for i in chosen) > room:
            _print(table, widths, chosen[:-1], colours or {})
            say()
            first = end - 1
    _print(table, widths, [*range(repeated if first else 0), *range(first, len(heads))], colours or {})


def _terminal_width() -> int:
    """Return the width of the terminal in columns, or `sys.maxsize` if stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else sys.maxsize


def left_out(rows: Sequence[Sequence[str]], heads: Sequence[str], order: Iterable[int]) -> set[int]:
    """Return the columns that a terminal has no room for.

    Args:
        rows: The cells of each row.
        heads: The heads of the columns.
        order: The columns that may be left out, the least telling first.
    """
    room = _terminal_width()
    widths = dict(enumerate(max(width_of(row[i]) for row in (heads, *rows)) for i in range(len(heads))))
    gone: set[int] = set()
    for column in order:
        if _width(widths.values()) <= room:
            break
        gone.add(column)
        del widths[column]
    return gone


def _width(widths: Iterable[int]) -> int:
    return sum(width + 2 for width in widths) - 2


def _print(
    table: Sequence[Sequence[str]], widths: Sequence[int], chosen: Sequence[int], colours: dict[str, str]
) -> None:
    for number, row in enumerate(table):
        cells = []
        for cell, width in ((row[i], widths[i]) for i in chosen):
            colour = "bold" if number == 0 else colours.get(cell, "")
            cells.append(paint(cell, colour, sys.stdout) + " " * (width - width_of(cell)))
        say("  ".join(cells).rstrip())


def working_directory() -> Path | None:
    """Return the working directory; None if it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def near(path: Path, here: Path | None = None) -> str:
    """Return a path relative to the working directory, if that is shorter.

    Args:
        path: The path; absolute if `here` is given.
        here: The directory in which the command was given, if code may have changed it since.
    """
    start = here or working_directory()
    if start is None or not start.is_dir():  # it was removed: nothing can be reached from there
        return str(path)
    relative = os.path.relpath(path, start)
    return relative if len(relative) < len(str(path)) else str(path)


def number(value: Any) -> str:
    """Format a metric's value."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def cell(value: Any, width: int = 60) -> str:
    """Format any value as one cell of a table, without control characters, and not too wide."""
    text = number(value) if not isinstance(value, list | dict) else json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def seconds(value: Any) -> str:
    """Format a duration."""
    if not isinstance(value, int | float):
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def when(stamp: Any) -> str:
    """Format a time stamp in UTC, to the second; a dash if there is none."""
    if not isinstance(stamp, int | float):
        return "-"
    try:
        return f"{datetime.fromtimestamp(stamp, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):  # a damaged record
        return "-"


def size(count: int) -> str:
    """Format a number of bytes, in powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def ago(stamp: float, now: float | None = None) -> str:
    """Format the time since a time stamp, in its largest unit."""
    passed = max(0.0, (time.time() if now is None else now) - stamp)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed >= length:
            return f"{int(passed // length)} {unit} ago"
    return f"{int(passed)} s ago"


def counted(number: int, noun: str) -> str:
    """Format a count, such as `1 process` or `2 processes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
