"""What Ctrl-C and a scheduler's signals do to a run.

| signal | inside a process that ticks | elsewhere | during clean-up |
|---|---|---|---|
| first SIGINT | stop at the next tick | KeyboardInterrupt now | noted |
| second SIGINT | KeyboardInterrupt now | | noted |
| third SIGINT | restore the terminal, leave with 130 | the same | the same |
| SIGTERM | stop at the next tick, or by itself after half the grace time | StopRequested now | noted |
| SIGHUP | as SIGTERM | | noted |
| SIGUSR1 | stop at the next tick | StopRequested when the process ends | noted |
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ridgepole.errors import StopRequested, TrialPruned

EXIT_CODES: Final = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGUSR1": 75}

_SHOW_CURSOR = b"\x1b[?25h\x1b[0m\x1b[?2026l\r\n"

_OWN = (str(Path(__file__).parent) + os.sep, str(Path(__file__).parents[1] / "permanence.py"))
"""Where the framework's own steps between two pieces of user code stand."""


class UserCode:
    """Marks a piece of user code for as long as it is entered; may be nested.

    A class rather than a generator: `contextlib` sets attributes of the exceptions that pass through, and a user's
    exception may refuse that.
    """

    __slots__ = ("guard", "outer")

    def __init__(self, guard: SignalGuard) -> None:
        self.guard = guard
        self.outer = False

    def __enter__(self) -> None:
        guard = self.guard
        guard.obey()
        self.outer = guard.interruptible
        if not self.outer:
            guard.ticking = False
        guard.interruptible = not guard.cleaning

    def __exit__(self, *_: object) -> None:
        self.guard.interruptible = self.outer
        if not self.outer:
            self.guard.ticking = False


