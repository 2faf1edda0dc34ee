"""Find the logs of other trackers below a directory, whatever their kinds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path

from ridgepole import rundir
from ridgepole.importers import csv_file, event_files, wandb_files
from ridgepole.importers.writing import SourceRun


def discover(
    root: Path, failed: Callable[[Path, Exception], object], known: Set[Path] = frozenset()
) -> Iterator[SourceRun]:
    """Yield event files, run files of W&B, and CSV files with a column of steps, as runs.

    It follows no link, and looks neither into run directories nor into hidden ones.

    Args:
        root: The directory.
        failed: Called with a log that can't be read, and the reason.
        known: Directories that need not be looked into, such as those of runs.
    """
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if rundir.RUN in names or rundir.OWNER in names:
            folders.clear()
            continue
        files = [here / name for name in sorted(names) if not name.startswith(".") and _is_file(here / name)]
        events = [file for file in files if event_files.MARK in file.name]
        runs_of_wandb = [file for file in files if file.suffix == wandb_files.SUFFIX]
        sources: list[tuple[Path, Callable[[], Iterable[SourceRun]]]] = []
        if events:
            sources.append((here, lambda files=events: event_files.runs_of(root, files)))  # type: ignore[misc]
        if runs_of_wandb:
            sources.append((here, lambda files=runs_of_wandb: wandb_files.runs_of(root, files)))  # type: ignore[misc]
        tables = (file for file in files if file.suffix == ".csv" and csv_file.is_log(file))
        sources += [(file, lambda file=file: _table(root, file)) for file in tables]  # type: ignore[misc]
        for path, read in sources:
            try:
                yield from list(read())
            except FileNotFoundError:  # it has gone meanwhile
                continue
            except (OSError, ValueError) as error:
                failed(path, error)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name not in known)
        if runs_of_wandb:
            folders.clear()  # the files of that run


def _table(root: Path, file: Path) -> Iterator[SourceRun]:
    named = file.relative_to(root)
    for run in csv_file.find_runs(file, {}):
        # Lightning and Keras call every file the same: its directory tells it from others
        run.about.name = str(named.parent if named.parent.name and file.stem == "metrics" else named.with_suffix(""))
        run.about.pipeline, run.about.started = root.name, run.changed
        yield run


def _is_file(path: Path) -> bool:
    """Return whether it is a regular file, and not a link to one."""
    return path.is_file() and not path.is_symlink()
