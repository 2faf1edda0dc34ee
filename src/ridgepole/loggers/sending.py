"""A logger that sends from a thread, many values in one call."""

from __future__ import annotations

import queue
import threading
from abc import abstractmethod
from typing import Any, ClassVar

from ridgepole.errors import TrackerError
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.ending import export_command, failure
from ridgepole.loggers.messages import checked_level
from ridgepole.loggers.slot import slot_of
from ridgepole.permanence import State, run_of, state_of
from ridgepole.threads import start_thread

_BATCH = 1000
_STOP: Any = object()


class SendingLogger(BaseLoggerManager):
    """Sends what was logged from a thread, so that a training loop waits for no database.

    Args:
        log_level: The lowest level of messages to show.
        strict: Whether a value that can't be sent is an error, instead of one warning.

    Raises:
        ValueError: If the level is invalid.
    """

    backend: ClassVar[str]
    """The name of the backend in messages."""

    def __init__(self, log_level: str, strict: bool) -> None:
        checked_level(log_level)
        self.strict = strict
        self._log_level = log_level
        self._id = ""
        self._queue: queue.Queue[Any] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._failed = ""
        self._sent = 0
        self._wall_time: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_queue": None, "_thread": None}

    # -- what a backend does -----------------------------------------------------------------------

    @abstractmethod
    def _send_rows(self, rows: list[tuple[Any, ...]]) -> None:
        """Send some values, in the thread."""

    def _end(self, failed: bool) -> None:
        """End the run at the backend, when everything is sent."""

    # -- lifecycle ---------------------------------------------------------------------------------

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._send, name=f"ridgepole-{self.export_target}", daemon=True)
        start_thread(self._thread)

    def flush(self, durable: bool = False) -> None:
        """Wait until everything that was logged is sent; `durable` makes no difference."""
        del durable
        if self._thread is not None:
            self._queue.join()

    def checkpoint(self) -> None:
        """Wait until everything that was logged is sent."""
        self.flush()

    def cleanup(self) -> None:
        """Send the rest, and end the run at the backend, as failed if it did.

        Raises:
            TrackerError: If `strict` is set and something was not sent.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._queue.put(_STOP)
        thread.join()
        self._attempt(lambda: self._end(bool(failure(run_of(self)))), 0)
        if self._failed:
            command = export_command(slot_of(self).local_record, self.export_target)
            later = f"; to send all as a run of its own: {command}" if command else ""
            self.warning("%s lacks %d records of this run%s", self.backend, slot_of(self).dropped, later)
            if self.strict:
                raise TrackerError(f"{self.backend} did not get all of this run: {self._failed}")

    def get_state(self) -> dict[str, Any]:
        """Return the run's id at the backend, the steps and the counts."""
        slot = slot_of(self)
        return {
            "id": self._id or None,
            "global_step": slot.steps.global_step,
            "last_step": slot.steps.last_step,
            "sent": self._sent,
            "dropped": slot.dropped,
        }

    def set_wall_time(self, seconds: float | None) -> None:
        """Set the time of the next records, to replay logs: seconds since the epoch, or None."""
        self._wall_time = seconds

    def _open_if_new(self) -> None:
        if self._thread is None and state_of(self) is State.CONSTRUCTED:
            with slot_of(self).lock:
                if state_of(self) is State.CONSTRUCTED:
                    self.initialize()

    def _put(self, item: Any) -> None:
        """Queue a row, which is a tuple, or a call."""
        if self._thread is None:  # after the clean-up, or in a forked child
            slot_of(self).dropped += 1
            return
        self._queue.put(item)

    # -- the thread --------------------------------------------------------------------------------

    def _send(self) -> None:
        while True:
            items: list[Any] = [self._queue.get()]
            last: Any = None
            for _ in range(_BATCH - 1):
                if not isinstance(items[-1], tuple):
                    break
                try:
                    items.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            if not isinstance(items[-1], tuple):
                last = items.pop()
            if items:
                self._attempt(lambda rows=items: self._send_rows(rows), len(items))
            if callable(last):
                self._attempt(last)
            for _ in range(len(items) + (last is not None)):
                self._queue.task_done()
            if last is _STOP:
                return

    def _attempt(self, call: Any, count: int = 1) -> None:
        """Call the backend; a failure is warned of once, and counted."""
        try:
            call()
            self._sent += count
        except Exception as error:  # noqa: BLE001 - a server may fail in any way, and must not stop the run
            slot_of(self).dropped += count
            self._failed = self._failed or f"{type(error).__name__}: {error}"
            self._say_once("sending", f"{self.backend} did not take a record of this run: %s (said once)", self._failed)
