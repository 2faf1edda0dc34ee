"""A trial in another process that shares nothing with the driver but the sweep's directory.

`run_remote_trial` is the task's side; `FileWatch` is the driver's side.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ridgepole.errors import text_of
from ridgepole.files import read_json
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.sweeps.executors.trial_process import redirect_output, replace_text, trial_lock
from ridgepole.sweeps.run.attempt import run_trial
from ridgepole.sweeps.run.executor import Completed, Event, Reported, Started
from ridgepole.sweeps.run.targets import FunctionTarget, Target, pickled
from ridgepole.sweeps.run.trial import Trial, TrialLink, TrialSpec
from ridgepole.sweeps.study.outcome import TrialOutcome
from ridgepole.sweeps.sweepdir import SweepDir
from ridgepole.threads import start_thread

Request: TypeAlias = Literal["prune", "stop", "now"]
"""Stop at the next tick as pruned, at the next tick with a checkpoint, or at once."""

_POLL_SECONDS = 0.5  # time between two looks at the requests to a trial


# --- the payload


@dataclass(frozen=True, kw_only=True)
class TaskPayload:
    """A pickled target, and the settings to run it in another process."""

    target: bytes
    paths: tuple[str, ...]  # the driver's import paths, beyond those of its Python
    folder: str | None  # the driver's working directory; None keeps that of the process
    environ: Mapping[str, str]  # to set, unless set already

    @classmethod
    def pack(
        cls,
        target: Target,
        dumps: Callable[[Target], bytes],
        environ: Mapping[str, str],
        *,
        change_folder: bool = True,
    ) -> TaskPayload:
        """Pack a target with `dumps`, which takes functions of the main script by their code.

        Raises:
            SweepError: If it can't be pickled.
        """
        prefixes = (sys.prefix, sys.base_prefix)
        paths = [str(Path(path).absolute()) for path in sys.path]
        return cls(
            target=pickled(target, dumps),
            paths=tuple(path for path in paths if not any(Path(path).is_relative_to(prefix) for prefix in prefixes)),
            folder=str(Path.cwd()) if change_folder else None,
            environ=environ,
        )

    def unpack(self) -> Target:
        """Apply the settings to this process, and import the target."""
        for name, value in self.environ.items():
            os.environ.setdefault(name, value)
        if self.folder is not None:
            os.chdir(self.folder)
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        target: Target = pickle.loads(self.target)  # noqa: S301 - from the driver, through its own scheduler
        return target


# --- in the task


def run_remote_trial(payload: TaskPayload, spec: TrialSpec) -> str:
    """Run an attempt of a trial in this process, and report through the sweep's directory.

    Returns:
        Why no trial can run here; empty if it ran.

    Raises:
        SweepError: If another process runs this trial.
    """
    host = socket.gethostname()
    directory = SweepDir(Path(spec.directory))
    if not directory.exists():
        hint = "the run root must be on a file system that all nodes share, at the same path"
        return f"node {host} does not see the sweep's directory {directory.path}: {hint}"
    if _is_over(directory, spec):
        return ""
    try:
        target = payload.unpack()
    except Exception as error:  # noqa: BLE001 - whatever the import of the user's module raises
        return f"a process on {host} can't load the trial's code: {type(error).__name__}: {text_of(error)}"
    run_trial_via_files(target, _resumed(target, spec))
    return ""


def run_printing_trial(payload: TaskPayload, spec: TrialSpec) -> str:
    """Run a trial as `run_remote_trial` does, with its output in a log in the sweep's directory."""
    saved = [os.dup(stream) for stream in (1, 2)]
    redirect_output(SweepDir(Path(spec.directory)).trial_log(spec.number))
    try:
        return run_remote_trial(payload, spec)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, before in zip((1, 2), saved, strict=True):
            os.dup2(before, stream)
            os.close(before)


def run_trial_via_files(target: Target, spec: TrialSpec) -> TrialOutcome:
    """Run an attempt of a trial, and report through the sweep's directory.

    Returns:
        The outcome, which is in the directory too.

    Raises:
        SweepError: If another process runs this trial.
    """
    guard = SignalGuard()
    with trial_lock(spec) as store, guard.installed():
        link = _FileLink(spec, guard)
        try:
            outcome = run_trial(target, spec, link)
        finally:
            link.close()
        store(outcome)
        return outcome


