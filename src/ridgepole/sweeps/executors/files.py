"""A trial in another process that shares the sweep's directory: its lock, its outcome, and what is said through files.

For executors without a pipe to their workers. `perform_in_files` is all that a task has to call; `FileWatch` is the
driver's side of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ridgepole.errors import SweepError
from ridgepole.files import read_json
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.sweeps.executors.base import Ended, Event, Reported, Started, TrialSpec
from ridgepole.sweeps.jobs import Job
from ridgepole.sweeps.outcome import Outcome
from ridgepole.sweeps.sweepdir import SweepDir
from ridgepole.sweeps.trial import GuardedLink, Trial, perform

Wish = Literal["prune", "stop", "now"]
"""To stop at the next tick as pruned, at the next tick with a checkpoint, or at once."""

_LOOK = 0.5
"""Seconds between two looks at what a trial is asked for."""
_PATIENCE = 5.0


@contextmanager
def performing(spec: TrialSpec) -> Iterator[Callable[[Outcome], None]]:
    """Holds the lock of a trial; gives what keeps its outcome where a later driver finds it.

    Raises:
        SweepError: If another process runs this trial.
    """
    directory = SweepDir(Path(spec.directory))
    lock = directory.trial_lock(spec.number)
    if not lock.take(_PATIENCE):
        raise SweepError(f"trial {spec.number} is run already, by {lock.who()}")

    def keep(outcome: Outcome) -> None:
        path = directory.trial_result(spec.number, spec.attempt)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(outcome.as_dict()), encoding="utf-8")
        part.replace(path)  # all of it or nothing, for whoever is killed and whoever reads

    try:
        yield keep
    finally:
        lock.release()


def perform_in_files(job: Job, spec: TrialSpec) -> Outcome:
    """Runs an attempt of a trial and says everything through the sweep's directory.

    Args:
        job: What it runs.
        spec: Which one.

    Returns:
        How it went; it is in the directory too.

    Raises:
        SweepError: If another process runs this trial.
    """
    guard = SignalGuard()
    with performing(spec) as keep, guard.installed():
        link = FileLink(spec, guard)
        try:
            outcome = perform(job, spec, link)
        finally:
            link.close()
        keep(outcome)
        return outcome


class FileLink(GuardedLink):
    """Says what a trial does in a file, and looks into another one for what it is asked for.

    Args:
        spec: The attempt.
        guard: The guard of this process, which is installed.
    """

    def __init__(self, spec: TrialSpec, guard: SignalGuard) -> None:
        super().__init__(guard)
        directory = SweepDir(Path(spec.directory))
        self._wish = directory.trial_wish(spec.number, spec.attempt)
        self._file = directory.trial_events(spec.number, spec.attempt).open("ab", buffering=0)
        if self._file.tell():
            self._file.write(b"\n")  # a process that was killed before may have left half a line
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._in_main = False

    def bind(self, trial: Trial) -> None:
        """Begins to look."""
        super().bind(trial)
        self._in_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._look, name="ridgepole-trial", daemon=True)
        self._thread.start()

    def started(self, run: Path) -> None:
        """Says it."""
        self._say({"run": str(run)})

    def report(self, values: tuple[float, ...], seen: int) -> None:
        """Says it."""
        self._say({"values": values, "seen": seen})
        super().report(values, seen)

    def close(self) -> None:
        """Looks no longer."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._file.close()

    def _say(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")

    def _look(self) -> None:
        obeyed = ""
        while not self._done.wait(_LOOK):
            try:
                wish = self._wish.read_text(encoding="ascii")
            except OSError:
                continue
            if wish != obeyed:
                obeyed = wish
                self._obey(wish)

    def _obey(self, wish: str) -> None:
        if wish == "prune":
            self.trial.ask_to_prune()
            return
        self.trial.ask_to_stop()
        if wish == "now" and self._in_main:  # in another thread nothing can be interrupted
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                if self._done.wait(_LOOK / 5):  # two that come at once are one
                    return


class FileWatch:
    """The driver's side of a `FileLink`.

    Args:
        spec: The attempt.
    """

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self._directory = SweepDir(Path(spec.directory))
        self._events = self._directory.trial_events(spec.number, spec.attempt)
        self._offset = 0

    def poll(self) -> list[Event]:
        """What has been said since the last look; `Ended` is the last of all."""
        told = read_json(self._directory.trial_result(self.spec.number, self.spec.attempt))
        events = [self._event(line) for line in self._lines()]  # after the outcome was seen: nothing comes later
        return [*events, Ended(self.spec.number, Outcome.from_dict(told))] if told else events

    def ask(self, wish: Wish) -> None:
        """Asks the trial; it looks twice a second."""
        path = self._directory.trial_wish(self.spec.number, self.spec.attempt)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(wish, encoding="ascii")
        part.replace(path)

    def begun(self) -> bool:
        """Whether a process has begun to run the attempt."""
        return self._events.exists()

    def alive(self) -> bool:
        """Whether a process on this machine, or one that shares its locks, runs the trial."""
        return self._directory.trial_lock(self.spec.number).holder() is not None

    def _lines(self) -> list[dict[str, Any]]:
        try:
            with self._events.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]  # a line that is being written is read the next time
        self._offset += len(whole)
        return list(_objects(whole))

    def _event(self, line: dict[str, Any]) -> Event:
        if "run" in line:
            return Started(self.spec.number, line["run"])
        return Reported(self.spec.number, tuple(line["values"]), line["seen"])


def runs_of(path: Path) -> list[str]:
    """The run directories that a file of events speaks of, the last one last."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return list(dict.fromkeys(each["run"] for each in _objects(data) if "run" in each))


def _objects(data: bytes) -> Iterator[dict[str, Any]]:
    """What whole lines say; half a line that a killed process has left says nothing."""
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def print_to(path: Path) -> None:
    """Sends what the trial prints to a file of its own."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        for stream in (1, 2):
            os.dup2(fd, stream)
        os.close(fd)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
