"""Logs of other trackers as runs: copied to the cache, and copied again when they change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole import rundir
from ridgepole.errors import MissingExtraError, RidgepoleError
from ridgepole.files import Flock

if TYPE_CHECKING:
    from ridgepole.importers.writing import Importer, SourceRun

_LOCK = ".lock"
_LEAST_SECONDS = 2.0
_SHARE = 10
"""A look and its copies may take one part in this many of the time."""
_LIVE_SECONDS = 120.0
"""A log that was written to within this time counts as that of a running run."""
_KEPT_SECONDS = 14 * 86400.0
"""Copies that no viewer has used for so long are removed."""


class _StoppedError(Exception):
    """The viewer ends."""


class LogCopies:
    """Follows the logs of other trackers below some directories, in a thread of its own.

    A copy is a run directory like any other. The directory of the copies of one root is locked, so
    of two viewers one copies and both show. Nothing is written beside the logs.

    Args:
        roots: The directories, resolved.
        folder: The directory of the cache.

    Attributes:
        folders: The directory of the copies of each root.
        problems: What could not be read, and why.
        waiting: The number of logs that the first look has yet to copy.
    """

    def __init__(self, roots: Sequence[Path], folder: Path) -> None:
        self._roots, self._folder = roots, folder / "copies"
        self.folders = [self._folder / hashlib.blake2s(os.fsencode(root), digest_size=16).hexdigest() for root in roots]
        self.problems: list[str] = []
        self.waiting = 0
        self._locks: dict[Path, Flock] = {}
        self._live: dict[Path, Flock] = {}
        self._failed: dict[tuple[str, str], tuple[str, str]] = {}
        self._has_looked = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, changed: Callable[[], None], is_shown: Callable[[], bool], known: Callable[[], Set[Path]]) -> None:
        """Start to follow the logs.

        Args:
            changed: Called when copies or problems changed, about once a second at most.
            is_shown: Returns whether a page is open.
            known: Returns directories of runs, which are not looked into.
        """
        arguments = (changed, is_shown, known)
        self._thread = threading.Thread(target=self._work, args=arguments, name="ridgepole-logs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for lock in (*self._live.values(), *self._locks.values()):
            lock.release()

    def _work(self, changed: Callable[[], None], is_shown: Callable[[], bool], known: Callable[[], Set[Path]]) -> None:
        self._remove_unused()
        pause = 0.0
        while not self._stop.wait(pause):
            pause = _LEAST_SECONDS
            if not is_shown():
                continue
            began = time.monotonic()
            with contextlib.suppress(_StoppedError, OSError):
                self._look(known(), changed)
            pause = max(_LEAST_SECONDS, _SHARE * (time.monotonic() - began))

    def _look(self, known: Set[Path], changed: Callable[[], None]) -> None:
        from ridgepole.importers.discover import discover

        unread: list[str] = []
        found = [
            list(discover(root, lambda path, error: unread.append(_told(path, error)), known)) for root in self._roots
        ]
        self.waiting = 0 if self._has_looked else sum(map(len, found))
        seen = {(str(source.source), source.key) for sources in found for source in sources}
        self._failed = {place: failure for place, failure in self._failed.items() if place in seen}
        for folder, sources in zip(self.folders, found, strict=True):
            if sources or folder.exists():
                with contextlib.suppress(OSError):  # a cache that can't be written
                    self._copy(folder, sources, changed)
        problems = sorted({*unread, *(told for _, told in self._failed.values())})
        if self.waiting or problems != self.problems:
            self.waiting, self.problems = 0, problems
            changed()
        self._has_looked = True

    def _copy(self, folder: Path, sources: Sequence[SourceRun], changed: Callable[[], None]) -> None:
        from ridgepole.importers.writing import Importer

        if not self._owns(folder):
            return
        importer = Importer(folder, self._advance)
        is_new, told = importer.remove_others(sources), time.monotonic()
        for source in sources:
            is_new |= self._add(importer, source)
            self.waiting -= not self._has_looked
            if is_new and time.monotonic() - told > 1:
                changed()
                is_new, told = False, time.monotonic()
        for path in [path for path in self._live if path.parent == folder and not path.exists()]:
            self._live.pop(path).release()
        if is_new:
            changed()

    def _add(self, importer: Importer, source: SourceRun) -> bool:
        """Copy a log if it has changed; return whether it had."""
        is_live = time.time() - source.changed < _LIVE_SECONDS
        if is_live:
            source = source.running()
        place = (str(source.source), source.key)
        if self._failed.get(place, ("", ""))[0] == source.fingerprint:
            return False
        earlier, is_same = importer.earlier(source)
        if earlier is not None and is_same:
            self._hold(earlier, is_live)
            return False
        try:
            if earlier is not None:
                self._hold(earlier, False)
            path = importer.add(source).path
        except _StoppedError:
            raise
        except MissingExtraError as error:
            self._failed[place] = source.fingerprint, str(error)
            return False
        except Exception as error:  # noqa: BLE001 - a damaged log costs only itself, whatever its reader raises
            self._failed[place] = source.fingerprint, _told(source.source / source.key, error)
            return False
        self._failed.pop(place, None)
        self._hold(path, is_live)
        os.utime(path)  # its status may be another one now that it is locked
        return True

    def _hold(self, path: Path, is_live: bool) -> None:
        """Hold the lock of a copy while its log grows: a run is running whose lock is held."""
        if is_live and path not in self._live:
            lock = Flock(path / rundir.OWNER)
            if lock.take(patience=1.0):
                self._live[path] = lock
        elif not is_live and (held := self._live.pop(path, None)) is not None:
            held.release()

    def _advance(self, _units: int) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _owns(self, folder: Path) -> bool:
        """Take the lock of a directory of copies; return False if another viewer has it."""
        if folder not in self._locks:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = Flock(folder / _LOCK)
            if not lock.take():
                return False
            self._locks[folder] = lock
        return True

    def _remove_unused(self) -> None:
        """Remove the copies that no viewer has used for long."""
        with contextlib.suppress(OSError):
            for folder in self._folder.iterdir():
                used = (folder / _LOCK).stat().st_mtime
                if folder not in self.folders and time.time() - used > _KEPT_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


def _told(path: Path, error: Exception) -> str:
    return f"{path}: {error if isinstance(error, RidgepoleError) else f'{type(error).__name__}: {error}'}"


def source_of(fields: Mapping[str, Any]) -> str:
    """Return the place of the log that a run was copied from, by its `run.json`."""
    told = fields.get("imported")
    if not isinstance(told, dict):
        return ""
    return os.path.normpath(os.path.join(str(told.get("source")), str(told.get("key"))))  # noqa: PTH118 - texts
