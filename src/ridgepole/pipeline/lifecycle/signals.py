"""Handle Ctrl-C and a scheduler's signals, as `decisions` says."""

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
from ridgepole.pipeline.lifecycle.decisions import Action, SignalState, transition

EXIT_CODES: Final = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGUSR1": 75}

_SHOW_CURSOR = b"\x1b[?25h\x1b[0m\x1b[?2026l\r\n"

_AGAIN_SECONDS = 0.02

_OWN = (str(Path(__file__).parents[1]) + os.sep, str(Path(__file__).parents[2] / "permanence.py"))
"""The files of the framework's own steps between two pieces of user code."""


def is_lost_worker(error: BaseException) -> bool:
    """Return whether an error is torch's word for a DataLoader's worker that has ended."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


class UserCode:
    """Marks a piece of user code for as long as it is entered; may be nested.

    A class rather than a generator: `contextlib` sets attributes of the exceptions that pass
    through, and a user's exception may refuse that.
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
        ticking: Whether the running process has ticked, so that it can be stopped at a step.
        interruptible: Whether user code is running that an exception may interrupt. The framework's
            own steps between two pieces of user code are not interrupted; a signal that arrives
            there waits for the next piece.
        cleaning: Whether the clean-up has begun.
        saving: Whether a checkpoint is being taken, which only a forced stop interrupts.
        overdue: Whether the stop is to come at once and not at the next tick.
        forced: Whether the stop takes no checkpoint, and interrupts one that is being taken.
        on_request: Called, in the handler, when a stop has been asked for.
        grace_seconds: Seconds that a SIGTERM leaves before the scheduler kills.
        deadline: When a scheduler will kill, by the monotonic clock; infinite if unknown.
        handled: How many signals the main thread has seen.
    """

    def __init__(self, grace_seconds: float = 25.0) -> None:
        self.requested: KeyboardInterrupt | None = None
        self.ticking = False
        self.interruptible = False
        self.cleaning = False
        self.saving = False
        self.overdue = False
        self.forced = False
        self.on_request: Callable[[], None] = lambda: None
        self.grace_seconds = grace_seconds
        self.deadline = math.inf
        self.handled = 0
        self._pid = os.getpid()
        self._interrupts = 0
        self._terminated = self._woken = self._owed = False
        self._depth = 0
        self._previous: dict[int, Any] = {}
        self._postponed: list[int] = []
        self._timer: threading.Timer | None = None
        self._sending = threading.Lock()
        self._installed = False

    @contextmanager
    def installed(self) -> Iterator[SignalGuard]:
        """Install the handlers; at the end restore and, if postponed, call the previous ones.

        Ctrl-C is the first to be handled here and the last to be given back. So it raises nothing
        between the two but in user code.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        try:
            for name in EXIT_CODES:
                number = getattr(signal, name)
                # As under nohup, or in the background of a shell
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
            self._installed = True
            yield self
        finally:
            if self._timer is not None:
                self._timer.cancel()
            # In a forked child, a thread that does not exist there may hold the lock
            if os.getpid() == self._pid:
                with self._sending:
                    self._installed = False
            for number, previous in reversed(self._previous.items()):
                signal.signal(number, signal.SIG_DFL if previous is None else previous)
        for number in self._postponed:
            self._previous[number](number, None)

    def user_code(self) -> UserCode:
        """Mark user code, which a signal may interrupt unless it has ticked. May be nested."""
        return UserCode(self)

    def obey(self) -> None:
        """Raise a stop that became due while the framework's own code ran.

        Raises:
            KeyboardInterrupt: If there is one.
        """
        if self.overdue and self._may_raise():
            assert self.requested is not None
            self._owed = False
            raise self.requested

    def obey_forced(self) -> None:
        """Raise a stop that takes no checkpoint.

        Raises:
            KeyboardInterrupt: If there is one.
        """
        if self.forced:
            self.obey()

    def _may_raise(self) -> bool:
        return self.requested is not None and not self.cleaning and (self.forced or not self.saving)

    def demand(self, stop: KeyboardInterrupt) -> None:
        """Stop the run at once, from another thread."""
        self.requested, self.overdue, self.forced, self._owed = stop, True, True, True
        self._wake()

    def _wake(self) -> None:
        """Interrupt the main thread for a stop that is due, from another thread."""
        number = next((number for number in (signal.SIGTERM, signal.SIGHUP) if number in self._previous), None)
        if self._owed and number is not None:
            self._send(number, wakes=True)

    def terminate(self) -> None:
        """Stop the run as a SIGTERM does, from another thread."""
        if signal.SIGTERM in self._previous:
            self._send(signal.SIGTERM, wakes=False)

    def _send(self, number: int, *, wakes: bool) -> None:
        """Send a signal to this process, from another thread.

        Nothing is sent once the handlers are removed, because the signal would kill the process.

        Args:
            number: The signal.
            wakes: Whether it only interrupts a system call of the main thread, for a stop that is
                known. Nothing but a signal does that.
        """
        with self._sending:
            if self._installed and not self.cleaning:
                self._woken = self._woken or wakes
                os.kill(self._pid, number)

    def ask(self, stop: KeyboardInterrupt) -> None:
        """Ask the run to stop at its next tick, from any thread. The first request counts."""
        if self.requested is None and not self.cleaning:
            self.requested = stop
            self.on_request()

    def start_cleanup(self) -> None:
        """Begin the clean-up: from here on the first two signals are only noted."""
        self.cleaning = True
        self.interruptible = False
        if self._timer is not None:
            self._timer.cancel()

    # --- handlers

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._depth += 1
        try:
            self._take(number, frame)
        finally:
            self._depth -= 1

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.handled += 1
        if os.getpid() != self._pid:
            self._handle_in_child(number)
            return
        if self._woken and number in (signal.SIGTERM, signal.SIGHUP):  # by this process itself
            self._woken = False
            if self._owed:
                self._raise(number, frame)
            return
        # Read and written field by field: another signal may come in between.
        state = SignalState(
            interrupts=self._interrupts,
            terminated=self._terminated,
            stopping=self.requested is not None and not isinstance(self.requested, TrialPruned),
            ticking=self.ticking,
            saving=self.saving,
            cleaning=self.cleaning,
            at_terminal=number == signal.SIGINT and _in_foreground(),
            overdue=self.overdue,
            forced=self.forced,
        )
        self._interrupts += number == signal.SIGINT
        after, action = transition(state, signal.Signals(number).name)
        if action is Action.EXIT:
            self._exit()
        first_end, self._terminated = after.terminated and not state.terminated, after.terminated
        if first_end:
            self.deadline = min(self.deadline, time.monotonic() + self.grace_seconds)
        if not state.stopping:
            self._request(number, frame)
            self._quieten_lost_workers()
        if first_end and not state.cleaning:
            self._start_timer(number, self.grace_seconds / 2, forced=False)
        if action is Action.STOP_NOW:
            self.overdue, self.forced = True, self.forced or after.forced
            self._raise(number, frame)
        elif number == signal.SIGINT:
            again = "cleaning up; once more to leave at once" if after.interrupts > 1 else "cleaning up"
            self._say(again if state.cleaning else "stopping after this step; again to stop now")

    def _request(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        # Plain for Ctrl-C: only that type makes a script that does not catch it exit with 130.
        stop = StopRequested(name, EXIT_CODES[name])
        self.requested = KeyboardInterrupt() if number == signal.SIGINT else stop
        self.on_request()
        self._call_previous(number, frame)

    def _quieten_lost_workers(self) -> None:
        """Let a step finish, although its plain DataLoader's workers end by the same signal.

        torch raises an error in the main thread, in the handler of SIGCHLD.
        """
        before = signal.getsignal(signal.SIGCHLD)
        if not callable(before) or signal.SIGCHLD in self._previous:
            return

        def handle(number: int, frame: FrameType | None) -> None:
            try:
                before(number, frame)
            except RuntimeError as error:
                if not is_lost_worker(error):
                    raise

        self._previous[signal.SIGCHLD] = before
        signal.signal(signal.SIGCHLD, handle)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        # In a frame of the framework's own, even with user code around it: between a constructor's
        # return and the moment its object is known, an exception would leave that object without
        # its clean-up. Nor in the handler of an earlier signal, as that interrupted other code.
        if not self.interruptible or not self._may_raise():
            return
        if self._depth > 1 or (frame is not None and frame.f_code.co_filename.startswith(_OWN)):
            self._owed = True
            self._try_again()
            return
        self._owed = False
        self.forced = True  # the user's code is interrupted in a step: nothing stores that
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        assert self.requested is not None
        raise self.requested

    def _try_again(self) -> None:
        """Come back soon: the code that follows may be the user's, and take long."""
        timer = threading.Timer(_AGAIN_SECONDS, self._wake)
        timer.daemon = True
        timer.start()

    def _start_timer(self, number: int, seconds: float, *, forced: bool) -> None:
        """Stop by itself after half of the grace time, and once more, by force, at its end."""

        def expire() -> None:
            if not forced and not self.cleaning:
                self._start_timer(number, self.grace_seconds / 2, forced=True)
            self.overdue, self.forced, self._owed = True, self.forced or forced, True
            self._send(number, wakes=True)

        self._timer = threading.Timer(seconds, expire)
        self._timer.daemon = True
        self._timer.start()

    def _handle_in_child(self, number: int) -> None:
        """End a forked worker on SIGTERM as without these handlers; its parent handles Ctrl-C."""
        if number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _call_previous(self, number: int, frame: FrameType | None) -> None:
        """Call the previous handler, or postpone that if user code must not be interrupted now."""
        previous: Callable[[int, FrameType | None], Any] | int | None = self._previous.get(number)
        if not callable(previous) or previous is signal.default_int_handler:
            return
        outer = getattr(previous, "__self__", None)
        # A run inside a process of another run: that one stops at its next step
        if isinstance(outer, SignalGuard):
            outer.requested = outer.requested or self.requested
            outer.deadline = min(outer.deadline, self.deadline)
            outer.on_request()
            outer.overdue = not outer.ticking
        elif self.interruptible and not self.cleaning:
            previous(number, frame)
        else:
            self._postponed.append(number)

    def _exit(self) -> None:
        for stream in (1, 2):
            if os.isatty(stream):
                os.write(stream, _SHOW_CURSOR)
                break
        os._exit(EXIT_CODES["SIGINT"])

    @staticmethod
    def _say(text: str) -> None:
        """Print from another thread: the interrupted code may hold the lock of the stream."""

        def write() -> None:
            try:
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # the terminal is gone
                return

        threading.Thread(target=write, daemon=True).start()


def _in_foreground() -> bool:
    """Return whether this process belongs to the foreground of its terminal, if it has one."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
