"""Gets a rank out of what it is doing when the run has failed elsewhere.

An exception in the main thread does it wherever Python runs. A collective that waits for a rank which is gone may sit
in C for half an hour: then the clean-up runs beside it, in this thread, and the process leaves.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable

from ridgepole.pipeline.ranks.cause import Cause, RankStop
from ridgepole.pipeline.signals import EXIT_CODES, SignalGuard

STUCK_SECONDS = 5.0
"""How long the main thread may take before it counts as stuck; gloo's collectives end by themselves before that."""


class Rescue:
    """Interrupts the main thread, and does without it where it can't be reached.

    Args:
        rank: This rank.
        guard: Interrupts; knows whether the clean-up has begun.
        last_words: Cleans up and notes how the run has ended.
    """

    def __init__(self, rank: int, guard: SignalGuard, last_words: Callable[[BaseException], None]) -> None:
        self._rank, self._guard, self._last_words = rank, guard, last_words
        self._done = threading.Event()
        self._interrupting = threading.Lock()

    def start(self, cause: Cause) -> None:
        """Interrupts the main thread, in a thread of its own."""
        threading.Thread(target=self._run, args=(cause,), name="ridgepole-rescue", daemon=True).start()

    def stop(self) -> None:
        """The main thread is out of the user's code: from here on it is not interrupted any more."""
        with self._interrupting:
            self._done.set()

    def _run(self, cause: Cause) -> None:
        guard, before = self._guard, self._guard.handled
        with self._interrupting:
            if self._done.is_set():
                return
            guard.demand(RankStop(cause))
        if self._done.wait(STUCK_SECONDS) or guard.cleaning:
            return
        # The main thread does run Python: what it was interrupted in takes its time to unwind.
        if guard.handled != before and (self._done.wait(guard.grace_seconds) or guard.cleaning):
            return
        print(  # noqa: T201 - nobody else is left to tell
            f"rank {self._rank}: {_place()} does not return; cleaned up beside it", file=sys.stderr, flush=True
        )
        try:
            self._last_words(cause.error())
        finally:
            os._exit(EXIT_CODES[cause.signal] if cause.signal else cause.code)


def _place() -> str:
    """Where the main thread is: its innermost line outside of packages that are installed."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the documented way
    stack = traceback.extract_stack(frame) if frame is not None else []
    own = [line for line in stack if "site-packages" not in line.filename] or stack
    return f"{own[-1].filename}:{own[-1].lineno} in {own[-1].name}()" if own else "the main thread"
