"""The run's side of its helper process."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ridgepole.children import our_python
from ridgepole.threads import start_thread
from ridgepole.watch.alerts import Alert
from ridgepole.watch.capture import Capture
from ridgepole.watch.flight import FlightAnswers
from ridgepole.watch.heartbeat import SharedBeat
from ridgepole.watch.helper import Orders, as_line, dump_signal, run_forked
from ridgepole.watch.notify import DEADLINE_SECONDS

_WAIT = (
    "import os, select, sys; waits = select.poll(); waits.register(int(sys.argv[1]), 0); "
    "waits.poll(1000) or os.execv(sys.argv[2], sys.argv[2:])"
)
"""The helper waits for a second, and ends if the run does: a short run pays only for this."""

_END_SECONDS = 5.0
_SENDING_SECONDS = 2 * DEADLINE_SECONDS + 10.0
_PR_SET_PTRACER = 0x59616D61


class Watch:
    """Starts the helper process of a run, speaks to it, and ends it.

    The run never depends on it: where it can't be started, or dies, the run warns and continues.

    Args:
        orders: The orders of the helper.
        warn: Warns the user.

    Attributes:
        beat: The numbers that the run writes.
    """

    def __init__(self, orders: Orders, warn: Callable[[str], None]) -> None:
        self._orders, self._warn = orders, warn
        self._shared = SharedBeat()
        self.beat = self._shared.numbers
        self._pid = os.getpid()
        self._helper: subprocess.Popen[bytes] | ForkedHelper | None = None
        self._control = self._answers = -1
        self._capture: Capture | None = None
        self._waiter: threading.Thread | None = None
        self._flight: FlightAnswers | None = None
        self._lock = threading.Lock()
        self._over = False

    def start(self, *, at_once: bool = False) -> None:
        """Start the helper.

        Args:
            at_once: Whether it is needed even by a run of less than a second.
        """
        with self._lock:
            if self._over or self._helper is not None or os.getpid() != self._pid:
                return
            try:
                self._start(at_once=at_once)
            except (OSError, RuntimeError, ValueError) as error:
                self._warn(f"nothing watches over this run: its helper process can't be started: {error}")

    def start_with_console(self) -> None:
        """Start the helper at once, and have it keep what this process prints from here on."""
        try:
            self._capture = Capture()
        except (OSError, ValueError) as error:
            self._warn(f"the console of this run is not kept: {error}")
        else:
            self._orders = replace(self._orders, console=self._capture.streams)
        self.start(at_once=True)
        if self._helper is not None and self._capture is not None:
            self._capture.begin()
            self._waiter = threading.Thread(target=self._await_helper, name="ridgepole-console", daemon=True)
            start_thread(self._waiter)

    def _start(self, *, at_once: bool) -> None:
        number = dump_signal()
        self._flight = FlightAnswers() if self._orders.world_size > 1 else None
        asks = -1 if self._flight is None else self._flight.asks
        orders = self._orders = replace(self._orders, dump_signal=number, asks=asks)
        reading, self._control = os.pipe()
        os.set_blocking(self._control, False)
        try:
            self._answers = _answers_file()
            faulthandler.register(number, file=self._answers, all_threads=True)
            # A fork costs next to nothing, but is safe only before there are threads
            if self._capture is not None and threading.active_count() == 1:
                self._helper = self._fork(orders, reading)
            else:
                self._helper = self._spawn(orders, reading, at_once=at_once)
        finally:
            os.close(reading)
            if self._flight is not None:
                self._flight.start()
        _allow_tracing(self._helper.pid)

    def _fork(self, orders: Orders, reading: int) -> ForkedHelper:
        pid = os.fork()
        if not pid:
            os.close(self._control)
            if self._capture is not None:
                self._capture.read_here()
            run_forked(orders, reading, self._shared, self._answers)
        return ForkedHelper(pid)

    def _spawn(self, orders: Orders, reading: int, *, at_once: bool) -> subprocess.Popen[bytes]:
        fds = (reading, self._shared.fd, self._answers)
        command = our_python("ridgepole.watch.helper", *map(str, fds))
        if not at_once:
            command = [sys.executable, "-I", "-S", "-c", _WAIT, str(reading), *command]
        more = [fd for pair in orders.console for fd in pair] + ([orders.asks] if orders.asks >= 0 else [])
        helper = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, pass_fds=(*fds, *more)
        )
        os.write(self._control, as_line(orders))
        return helper

    def _await_helper(self) -> None:
        """Restore the streams if the helper dies, and show what is still on its way."""
        helper, capture = self._helper, self._capture
        if helper is None or capture is None:
            return
        helper.wait()
        if self._over:
            return
        capture.end()
        self._warn(f"the console of this run is not kept any more: its helper has ended with {helper.returncode}")
        capture.show()

    def tell(self, alert: Alert) -> None:
        """Have an alert sent, which is kept already."""
        if self._orders.urls:
            self.say(op="alert", alert=asdict(alert))

    def say(self, **word: Any) -> None:
        """Tell the helper something; nothing happens where it is gone or does not listen."""
        with self._lock, contextlib.suppress(OSError):
            if self._control >= 0:
                os.write(self._control, json.dumps(word).encode() + b"\n")

    def end(self) -> None:
        """Restore the streams, and end the helper."""
        if os.getpid() != self._pid:
            return
        early = self._helper is not None and self._helper.poll() is not None
        self._over = True
        if self._capture is not None:
            self._capture.end()
        self.say(op="end")
        with self._lock:
            helper = self._helper
            if helper is not None:
                self._leave(helper, early=early)
            if self._capture is not None and not early:
                self._capture.close()  # else the rest is still shown
            self._shared.close()

    def _leave(self, helper: subprocess.Popen[bytes] | ForkedHelper, *, early: bool) -> None:
        if early:
            code = helper.returncode
            self._warn(f"the process that watched over this run ended early, with {code}; the run was not harmed")
        os.close(self._control)
        self._control = -1
        seconds = _SENDING_SECONDS if self._orders.urls else _END_SECONDS
        if self._waiter is not None:
            self._waiter.join(seconds)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(seconds)
        if helper.poll() is None:
            helper.kill()
            helper.wait()
        if self._flight is not None:
            self._flight.close()
        faulthandler.unregister(dump_signal())
        os.close(self._answers)


class ForkedHelper:
    """A helper that was forked, with the methods of `subprocess.Popen` that are needed.

    Attributes:
        pid: Its number.
        returncode: Its exit code, once it was waited for.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        if self._lock.acquire(blocking=False):  # else another thread waits for it
            try:
                self._wait(os.WNOHANG)
            finally:
                self._lock.release()
        return self.returncode

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended; the time is not limited, as another thread does that."""
        del timeout
        with self._lock:
            self._wait(0)

    def kill(self) -> None:
        """Kill it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _wait(self, options: int) -> None:
        if self.returncode is None:
            try:
                done, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # other code has waited for it
                self.returncode = 0
                return
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)


def _answers_file() -> int:
    """Return a file in memory, in append mode: several processes write their stacks there."""
    fd, name = tempfile.mkstemp()
    os.close(fd)
    fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    Path(name).unlink()
    return fd


def _allow_tracing(pid: int) -> None:
    """Let the helper and its children look at this process, which Yama may forbid."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        if Path("/proc/sys/kernel/yama/ptrace_scope").read_text("ascii").strip() == "1":
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, pid, 0, 0, 0)
