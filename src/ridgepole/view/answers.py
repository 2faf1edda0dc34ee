"""The answers of the page's server as plain JSON values; the report embeds the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from ridgepole import __version__, rundir
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import CheckpointError, ConfigError, RunDirError
from ridgepole.labels import LabelsChange, checked_name, checked_note, checked_tag
from ridgepole.runs.row import FIELDS, RunRow, shown
from ridgepole.runs.table import Column, RunTable, goal
from ridgepole.view.catalog import Catalog, Entry, labels_json
from ridgepole.view.charts import QueryError, keys_in, metric_list
from ridgepole.view.copies import source_of
from ridgepole.view.watched import is_log, system, watched
from ridgepole.view.watched import log_names as more_logs

LOGS = (rundir.RUN_LOG, "console.log")
_LOG_BYTES = 256 << 10
# Without artifacts: a page shows their names and hashes, and they may be of any size
_MEDIA_FOLDERS = frozenset((rundir.FIGURES, rundir.TABLES, rundir.TEXTS, *rundir.MEDIA_FOLDERS.values())) - {
    rundir.MEDIA_FOLDERS["artifact"]
}
_LONGEST_TEXT = 8 << 20

Which = Literal["no", "yes", "only"]


class GoneError(LookupError):
    """A run, or a file of a run, that does not exist."""


def info(
    catalog: Catalog,
    instance: str,
    *,
    live: bool,
    indexing: int = 0,
    sweeps: int = 0,
    copying: int = 0,
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the page has to know first."""
    counts = [0] * len(catalog.roots)
    for entry in catalog.entries():
        counts[entry.root] += 1
    roots = [{"path": str(path), "runs": count} for path, count in zip(catalog.roots, counts, strict=True)]
    return {
        "format": 1,
        "instance": instance,
        "version": __version__,
        "live": live,
        "writable": live,
        "roots": roots,
        "indexing": indexing,
        "sweeps": sweeps,
        "copying": copying,
        "problems": list(problems),
    }


def runs(
    catalog: Catalog,
    *,
    filter: str = "",  # noqa: A002 - as everywhere
    sort: str = "",
    archived: Which = "no",
    columns: bool = True,
) -> dict[str, Any]:
    """Return the table of runs, by columns.

    Raises:
        ConfigError: If the filter or a name is wrong.
    """
    version, entries = catalog.version, catalog.entries()
    rows = [catalog.row(entry) for entry in entries]
    by_path = {row.path: entry for row, entry in zip(rows, entries, strict=True)}
    table = RunTable(rows).archived(archived).filtered(filter or None, "filter").sorted(sort or None, "sort")
    shown_entries = [by_path[row.path] for row in table.rows]
    fields: dict[str, Sequence[Any]] = {name: [row.fields[name] for row in table.rows] for name in FIELDS}
    return {
        "version": version,
        "total": len(rows),
        "archived": sum(bool(row.fields["archived"]) for row in rows),
        "keys": [entry.key for entry in shown_entries],
        "fields": {
            "root": [entry.root for entry in shown_entries],
            "copy": [entry.is_copy for entry in shown_entries],
            **fields,
        },
        "columns": [_column(column, table.rows) for column in table.columns()] if columns else [],
    }


def _column(column: Column, rows: Sequence[RunRow]) -> dict[str, Any]:
    values = column.values if column.kind == "metric" else [shown(value) for value in column.values]
    found: dict[str, Any] = {
        "id": f"{column.kind}:{column.key}",
        "kind": column.kind,
        "key": column.key,
        "label": column.label,
        "type": _type_of(values),
        "varies": column.varies,
        "values": values,
    }
    if column.kind == "metric":
        entries = [row.metrics.get(column.key, {}) for row in rows]
        found["goal"] = goal(column)
        found |= {name: [entry.get(name) for entry in entries] for name in ("best", "best_step", "last_step")}
    return found


