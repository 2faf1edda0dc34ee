"""The jobs behind the executor `slurm`: what runs in one, and how the driver sees them, in SLURM or on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ridgepole.sweeps.executors.base import TrialSpec
from ridgepole.sweeps.executors.blocking import OURS, blocked, leave_the_terminal
from ridgepole.sweeps.executors.errand import Parcel, perform_errand

if TYPE_CHECKING:
    import submitit

_LOOK_SECONDS = 10.0
"""How often SLURM is asked for the states of jobs."""
_SOON_SECONDS = 1.0
"""The same where a trial waits for the answer."""
_OVER = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL"),
    *("BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"),
)
_ANEW = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def perform_job(parcel: Parcel, spec: TrialSpec, apart: bool) -> str:
    """Runs an attempt of a trial in a job.

    Args:
        parcel: What it runs.
        spec: Which one.
        apart: Whether to leave the session of the driver, whose terminal's Ctrl-C is not for this process.

    Returns:
        Why no trial can run here; empty where it did.

    Raises:
        SweepError: If another process runs this trial.
    """
    if apart:
        leave_the_terminal()
    _obey_the_scheduler()
    return perform_errand(parcel, spec)


def _obey_the_scheduler() -> None:
    """Has the warning before a time limit stop the trial at a tick, as SIGTERM does.

    submitit's own handlers ignore SIGTERM, and answer the warning by leaving wherever the trial stands.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    name = f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"
    warning = getattr(signal, name, signal.SIGUSR2)
    if warning not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # which the trial's guard takes
        signal.signal(warning, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


class Jobs(ABC):
    """The jobs of one driver, by their ids."""

    def __init__(self) -> None:
        self._known: dict[str, submitit.Job[str]] = {}

    def submit(self, client: submitit.AutoExecutor, function: Callable[..., str], *arguments: Any) -> str:
        """Submits a call; gives the job's id."""
        job = client.submit(function, *arguments)
        self._known[job.job_id] = job
        return str(job.job_id)

    @abstractmethod
    def know(self, number: str, folder: Path) -> None:
        """Takes in a job that another driver has submitted."""

    @abstractmethod
    def gone(self, number: str, *, exactly: bool = False) -> str | None:
        """How a job has ended, by SLURM's words; None while it waits or runs, or nobody can tell.

        Args:
            number: The job.
            exactly: Whether it matters who has ended it, so that SLURM has to be asked.
        """

    @abstractmethod
    def drop(self, number: str) -> None:
        """Cancels a job that has not begun."""

    @abstractmethod
    def kill(self, number: str) -> None:
        """Ends a job at once."""

    def refresh(self) -> None:
        """Looks again, where it is time to."""

    def forget(self, number: str) -> None:
        """Removes what a job that has ended was sent: the call, and in it the values of `-s`, secret ones too."""
        self._known[number].paths.submitted_pickle.unlink(missing_ok=True)

    def close(self) -> None:
        """Forgets the jobs."""
        self._known.clear()

    def log(self, number: str) -> Path:
        """What a job has printed."""
        return Path(self._known[number].paths.stderr)

    def answer(self, number: str) -> str:
        """What `perform_job` gave back in a job that has ended; empty where it did not come to that."""
        job = self._known[number]
        if not job.paths.result_pickle.exists() or job.exception() is not None:
            return ""
        return job.result()


class SlurmJobs(Jobs):
    """Jobs of SLURM. Their states are asked for all at once, of the queue: not every cluster keeps accounts."""

    def __init__(self) -> None:
        super().__init__()
        self._over: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._stopped: dict[str, float] = {}
        self._missing: set[str] = set()
        self._looked = 0.0

    def know(self, number: str, folder: Path) -> None:
        """Takes in a job that another driver has submitted."""
        import submitit

        self._known[number] = submitit.SlurmJob(folder, number)
        self._look()
        if number in self._missing:
            self._look()

    def gone(self, number: str, *, exactly: bool = False) -> str | None:
        """By the queue, or by the result that it has left."""
        if exactly and number not in self._over:
            self._ask_again(number)
        if exactly or number in self._over:
            return self._over.get(number)
        return "COMPLETED" if self._known[number].paths.result_pickle.exists() else None

    def _ask_again(self, number: str) -> None:
        """Finds out what has ended a job whose trial has stopped; takes one that SLURM starts anew out of the queue."""
        since = self._stopped.setdefault(number, time.monotonic())
        if time.monotonic() - self._looked >= _SOON_SECONDS:
            self._look()
        if self._looked > since and self._states.get(number, "").startswith(_ANEW):
            self._call("scancel", number)
            self._over[number] = "PREEMPTED"

    def refresh(self) -> None:
        """Asks the queue every few seconds."""
        if self._known and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()

    def drop(self, number: str) -> None:
        """Cancels it; one that has begun just now gets a SIGTERM, which it obeys at its next tick."""
        self._call("scancel", number)
        self._looked = 0.0

    def kill(self, number: str) -> None:
        """Kills it and all that it has started."""
        self._call("scancel", "--signal=KILL", "--full", number)
        self._call("scancel", number)
        self._looked = 0.0

    def _look(self) -> None:
        self._looked = time.monotonic()
        numbers = [number for number in self._known if number not in self._over]
        if not numbers:
            return
        jobs = f"--jobs={','.join(numbers)}"
        done = self._call("squeue", "--noheader", "--states=all", "--format=%i %T", jobs)
        if done is None or (done.returncode and "Invalid job id" not in done.stderr):
            return  # the controller is busy or away: jobs go on without it
        told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line.strip())
        self._states |= told
        for number in numbers:
            if number not in told and number in self._missing:  # some minutes after its end the queue forgets a job
                self._over[number] = str(self._known[number].state)  # submitit asks sacct
            elif number not in told:
                self._missing.add(number)
            elif told[number].startswith(_OVER):
                self._over[number] = told[number].strip()

    @staticmethod
    def _call(*command: str) -> subprocess.CompletedProcess[str] | None:
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            return None


