"""The records that wait for the writer's process, and its answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

BATCH_SECONDS = 0.05  # waking for each record would take the GIL from the loop


class Outbox:
    """A bounded buffer of encoded frames, from the callers to the thread that sends them."""

    def __init__(self, limit: int) -> None:
        self.sent = 0
        self.closed = False
        self._limit = limit
        self._frames = bytearray()
        self.forked()

    def put(self, data: bytes, *, count: bool) -> bool:
        """Append a frame; return False if the outbox is closed, or a record finds it full."""
        with self._room:
            if self.closed or (count and not self._fits(len(data))):
                return False
            self._frames += data
            self._waiting += len(data)
            self.sent += count
        if not self._wake.is_set():
            self._wake.set()
        return True

    def _fits(self, size: int) -> bool:
        return self._waiting + size <= self._limit or not self._waiting

    def wait_for_room(self, size: int, seconds: float) -> None:
        """Wait until there is room for a frame, or the outbox is closed, or the time is over."""
        with self._room:
            self._room.wait_for(lambda: self.closed or self._fits(size), seconds)

    def take(self) -> tuple[bytearray, bool]:
        """Wait for frames; return all of them, and whether they are the last."""
        self._wake.wait()
        self._hurry.wait(BATCH_SECONDS)
        with self._room:
            batch, self._frames = self._frames, bytearray()
            self._wake.clear()
            self._hurry.clear()
            return batch, self.closed

    def delivered(self, size: int) -> None:
        """Free the room of `size` bytes that were written."""
        with self._room:
            self._waiting -= size
            self._room.notify_all()

    def hurry(self) -> None:
        """Send the waiting frames at once, and wake the sending thread even without frames."""
        self._wake.set()
        self._hurry.set()

    def close(self) -> None:
        """Refuse further frames."""
        with self._room:
            self.closed = True
            self._room.notify_all()

    def forked(self) -> None:
        """Drop the frames and create new locks: in a forked child they belong to the parent."""
        self._room = threading.Condition(threading.Lock())
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._frames = bytearray()
        self._waiting = 0  # bytes


class Replies:
    """The writer's answers so far.

    Attributes:
        info: The writer's facts about the run: `directory`, `url`, `resumed`.
        gone: Why the writer has ended; empty while it runs.
        refused_id: Whether W&B refused the run because of its id.
        handled: How many records the client is known to have.
        heard: How many answers have arrived. The writer answers several times a second while it
            works, so a number that stays the same means that it hangs.
        finishing: Whether the client has everything and is ending the run.
        synced: The latest token that was answered.
        complete: Whether everything arrived, once the run has finished; None before.
        services: The client's own processes.
    """

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}
        self.gone = ""
        self.refused_id = False
        self.handled = self.heard = 0
        self.finishing = False
        self.synced = -1
        self.complete: bool | None = None
        self.services: list[Any] = []
        self.forked()

    def take(self, frame: tuple[Any, ...]) -> None:
        """Record an answer."""
        with self._changed:
            self.heard += 1
            match frame:
                case ("ready", info):
                    self.services = _processes(info.pop("services"))
                    self.info = info
                case ("refused", _, by_id):
                    self.refused_id = bool(by_id)
                case ("synced", token, handled):
                    self.synced, self.handled = token, handled
                case ("handled", handled):
                    self.handled = handled
                case ("finishing", handled):
                    self.finishing, self.handled = True, handled
                case ("finished", handled, complete, _):
                    self.complete, self.handled = bool(complete), handled
            self._changed.notify_all()

    def end(self, reason: str) -> None:
        """Record that the writer has ended."""
        with self._changed:
            self.gone = reason
            self._changed.notify_all()

    def wait_for(self, reached: Callable[[], bool], deadline: float) -> bool:
        """Wait until a condition holds or the deadline has passed; return whether it holds."""
        with self._changed:
            return self._changed.wait_for(reached, max(0.0, deadline - time.monotonic()))

    def wait_while_moving(self, reached: Callable[[], bool], patience: float) -> bool:
        """Wait until a condition holds, as long as answers arrive; return whether it holds.

        Args:
            reached: The condition.
            patience: Seconds without an answer after which the wait ends.
        """
        while True:
            heard = self.heard
            moved = lambda: reached() or self.heard != heard  # noqa: B023, E731 - called in this round only
            if not self.wait_for(moved, time.monotonic() + patience) or reached():
                return reached()

    def forked(self) -> None:
        """Create a new lock in a forked child."""
        self._changed = threading.Condition()


def _processes(pids: list[int]) -> list[Any]:
    import psutil

    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))  # recognises a reused pid
    return found
