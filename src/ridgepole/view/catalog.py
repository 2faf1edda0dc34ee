"""The runs that a page shows: found below the roots, read again when they change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import orjson

from ridgepole import rundir
from ridgepole.errors import RunDirError
from ridgepole.files import write_atomically
from ridgepole.labels import LABELS, read_labels
from ridgepole.rundir import RunInfo, read_run
from ridgepole.runs.row import RunRow, read_row
from ridgepole.view.columns import RunColumns
from ridgepole.view.index_cache import IndexCache
from ridgepole.view.wire import key_of

_RECORD = frozenset(
    (
        *(rundir.RUN, rundir.RESOLVED, rundir.SUMMARY, rundir.PROVENANCE, rundir.METRICS, rundir.ATTEMPTS),
        *(rundir.COPIED, rundir.PROCESSES, LABELS, rundir.MEDIA, rundir.RUN_LOG, rundir.DIFF),
        *(rundir.SYSTEM, rundir.STEPTIME, rundir.ALERTS, rundir.CONSOLES, rundir.STALLS),
    )
)
_GROWING = (
    *(rundir.METRICS, rundir.COPIED, rundir.MEDIA, rundir.RUN_LOG, rundir.SYSTEM, rundir.ALERTS, rundir.CONSOLE),
    f"{rundir.CONSOLES}/rank-0.log",
)
_FORMAT = 1
_UNFINISHED = ("running", "crashed")


@dataclass(slots=True, kw_only=True)
class Entry:
    """A run of the catalog.

    Attributes:
        key: Its name on the wire.
        root: The index of its root.
        path: The run directory.
        is_copy: Whether it is a copy of another tracker's log.
        stamp: The modification time of the directory when it was read.
        row: What was read.
        version: The version of the catalog at its last change.
        sizes: Sizes of the files that grow, at the last look.
    """

    key: str
    root: int
    path: Path
    is_copy: bool
    stamp: int
    row: RunRow
    version: int
    sizes: tuple[int, ...] = ()
    columns: RunColumns | None = None

    @property
    def is_running(self) -> bool:
        """Return whether the run was running at the last look."""
        return bool(self.row.fields["status"] == "running")


class _Place(NamedTuple):
    """A directory that may be a run; see `Entry`."""

    root: int
    path: Path
    is_copy: bool
    stamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The changes since a version.

    Attributes:
        version: The version now.
        table: Whether the table of runs changed.
        runs: Keys of runs that have something new.
    """

    version: int
    table: bool
    runs: Sequence[str]