def _is_over(directory: SweepDir, spec: TrialSpec) -> bool:
    """Return whether the attempt has ended, or a later one has begun.

    Schedulers repeat the tasks of failed nodes.
    """
    number, later = spec.number, spec.attempt + 1
    traces = directory.trial_result(number, spec.attempt), directory.trial_result(number, later)
    return any(path.exists() for path in (*traces, directory.trial_task(number, later)))


def _resumed(target: Target, spec: TrialSpec) -> TrialSpec:
    """Return the attempt, to resume the run that it began before its task was started again."""
    runs = list(dict.fromkeys(event.run for event in FileWatch(spec).poll() if isinstance(event, Started)))
    # Else it is unknown which one to resume
    if runs and (len(runs) == 1 or not isinstance(target, FunctionTarget)):
        return replace(spec, resume=runs[-1])
    return spec


class _FileLink(TrialLink):
    """A link that writes events to a file, and polls another file for requests."""

    def __init__(self, spec: TrialSpec, guard: SignalGuard) -> None:
        super().__init__(guard)
        directory = SweepDir(Path(spec.directory))
        self._requests = directory.trial_request(spec.number, spec.attempt)
        self._file = directory.trial_events(spec.number, spec.attempt).open("ab", buffering=0)
        if self._file.tell():
            self._file.write(b"\n")  # a process that was killed before may have left half a line
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._in_main = False

    def bind(self, trial: Trial) -> None:
        super().bind(trial)
        self._in_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._poll, name="ridgepole-trial", daemon=True)
        start_thread(self._thread)

    def started(self, run: Path) -> None:
        self._write({"run": str(run)})

    def report(self, values: tuple[float, ...], seen: int) -> None:
        self._write({"values": values, "seen": seen})
        super().report(values, seen)

    def close(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._file.close()

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")

    def _poll(self) -> None:
        obeyed = ""
        while not self._done.wait(_POLL_SECONDS):
            try:
                request = self._requests.read_text(encoding="ascii")
            except OSError:
                continue
            if request != obeyed:
                obeyed = request
                self._obey(request)

    def _obey(self, request: str) -> None:
        if request == "prune":
            self.trial.ask_to_prune()
            return
        self.trial.ask_to_stop()
        if request == "now" and self._in_main:  # in another thread nothing can be interrupted
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                if self._done.wait(_POLL_SECONDS / 5):  # two that come at once are one
                    return


# --- in the driver


class FileWatch:
    """The driver's side: it reads a trial's events, and writes requests."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        directory = SweepDir(Path(spec.directory))
        self._events = directory.trial_events(spec.number, spec.attempt)
        self._result = directory.trial_result(spec.number, spec.attempt)
        self._requests = directory.trial_request(spec.number, spec.attempt)
        self._offset = 0

    def poll(self) -> list[Event]:
        """Return the events since the last call; `Completed` is the last of all."""
        result = read_json(self._result)
        # After the result was seen: nothing comes later
        events = [self._event(line) for line in self._lines()]
        return [*events, Completed(self.spec.number, TrialOutcome.from_dict(result))] if result else events

    def request(self, request: Request) -> None:
        """Ask the trial to stop; it polls twice a second."""
        replace_text(self._requests, request)

    def has_begun(self) -> bool:
        """Return whether a process has begun to run the attempt."""
        return self._events.exists()

    def _lines(self) -> list[dict[str, Any]]:
        try:
            with self._events.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]  # a line that is being written is read the next time
        self._offset += len(whole)
        return [value for value in map(_parse, whole.splitlines()) if isinstance(value, dict)]

    def _event(self, line: dict[str, Any]) -> Event:
        if "run" in line:
            return Started(self.spec.number, line["run"])
        return Reported(self.spec.number, tuple(line["values"]), line["seen"])


def _parse(line: bytes) -> object:
    """Return the value of a line; None for half a line that a killed process has left."""
    try:
        return json.loads(line)
    except ValueError:
        return None
