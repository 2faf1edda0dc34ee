"""The worker process of the executor `process`: runs trials on its main thread, listens to the driver on another."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ridgepole.errors import text_of
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.sweeps.executors.base import Ended, Reported, Started, TrialSpec
from ridgepole.sweeps.executors.blocking import leave_the_terminal
from ridgepole.sweeps.executors.files import performing, print_to
from ridgepole.sweeps.jobs import Job
from ridgepole.sweeps.sweepdir import SweepDir
from ridgepole.sweeps.trial import GuardedLink, Trial, perform

_TURN = 0.1
"""Seconds after which reports that were held back are sent."""
_ORPHAN_SECONDS = 35.0
"""How long a worker without a driver may take to stop: a run's grace time and some more."""


def main(conn: Connection[Any, Any], job: bytes, environ: Mapping[str, str]) -> None:
    """Runs trials until it is told to stop, or there is no driver any more.

    Args:
        conn: To the driver: `run`, `prune`, `stop` and `close` come in, `ready`, `broken` and events go out.
        job: The job, pickled.
        environ: Environment variables to set, unless they are set already.
    """
    leave_the_terminal()  # Ctrl-C there is the driver's; it passes on what it makes of it
    signal.signal(signal.SIGINT, lambda *_: None)  # between two trials there is nothing to interrupt
    for name, value in environ.items():
        os.environ.setdefault(name, value)
    os.register_at_fork(after_in_child=conn.close)  # a child that outlives this worker must not make it look alive
    try:
        loaded: Job = pickle.loads(job)  # noqa: S301 - from the driver, through our own pipe
    except Exception as error:  # noqa: BLE001 - whatever the import of the user's module raises
        conn.send(("broken", f"{type(error).__name__}: {text_of(error)}"))
        return
    inbox = _Inbox(conn)
    inbox.send(("ready",))
    while (spec := inbox.next()) is not None:
        _run(loaded, spec, inbox)


def _run(job: Job, spec: TrialSpec, inbox: _Inbox) -> None:
    print_to(SweepDir(Path(spec.directory)).trial_log(spec.number))
    guard = SignalGuard()
    with performing(spec) as keep, guard.installed():
        link = _PipeLink(spec.number, inbox, guard)
        outcome = perform(job, spec, link)
        keep(outcome)  # before anybody is told: whoever is killed now, it is known
    inbox.done()
    inbox.send(("event", Ended(spec.number, outcome)))


class _Inbox:
    """Reads what the driver says, on a thread of its own, and acts on it."""

    def __init__(self, conn: Connection[Any, Any]) -> None:
        self._conn = conn
        self._sending = threading.Lock()
        self._specs: queue.SimpleQueue[TrialSpec | None] = queue.SimpleQueue()
        self._link: _PipeLink | None = None
        self._early: list[str] = []
        self._linking = threading.Lock()
        threading.Thread(target=self._listen, name="ridgepole-driver", daemon=True).start()

    def next(self) -> TrialSpec | None:
        """The next trial; None where there is none any more."""
        return self._specs.get()

    def send(self, message: tuple[Any, ...]) -> None:
        """Says something to the driver; a driver that is gone is found out by the reader."""
        with self._sending, contextlib.suppress(OSError):
            self._conn.send(message)

    def begin(self, link: _PipeLink) -> None:
        """A trial runs: what it was asked for before is asked for now."""
        with self._linking:
            self._link = link
            early, self._early = self._early, []
        for wish in early:
            self._ask(wish)

    def done(self) -> None:
        """No trial runs any more."""
        self._link = None

    def _listen(self) -> None:
        while True:
            try:
                message = self._conn.recv() if self._conn.poll(_TURN) else None
            except (EOFError, OSError):
                self._orphaned()
                return
            if message is None:
                link = self._link
                if link is not None:
                    link.flush()
            elif message[0] == "run":
                self._early.clear()
                self._specs.put(message[1])
            elif message[0] == "close":
                self._specs.put(None)
            elif not self._kept(message[0]):
                self._ask(message[0])

    def _kept(self, wish: str) -> bool:
        """Keeps a wish that comes before the trial has begun."""
        with self._linking:
            if self._link is None:
                self._early.append(wish)
            return self._link is None

    def _ask(self, wish: str) -> None:
        link = self._link
        if link is None:
            return
        if wish == "prune":
            link.trial.ask_to_prune()
        else:
            os.kill(os.getpid(), signal.SIGINT)

    def _orphaned(self) -> None:
        """The driver is gone: the trial stops at its next tick, with a checkpoint, for the next driver to go on."""
        self._specs.put(None)
        if self._link is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_SECONDS)
        os._exit(143)


class _PipeLink(GuardedLink):
    """Tells the driver; reports in quick succession are sent together."""

    def __init__(self, number: int, inbox: _Inbox, guard: SignalGuard) -> None:
        super().__init__(guard)
        self._number, self._inbox = number, inbox
        self._lock = threading.Lock()
        self._held: list[float] = []
        self._seen = 0
        self._sent = -_TURN

    def bind(self, trial: Trial) -> None:
        super().bind(trial)
        self._inbox.begin(self)

    def started(self, run: Path) -> None:
        self._inbox.send(("event", Started(self._number, str(run))))

    def report(self, values: tuple[float, ...], seen: int) -> None:
        with self._lock:
            if self._held and self._seen + len(self._held) != seen:
                self._send()  # it has gone back to a checkpoint
            if not self._held:
                self._seen = seen
            self._held += values
            if time.monotonic() - self._sent >= _TURN:
                self._send()
        super().report(values, seen)

    def flush(self) -> None:
        with self._lock:
            self._send()

    def _send(self) -> None:
        if self._held:
            self._inbox.send(("event", Reported(self._number, tuple(self._held), self._seen)))
            self._held = []
        self._sent = time.monotonic()
