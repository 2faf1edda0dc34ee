"""CSV files: a row of metrics a line, with the step, the time and the run in columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError, did_you_mean
from ridgepole.importers.writing import About, RunWriter, SourceRun, of_files

KIND = "csv"
ROLES = ("step", "time", "run")
_LONGEST_HEADER = 64 << 10
_GUESSES = {"step": ("step", "_step", "global_step", "epoch", "iteration"), "time": ("time", "_timestamp", "timestamp")}


def find_runs(path: Path, columns: Mapping[str, str]) -> Iterator[SourceRun]:
    """Yield the runs of a file, or of those in a directory.

    Args:
        path: The file or directory.
        columns: The columns of `step`, `time` and `run`; a column that is not named is looked for
            by its usual names. `run` tells several runs in one file apart.

    Raises:
        RunDirError: If a column is not there.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    for file in files:
        roles = _roles(file, columns)
        keys = _runs_of(file, roles["run"]) if "run" in roles else [""]
        for key in keys:
            yield SourceRun(
                kind=KIND,
                source=file.absolute(),
                key=key,
                fingerprint=of_files([file]) + str(sorted(columns.items())),
                size=file.stat().st_size,
                changed=file.stat().st_mtime,
                feed=lambda writer, file=file, roles=roles, key=key: _feed(writer, file, roles, key),  # type: ignore[misc]
                about=About(pipeline=file.stem, name=key or file.stem),
            )


def is_log(file: Path) -> bool:
    """Return whether a CSV file says by its header that it is a log: it has a column of steps."""
    try:
        with file.open("rb") as lines:
            header = next(csv.reader([lines.readline(_LONGEST_HEADER).decode("utf-8-sig", "replace")]), [])
    except (OSError, csv.Error):
        return False
    return len(header) > 1 and not set(_GUESSES["step"]).isdisjoint(header)


def _roles(file: Path, columns: Mapping[str, str]) -> dict[str, str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        header = next(csv.reader(lines), [])
    if not header:
        raise RunDirError(f"{file}: the file has no header line")
    for role, column in columns.items():
        if column not in header:
            hint = did_you_mean(column, header)
            raise RunDirError(f"{file}: there is no column {column!r} for {role}{'; ' + hint if hint else ''}")
    guesses = {role: next((name for name in names if name in header), "") for role, names in _GUESSES.items()}
    return {role: column for role, column in (guesses | dict(columns)).items() if column}


def _runs_of(file: Path, column: str) -> list[str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(dict.fromkeys(row[column] or "" for row in csv.DictReader(lines)))


def _feed(writer: RunWriter, file: Path, roles: Mapping[str, str], key: str) -> None:
    apart = set(roles.values())
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        for row in rows:
            writer.advance(sum(len(each or "") + 1 for each in row.values() if isinstance(each, str | None)))
            if "run" in roles and (row[roles["run"]] or "") != key:
                continue
            if None in row or any(value is None for value in row.values()):
                writer.notes.append(f"{file.name}:{rows.line_num}: the row has not as many cells as the header")
            step = _step(row.get(roles.get("step", "")), writer, f"{file.name}:{rows.line_num}")
            metrics = {name: _number(text) for name, text in row.items()
                       if isinstance(name, str) and name and name not in apart and text}  # fmt: skip
            writer.row(metrics, step, _time(row.get(roles.get("time", ""))))


def _step(text: str | None, writer: RunWriter, place: str) -> int | None:
    if not text:
        return None
    try:
        number = float(text)
        if number.is_integer():
            return int(number)
    except (ValueError, OverflowError):
        pass
    writer.notes.append(f"{place}: the step {text!r} is not a whole number, and the row follows the one before")
    return None


def _number(text: str) -> Any:
    for convert in (int, float):
        try:
            value = convert(text)
        except ValueError:
            continue
        if isinstance(value, int) and abs(value) >= 2**63:
            return float(text)
        return value
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def _time(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        try:
            made = datetime.fromisoformat(text)
        except ValueError:
            return None
        return (made if made.tzinfo is not None else made.replace(tzinfo=UTC)).timestamp()
