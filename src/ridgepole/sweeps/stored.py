"""The sweeps below some directories, as the page of runs asks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ridgepole.errors import RidgepoleError
from ridgepole.sweeps.api import load_sweep
from ridgepole.sweeps.report.answers import importances_of, page_data_of, summary_of
from ridgepole.sweeps.report.view import View
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.sweepdir import SweepDir, list_sweeps
from ridgepole.view.wire import key_of

Stamp = tuple[object, ...]


class StoredSweeps:
    """The sweeps below some roots; what was read is kept until it changes.

    Args:
        roots: Directories of runs.
        ids: The ids of the sweeps; all when None.
    """

    def __init__(self, roots: Iterable[Path], ids: Collection[str | None] | None = None) -> None:
        self._roots, self._ids = [root.resolve() for root in roots], ids
        self._read: dict[Path, tuple[Stamp, SweepResult]] = {}
        self._made: dict[Path, tuple[Stamp, View, dict[str, Any]]] = {}

    def count(self) -> int:
        """Return how many there are."""
        return sum(1 for _ in self._directories())

    def listed(self) -> list[dict[str, Any]]:
        """Return a summary of each, the newest first; one that can't be read has an `error`."""
        found = []
        for directory in self._directories():
            key = key_of(directory.path)
            try:
                found.append(summary_of(key, self._load(directory)[1], directory.record().get("created")))
            except (RidgepoleError, OSError) as error:
                found.append({"key": key, "id": directory.id, "error": str(error)})
        return found

    def data(self, key: str) -> dict[str, Any] | None:
        """Return what the page draws of a sweep; None if there is no such sweep.

        Raises:
            RidgepoleError: If it can't be read.
        """
        made = self._drawn(key)
        return None if made is None else made[2]

    def importances(self, key: str) -> dict[str, Any] | None:
        """Return the importances of a sweep's parameters; None if there is no such sweep.

        Raises:
            RidgepoleError: If it can't be read.
        """
        made = self._drawn(key)
        return None if made is None else importances_of(made[1])

    def _drawn(self, key: str) -> tuple[Stamp, View, dict[str, Any]] | None:
        for directory in self._directories():
            if key_of(directory.path) != key:
                continue
            stamp, result = self._load(directory)
            made = self._made.get(directory.path)
            if made is None or made[0] != stamp or not stamp:
                view = result.report_view()
                made = stamp, view, page_data_of(result, view)
                self._made[directory.path] = made
            return made
        return None

    def _directories(self) -> Iterator[SweepDir]:
        for root in self._roots:
            for each in list_sweeps(root):
                if self._ids is None or each.id in self._ids:
                    yield each

    def _load(self, directory: SweepDir) -> tuple[Stamp, SweepResult]:
        stamp = _stamp(directory)  # first: what changes while it is read is read again
        read = self._read.get(directory.path)
        if read is None or read[0] != stamp or not stamp:
            read = stamp, load_sweep(str(directory.path))
            self._read[directory.path] = read
        return read


def _stamp(directory: SweepDir) -> Stamp:
    """Return what changes when a sweep does; empty for trials that are kept in a database."""
    try:
        files = [file.stat() for file in (directory.journal, directory.path / "sweep.json")]
    except OSError:
        return ()
    alive = directory.lock.holder() is not None
    return (alive, *((file.st_size, file.st_mtime_ns) for file in files))
