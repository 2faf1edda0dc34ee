"""Environment, signals, output and lock of a process that runs trials for a driver."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ridgepole.errors import SweepError
from ridgepole.sweeps.run.program_card import ONE_CARD
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.sweepdir import SweepDir

EXCLUSIVE: Final = {"RIDGEPOLE_DEVICE_LEASE": "exclusive", "RIDGEPOLE_DEVICE_WAIT": "604800"}
"""The default of `Device` in a worker: no two workers share a GPU."""
TERMINAL_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGHUP})
"""Signals of the terminal, which the driver answers for its workers."""
LOCK_SECONDS = 5.0  # time for another process to release the lock of a trial


def worker_environ(workers: int) -> dict[str, str]:
    """Return the environment of each worker on this machine: a GPU, a share of the cores."""
    if workers < 2:
        return dict(EXCLUSIVE)
    share = max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1
    # Else each of them computes on all cores at once
    return {**EXCLUSIVE, ONE_CARD: "1", "OMP_NUM_THREADS": str(share)}


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Start children without the terminal's signals, which reach this process a moment later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_terminal() -> None:
    """Start a session of this child's own, and restore the signals that the driver has blocked."""
    with suppress(PermissionError):  # it leads a group already
        os.setsid()
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # forgets one that was pressed meanwhile
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)


def redirect_output(path: Path) -> None:
    """Send standard output and error to a trial's own file."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        for stream in (1, 2):
            os.dup2(fd, stream)
        os.close(fd)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


@contextmanager
def trial_lock(spec: TrialSpec) -> Iterator[Callable[[TrialOutcome], None]]:
    """Hold the lock of a trial; yield a function that stores its outcome for a later driver.

    Raises:
        SweepError: If another process runs this trial.
    """
    directory = SweepDir(Path(spec.directory))
    lock = directory.trial_lock(spec.number)
    if not lock.take(LOCK_SECONDS):
        raise SweepError(f"trial {spec.number} is running already, by {lock.who()}")

    def store(outcome: TrialOutcome) -> None:
        replace_text(directory.trial_result(spec.number, spec.attempt), json.dumps(outcome.as_dict()))

    try:
        yield store
    finally:
        lock.release()


def replace_text(path: Path, text: str) -> None:
    """Replace a file at once, so that no reader sees half of it."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