class LocalJobs(Jobs):
    """Processes of this machine in the place of jobs. They outlive the driver too."""

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[str, Path] = {}
        self._adopted: set[str] = set()

    def submit(self, client: submitit.AutoExecutor, function: Callable[..., str], *arguments: Any) -> str:
        """Starts one that Ctrl-C on the driver's terminal does not reach."""
        with blocked(OURS):
            number = super().submit(client, function, *arguments)
        self._folders[number] = Path(client.folder)
        return number

    def know(self, number: str, folder: Path) -> None:
        """Takes in a process that another driver has started."""
        import submitit

        self._known[number] = submitit.LocalJob(folder, number)
        self._folders[number] = folder
        self._adopted.add(number)

    def gone(self, number: str, *, exactly: bool = False) -> str | None:
        """By the process that looks after it."""
        del exactly
        job = self._known[number]
        runs = self._controller(number) is not None if number in self._adopted else not job.done()
        if runs:
            return None
        return "COMPLETED" if job.paths.result_pickle.exists() else "FAILED"

    def drop(self, number: str) -> None:
        """Tells it as a scheduler would."""
        controller = self._controller(number)
        if controller is not None:
            with contextlib.suppress(psutil.Error):
                controller.terminate()  # it passes this on

    def kill(self, number: str) -> None:
        """Kills it and all that it has started."""
        controller = self._controller(number)
        if controller is None:
            return
        with contextlib.suppress(psutil.Error):
            for each in [*controller.children(recursive=True), controller]:
                with contextlib.suppress(psutil.Error):
                    each.kill()

    def close(self) -> None:
        """Waits for the processes whose trials have ended."""
        until = time.monotonic() + 5.0
        while time.monotonic() < until and any(self.gone(number) is None for number in self._known):
            time.sleep(0.02)
        super().close()

    def _controller(self, number: str) -> psutil.Process | None:
        """Finds submitit's process around the trial's: the job's id is its number, unless that is another's by now."""
        try:
            process = psutil.Process(int(number))
            told = " ".join(process.cmdline())  # of a shell, where there is a `setup`
            if process.status() != psutil.STATUS_ZOMBIE and str(self._folders[number]) in told:
                return process
        except psutil.Error:
            pass
        return None
