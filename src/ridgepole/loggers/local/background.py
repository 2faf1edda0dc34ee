"""Threads behind the metrics file: the periodic sync, and records whose values are on a GPU."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable

from ridgepole.loggers.append_file import sync
from ridgepole.metrics.steps import Plan, arrived
from ridgepole.threads import start_thread

SYNC_S = 5.0
"""Seconds between a record and the sync that brings it to the disk."""

DRAIN_S = 30.0
"""Seconds that `drain` waits for values on a GPU."""

_IDLE_S = 5.0  # the thread for deferred records ends after this; the next one starts another


class PeriodicSync:
    """Starts a sync on a thread of its own; a failure is kept for the next explicit sync."""

    __slots__ = ("_timer", "error")

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self.error: OSError | None = None

    def start(self, method: Callable[[], None]) -> None:
        """Call a method in `SYNC_S` seconds, if its object still lives."""
        reference = weakref.WeakMethod(method)

        def call() -> None:
            alive = reference()
            if alive is not None:
                alive()

        timer = threading.Timer(SYNC_S, call)
        timer.daemon = True
        # Without more threads, or as the interpreter ends, checkpoints still sync.
        with contextlib.suppress(RuntimeError):
            start_thread(timer)
            self._timer = timer

    def sync_copy(self, fd: int) -> None:
        """Sync a duplicate of a descriptor and close it."""
        try:
            self.error = sync(fd) or self.error
        finally:
            os.close(fd)

    def stop(self) -> None:
        """Cancel the sync."""
        if self._timer is not None:
            self._timer.cancel()


class DeferredRecords:
    """Writes records in order on a thread, each once its values have arrived from a GPU.

    Args:
        write: Writes a plan whose values are there.
    """

    def __init__(self, write: Callable[[Plan], object]) -> None:
        self._write = write
        self._plans: deque[Plan] = deque()
        self._changed = threading.Condition()
        self._running = self._closed = False
        self._error: Exception | None = None

    def add(self, plan: Plan) -> None:
        """Queue a plan; return at once unless no thread can be started."""
        with self._changed:
            self._plans.append(plan)
            self._changed.notify_all()
            if self._running:
                return
            try:
                start_thread(threading.Thread(target=self._work, name="ridgepole-deferred", daemon=True))
                self._running = True
                return
            except RuntimeError:  # no more threads, or the interpreter is ending: wait here
                waiting = list(self._plans)
                self._plans.clear()
        for each in waiting:
            self._write(arrived(each))

    def drain(self, timeout: float = DRAIN_S) -> None:
        """Wait until all plans are written.

        Raises:
            TimeoutError: If their values have not arrived in time.
            Exception: The first error of `write` since the last call.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._plans, timeout):
                raise TimeoutError(f"the GPU has not delivered {len(self._plans)} record(s) in {timeout:.0f} s")
            error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread and drop the plans that are not written."""
        with self._changed:
            self._closed = True
            self._plans.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._plans or self._closed, _IDLE_S) or self._closed:
                    self._running = False
                    return
                plan = self._plans[0]
            try:
                self._write(arrived(plan))
            except Exception as error:  # noqa: BLE001 - raised by the next `drain`
                with self._changed:
                    self._error = self._error or error
            with self._changed:
                if self._plans and self._plans[0] is plan:
                    self._plans.popleft()
                self._changed.notify_all()
            del plan
