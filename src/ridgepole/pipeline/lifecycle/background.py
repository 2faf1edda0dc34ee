"""Saves that a thread finishes while the training continues."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

from ridgepole.checkpoint.saving import HostBuffer, Part, Saved
from ridgepole.devices.host import memory
from ridgepole.errors import CheckpointError, text_of
from ridgepole.threads import start_thread

LEFT_FREE = 0.1
"""The share of the available memory that a copy leaves free."""

WAITS = ("boundary", "manual", "best", "epoch", "signal", "error")
"""The kinds of checkpoints that wait for a save in flight; the others are skipped."""


class BackgroundSaves:
    """Runs one save at a time in a thread of the lowest priority.

    Args:
        limit: Bytes that the copies of a node's ranks may take; None for no limit but the memory.
        ranks: The number of ranks of this node, which copy at the same time.

    Attributes:
        skipped: How many checkpoints were due while one was being written, since the last one.
    """

    def __init__(self, limit: float | None, ranks: int = 1) -> None:
        self.skipped = 0
        self._limit, self._ranks = limit, ranks
        self._buffer = HostBuffer()
        self._thread: threading.Thread | None = None
        self._result: Saved | Exception | None = None
        self._told = False

    @property
    def busy(self) -> bool:
        """Return whether a save is in flight."""
        return self._thread is not None and self._thread.is_alive()

    def hold(self, part: Part) -> str:
        """Copy a state into memory of this process; return why that is not possible, or ""."""
        size, needed = part.size * self._ranks, (part.size - self._buffer.size) * self._ranks
        if self._limit is not None and size > self._limit:
            on = f" on {self._ranks} ranks" if self._ranks > 1 else ""
            return f"host_memory_limit is {self._limit / 1e9:g} GB, and the state has {size / 1e9:.2f} GB{on}"
        if needed > 0 and needed > memory()[1] * (1 - LEFT_FREE):
            return f"a copy of the state needs {needed / 1e9:.2f} GB more, and {memory()[1] / 1e9:.2f} GB are available"
        try:
            part.copy_to(self._buffer)
        except (MemoryError, RuntimeError) as error:  # torch's word for it is a RuntimeError
            return f"a copy of the state could not be made ({error})"
        return ""

    def first_time(self) -> bool:
        """Return True once: a reason that stays need not be told again."""
        told, self._told = self._told, True
        return not told

    def start(self, save: Callable[[], Saved | None]) -> None:
        """Start a save of what was copied, while none is in flight."""

        def run() -> None:
            if sys.platform == "linux":  # there a priority is one of a thread
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
            try:
                self._result = save()
            except Exception as error:  # noqa: BLE001 - told by the main thread
                self._result = error
            except KeyboardInterrupt as stop:  # no signal comes to a thread: another rank has failed
                self._result = CheckpointError(f"the run stopped before it was written: {text_of(stop)}")

        self._thread = threading.Thread(target=run, name="ridgepole-save", daemon=True)
        start_thread(self._thread)

    def wait(self, until: float) -> bool:
        """Wait for the save in flight; return whether it has ended before a time of `monotonic`."""
        thread = self._thread
        while thread is not None and thread.is_alive():
            left = until - time.monotonic()
            if left <= 0:
                return False
            thread.join(min(left, 0.1))  # short, so that a signal is handled meanwhile
        return True

    def take_result(self) -> Saved | Exception | None:
        """Return once how the last save has ended; None while it has not."""
        if self.busy:
            return None
        result, self._result = self._result, None
        return result
