"""MLflow's stores: a directory of files, or a SQLite database.

The layout of the directory is `EXPERIMENT/RUN/{metrics,params,tags,artifacts}` with `meta.yaml`;
a line of a metric is `TIMESTAMP VALUE STEP`, in milliseconds. The database has the tables
`experiments`, `runs`, `metrics`, `params` and `tags`. Source: https://mlflow.org/docs/latest/.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ridgepole.errors import MissingExtraError, RunDirError
from ridgepole.importers.writing import About, RunWriter, SourceRun, fingerprint, of_files

KIND = "mlflow"
_STATUSES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}
_BY_NUMBER = {3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_MAX = 1.7976931348623157e308  # the database keeps infinity as this
_SQLITE = b"SQLite format 3\0"


def find_runs(path: Path) -> Iterator[SourceRun]:
    """Yield the runs of a store that are not deleted.

    Raises:
        RunDirError: If it is not a store.
        MissingExtraError: If a directory is read and PyYAML is not installed.
    """
    if path.is_dir():
        databases = sorted(each for each in path.glob("*.db") if _is_database(each))
        if databases and not any(path.glob("*/meta.yaml")):
            for database in databases:
                yield from _of_database(database)
        else:
            yield from _of_directory(path.absolute())
    elif _is_database(path):
        yield from _of_database(path)
    else:
        raise RunDirError(f"{path} is neither a directory of MLflow's file store nor a SQLite database")


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _about(fields: Mapping[str, Any], experiment: str, params: dict[str, Any], tags: Mapping[str, str]) -> About:
    """Return the description of a run.

    Args:
        fields: Its id, name, status, start and end in milliseconds.
        experiment: The name of the experiment.
        params: The parameters.
        tags: The tags; those of MLflow itself begin with `mlflow.`.
    """
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    return About(
        pipeline=experiment,
        name=str(fields.get("name") or tags.get("mlflow.runName") or ""),
        tags=tuple(f"{key}={value}" if value else key for key, value in sorted(own.items())),
        note=tags.get("mlflow.note.content", ""),
        status=_STATUSES.get(str(fields["status"]), "running"),
        started=_seconds(fields["start_time"]),
        ended=_seconds(fields["end_time"]),
        params=params,
        fields={"run_id": fields["id"], "experiment": experiment, "tags": dict(tags)},
    )


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000


def _keep_artifacts(writer: RunWriter, folder: Path, at: float | None) -> None:
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        writer.file(file.relative_to(folder).as_posix(), file, 0, at)


def _local(uri: str) -> Path | None:
    """Return the directory of an address; None if it is not on this machine."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _artifacts(writer: RunWriter, uri: str, beside: Path, at: float | None) -> None:
    """Keep the artifacts; a store that was moved has them beside it."""
    named = _local(uri)
    if beside.is_dir():
        _keep_artifacts(writer, beside, at)
    elif named is not None and named.is_dir():
        _keep_artifacts(writer, named, at)
    elif named is None:
        writer.notes.append(f"the artifacts in {uri} are not on this machine")


# -- the directory ---------------------------------------------------------------------------------