class Catalog:
    """All runs below some roots.

    Every method may be called from any thread.

    Args:
        roots: Directories of runs, or run directories; they are resolved once.
        cache: The index on disk.
        folder: The directory in which the table of runs is kept; None to keep none.
        copies: Of each root, the directory that has other trackers' logs below it as runs.
    """

    def __init__(
        self, roots: Sequence[Path], cache: IndexCache, folder: Path | None, copies: Sequence[Path] = ()
    ) -> None:
        self.roots = [Path(os.path.realpath(root)) for root in roots]
        self._copies = copies
        self._cache, self._folder = cache, folder
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()
        self.version = 0
        self._table_version = 0

    def scan(self) -> None:
        """Read the runs that are new or have changed, and forget those that are gone."""
        with self._lock:
            known = {entry.path: entry for entry in self._entries.values()}
            stored = {} if known or self._folder is None else self._stored_rows(self._folder)
            found: dict[str, Entry] = {}
            for place in self._directories():
                entry = known.get(place.path)
                if entry is not None and entry.stamp == place.stamp:
                    found[entry.key] = entry
                    continue
                fresh = self._read(place, stored.get(str(place.path)))
                if fresh is not None:
                    fresh.columns = entry.columns if entry is not None else None
                    found[fresh.key] = fresh
            if found.keys() != self._entries.keys():
                self._changed_table()
            self._entries = found
            if not known and self._folder is not None and not _holds(stored, found.values()):
                self._store_rows(self._folder)

    def poll(self) -> None:
        """Look at the files of running runs."""
        with self._lock:
            for entry in list(self._entries.values()):
                if entry.is_running:
                    self._poll(entry)

    def _poll(self, entry: Entry) -> None:
        sizes = tuple(_size(entry.path / name) for name in _GROWING)
        if sizes != entry.sizes:
            entry.sizes = sizes
            self.touch(entry)
        if not rundir.is_owned(entry.path):
            self._reread(entry)

    def refresh(self, keys: Iterable[str]) -> None:
        """Read runs again whatever their times say, such as after a change of their labels."""
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is not None:
                    self._reread(entry)

    def touch(self, entry: Entry) -> None:
        """Note that a run has something new."""
        with self._lock:
            self.version += 1
            entry.version = self.version

    def touch_table(self) -> None:
        """Note that the table has something new."""
        with self._lock:
            self._changed_table()

    def changes(self, since: int) -> Changes:
        """Return what changed after a version."""
        with self._lock:
            runs = [entry.key for entry in self._entries.values() if entry.version > since]
            return Changes(version=self.version, table=self._table_version > since, runs=runs)

    def entries(self) -> list[Entry]:
        """Return all runs, the newest first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: (entry.path.name, -entry.root), reverse=True)

    def find(self, key: str) -> Entry | None:
        """Return a run by its key."""
        return self._entries.get(key)

    def run(self, entry: Entry) -> RunInfo:
        """Read the record of a run now.

        Raises:
            RunDirError: If it is gone.
        """
        home = self._home(entry.root, entry.is_copy)
        if _escapes(entry.path, home):
            raise RunDirError(f"run {entry.path.name} has links that lead out of {home}")
        return read_run(entry.path)

    def row(self, entry: Entry) -> RunRow:
        """Return a run's row; that of an unfinished run has the metrics up to now, once indexed."""
        columns = entry.columns
        if columns is None or not columns.complete or entry.row.fields["status"] not in _UNFINISHED:
            return entry.row
        return replace(entry.row, metrics=columns.summary())

    def columns(self, entry: Entry) -> RunColumns:
        """Return the columns of a run as far as they are indexed."""
        with self._lock:
            if entry.columns is None:
                entry.columns = self._cache.load(entry.path)
            return entry.columns

    def store(self, *, at_end: bool = False) -> None:
        """Write what is indexed to the cache."""
        for entry in self.entries():
            if entry.columns is not None:
                self._cache.store(entry.columns, least=0.0 if at_end else 0.25)

    def _changed_table(self) -> None:
        self.version += 1
        self._table_version = self.version

    def _home(self, root: int, is_copy: bool) -> Path:
        return self._copies[root] if is_copy else self.roots[root]

    def _directories(self) -> Iterable[_Place]:
        for index, root in enumerate(self.roots):
            if (root / rundir.RUN).exists():
                with contextlib.suppress(OSError):
                    yield _Place(index, root, False, root.stat().st_mtime_ns)
            else:
                yield from _folders(index, root, is_copy=False)
        for index, folder in enumerate(self._copies):
            yield from _folders(index, folder, is_copy=True)

    def _read(self, place: _Place, stored: tuple[int, RunRow] | None) -> Entry | None:
        self._changed_table()
        if stored is not None and stored[0] == place.stamp and stored[1].fields["status"] != "running":
            row: RunRow | None = stored[1]
        else:
            row = self._row(*place[:3])
        if row is None:
            return None
        return Entry(key=key_of(place.path), row=row, version=self.version, **place._asdict())

    def _row(self, root: int, path: Path, is_copy: bool) -> RunRow | None:
        if _escapes(path, self._home(root, is_copy)):
            return None
        try:
            run = read_run(path)
        except (RunDirError, OSError):
            return None
        return read_row(run, run.json(rundir.SUMMARY).get("metrics", {}))

    def _reread(self, entry: Entry) -> None:
        row = self._row(entry.root, entry.path, entry.is_copy)
        if row is not None and row != entry.row:
            entry.row = row
            with contextlib.suppress(OSError):
                entry.stamp = entry.path.stat().st_mtime_ns
            self._changed_table()
            entry.version = self.version

    def _rows_file(self, folder: Path) -> Path:
        names = "\0".join(map(str, self.roots)).encode("utf-8", "surrogateescape")
        return folder / f"{hashlib.blake2s(names, digest_size=16).hexdigest()}.rows"

    def _stored_rows(self, folder: Path) -> dict[str, tuple[int, RunRow]]:
        try:
            stored = orjson.loads(self._rows_file(folder).read_bytes())
            if stored["format"] != _FORMAT:
                return {}
            return {
                path: (stamp, RunRow(path=path, fields=fields, config=config, metrics=metrics))
                for path, stamp, fields, config, metrics in stored["rows"]
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _store_rows(self, folder: Path) -> None:
        rows = [
            [str(entry.path), entry.stamp, entry.row.fields, entry.row.config, entry.row.metrics]
            for entry in self._entries.values()
        ]
        with contextlib.suppress(OSError, TypeError):  # it only saves time
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._rows_file(folder), orjson.dumps({"format": _FORMAT, "rows": rows}), 0o600)


def _folders(root: int, folder: Path, *, is_copy: bool) -> Iterable[_Place]:
    """Yield the directories in one that may be runs."""
    try:
        listed = list(os.scandir(folder))
    except OSError:
        return
    for item in listed:
        with contextlib.suppress(OSError):
            if not item.name.startswith(".") and item.is_dir(follow_symlinks=False):
                yield _Place(root, Path(item.path), is_copy, item.stat(follow_symlinks=False).st_mtime_ns)


def labels_json(entry: Entry) -> dict[str, object]:
    """Return the labels of a run, read now."""
    labels = read_labels(entry.path)
    return {"name": labels.name, "tags": list(labels.tags), "note": labels.note, "archived": labels.archived}


def _holds(stored: Mapping[str, tuple[int, RunRow]], entries: Iterable[Entry]) -> bool:
    """Return whether the stored rows are those of the entries."""
    stamps = {str(entry.path): entry.stamp for entry in entries}
    return stamps == {path: stamp for path, (stamp, _) in stored.items()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _escapes(path: Path, root: Path) -> bool:
    """Return whether a file of a run's record is a link that leads out of the root."""
    try:
        with os.scandir(path) as items:
            links = [item.path for item in items if item.name in _RECORD and item.is_symlink()]
    except OSError:
        return False
    return any(not Path(os.path.realpath(link)).is_relative_to(root) for link in links)
