"""The thread that reads runs to their end, those that are shown first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from ridgepole.view.catalog import Catalog, Entry

_PIECE = 4 << 20
"""Bytes that are read of a run before a run that is asked for may come first."""


class Indexer:
    """Reads the metrics of runs in a thread of its own.

    Args:
        catalog: The runs.
        on_complete: Called when a run has been read to its end.
    """

    def __init__(self, catalog: Catalog, on_complete: Callable[[], None]) -> None:
        self._catalog, self._on_complete = catalog, on_complete
        self._wanted: dict[str, None] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="ridgepole-index", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait for it."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def ask(self, keys: Iterable[str], *, first: bool = False) -> None:
        """Ask for runs to be read; those of the latest call with `first` come before all others."""
        with self._changed:
            new = dict.fromkeys(keys)
            self._wanted = new | self._wanted if first else self._wanted | new
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """The number of runs that are not read to their end."""
        return len(self._wanted)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                key = next(iter(self._wanted))
            entry = self._catalog.find(key)
            if entry is None or self._read(entry):
                with self._changed:
                    self._wanted.pop(key, None)

    def _read(self, entry: Entry) -> bool:
        """Read a piece of a run; return whether that was the last one."""
        columns = self._catalog.columns(entry)
        was_complete = columns.complete
        changed = columns.update(_PIECE)
        if not columns.complete:
            return False
        if changed or not was_complete:
            self._catalog.touch(entry)
            self._on_complete()
        return True
