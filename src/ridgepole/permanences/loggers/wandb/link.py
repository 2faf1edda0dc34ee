"""The way from the training process to the writer's: a bounded queue, a thread that empties it, and a deadline."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgepole.errors import TrackerError
from ridgepole.permanences.loggers.base import LoggerSlot
from ridgepole.permanences.loggers.wandb.frames import encode, read_frames, write_all
from ridgepole.threads import start_thread

QUEUE_BYTES = 64 << 20
FLUSH_SECONDS = 1.0  # how often the client writes its file; its own default loses 15 s to a `kill -9`
BATCH_SECONDS = 0.05  # a thread that wakes for each record takes the interpreter from the loop each time

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); sys.argv[:] = ['ridgepole']; "
    "from ridgepole.permanences.loggers.wandb.writer import main; main()"
)


class Link:
    """A running writer, and what waits to be sent to it. No method but `start`, `sync` and `finish` ever waits.

    Attributes:
        info: What the writer said of the run: `directory`, `url`, `resumed`.
        sent: How many records were taken.
        handled: How many of them the client is known to have.
        gone: Why the writer can be sent nothing any more; empty while it can.

    Args:
        log: For warnings.
        slot: Counts what is dropped.
        stop: Is called, on a thread of the link, when the run's page asks the run to stop.
        limit: Bytes that may wait.
    """

    def __init__(
        self,
        log: logging.Logger,
        slot: LoggerSlot,
        stop: Callable[[], None] = lambda: None,
        limit: int = QUEUE_BYTES,
    ) -> None:
        self._stop = stop
        self.info: dict[str, Any] = {}
        self.sent = 0
        self.handled = 0
        self.gone = ""
        self._log = log
        self._slot = slot
        self._limit = limit
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = self._foreign = self._stalled = False
        self._tokens = 0
        self._synced = -1
        self._outcome: tuple[Any, ...] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._services: list[Any] = []
        self._threads: list[threading.Thread] = []

    # -- starting ----------------------------------------------------------------------------------------------------

    def start(self, options: Mapping[str, Any], deadline: float, output: Path) -> None:
        """Starts the writer and waits until it has started the run.

        Args:
            options: What the writer is to do, as `logger` and `writer` agree on it.
            deadline: When to give up, by the monotonic clock.
            output: The file that receives what the client prints.

        Raises:
            TrackerError: If it could not, or not in time; the writer is gone then.
        """
        with output.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", _BOOT, json.dumps([str(path) for path in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=_environment(Path(options["root"])),
                bufsize=0,
                start_new_session=True,  # Ctrl-C is ours to answer, not the client's
            )
        _watch_forks(self)
        self.put(("start", dict(options)), count=False)
        for target in (self._pump, self._listen):
            thread = threading.Thread(target=target, name="ridgepole-wandb", daemon=True)
            start_thread(thread)
            self._threads.append(thread)
        self._await(lambda: bool(self.info or self.gone), deadline)
        if not self.info:
            reason = self.gone or "no answer in time"
            self.kill()
            raise TrackerError(reason)

    # -- sending -----------------------------------------------------------------------------------------------------

    def put(self, frame: tuple[Any, ...], *, count: bool = True) -> bool:
        """Takes a record; never waits.

        Args:
            frame: What to send.
            count: Whether it is a record; those count, and are dropped where the queue is full.

        Returns:
            Whether it was taken.

        Raises:
            ValueError: If it holds anything but plain values.
        """
        data = encode(frame)
        with self._lock:
            if self._foreign:
                return True  # a forked child: the parent's run is none of its business
            taken = not (self.gone or self._closing) and (not count or self._waiting + len(data) <= self._limit)
            if taken:
                self._queue.append(data)
                self._waiting += len(data)
                self.sent += count
            else:
                self._slot.dropped += count
                full = count and not self.gone and not self._closing
        if not taken:
            if full:
                self._warn("full", "W&B takes records more slowly than they are logged; some are dropped there")
        elif not self._wake.is_set():
            self._wake.set()
        return taken

    def sync(self, timeout: float) -> bool:
        """Waits until the client has everything that was taken so far.

        Args:
            timeout: Seconds. A writer that let one call wait in vain lets no further one wait until it answers.

        Returns:
            Whether it has.
        """
        with self._lock:
            if self._foreign or self.gone or self._closing:
                return not self.gone
            self._tokens += 1
            token = self._tokens
        self.put(("sync", token), count=False)
        self._hurry.set()
        deadline = time.monotonic() + (0 if self._stalled else timeout)
        reached = self._await(lambda: self._synced >= token or bool(self.gone), deadline) and not self.gone
        self._stalled = not reached
        if not reached and not self.gone:
            self._warn("stalled", "W&B does not answer; the run goes on without waiting for it")
        return reached

    # -- ending ------------------------------------------------------------------------------------------------------

    def finish(self, timeout: float, exit_code: int = 0) -> bool:
        """Ends the run and the writer; when this returns no process of it is left.

        Args:
            timeout: Seconds after which it is killed.
            exit_code: 0 for a run that finished; W&B marks any other as failed.

        Returns:
            Whether everything arrived where it goes.
        """
        process = self._process
        if process is None or self._foreign:
            return True
        deadline = time.monotonic() + timeout * 0.9  # the rest is for ending those who don't end by themselves
        self.put(("finish", exit_code), count=False)
        with self._lock:
            self._closing = True
        self._hurry.set()
        self._await(lambda: self._outcome is not None or bool(self.gone), deadline)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()
        outcome = self._outcome
        lost = self.sent - self.handled
        if lost:
            self._slot.dropped += lost
        return outcome is not None and bool(outcome[1]) and not lost

    def kill(self) -> None:
        """Ends whatever is left of the writer and the client's own processes."""
        process = self._process
        if process is None or self._foreign:
            return
        import psutil

        with self._lock:
            self._closing = True
        started = list(self._services)
        with contextlib.suppress(psutil.Error):
            started += psutil.Process(process.pid).children(recursive=True)
        # The client's service writes its file once a second; one that is left behind is given the time to do it.
        _wait(started, FLUSH_SECONDS * 1.5)
        for service in [*started, process]:
            with contextlib.suppress(psutil.Error, OSError):
                service.kill()
        process.wait()
        self._wake.set()
        self._hurry.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(1.0)  # both have nothing left to wait for
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not any(thread.is_alive() for thread in self._threads):
                pipe.close()

    # -- threads -----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Sends what waits, several records at a time."""
        assert self._process is not None
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        while True:
            self._wake.wait()
            self._hurry.wait(BATCH_SECONDS)
            with self._lock:
                batch = b"".join(self._queue)
                self._queue.clear()
                self._wake.clear()
                self._hurry.clear()
                last = self._closing
            try:
                write_all(pipe, batch)
            except OSError:
                return  # the listener hears of it too
            with self._lock:
                self._waiting -= len(batch)
            if last:
                return

    def _listen(self) -> None:
        """Hears what the writer answers, until it is gone."""
        assert self._process is not None
        assert self._process.stdout is not None
        reason = ""
        for frame in read_frames(self._process.stdout.fileno()):
            kind = frame[0]
            with self._news:
                if kind == "ready":
                    self._services = _processes(frame[1].pop("services"))
                    self.info = frame[1]
                elif kind == "refused":
                    reason = frame[1]
                elif kind == "synced":
                    self._synced, self.handled = frame[1:]
                elif kind == "finished":
                    self._outcome, self.handled = frame[1:], frame[1]
                self._news.notify_all()
            if kind == "stop":
                self._stop()
            elif kind == "problem":
                self._slot.dropped += 1
                self._warn("problem", f"W&B did not take a record: {frame[1]}")
        with self._news:
            self.gone = reason or "its client's process has ended"
            self._news.notify_all()
        if self.info and not self._closing:
            self._warn("gone", f"W&B is switched off for the rest of this run: {self.gone}")

    def _await(self, reached: Callable[[], bool], deadline: float) -> bool:
        with self._news:
            return self._news.wait_for(reached, max(0.0, deadline - time.monotonic()))

    def _warn(self, kind: str, message: str) -> None:
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        self._log.warning("%s", message)

    # -- forks -------------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's writer."""
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._foreign = True
        self._queue.clear()
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0  # not a child of this process: nothing to wait for, nothing to warn of


def _wait(processes: list[Any], seconds: float) -> None:
    """Waits until processes that need not be our children have ended, or the time is over."""
    import psutil

    def alive(process: Any) -> bool:
        try:
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    deadline = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _processes(pids: list[int]) -> list[Any]:
    import psutil

    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))  # remembers when it started: never another one of the same number
    return found


def _environment(root: Path) -> dict[str, str]:
    """The client's surroundings: its caches beside its files, and no service of another client."""
    environment = dict(os.environ)
    for name in ("WANDB_SERVICE", "WANDB_MODE", "WANDB_DISABLED"):
        environment.pop(name, None)
    folder = root / "wandb"
    environment.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
    environment.setdefault("WANDB_DATA_DIR", str(folder / "data"))
    environment.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing to third parties that nobody asked for
    return environment


def _watch_forks(link: Link) -> None:
    reference = weakref.ref(link)  # such hooks can't be taken back

    def disown() -> None:
        alive = reference()
        if alive is not None:
            alive.after_fork_in_child()

    os.register_at_fork(after_in_child=disown)