class SignalGuard:
    """Turns signals into a request that the run obeys at its next tick.

    Only the main thread can have handlers; elsewhere the guard does nothing.

    Attributes:
        requested: The stop that was asked for and not yet obeyed, or None.
        ticking: Whether the running process has ticked, so that it can be stopped at a step boundary.
        interruptible: Whether user code is running that an exception may interrupt. The framework's own steps
            between two pieces of user code are never torn apart; a signal that arrives there waits for the next.
        cleaning: Whether the clean-up has begun.
        overdue: Whether the stop is to come at once and not at the next tick.
        on_request: Called, in the handler, when a stop has been asked for.
        deadline: When a scheduler will kill, by the monotonic clock; infinite where nobody said so.
        handled: How many signals the main thread has seen.
    """

    def __init__(self, grace_seconds: float = 25.0) -> None:
        self.requested: KeyboardInterrupt | None = None
        self.ticking = False
        self.interruptible = False
        self.cleaning = False
        self.overdue = False
        self.on_request: Callable[[], None] = lambda: None
        self.deadline = math.inf
        self.handled = 0
        self._grace = grace_seconds
        self._pid = os.getpid()
        self._interrupts = 0
        self._previous: dict[int, Any] = {}
        self._owed: list[int] = []
        self._timer: threading.Timer | None = None
        self._sending = threading.Lock()
        self._installed = False

    @contextmanager
    def installed(self) -> Iterator[SignalGuard]:
        """Installs the handlers; at the end restores the ones before, and gives them what they have not seen yet."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        try:
            for name in EXIT_CODES:
                number = getattr(signal, name)
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in the background of a shell
                    self._previous[number] = signal.signal(number, self._handle)
            self._installed = True
            yield self
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if os.getpid() == self._pid:  # in a forked child, a thread that is not there may hold it
                with self._sending:
                    self._installed = False
            for number, previous in self._previous.items():
                signal.signal(number, signal.SIG_DFL if previous is None else previous)
        for number in self._owed:
            self._previous[number](number, None)

    def user_code(self) -> UserCode:
        """Marks a piece of user code, which a signal may interrupt unless it has ticked. May be nested."""
        return UserCode(self)

    def obey(self) -> None:
        """Raises a stop that was due while the framework's own code ran.

        Raises:
            KeyboardInterrupt: If there is one.
        """
        if self.overdue and self.requested is not None and not self.cleaning:
            raise self.requested

    @property
    def grace_seconds(self) -> float:
        """How long a SIGTERM leaves before the scheduler kills."""
        return self._grace

    def demand(self, stop: KeyboardInterrupt) -> None:
        """Stops the run at once, from another thread."""
        self.requested, self.overdue = stop, True
        number = next((number for number in (signal.SIGTERM, signal.SIGHUP) if number in self._previous), None)
        if number is not None:
            self._wake(number)

    def _wake(self, number: int) -> None:
        """Gets the main thread out of a system call, from another thread: only a signal does.

        Never once the handlers are gone, when it would kill.
        """
        with self._sending:
            if self._installed and not self.cleaning:
                os.kill(self._pid, number)

    def ask(self, stop: KeyboardInterrupt) -> None:
        """Asks the run to stop at its next tick, as a signal does; from any thread. The first who asks is obeyed."""
        if self.requested is None and not self.cleaning:
            self.requested = stop
            self.on_request()

    def start_cleanup(self) -> None:
        """From here on the first two signals are only noted."""
        self.cleaning = True
        self.interruptible = False
        if self._timer is not None:
            self._timer.cancel()

    # --- handlers

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.handled += 1
        name = signal.Signals(number).name
        if os.getpid() != self._pid:
            self._handle_in_child(number)
            return
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts >= 3:
                self._leave()
        first = self.requested is None or isinstance(self.requested, TrialPruned)  # which is no signal: it gives way
        if first:
            # Plain for Ctrl-C: only that type makes a script that does not catch it exit with 130.
            stop = StopRequested(name, EXIT_CODES[name])
            self.requested = KeyboardInterrupt() if number == signal.SIGINT else stop
            if number in (signal.SIGTERM, signal.SIGHUP):
                self.deadline = time.monotonic() + self._grace
            self.on_request()
            self._chain(number, frame)
        if self.cleaning:
            if number == signal.SIGINT:
                self._say("cleaning up; once more to leave at once" if self._interrupts > 1 else "cleaning up")
            return
        if number == signal.SIGUSR1:
            return  # obeyed at the next tick, which the end of a process is
        if number == signal.SIGINT and self._interrupts < 2:
            first = True  # a Ctrl-C after a SIGTERM is still the first Ctrl-C
        if not (self.ticking and first) or self.overdue:
            self._stop_now(number, frame)
        elif number == signal.SIGINT:
            self._say("stopping after this step; again to stop now")
        else:
            self._start_timer(number)

    def _stop_now(self, number: int, frame: FrameType | None) -> None:
        assert self.requested is not None
        self.overdue = True
        # In a frame of the framework's own, even with user code around it: between a constructor's return and the
        # moment its object is known, an exception would leave that object without its clean-up.
        if not self.interruptible or (frame is not None and frame.f_code.co_filename.startswith(_OWN)):
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise self.requested

    def _start_timer(self, number: int) -> None:
        """Raises by itself at half of the grace time, where nothing ticks."""

        def overdue() -> None:
            self.overdue = True
            self._wake(number)

        self._timer = threading.Timer(self._grace / 2, overdue)
        self._timer.daemon = True
        self._timer.start()

    def _handle_in_child(self, number: int) -> None:
        """A forked worker dies of SIGTERM as it would without us, and lets the parent deal with Ctrl-C."""
        if number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _chain(self, number: int, frame: FrameType | None) -> None:
        """Tells the handler that was there before; later, where user code must not be interrupted now."""
        previous: Callable[[int, FrameType | None], Any] | int | None = self._previous.get(number)
        if not callable(previous) or previous is signal.default_int_handler:
            return
        outer = getattr(previous, "__self__", None)
        if isinstance(outer, SignalGuard):  # a run inside a process of another run: that one stops at its next step
            outer.requested = outer.requested or self.requested
            outer.deadline = min(outer.deadline, self.deadline)
            outer.on_request()
            outer.overdue = not outer.ticking
        elif self.interruptible and not self.cleaning:
            previous(number, frame)
        else:
            self._owed.append(number)

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
