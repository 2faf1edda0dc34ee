"""Records whose values are still on a GPU: written by a thread once they have arrived."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ridgepole.metrics.pending import arrived
from ridgepole.metrics.steps import Plan
from ridgepole.threads import start_thread

DRAIN_S = 30.0
"""How long `drain` waits for values."""

_IDLE_S = 5.0  # after so long without work the thread ends; the next record starts another


class LateRecords:
    """Hands plans on, in their order, each once its values are there.

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
        """Takes a plan; returns at once, as long as there can be a thread."""
        with self._changed:
            self._plans.append(plan)
            self._changed.notify_all()
            if self._running:
                return
            try:
                start_thread(threading.Thread(target=self._work, name="ridgepole-late", daemon=True))
                self._running = True
                return
            except RuntimeError:  # no more threads, or the interpreter is going down: then it is waited for
                waiting = list(self._plans)
                self._plans.clear()
        for each in waiting:
            self._write(arrived(each))

    def drain(self, timeout: float = DRAIN_S) -> None:
        """Returns once all plans are written.

        Raises:
            TimeoutError: If their values have not arrived in time.
            Exception: What `write` raised since the last call.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._plans, timeout):
                raise TimeoutError(f"the GPU has not delivered {len(self._plans)} record(s) in {timeout:.0f} s")
            error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Has the thread end; plans that are not written are let go."""
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
            except Exception as error:  # noqa: BLE001 - kept for a thread that can be told
                with self._changed:
                    self._error = self._error or error
            with self._changed:
                if self._plans and self._plans[0] is plan:
                    self._plans.popleft()
                self._changed.notify_all()
            del plan