def _type_of(values: Sequence[Any]) -> str:
    kinds = {kind.__name__ for kind in set(map(type, values)) - {type(None)}}
    if kinds <= {"int", "float"}:
        return "number"
    return {"bool": "bool", "str": "text"}.get(next(iter(kinds)), "mixed") if len(kinds) == 1 else "mixed"


def run(catalog: Catalog, entry: Entry) -> dict[str, Any]:
    """Return everything about one run but its values.

    Raises:
        GoneError: If the run is gone.
    """
    try:
        record = catalog.run(entry)
    except (RunDirError, OSError) as error:
        raise GoneError(str(error)) from error
    names = _names(entry.path)
    return {
        "key": entry.key,
        "id": record.id,
        "path": source_of(record.fields) if entry.is_copy else str(record.path),
        "writable": not entry.is_copy,
        "labels": labels_json(entry),
        "status": record.status,
        "run": record.fields,
        "processes": rundir.read_processes(record),
        "attempts": rundir.read_attempts(record.path),
        "checkpoints": _checkpoints(record.path),
        "config": record.json(rundir.RESOLVED),
        "provenance": record.json(rundir.PROVENANCE),
        "summary": catalog.row(entry).metrics,
        "logs": log_names(entry.path),
        **watched(record),
        "diff": rundir.DIFF in names,
        "media": len(media(entry)["items"]),
    }


def _names(path: Path) -> set[str]:
    try:
        return set(os.listdir(path))  # noqa: PTH208 - names alone
    except OSError:
        return set()


def _checkpoints(path: Path) -> list[dict[str, Any]]:
    try:
        found = CheckpointStore(path / rundir.CHECKPOINTS).list()
    except (CheckpointError, OSError):
        return []
    return [
        {"name": each.name, "step": each.step, "time": each.time, "score": each.score, "problem": each.problem or None}
        for each in found
    ]


def log_names(run: Path) -> list[str]:
    """Return the logs of a run, as paths below its directory: messages, consoles, stalls."""
    names = _names(run)
    return [name for name in LOGS if name in names] + more_logs(run)


def system_metrics(entry: Entry) -> dict[str, Any]:
    """Return the system metrics of a run."""
    return system(entry.path)


def log(entry: Entry, name: str, offset: int) -> dict[str, Any]:
    """Return whole lines of a log from a byte offset on; a negative one counts from the end.

    Raises:
        GoneError: If there is no such log.
    """
    if name not in LOGS and not is_log(name):
        raise GoneError(f"there is no log {name!r}")
    with open_inside(entry.path, name) as file:
        size = os.fstat(file.fileno()).st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        file.seek(start)
        data = file.read(_LOG_BYTES)
    if offset < 0 and start:  # begin with a whole line
        cut = data.find(b"\n") + 1
        start, data = start + cut, data[cut:]
    end = data.rfind(b"\n") + 1
    if (end and start + len(data) < size) or entry.is_running:
        data = data[:end]
    return {"start": start, "next": start + len(data), "size": size, "text": data.decode("utf-8", "replace")}


def diff(entry: Entry) -> dict[str, Any]:
    """Return the code that differed from the commit.

    Raises:
        GoneError: If there is none.
    """
    with open_inside(entry.path, rundir.DIFF) as file:
        return {"text": file.read(_LONGEST_TEXT).decode("utf-8", "replace")}


def media(entry: Entry, name: str | None = None, since: int = -1) -> dict[str, Any]:
    """Return the lines of `media.jsonl` after a sequence number that no resume has undone."""
    items: list[dict[str, Any]] = []
    hidden = rundir.abandoned_segments(entry.path)
    with contextlib.suppress(GoneError), open_inside(entry.path, rundir.MEDIA) as file:
        for text in file:
            line = _media_line(text)
            if line is None or line["seq"] <= since or (name is not None and line.get("name") != name):
                continue
            if not any(first <= line["seq"] < end for first, end in hidden):
                items.append(line)
    return {"items": items, "next": items[-1]["seq"] if items else since}


