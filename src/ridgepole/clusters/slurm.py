"""SLURM's queue, by its own commands; `sacct` is not used, as not every cluster keeps accounts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ridgepole.errors import ClusterError

END_STATES: Final = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL"),
    *("BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"),
)
"""SLURM's words for the end of a job; a longer word may begin with one."""
WAITING: Final = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "CONFIGURING")
"""Its words for a job that waits, for the first time or again."""
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job as the queue shows it.

    Attributes:
        state: SLURM's word for its state.
        reason: Why it waits, or was ended.
        nodes: The nodes that it has.
    """

    state: str
    reason: str = ""
    nodes: str = ""

    @property
    def has_ended(self) -> bool:
        """Return whether the job has ended for good."""
        return self.state.startswith(END_STATES)


def call(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str] | None:
    """Run one of SLURM's commands; return None where it is missing or does not answer."""
    try:
        return subprocess.run(  # noqa: S603
            command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def submit(script: str) -> str:
    """Submit a batch script; return the number of its job.

    Raises:
        ClusterError: If SLURM is not here, or refuses the job; the message has its own words.
    """
    if shutil.which("sbatch") is None:
        message = "SLURM is not available here (no 'sbatch' on the PATH)"
        raise ClusterError(f"{message}: submit on a login node; --dry-run shows the job here too")
    done = call("sbatch", "--parsable", text=script)
    if done is None:
        raise ClusterError(
            f"sbatch did not answer for {_TIMEOUT_SECONDS:.0f} s: is the controller up? See 'scontrol ping'"
        )
    if done.returncode:
        words = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines())
        raise ClusterError(f"sbatch refuses the job: {words or f'exit code {done.returncode}'}")
    return done.stdout.strip().partition(";")[0]  # `number;cluster` in a federation


def query(numbers: Iterable[str]) -> dict[str, QueuedJob] | None:
    """Return the jobs of these numbers that the queue still knows.

    It drops a job some minutes after its end.

    Returns:
        The jobs by number; None if the controller is away or too busy.
    """
    return _squeue(f"--jobs={','.join(numbers)}")


def find(name: str) -> str | None:
    """Return the number of the job of this name, else ""; None if SLURM does not answer."""
    found = _squeue(f"--name={name}")
    return None if found is None else next(iter(found), "")


def cancel(number: str) -> bool:
    """Cancel a job; one that runs gets SIGTERM. Return whether SLURM accepts that."""
    done = call("scancel", number)
    return done is not None and not done.returncode


def kill(number: str) -> None:
    """Kill a job and its processes."""
    call("scancel", "--signal=KILL", "--full", number)
    cancel(number)


def _squeue(option: str) -> dict[str, QueuedJob] | None:
    done = call("squeue", "--noheader", "--states=all", "--format=%i|%T|%r|%N", option)
    if done is None or (done.returncode and "Invalid job id" not in done.stderr):
        return None
    rows = (line.strip().split("|") for line in done.stdout.splitlines())
    return {row[0]: QueuedJob(state=row[1], reason=row[2], nodes=row[3]) for row in rows if len(row) == 4}
