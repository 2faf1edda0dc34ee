"""The jobs of the executor `slurm`, in SLURM or on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ridgepole.clusters import slurm
from ridgepole.sweeps.executors.remote_task import TaskPayload, run_remote_trial
from ridgepole.sweeps.executors.trial_process import leave_terminal, signals_blocked
from ridgepole.sweeps.run.trial import TrialSpec

if TYPE_CHECKING:
    import submitit

_QUERY_SECONDS = 10.0  # time between two queries of the states of jobs
_SOON_SECONDS = 1.0  # the same while a trial waits for the answer


def run_job(payload: TaskPayload, spec: TrialSpec, local: bool) -> str:
    """Run an attempt of a trial in a job.

    Args:
        payload: What it runs.
        spec: The attempt.
        local: Whether to leave the session of the driver, whose terminal's Ctrl-C is not for this
            process.

    Returns:
        Why no trial can run here; empty if it ran.

    Raises:
        SweepError: If another process runs this trial.
    """
    if local:
        leave_terminal()
    _obey_scheduler()
    return run_remote_trial(payload, spec)


def _obey_scheduler() -> None:
    """Have the warning before a time limit stop the trial at a tick, as SIGTERM does.

    Submitit's own handlers ignore SIGTERM, and exit at the warning wherever the trial is.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    name = f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"
    warning = getattr(signal, name, signal.SIGUSR2)
    # Which the trial's guard takes
    if warning not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(warning, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


class Jobs(ABC):
    """The jobs of one driver, by their ids."""

    def __init__(self) -> None:
        self._known: dict[str, submitit.Job[str]] = {}

    def submit(self, client: submitit.AutoExecutor, function: Callable[..., str], *arguments: Any) -> str:
        """Submit a call; return the job's id."""
        job = client.submit(function, *arguments)
        self._known[job.job_id] = job
        return str(job.job_id)

    @abstractmethod
    def adopt(self, number: str, folder: Path) -> None:
        """Take over a job that another driver has submitted."""

    @abstractmethod
    def end_state(self, number: str, *, exact: bool = False) -> str | None:
        """Return SLURM's word for a job's end; None while it waits or runs, or that is unknown.

        Args:
            number: The job.
            exact: Whether the cause matters, so that SLURM has to be asked.
        """

    @abstractmethod
    def cancel(self, number: str) -> None:
        """Cancel a job that has not begun."""

    @abstractmethod
    def kill(self, number: str) -> None:
        """End a job at once."""

    def refresh(self) -> None:
        """Query the states again if it is time to."""

    def clean_up(self, number: str) -> None:
        """Remove the submitted call of a job that has ended: it holds secret values of `-s`."""
        self._known[number].paths.submitted_pickle.unlink(missing_ok=True)

    def close(self) -> None:
        """Drop the jobs."""
        self._known.clear()

    def log(self, number: str) -> Path:
        """Return the file with a job's output."""
        return Path(self._known[number].paths.stderr)

    def problem(self, number: str) -> str:
        """Return what `run_job` returned in a job that has ended; empty if it did not return."""
        job = self._known[number]
        if not job.paths.result_pickle.exists() or job.exception() is not None:
            return ""
        return job.result()


class SlurmJobs(Jobs):
    """Jobs of SLURM, by the states in its queue: not every cluster keeps accounts."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._stopped_at: dict[str, float] = {}
        self._missing: set[str] = set()
        self._queried_at = 0.0

    def adopt(self, number: str, folder: Path) -> None:
        """Take over a job, and query its state."""
        import submitit

        self._known[number] = submitit.SlurmJob(folder, number)
        self._query()
        if number in self._missing:
            self._query()

    def end_state(self, number: str, *, exact: bool = False) -> str | None:
        """Return the state by the queue, or by the result that the job has left."""
        if exact and number not in self._ended:
            self._query_soon(number)
        if exact or number in self._ended:
            return self._ended.get(number)
        return "COMPLETED" if self._known[number].paths.result_pickle.exists() else None

    def _query_soon(self, number: str) -> None:
        """Query the state of a job whose trial has stopped; cancel it if it is queued again."""
        since = self._stopped_at.setdefault(number, time.monotonic())
        if time.monotonic() - self._queried_at >= _SOON_SECONDS:
            self._query()
        if self._queried_at > since and self._states.get(number, "").startswith(slurm.WAITING):
            slurm.cancel(number)
            self._ended[number] = "PREEMPTED"

    def refresh(self) -> None:
        """Query the queue every few seconds."""
        if self._known and time.monotonic() - self._queried_at >= _QUERY_SECONDS:
            self._query()

    def cancel(self, number: str) -> None:
        """Cancel a job; one that has just begun obeys SIGTERM at its next tick."""
        slurm.cancel(number)
        self._queried_at = 0.0

    def kill(self, number: str) -> None:
        """Kill a job and its processes."""
        slurm.kill(number)
        self._queried_at = 0.0

    def _query(self) -> None:
        self._queried_at = time.monotonic()
        numbers = [number for number in self._known if number not in self._ended]
        if not numbers:
            return
        found = slurm.query(numbers)
        if found is None:
            return  # the controller is busy or away, and jobs run without it
        self._states |= {number: job.state for number, job in found.items()}
        for number in numbers:
            # The queue drops a job some minutes after its end
            if number not in found and number in self._missing:
                self._ended[number] = str(self._known[number].state)  # submitit asks sacct
            elif number not in found:
                self._missing.add(number)
            elif found[number].has_ended:
                self._ended[number] = found[number].state


class LocalJobs(Jobs):
    """Local processes in place of jobs. They outlive the driver too."""

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[str, Path] = {}
        self._adopted: set[str] = set()

    def submit(self, client: submitit.AutoExecutor, function: Callable[..., str], *arguments: Any) -> str:
        """Start a process that Ctrl-C on the driver's terminal does not reach."""
        with signals_blocked():
            number = super().submit(client, function, *arguments)
        self._folders[number] = Path(client.folder)
        return number

    def adopt(self, number: str, folder: Path) -> None:
        """Take over a process that another driver has started."""
        import submitit

        self._known[number] = submitit.LocalJob(folder, number)
        self._folders[number] = folder
        self._adopted.add(number)

    def end_state(self, number: str, *, exact: bool = False) -> str | None:
        """Return the state by submitit's process around the trial's."""
        del exact
        job = self._known[number]
        runs = self._controller(number) is not None if number in self._adopted else not job.done()
        if runs:
            return None
        return "COMPLETED" if job.paths.result_pickle.exists() else "FAILED"

    def cancel(self, number: str) -> None:
        """Send SIGTERM, as a scheduler would."""
        controller = self._controller(number)
        if controller is not None:
            with contextlib.suppress(psutil.Error):
                controller.terminate()  # it passes this on

    def kill(self, number: str) -> None:
        """Kill a job and its processes."""
        controller = self._controller(number)
        if controller is None:
            return
        with contextlib.suppress(psutil.Error):
            for each in [*controller.children(recursive=True), controller]:
                with contextlib.suppress(psutil.Error):
                    each.kill()

    def close(self) -> None:
        """Wait for the processes whose trials have ended."""
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline and any(self.end_state(number) is None for number in self._known):
            time.sleep(0.02)
        super().close()

    def _controller(self, number: str) -> psutil.Process | None:
        """Return submitit's process around the trial's, unless its process id was reused."""
        try:
            process = psutil.Process(int(number))
            command = " ".join(process.cmdline())  # of a shell, where there is a `setup`
            if process.status() != psutil.STATUS_ZOMBIE and str(self._folders[number]) in command:
                return process
        except psutil.Error:
            pass
        return None
