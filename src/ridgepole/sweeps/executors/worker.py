"""The worker process of the executor `process`.

Trials run on its main thread; another one reads the driver's messages.
"""

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
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.sweeps.executors.trial_process import leave_terminal, redirect_output, trial_lock
from ridgepole.sweeps.run.attempt import run_trial
from ridgepole.sweeps.run.executor import Completed, Reported, Started
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import Trial, TrialLink, TrialSpec
from ridgepole.sweeps.sweepdir import SweepDir

_BATCH_SECONDS = 0.1  # time after which reports that were held back are sent
_ORPHAN_SECONDS = 35.0
"""Time for a worker without a driver to stop: a run's grace time and some more."""


def main(conn: Connection[Any, Any], target: bytes, environ: Mapping[str, str]) -> None:
    """Run trials until the driver ends this worker, or has died.

    Args:
        conn: The connection to the driver. It receives `run`, `prune`, `stop` and `close`, and
            sends `ready`, `broken` and events.
        target: The target, pickled.
        environ: Environment variables to set, unless they are set already.
    """
    leave_terminal()  # the driver answers Ctrl-C, and sends requests to its workers
    # Between two trials there is nothing to interrupt
    signal.signal(signal.SIGINT, lambda *_: None)
    for name, value in environ.items():
        os.environ.setdefault(name, value)
    # A child that outlives this worker must not make it look alive
    os.register_at_fork(after_in_child=conn.close)
    try:
        loaded: Target = pickle.loads(target)  # noqa: S301 - from the driver, through our own pipe
    except Exception as error:  # noqa: BLE001 - whatever the import of the user's module raises
        conn.send(("broken", f"{type(error).__name__}: {text_of(error)}"))
        return
    inbox = _Inbox(conn)
    inbox.send(("ready",))
    while (spec := inbox.next()) is not None:
        _run(loaded, spec, inbox)


def _run(target: Target, spec: TrialSpec, inbox: _Inbox) -> None:
    redirect_output(SweepDir(Path(spec.directory)).trial_log(spec.number))
    guard = SignalGuard()
    with trial_lock(spec) as store, guard.installed():
        link = _PipeLink(spec.number, inbox, guard)
        outcome = run_trial(target, spec, link)
        store(outcome)  # before the message: it survives a kill of either process
    inbox.done()
    inbox.send(("event", Completed(spec.number, outcome)))


class _Inbox:
    """A thread that reads the driver's messages, and acts on them."""

    def __init__(self, conn: Connection[Any, Any]) -> None:
        self._conn = conn
        self._sending = threading.Lock()
        self._specs: queue.SimpleQueue[TrialSpec | None] = queue.SimpleQueue()
        self._link: _PipeLink | None = None
        self._early_requests: list[str] = []
        self._linking = threading.Lock()
        threading.Thread(target=self._listen, name="ridgepole-driver", daemon=True).start()

    def next(self) -> TrialSpec | None:
        """Return the next trial; None at the end."""
        return self._specs.get()

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message; the reader notices if the driver has died."""
        with self._sending, contextlib.suppress(OSError):
            self._conn.send(message)

    def begin(self, link: _PipeLink) -> None:
        """Pass on requests that came before the trial had begun."""
        with self._linking:
            self._link = link
            early, self._early_requests = self._early_requests, []
        for request in early:
            self._request(request)

    def done(self) -> None:
        """Note that no trial runs."""
        self._link = None

    def _listen(self) -> None:
        while True:
            try:
                message = self._conn.recv() if self._conn.poll(_BATCH_SECONDS) else None
            except (EOFError, OSError):
                self._orphaned()
                return
            if message is None:
                link = self._link
                if link is not None:
                    link.flush()
            elif message[0] == "run":
                self._early_requests.clear()
                self._specs.put(message[1])
            elif message[0] == "close":
                self._specs.put(None)
            else:
                self._request(message[0])

    def _request(self, request: str) -> None:
        """Pass a request to the trial, or keep it until the trial begins."""
        with self._linking:
            link = self._link
            if link is None:
                self._early_requests.append(request)
        if link is not None and request == "prune":
            link.trial.ask_to_prune()
        elif link is not None:
            os.kill(os.getpid(), signal.SIGINT)

    def _orphaned(self) -> None:
        """Stop the trial at its next tick, with a checkpoint, after the driver has died."""
        self._specs.put(None)
        if self._link is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_SECONDS)
        os._exit(143)


class _PipeLink(TrialLink):
    """A link that sends events through a pipe; reports in quick succession go together."""

    def __init__(self, number: int, inbox: _Inbox, guard: SignalGuard) -> None:
        super().__init__(guard)
        self._number, self._inbox = number, inbox
        self._lock = threading.Lock()
        self._held: list[float] = []
        self._seen = 0
        self._sent = -_BATCH_SECONDS

    def bind(self, trial: Trial) -> None:
        super().bind(trial)
        self._inbox.begin(self)

    def started(self, run: Path) -> None:
        self._inbox.send(("event", Started(self._number, str(run))))

    def report(self, values: tuple[float, ...], seen: int) -> None:
        with self._lock:
            if self._held and self._seen + len(self._held) != seen:
                self._send()  # it was restored from a checkpoint
            if not self._held:
                self._seen = seen
            self._held += values
            if time.monotonic() - self._sent >= _BATCH_SECONDS:
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
