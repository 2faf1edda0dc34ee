"""`debug`, `info`, `warning` and `error`: one stdlib logger per instance, to terminal and file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ridgepole.loggers.append_file import AppendFile

ExcInfo = bool | BaseException | None
"""An exception whose traceback follows a message; True for the one that is being handled."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

DEFAULT_THEME: Mapping[str, str] = {"debug": "dim", "info": "", "warning": "yellow", "error": "bold red"}
"""Rich styles of the levels on a terminal."""

# On a record that another logger of the run shows on the terminal
_FILE_ONLY = "ridgepole_file_only"


def checked_level(level: str | int) -> int:
    """Return a level as the stdlib's number.

    Raises:
        ValueError: If it is neither a number nor one of `LEVELS`, in any case.
    """
    if isinstance(level, int):
        return level
    if level.upper() not in LEVELS:
        raise ValueError(f"log_level must be one of {', '.join(LEVELS)}, not {level!r}")
    return int(getattr(logging, level.upper()))


def checked_theme(theme: Mapping[str, str] | None) -> dict[str, str]:
    """Complete the given styles by the default ones.

    Raises:
        ValueError: If a key is not a level.
    """
    given = {str(level).lower(): style for level, style in (theme or {}).items()}
    unknown = sorted(set(given) - set(DEFAULT_THEME))
    if unknown:
        raise ValueError(f"theme has the unknown level {unknown[0]!r}; the levels are {', '.join(DEFAULT_THEME)}")
    return {**DEFAULT_THEME, **given}


def checked_file_name(argument: str, name: str | None, directory: str = "log_dir") -> None:
    """Check the name of a file that a logger makes in its directory.

    Raises:
        ValueError: If it is empty or a path.
    """
    if name is not None and (not name or name != Path(name).name or "\0" in name):
        raise ValueError(f"{argument} must be the plain name of a file in {directory}, not {name!r}")


def make_log(name: str, level: str | int = "INFO", theme: Mapping[str, str] | None = None) -> logging.Logger:
    """Make a logger that writes to the terminal and is not in the stdlib's registry.

    Args:
        name: Its name.
        level: The least level that is shown.
        theme: Rich styles by level, in place of `DEFAULT_THEME`.
    """
    log = logging.Logger(name, checked_level(level))  # noqa: LOG001 - one per instance, freed with it
    log.addHandler(TerminalHandler(checked_theme(theme)))
    return log


def quietly(log: logging.Logger, level: int, message: object, *args: object, exc_info: ExcInfo = None) -> None:
    """Log to the files of a logger and not to its terminal."""
    log.log(level, message, *args, exc_info=exc_info, extra={_FILE_ONLY: True})


class TerminalHandler(logging.Handler):
    """Writes to the current `sys.stderr`, which a progress display may have replaced."""

    def __init__(self, theme: Mapping[str, str]) -> None:
        super().__init__()
        self._theme = theme

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message in one call, coloured on a terminal unless NO_COLOR is set."""
        stream = sys.stderr
        if getattr(record, _FILE_ONLY, False) or stream is None:
            return
        text = _format(record, datetime.fromtimestamp(record.created).strftime("%H:%M:%S"))  # noqa: DTZ006 - local
        style = self._theme.get(record.levelname.lower(), "")
        # A closed terminal must not stop a run.
        try:
            if style and stream.isatty() and not os.environ.get("NO_COLOR"):
                from rich.color import ColorSystem
                from rich.style import Style

                lines = text.split("\n")
                text = "\n".join(Style.parse(style).render(line, color_system=ColorSystem.STANDARD) for line in lines)
            try:
                stream.write(text + "\n")
            except UnicodeEncodeError:  # a terminal that is not UTF-8
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()
        except (OSError, ValueError):
            return


class FileHandler(logging.Handler):
    """Appends each message in one write, so that processes that share the file keep lines whole.

    Attributes:
        file: The open file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = AppendFile(path)
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message; report the first failure on the terminal, and never stop a run."""
        try:
            stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            self.file.append((_format(record, stamp) + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._failed and sys.stderr is not None:
                self._failed = True
                sys.stderr.write(f"{self.file.path}: messages can't be written: {error}\n")

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()


def detach(log: logging.Logger) -> None:
    """Close and remove the handlers that hold files; the terminal keeps working."""
    for handler in list(log.handlers):
        if isinstance(handler, FileHandler):
            log.removeHandler(handler)
            handler.close()


def _format(record: logging.LogRecord, stamp: str) -> str:
    """Indent all lines but the first, so that only the first begins with a time."""
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that don't fit the message must not stop a run
        message = f"{record.msg} {record.args!r}"
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    return f"{stamp} {record.levelname:<7} {message}".rstrip().replace("\n", "\n    ")
