"""`debug`, `info`, `warning` and `error`: a stdlib logger for each instance, to the terminal and to a file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ridgepole.permanences.loggers.appendfile import AppendFile

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

DEFAULT_THEME: Mapping[str, str] = {"debug": "dim", "info": "", "warning": "yellow", "error": "bold red"}
"""Rich styles of the levels on a terminal."""

_QUIET = "ridgepole_quiet"  # on a record that another logger of the same run shows on the terminal already


def checked_level(level: str | int) -> int:
    """A level as the stdlib's number.

    Raises:
        ValueError: If it is none of `LEVELS`, in any case, nor a number.
    """
    if isinstance(level, int):
        return level
    if level.upper() not in LEVELS:
        raise ValueError(f"log_level must be one of {', '.join(LEVELS)}, not {level!r}")
    return int(getattr(logging, level.upper()))


def checked_theme(theme: Mapping[str, str] | None) -> dict[str, str]:
    """The styles of all levels, the given ones before the default.

    Raises:
        ValueError: If a key is no level.
    """
    given = {str(level).lower(): style for level, style in (theme or {}).items()}
    unknown = sorted(set(given) - set(DEFAULT_THEME))
    if unknown:
        raise ValueError(f"theme has the unknown level {unknown[0]!r}; the levels are {', '.join(DEFAULT_THEME)}")
    return {**DEFAULT_THEME, **given}


def make_log(name: str, level: str | int = "INFO", theme: Mapping[str, str] | None = None) -> logging.Logger:
    """A logger that shows messages on the terminal, known to nobody else: not in the stdlib's registry, no parents.

    Args:
        name: What the logger is called.
        level: The least level that is shown.
        theme: Rich styles by level, in place of `DEFAULT_THEME`.

    Returns:
        The logger.
    """
    log = logging.Logger(name, checked_level(level))  # noqa: LOG001 - one for each instance, and no trace of it after
    log.addHandler(TerminalHandler(checked_theme(theme)))
    return log


def quietly(log: logging.Logger, level: int, message: object, *args: object) -> None:
    """Logs to the files of a logger and not to its terminal."""
    log.log(level, message, *args, extra={_QUIET: True})


class TerminalHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: a progress display may have put its own in place."""

    def __init__(self, theme: Mapping[str, str]) -> None:
        super().__init__()
        self._theme = theme

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message in one call, coloured on a terminal unless NO_COLOR is set."""
        if getattr(record, _QUIET, False) or sys.stderr is None:
            return
        try:
            text = _text(record, datetime.fromtimestamp(record.created).strftime("%H:%M:%S"))  # noqa: DTZ006 - local
            style = self._theme.get(record.levelname.lower(), "")
            if style and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
                from rich.color import ColorSystem
                from rich.style import Style

                lines = text.split("\n")
                text = "\n".join(Style.parse(style).render(line, color_system=ColorSystem.STANDARD) for line in lines)
            _write(text + "\n")
        except (OSError, ValueError):  # the terminal is gone or closed: no reason to stop a run
            return


class FileHandler(logging.Handler):
    """Appends messages to a file, each in one write, so that processes that share it don't mix their lines.

    Attributes:
        file: The open file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = AppendFile(path)
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message; a failure is said once on the terminal and never stops a run."""
        try:
            stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            self.file.append((_text(record, stamp) + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._failed and sys.stderr is not None:
                self._failed = True
                sys.stderr.write(f"{self.file.path}: messages can't be written: {error}\n")

    def close(self) -> None:
        """Closes the file."""
        self.file.close()
        super().close()


def detach(log: logging.Logger) -> None:
    """Closes and removes the handlers that hold files; the terminal keeps working for what is said afterwards."""
    for handler in list(log.handlers):
        if isinstance(handler, FileHandler):
            log.removeHandler(handler)
            handler.close()


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
    except UnicodeEncodeError:  # a terminal that is not UTF-8
        encoding = sys.stderr.encoding or "ascii"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stderr.flush()


def _text(record: logging.LogRecord, stamp: str) -> str:
    """A message whose further lines are indented, so that a record begins where a line begins with a time."""
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that don't fit the message are no reason to stop a run
        message = f"{record.msg} {record.args!r}"
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    return f"{stamp} {record.levelname:<7} {message}".rstrip().replace("\n", "\n    ")
