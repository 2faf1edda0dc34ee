"""Trackio's SQLite databases, one a project.

A row of `metrics` has the JSON of one call with its step and an ISO time; `configs` has the JSON of
a run's parameters. Older databases know runs by their name alone. Files of media lie in
`media/PROJECT/` beside the database.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError
from ridgepole.importers.writing import About, RunWriter, SourceRun, fingerprint
from ridgepole.loggers.local.logger import BasicLogger
from ridgepole.loggers.media_types import Histogram

KIND = "trackio"
_TYPE = "_type"
_WORDS = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
_TABLE, _HISTOGRAM = "trackio.table", "trackio.histogram"


def find_runs(path: Path) -> Iterator[SourceRun]:
    """Yield the runs of a database, or of those in a directory.

    Raises:
        RunDirError: If a database is not Trackio's.
    """
    for file in [path] if path.is_file() else sorted(path.glob("*.db")):
        with contextlib.closing(_connect(file)) as database:
            try:
                yield from list(_runs(file.absolute(), database))
            except sqlite3.Error as error:
                raise RunDirError(f"{file} can't be read as a database of Trackio: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _runs(file: Path, database: sqlite3.Connection) -> Iterator[SourceRun]:
    column = _key_column(database, "metrics")
    if column is None:
        raise RunDirError(f"{file} can't be read as a database of Trackio: it has no table of metrics")
    # The names of columns are ours, not the file's
    query = f"SELECT {column}, MIN(run_name), COUNT(*), MAX(timestamp) FROM metrics GROUP BY 1 ORDER BY MIN(timestamp)"  # noqa: S608
    for key, name, count, latest in database.execute(query):
        config = _config(database, key)
        yield SourceRun(
            kind=KIND,
            source=file,
            key=str(key),
            fingerprint=fingerprint([count, latest, sorted(config.items(), key=str)]),
            size=count,
            feed=lambda writer, key=key: _feed(writer, file, column, key),  # type: ignore[misc]
            about=About(
                pipeline=file.stem,
                name=str(name),
                params={name: value for name, value in config.items() if not name.startswith("_")},
                fields={name.strip("_").lower(): value for name, value in config.items() if name.startswith("_")},
            ),
        )


def _key_column(database: sqlite3.Connection, table: str) -> str | None:
    names = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
    return next((name for name in ("run_id", "run_name") if name in names), None)


def _config(database: sqlite3.Connection, key: str) -> dict[str, Any]:
    column = _key_column(database, "configs")
    if column is None:
        return {}
    row = database.execute(f"SELECT config FROM configs WHERE {column} = ?", (key,)).fetchone()  # noqa: S608 - our own name
    found = json.loads(row[0]) if row is not None else {}
    return found if isinstance(found, dict) else {}


def _feed(writer: RunWriter, file: Path, column: str, key: str) -> None:
    bad = 0
    with contextlib.closing(_connect(file)) as database:
        query = f"SELECT timestamp, step, metrics FROM metrics WHERE {column} = ? ORDER BY id"  # noqa: S608 - our own name
        for stamp, step, text in database.execute(query, (key,)):
            writer.advance(1)
            try:
                row, at = json.loads(text), _time(stamp)
            except ValueError:
                bad += 1
                continue
            metrics: dict[str, Any] = {}
            _sort(writer, file, "", row, (int(step), at), metrics)
            writer.row(metrics, int(step), at)
    if bad:
        writer.notes.append(f"{bad} rows can't be read")


def _time(stamp: str) -> float:
    made = datetime.fromisoformat(stamp)
    return (made if made.tzinfo is not None else made.replace(tzinfo=UTC)).timestamp()


def _sort(
    writer: RunWriter,
    file: Path,
    prefix: str,
    row: Mapping[str, Any],
    place: tuple[int, float],
    metrics: dict[str, Any],
) -> None:
    """Sort the values of a row: metrics, and media that are logged at once."""
    step, at = place
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and _TYPE in value:
            _media(writer, file, name, value, place)
        elif isinstance(value, dict):
            _sort(writer, file, f"{name}/", value, place, metrics)
        elif isinstance(value, list) and value and all(isinstance(each, dict) and _TYPE in each for each in value):
            for each in value:
                _media(writer, file, name, each, (step, at))
        else:
            metrics[name] = float(_WORDS[value]) if isinstance(value, str) and value in _WORDS else value


def _log_histogram(logger: BasicLogger, name: str, value: Mapping[str, Any], step: int) -> None:
    logger._log_histogram(name, Histogram.of_bins(value["values"], value["bins"]), step)  # noqa: SLF001 - counted already


def _media(writer: RunWriter, file: Path, name: str, value: Mapping[str, Any], place: tuple[int, float]) -> None:
    step, at = place
    if value[_TYPE] == _HISTOGRAM:
        writer.thing(lambda logger: _log_histogram(logger, name, value, step), at, name)
    elif value[_TYPE] == _TABLE and isinstance(value.get("_value"), list):
        writer.thing(lambda logger: logger.log_table(name, value["_value"], step=step), at, name)
    elif value.get("file_path"):
        writer.file(name, file.parent / "media" / str(value["file_path"]), step, at)
    else:
        writer.notes.append(f"{name}: values of the kind {value[_TYPE]!r} are not imported")
