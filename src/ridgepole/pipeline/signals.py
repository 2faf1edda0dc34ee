"""What Ctrl-C and a scheduler's signals do to a run.

| signal | inside a process that ticks | elsewhere | during clean-up |
|---|---|---|---|
| first SIGINT | stop at the next tick | KeyboardInterrupt now | noted |
| second SIGINT | KeyboardInterrupt now | | noted |
| third SIGINT | restore the terminal, leave with 130 | the same | the same |
| SIGTERM | stop at the next tick, or by itself after half the grace time | StopRequested now | noted |
| SIGUSR1 | stop at the next tick | StopRequested when the process ends | noted |
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from ridgepole.errors import StopRequested

EXIT_CODES: Final = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 75}

_SHOW_CURSOR = b"\x1b[?25h\x1b[0m\x1b[?2026l\r\n"


class SignalGuard:
    """Turns signals into a request that the run obeys at its next tick.

    Only the main thread can have handlers; elsewhere the guard does nothing.

    Attributes:
        requested: The stop that was asked for and not yet obeyed, or None.
        ticking: Whether the running process has ticked, so that it can be stopped at a step boundary.
        interruptible: Whether user code is running that an exception may interrupt. The framework's own steps
            between two pieces of user code are never torn apart; a signal that arrives there waits for the next.
    """

    def __init__(self, grace_seconds: float = 25.0) -> None:
        self.requested: StopRequested | None = None
        self.ticking = False
        self.interruptible = False
        self._cleaning = False
        self._grace = grace_seconds
        self._pid = os.getpid()
        self._interrupts = 0
        self._previous: dict[int, Any] = {}
        self._timer: threading.Timer | None = None
        self._overdue = False

    @contextmanager
    def installed(self) -> Iterator[SignalGuard]:
        """Installs the handlers, and restores the ones before at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        try:
            for name in EXIT_CODES:
                number = getattr(signal, name)
                self._previous[number] = signal.signal(number, self._handle)
            yield self
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number, previous in self._previous.items():
                signal.signal(number, signal.SIG_DFL if previous is None else previous)

    @contextmanager
    def user_code(self) -> Iterator[None]:
        """Marks a piece of user code, which a signal may interrupt unless it has ticked. May be nested."""
        if self._overdue and self.requested is not None and not self._cleaning:
            raise self.requested
        outer = self.interruptible
        if not outer:
            self.ticking = False
        self.interruptible = not self._cleaning
        try:
            yield
        finally:
            self.interruptible = outer
            if not outer:
                self.ticking = False

    def start_cleanup(self) -> None:
        """From here on the first two signals are only noted."""
        self._cleaning = True
        self.interruptible = False
        if self._timer is not None:
            self._timer.cancel()

    # --- handlers

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if os.getpid() != self._pid:
            self._handle_in_child(number)
            return
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts >= 3:
                self._leave()
        first = self.requested is None
        if first:
            self.requested = StopRequested(name, EXIT_CODES[name])
            self._chain(number, frame)
        if self._cleaning:
            if number == signal.SIGINT:
                self._say("cleaning up; once more to leave at once" if self._interrupts > 1 else "cleaning up")
            return
        if number == signal.SIGUSR1:
            return  # obeyed at the next tick, which the end of a process is
        if not first and number == signal.SIGINT and self._interrupts < 2:
            first = True  # a Ctrl-C after a SIGTERM is still the first Ctrl-C
        wait = self.ticking and first and not self._overdue
        if wait and number == signal.SIGINT:
            self._say("stopping after this step; again to stop now")
        elif wait:
            self._start_timer(number)
        else:
            self._stop_now(number)

    def _stop_now(self, number: int) -> None:
        assert self.requested is not None
        self._overdue = True
        if self.interruptible:
            self.interruptible = False  # one exception is enough: the next signal belongs to the clean-up
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise self.requested

    def _start_timer(self, number: int) -> None:
        """Raises by itself at half of the grace time, where nothing ticks."""

        def overdue() -> None:
            self._overdue = True
            # The main thread may sit in a system call: only a signal gets it out.
            os.kill(self._pid, number)

        self._timer = threading.Timer(self._grace / 2, overdue)
        self._timer.daemon = True
        self._timer.start()

    def _handle_in_child(self, number: int) -> None:
        """A forked worker dies of SIGTERM as it would without us, and lets the parent deal with Ctrl-C."""
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _chain(self, number: int, frame: FrameType | None) -> None:
        previous: Callable[[int, FrameType | None], Any] | int | None = self._previous.get(number)
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)

    def _leave(self) -> None:
        for stream in (1, 2):
            if os.isatty(stream):
                os.write(stream, _SHOW_CURSOR)
                break
        os._exit(EXIT_CODES["SIGINT"])

    @staticmethod
    def _say(text: str) -> None:
        """Prints from another thread: the interrupted code may hold the very stream's lock."""

        def write() -> None:
            try:
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # the terminal is gone; there is nobody to tell
                return

        threading.Thread(target=write, daemon=True).start()