def _of_directory(top: Path) -> Iterator[SourceRun]:
    for meta in sorted(top.glob("*/*/meta.yaml")):
        folder = meta.parent
        if folder.parent.name.startswith(".") or not (folder / "metrics").parent.is_dir():
            continue
        fields = _yaml(meta)
        if "run_id" not in fields and "run_uuid" not in fields:
            continue
        if fields.get("lifecycle_stage") == "deleted":
            continue
        experiment = str(_yaml(folder.parent / "meta.yaml").get("name") or folder.parent.name)
        status = fields.get("status")
        described = {
            "id": folder.name,
            "name": fields.get("run_name"),
            "status": _BY_NUMBER.get(status, "RUNNING") if isinstance(status, int) else status,
            "start_time": fields.get("start_time"),
            "end_time": fields.get("end_time"),
        }
        params, tags = _texts(folder / "params"), _texts(folder / "tags")
        files = sorted(each for each in (folder / "metrics").rglob("*") if each.is_file())
        yield SourceRun(
            kind=KIND,
            source=top,
            key=folder.name,
            fingerprint=of_files([meta, *files]) + fingerprint([params, tags])[:8],
            size=sum(file.stat().st_size for file in files),
            feed=lambda writer, folder=folder, files=files, fields=fields: _feed_files(writer, folder, files, fields),  # type: ignore[misc]
            about=_about(described, experiment, params, tags),
        )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "sweep", "reading MLflow's file store") from error
    with contextlib.suppress(OSError, yaml.YAMLError):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _texts(folder: Path) -> dict[str, str]:
    """Return the content of files by their name below a directory."""
    found = sorted(each for each in folder.rglob("*") if each.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8", errors="replace") for path in found}


def _feed_files(writer: RunWriter, folder: Path, files: Iterable[Path], fields: Mapping[str, Any]) -> None:
    for file in files:
        name, bad = file.relative_to(folder / "metrics").as_posix(), 0
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                writer.advance(len(line))
                try:
                    at, value, *step = line.split()
                    writer.row({name: float(value)}, int(step[0]) if step else None, int(at) / 1000)
                except ValueError:
                    bad += 1
        if bad:
            writer.notes.append(f"{name}: {bad} lines can't be read")
    _artifacts(writer, str(fields.get("artifact_uri") or ""), folder / "artifacts", writer.about.started)


# -- the database ----------------------------------------------------------------------------------


def _of_database(path: Path) -> Iterator[SourceRun]:
    with contextlib.closing(_connect(path)) as database:
        try:
            runs = database.execute(
                "SELECT run_uuid, r.name, status, start_time, end_time, r.artifact_uri, e.name FROM runs r "
                "LEFT JOIN experiments e USING (experiment_id) WHERE r.lifecycle_stage = 'active' ORDER BY start_time"
            ).fetchall()
            for row in runs:
                yield _of_row(path.absolute(), database, row)
        except sqlite3.Error as error:
            raise RunDirError(f"{path} can't be read as a database of MLflow: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _of_row(path: Path, database: sqlite3.Connection, row: tuple[Any, ...]) -> SourceRun:
    run_id, name, status, started, ended, uri, experiment = row
    params, tags = (
        dict(database.execute(f'SELECT "key", value FROM {table} WHERE run_uuid = ?', (run_id,)))  # noqa: S608 - one of two words
        for table in ("params", "tags")
    )
    count, latest = database.execute(
        "SELECT COUNT(*), MAX(timestamp) FROM metrics WHERE run_uuid = ?", (run_id,)
    ).fetchone()
    fields = {"id": run_id, "name": name, "status": status, "start_time": started, "end_time": ended}
    return SourceRun(
        kind=KIND,
        source=path,
        key=run_id,
        fingerprint=fingerprint([count, latest, sorted(fields.items(), key=str), sorted(params.items()), sorted(tags)]),
        size=count,
        feed=lambda writer: _feed_rows(writer, path, run_id, str(uri or "")),
        about=_about(fields, str(experiment or "mlflow"), params, {key: value or "" for key, value in tags.items()}),
    )


def _feed_rows(writer: RunWriter, path: Path, run_id: str, uri: str) -> None:
    with contextlib.closing(_connect(path)) as database:
        rows = database.execute(
            'SELECT "key", value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? '
            'ORDER BY timestamp, step, "key"',
            (run_id,),
        )
        place: tuple[int, int] | None = None
        metrics: dict[str, float] = {}
        for name, value, at, step, is_nan in rows:
            if place != (at, step) or name in metrics:
                _row(writer, metrics, place)
                place, metrics = (at, step), {}
            metrics[name] = math.nan if is_nan else math.copysign(math.inf, value) if abs(value) >= _MAX else value
        _row(writer, metrics, place)
    beside = path.parent.joinpath("mlruns", *Path(uri).parts[-3:])
    _artifacts(writer, uri, beside, writer.about.started)


def _row(writer: RunWriter, metrics: dict[str, float], place: tuple[int, int] | None) -> None:
    if place is not None:
        writer.row(metrics, place[1], place[0] / 1000)
        writer.advance(len(metrics))
