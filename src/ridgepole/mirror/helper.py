"""The helper process of a mirrored run, and the same work for `ridgepole mirror push`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import RidgepoleError, RunDirError
from ridgepole.files import Flock
from ridgepole.mirror.lease import Lease, place_of
from ridgepole.mirror.objects import Objects, RefusedError, UnreachableError
from ridgepole.mirror.uploader import LOCK, Uploader
from ridgepole.watch.alerts import Level, append_alert, new_alert
from ridgepole.watch.helper import ignore_signals

_PATIENCE_SECONDS = 60.0
"""The most seconds between two tries to reach a store that does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The things that a helper is told at its start.

    Attributes:
        run: The run directory.
        url: The mirror of its root.
        every_seconds: Between two looks.
        drain_seconds: For what is left at the end.
        lease_seconds: After which others may take over.
    """

    run: str
    url: str
    every_seconds: float
    drain_seconds: float
    lease_seconds: float


class Mirroring:
    """Holds the lease of a mirror and uploads.

    Args:
        orders: What to mirror.
        wait: Waits for seconds; returns whether to give up.

    Raises:
        RunDirError: If the mirror can't be written.
    """

    def __init__(self, orders: Orders, wait: Callable[[float], bool]) -> None:
        run = Path(orders.run)
        self._lock = Flock(run / LOCK)
        if not self._lock.take(patience=orders.lease_seconds):
            raise UnreachableError(f"run {run.name} is being mirrored by {self._lock.who()}")
        self.deadline: float | None = None
        try:
            self._open(run, orders, wait)
        except BaseException:
            self._lock.release()  # the next try takes it again
            raise

    def _open(self, run: Path, orders: Orders, wait: Callable[[float], bool]) -> None:
        attempt = max((int(line["attempt"]) for line in rundir.read_attempts(run)), default=1)
        self._objects = Objects(f"{orders.url}/{run.name}", write=True)
        self._lease = Lease(self._objects, attempt, place_of(run), orders.lease_seconds)
        self._lease.take(wait)
        self._uploader = Uploader(run, self._objects, attempt, secrets.token_hex(8), self._pause)
        self._uploader.open()

    def _pause(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise UnreachableError("the time for the rest is over")
        self._lease.renew()

    def step(self, *, last: bool = False) -> None:
        """Upload what is new, and renew the lease."""
        self._uploader.upload(last=last)
        self._pause()

    def left(self) -> tuple[int, int]:
        """Return how many files are not in the mirror yet, and their bytes."""
        return self._uploader.left()

    def end(self) -> None:
        """Release the lease."""
        with contextlib.suppress(RidgepoleError):
            self._lease.release()
        self._lock.release()


def push(orders: Orders) -> None:
    """Upload a run directory that no run writes.

    Raises:
        RunDirError: If the mirror can't be written.
    """

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    mirroring = Mirroring(orders, wait)
    try:
        mirroring.step(last=True)
    finally:
        mirroring.end()


def main(control: str, answers: str) -> None:
    """Mirror a run until it closes its end of a pipe, and then what is left, for a bounded time.

    Args:
        control: The descriptor of the pipe whose first line has the orders.
        answers: The descriptor for the two answers: about the start, and the end.
    """
    ignore_signals()
    with contextlib.suppress(OSError):
        os.nice(10)
    with os.fdopen(int(control), "rb", buffering=0) as pipe:
        line = pipe.readline()
        if line:
            _Helper(Orders(**json.loads(line)), pipe.fileno(), int(answers)).run()


class _Helper:
    """Looks for what is new, as long as the run lives."""

    def __init__(self, orders: Orders, control: int, answers: int) -> None:
        self._orders, self._control, self._answers = orders, control, answers
        self._mirroring: Mirroring | None = None
        self._silent = self._started = False
        self._until: float | None = None
        self._parent = os.getppid()

    def run(self) -> None:
        """Mirror until the run ends."""
        wait, orders = 0.0, self._orders
        while not self._over(wait):
            try:
                self._once()
            except RidgepoleError as error:
                # After the start, a token may be renewed, a bucket emptied
                later = isinstance(error, RefusedError) and self._started
                if later or isinstance(error, UnreachableError):
                    self._answer("later", str(error))
                    self._tell("warning", "the mirror can't be written now, the run continues", str(error))
                    wait = min(max(2 * wait, orders.every_seconds), _PATIENCE_SECONDS)
                    continue
                refused = self._mirroring is None and isinstance(error, RunDirError)
                if not self._answer("refused" if refused else "later", str(error)):
                    self._tell("error", "the mirror was given up, the run continues", str(error))
                self._wait_for_end()
                self._answer("left", str(error))
                return
            except OSError as error:  # of the run directory
                self._answer("later", str(error))
                self._tell("warning", "the run directory can't be mirrored now", str(error))
                wait = orders.every_seconds
            else:
                self._answer("ok", "")
                if self._silent:
                    self._silent = False
                    self._tell("info", "the mirror has caught up", told=False)
                wait = orders.every_seconds
        self._drain()

    def _once(self, *, last: bool = False) -> None:
        if self._mirroring is None:
            self._mirroring = Mirroring(self._orders, self._give_up)
            self._mirroring.deadline = self._until
            self._answer("ok", "")
        self._mirroring.step(last=last)

    def _drain(self) -> None:
        """Upload what is left, until all is there or the time is over."""
        self._until = time.monotonic() + self._orders.drain_seconds
        fault = ""
        if self._mirroring is not None:
            self._mirroring.deadline = self._until
        while True:
            try:
                self._once(last=True)
            except UnreachableError as error:
                fault = str(error)
            except RidgepoleError as error:
                fault = str(error)
                break
            except OSError as error:  # of the run directory
                fault = str(error)
            else:
                fault = ""
                break
            if time.monotonic() > self._until:
                break
            time.sleep(0.2)
        if fault:
            self._answer("left", self._describe_left(fault))
        elif self._mirroring is not None:
            self._mirroring.end()
            self._answer("done", "")

    def _describe_left(self, fault: str) -> str:
        if self._mirroring is None:
            return f"nothing could be uploaded: {fault}"
        count, size = self._mirroring.left()
        return f"{count} files with {size / 1e6:.1f} MB are left: {fault}"

    def _over(self, seconds: float) -> bool:
        """Wait; return whether the run has ended, by its word or by its death."""
        # A forked child of the run may keep the pipe open
        return bool(select.select([self._control], [], [], seconds)[0]) or os.getppid() != self._parent

    def _give_up(self, seconds: float) -> bool:
        if self._until is None:
            return self._over(seconds)
        time.sleep(seconds)
        return time.monotonic() > self._until

    def _wait_for_end(self) -> None:
        while not self._over(1.0):
            pass

    def _answer(self, word: str, text: str) -> bool:
        """Answer the run; return False if it has got an answer about the start before."""
        if self._started and word not in ("left", "done"):
            return False
        self._started = True
        with contextlib.suppress(OSError):
            os.write(self._answers, json.dumps([word, text]).encode() + b"\n")
        return True

    def _tell(self, level: Level, title: str, text: str = "", *, told: bool = True) -> None:
        """Tell the user once, and keep it as an alert of the run."""
        if self._silent:
            return
        self._silent = told
        with contextlib.suppress(OSError):
            sys.stderr.write(f"ridgepole: {title}{': ' if text else ''}{text}\n")
            sys.stderr.flush()
            append_alert(Path(self._orders.run), new_alert("mirror", level, title, text))