def _media_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = orjson.loads(text)
    except ValueError:  # torn or bad
        return None
    if not isinstance(line, dict) or type(line.get("seq")) is not int or not isinstance(line.get("kind"), str):
        return None
    return line


def open_media(entry: Entry, path: str) -> BinaryIO:
    """Open a file that `media.jsonl` names.

    Raises:
        GoneError: If there is none, or it is not a media file.
    """
    if path.partition("/")[0] not in _MEDIA_FOLDERS:
        raise GoneError(f"{path!r} is not a media file")
    return open_inside(entry.path, path)


def open_inside(directory: Path, path: str) -> BinaryIO:
    """Open a regular file below a directory, and follow no link on the way.

    Raises:
        GoneError: If there is no such file.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise GoneError(f"{path!r} is not a file of the run")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            try:
                inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        try:
            file = os.fdopen(os.open(parts[-1], flags, dir_fd=folder), "rb")
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:
        raise GoneError(f"{path!r} can't be read") from error
    if not os.path.isfile(file.fileno()):  # noqa: PTH113 - of the open file
        file.close()
        raise GoneError(f"{path!r} is not a file")
    return file


def chosen(catalog: Catalog, given: Any) -> list[Entry]:
    """Return the runs that a query names and that still exist.

    Raises:
        QueryError: If the query is malformed.
    """
    if not isinstance(given, dict):
        raise QueryError("expected an object")
    found = (catalog.find(key) for key in keys_in(given.get("runs"), "runs"))
    return [entry for entry in found if entry is not None]


def metrics(catalog: Catalog, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the metrics of some runs."""
    return metric_list([catalog.columns(entry) for entry in entries], [entry.row.metrics for entry in entries])


def change_labels(catalog: Catalog, entries: Sequence[Entry], given: Mapping[str, Any]) -> dict[str, Any]:
    """Change the labels of runs, and return them.

    Raises:
        QueryError: If a label is not valid.
        RunDirError: If one can't be written.
    """
    from dataclasses import replace

    change = _checked_change(given)
    if any(entry.is_copy for entry in entries):
        raise QueryError("a log of another tracker is only shown here; `ridgepole import` makes it a run with labels")
    for entry in entries:
        with LabelsChange(entry.path) as labels:
            tags = change.get("tags", labels.labels.tags)
            new = replace(labels.labels, tags=tuple(tags)).tagged(
                change.get("add_tags", ()), without=change.get("remove_tags", ())
            )
            labels.labels = replace(new, **{key: change[key] for key in ("name", "note", "archived") if key in change})
    catalog.refresh([entry.key for entry in entries])
    return {"labels": {entry.key: labels_json(entry) for entry in entries}}


def _checked_change(given: Mapping[str, Any]) -> dict[str, Any]:
    checks = {"name": checked_name, "note": checked_note}
    change: dict[str, Any] = {}
    try:
        for key, value in given.items():
            if key in checks:
                change[key] = checks[key](value)
            elif key in ("tags", "add_tags", "remove_tags"):
                if not isinstance(value, list):
                    raise QueryError(f"{key!r} must be a list of texts")
                change[key] = tuple(dict.fromkeys(checked_tag(tag) for tag in value))
            elif key == "archived" and isinstance(value, bool):
                change[key] = value
            elif key != "runs":
                raise QueryError(f"{key!r} can't be changed so")
    except ValueError as error:
        raise QueryError(str(error)) from error
    return change


def described(error: ConfigError) -> dict[str, Any]:
    """Return the first problem of a filter as the body of an error."""
    problem = error.problems[0]
    place = problem.place
    at = [place.column - 1, place.column - 1 + place.width] if place is not None and place.line else None
    return {"message": problem.message, "hint": problem.hint, **({"at": at} if at else {})}
