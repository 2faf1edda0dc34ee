"""Import the runs of another tracker."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ridgepole.errors import RunDirError
from ridgepole.importers.writing import Imported, Importer, SourceRun
from ridgepole.progress import track
from ridgepole.progress.tracked import TrackedIterable

SOURCES = {
    "tensorboard": "ridgepole.importers.event_files",
    "wandb": "ridgepole.importers.wandb_files",
    "mlflow": "ridgepole.importers.mlflow_store",
    "csv": "ridgepole.importers.csv_file",
    "trackio": "ridgepole.importers.trackio_db",
}
"""The trackers whose runs can be imported, and the modules that read them."""


def _bar(total: int) -> TrackedIterable[object]:
    return track(total=total, name="import", leave=False)


def import_runs(
    kind: str, path: str | Path, root: str | Path = "runs", *, columns: Mapping[str, str] | None = None
) -> Iterator[Imported]:
    """Import runs of another tracker, one after another, and show the progress.

    A run that was imported before is imported again only if its source has changed; it keeps its
    id and its labels. A source that is damaged or not complete is imported as far as it can be
    read, and `notes` of the result say what is missing.

    Args:
        kind: One of `SOURCES`.
        path: The file or directory of the tracker.
        root: The directory that holds runs.
        columns: The columns of `step`, `time` and `run` in a CSV file.

    Yields:
        What became of each run.

    Raises:
        ValueError: If the kind is unknown.
        RunDirError: If the path holds nothing of the kind, or a run can't be written.
        MissingExtraError: If a package is missing.
    """
    if kind not in SOURCES:
        raise ValueError(f"can't import from {kind!r}; the sources are {', '.join(SOURCES)}")
    path = Path(path).expanduser()
    if not path.exists():
        raise RunDirError(f"there is no {path} to import from")
    reader = importlib.import_module(SOURCES[kind])
    found: list[SourceRun] = list(reader.find_runs(path, columns or {}) if kind == "csv" else reader.find_runs(path))
    if not found:
        raise RunDirError(f"found no run of {kind} in {path}")
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(_bar(sum(run.size for run in found)))
        importer = Importer(Path(root), bar.update)
        for run in found:
            yield importer.add(run)
