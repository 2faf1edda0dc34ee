"""The alerts of a run: written by any of its processes, one line of JSON each."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast, get_args, runtime_checkable

from ridgepole import rundir
from ridgepole.errors import redact
from ridgepole.files import append_lines

Level = Literal["info", "warning", "error"]
LEVELS: Final = get_args(Level)

_TITLE_LETTERS = 250
_TEXT_LETTERS = 10_000  # a flood of text must not fill the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One event of a run that a person may want to hear of.

    Attributes:
        time: When, in seconds since the epoch.
        level: `info`, `warning` or `error`.
        kind: The event: `stall`, `nan`, `spike`, `slow`, `memory`, `disk`, `finished`, `failed`,
            `best`, or `alert` for one of the user's own.
        title: A short text of one line.
        text: The details.
        step: The step of the run; None where it is not known.
        rank: The rank that tells it.
    """

    time: float
    level: Level
    kind: str
    title: str
    text: str = ""
    step: int | None = None
    rank: int = 0


@runtime_checkable
class Alerting(Protocol):
    """A run that keeps alerts and passes them on."""

    def alert(self, title: str, text: str = "", level: Level = "info") -> None:
        """Record an alert of the user's own."""


def checked_alert(title: object, text: object, level: object) -> tuple[str, str, Level]:
    """Return title, text and level of an alert of the user's own, cut to a bearable length.

    Raises:
        TypeError: If the title or the text is not text.
        ValueError: If the title is empty or the level unknown.
    """
    for name, value in (("title", title), ("text", text)):
        if not isinstance(value, str):
            raise TypeError(f"alert: the {name} must be text, not {type(value).__name__}")
    line = " ".join(str(title).split())
    if not line:
        raise ValueError("alert: the title is empty")
    if level not in LEVELS:
        raise ValueError(f"alert: the level must be one of {', '.join(LEVELS)}, not {level!r}")
    return _cut(line, _TITLE_LETTERS), _cut(str(text), _TEXT_LETTERS), cast("Level", level)


def new_alert(kind: str, level: Level, title: str, text: str = "", *, step: int | None = None, rank: int = 0) -> Alert:
    """Return an alert of now."""
    title, text, level = checked_alert(title, text, level)
    return Alert(time=time.time(), level=level, kind=kind, title=title, text=text, step=step, rank=rank)


def append_alert(directory: Path, alert: Alert, secrets: Collection[str] = ()) -> Alert:
    """Append an alert to the record in a directory, without secrets.

    Returns:
        The alert as it was written.

    Raises:
        OSError: If it can't be written.
    """
    clean = replace(alert, title=redact(alert.title, secrets), text=redact(alert.text, secrets))
    line = json.dumps(asdict(clean), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    append_lines(directory / rundir.ALERTS, line)
    return clean


def read_alerts(directory: Path, since: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the alerts in a directory after the first `since` ones; skip damaged lines.

    Returns:
        The alerts, and the number to ask with next.
    """
    lines = list(rundir.read_lines(directory / rundir.ALERTS))
    return lines[since:], len(lines)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
