"""A trial in a process that a scheduler has started: it knows nothing but what is sent along."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ridgepole.errors import text_of
from ridgepole.sweeps.executors.base import TrialSpec
from ridgepole.sweeps.executors.files import perform_in_files, print_to, runs_of
from ridgepole.sweeps.jobs import Job, PipelineJob, pickled
from ridgepole.sweeps.sweepdir import SweepDir


@dataclass(frozen=True)
class Parcel:
    """A job on its way, and what makes the driver's own modules and relative paths mean the same there.

    Attributes:
        job: The job, pickled.
        paths: Where the driver imports from, beyond what belongs to its Python.
        folder: Its working directory; None: that of the process stays.
        environ: Environment variables to set, unless they are set already.
    """

    job: bytes
    paths: tuple[str, ...]
    folder: str | None
    environ: Mapping[str, str]

    @classmethod
    def of(cls, job: Job, dumps: Callable[[Job], bytes], environ: Mapping[str, str], *, moves: bool = True) -> Parcel:
        """Packs a job.

        Args:
            job: The job.
            dumps: What pickles it, functions of the main script by their code.
            environ: Environment variables to set, unless they are set already.
            moves: Whether to work in the driver's directory.

        Raises:
            SweepError: If it can't be sent.
        """
        here = str(Path.cwd())
        own = (sys.prefix, sys.base_prefix)
        paths = [str(Path(path).absolute()) for path in sys.path]
        ours = tuple(path for path in paths if not any(Path(path).is_relative_to(prefix) for prefix in own))
        return cls(pickled(job, dumps), ours, here if moves else None, environ)

    def unpack(self) -> Job:
        """Makes this process one in which the job runs, and gives the job.

        Raises:
            Exception: Whatever the import of the user's modules raises.
        """
        for name, value in self.environ.items():
            os.environ.setdefault(name, value)
        if self.folder is not None:
            os.chdir(self.folder)
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        job: Job = pickle.loads(self.job)  # noqa: S301 - from the driver, through its own scheduler
        return job


def perform_errand(parcel: Parcel, spec: TrialSpec) -> str:
    """Runs an attempt of a trial in this process, and says everything through the sweep's directory.

    Args:
        parcel: What it runs.
        spec: Which one.

    Returns:
        Why no trial can run here; empty where it did.

    Raises:
        SweepError: If another process runs this trial.
    """
    host = socket.gethostname()
    directory = SweepDir(Path(spec.directory))
    if not directory.is_there():
        shared = "the run root has to lie on a file system that all nodes share, at the same path"
        return f"node {host} does not see the sweep's directory {directory.path}: {shared}"
    if _is_over(directory, spec):
        return ""
    try:
        job = parcel.unpack()
    except Exception as error:  # noqa: BLE001 - whatever the import of the user's module raises
        return f"a process on {host} can't load what it is to run: {type(error).__name__}: {text_of(error)}"
    perform_in_files(job, _going_on(job, directory, spec))
    return ""


def perform_printing(parcel: Parcel, spec: TrialSpec) -> str:
    """Does the same, and sends what the trial prints to its log in the sweep's directory, where that can be seen.

    Args:
        parcel: As in `perform_errand`.
        spec: Likewise.

    Returns:
        Likewise.

    Raises:
        SweepError: Likewise.
    """
    kept = [os.dup(stream) for stream in (1, 2)]
    print_to(SweepDir(Path(spec.directory)).trial_log(spec.number))
    try:
        return perform_errand(parcel, spec)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)


def _is_over(directory: SweepDir, spec: TrialSpec) -> bool:
    """Whether the attempt has ended, or a later one has begun: a scheduler repeats a task if its node has failed."""
    number, next_one = spec.number, spec.attempt + 1
    signs = directory.trial_result(number, spec.attempt), directory.trial_result(number, next_one)
    return any(path.exists() for path in (*signs, directory.trial_task(number, next_one)))


def _going_on(job: Job, directory: SweepDir, spec: TrialSpec) -> TrialSpec:
    """The attempt, with the run that this very attempt began before its task was started anew."""
    runs = runs_of(directory.trial_events(spec.number, spec.attempt))
    if runs and (len(runs) == 1 or isinstance(job, PipelineJob)):  # of a function that makes several: nobody can tell
        return replace(spec, resume=runs[-1])
    return spec
