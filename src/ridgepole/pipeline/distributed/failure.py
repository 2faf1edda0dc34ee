"""A failure of one rank: what it means for the others, and how they are interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import RankError, StopRequested, text_of, user_traceback
from ridgepole.pipeline.lifecycle.signals import EXIT_CODES, SignalGuard

LOST = "ended without a word, as by kill -9, a crash or os._exit"
"""The text for a rank whose connection has closed."""

PARENT_SECONDS = 1.0
"""Seconds between two looks at the launcher."""

STUCK_SECONDS = 5.0
"""Seconds until the main thread counts as stuck; gloo's collectives end before that."""

_LONGEST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailure:
    """The first failure, or a stop that can't wait for a step.

    Attributes:
        rank: Where.
        text: What happened there.
        code: The exit code of the other ranks.
        signal: The signal that stops the run at once; empty for a failure.
        lost: Whether the rank is gone without a message.
    """

    rank: int
    text: str
    code: int = 1
    signal: str = ""
    lost: bool = False

    @classmethod
    def of(cls, error: BaseException, rank: int) -> RankFailure:
        """Describe this rank's error for the other ranks."""
        if isinstance(error, KeyboardInterrupt):
            return cls(rank=rank, text="was stopped", signal=signal_of(error))
        return cls(rank=rank, text=f"{type(error).__name__}: {text_of(error)}"[:_LONGEST])

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def error(self) -> BaseException:
        """Return the error that the run has on the other ranks."""
        if self.signal:
            return stop_of(self.signal)
        return RankError(f"rank {self.rank} {'' if self.lost else 'failed: '}{self.text}", self.rank, self.code)


class RankStop(KeyboardInterrupt):
    """Interrupts a rank when another one has failed; user code does not catch it as an error.

    Attributes:
        failure: The failure of the other rank.
    """

    def __init__(self, failure: RankFailure) -> None:
        super().__init__(f"rank {failure.rank} {failure.text}")
        self.failure = failure


def signal_of(stop: BaseException) -> str:
    """Return the name of the signal behind a stop."""
    return stop.signal_name if isinstance(stop, StopRequested) else "SIGINT"


def stop_of(signal: str) -> KeyboardInterrupt:
    """Return the stop that a signal asks for."""
    return KeyboardInterrupt() if signal == "SIGINT" else StopRequested(signal, EXIT_CODES[signal])


def write_torchrun_error(error: BaseException) -> None:
    """Write the error file that torchrun names to its workers, as torch's `ErrorHandler` does."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:
        return
    details = {"py_callstack": user_traceback(error), "timestamp": str(int(time.time()))}
    message = {"message": f"{type(error).__name__}: {text_of(error)}", "extraInfo": details}
    # A report that can't be written is not worth another error
    with contextlib.suppress(OSError, ValueError):
        Path(file).write_text(json.dumps({"message": message}), encoding="utf-8")


class ParentWatch:
    """Stops this rank, as SIGTERM does, when the launcher that started it is gone.

    A signal that torchrun does not handle ends torchrun alone, and its ranks would train on without
    anything that waits for them.

    Args:
        guard: Of the run.
    """

    def __init__(self, guard: SignalGuard) -> None:
        self._guard, self._parent = guard, os.getppid()
        self._done = threading.Event()
        threading.Thread(target=self._run, name="ridgepole-parent", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(PARENT_SECONDS):
            if os.getppid() != self._parent:
                self._guard.terminate()
                return


class Watchdog:
    """Interrupts the main thread when the run has failed on another rank.

    An exception in the main thread is enough wherever Python runs. A collective that waits for a
    rank which is gone may block in C for half an hour: then the clean-up runs in this thread, and
    the process exits.

    Args:
        rank: This rank.
        guard: Interrupts; knows whether the clean-up has begun.
        emergency_cleanup: Cleans up and records the end of the run.
    """

    def __init__(self, rank: int, guard: SignalGuard, emergency_cleanup: Callable[[BaseException], None]) -> None:
        self._rank, self._guard, self._emergency_cleanup = rank, guard, emergency_cleanup
        self._done = threading.Event()
        self._interrupting = threading.Lock()

    def start(self, failure: RankFailure) -> None:
        """Interrupt the main thread, in a thread of its own."""
        threading.Thread(target=self._run, args=(failure,), name="ridgepole-rescue", daemon=True).start()

    def stop(self) -> None:
        """Stop interrupting: the main thread has left the user's code."""
        with self._interrupting:
            self._done.set()

    def _run(self, failure: RankFailure) -> None:
        guard, before = self._guard, self._guard.handled
        with self._interrupting:
            if self._done.is_set():
                return
            guard.demand(RankStop(failure))
        if self._done.wait(STUCK_SECONDS) or guard.cleaning:
            return
        # The main thread does run Python: the interrupted code takes its time to unwind.
        if guard.handled != before and (self._done.wait(guard.grace_seconds) or guard.cleaning):
            return
        message = f"rank {self._rank}: {_main_thread_line()} does not return; cleaned up beside it"
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - the loggers may be blocked too
        try:
            self._emergency_cleanup(failure.error())
        finally:
            os._exit(EXIT_CODES[failure.signal] if failure.signal else failure.code)


def _main_thread_line() -> str:
    """Return the innermost line of the main thread outside of installed packages."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the documented way
    stack = traceback.extract_stack(frame) if frame is not None else []
    own = [line for line in stack if "site-packages" not in line.filename] or stack
    return f"{own[-1].filename}:{own[-1].lineno} in {own[-1].name}()" if own else "the main thread"
