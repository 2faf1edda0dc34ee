"""Which of several processes this one is: what torchrun, MPI and SLURM say in the environment."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Launcher:
    """The variables of one launcher.

    Attributes:
        rank: Names this process's rank.
        size: Names the number of ranks.
        identity: Names what is the same on all ranks of one launch, and seldom the same in another.
    """

    rank: str
    size: str
    identity: tuple[str, ...]


_LAUNCHERS = (
    _Launcher("RANK", "WORLD_SIZE", ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID")),
    # Before SLURM's: under mpirun in a job every rank of a node inherits the SLURM_PROCID of the script.
    _Launcher(
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        ("OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE", "SLURM_JOB_ID"),
    ),
    _Launcher("PMI_RANK", "PMI_SIZE", ("PMI_JOBID", "SLURM_JOB_ID")),
    # The number of the step's tasks, not SLURM_NTASKS: a batch script has that too, and runs once for all of them.
    _Launcher("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
)

_OWN = "RIDGEPOLE_LAUNCH"
"""The user's own name for a launch, where the launcher's variables can't tell two of them apart."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A place among the processes that were launched together.

    Attributes:
        rank: Counted from 0.
        size: How many there are; at least 2.
        key: The same text on all of them, and another one for other launches at the same time.
    """

    rank: int
    size: int
    key: str


def _launcher() -> _Launcher | None:
    return next((known for known in _LAUNCHERS if known.rank in os.environ), None)


def is_launched() -> bool:
    """Whether a launcher of several processes has started this one."""
    return _launcher() is not None


def global_rank() -> int:
    """The rank of this process in a distributed run, by the first variable that a launcher set; 0 outside of one."""
    launcher = _launcher()
    text = os.environ[launcher.rank] if launcher else "0"
    return int(text) if text.isdecimal() else 0


def place() -> tuple[int, int]:
    """The rank of this process and the number of ranks; 0 of 1 where no launcher says both.

    Raises:
        ValueError: If a variable that a launcher sets is no whole number.
    """
    launcher = _launcher()
    if launcher is None or launcher.size not in os.environ:
        return 0, 1
    return _number(launcher.rank), _number(launcher.size)


def launched() -> Launch | None:
    """The launch that this process is part of; None where it is alone.

    Raises:
        ValueError: If the launcher's variables contradict each other, or the number of ranks is missing.
    """
    launcher = _launcher()
    rank, size = place()
    if launcher is not None and launcher.size not in os.environ and global_rank():
        raise ValueError(
            f"this is rank {global_rank()} by {launcher.rank}, and nothing says of how many: set {launcher.size} too"
        )
    if rank >= max(size, 1):
        raise ValueError(f"this is rank {rank} of {size} by the environment; ranks count from 0")
    return None if launcher is None or size < 2 else Launch(rank, size, _key(launcher))


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise ValueError(f"the environment variable {name} must be a whole number, not {text!r}")
    return int(text)


def _key(launcher: _Launcher) -> str:
    names = (*launcher.identity, _OWN)
    lines = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    address = os.environ.get("MASTER_ADDR", "")
    if launcher.rank == "RANK" and (address in ("localhost", "::1") or address.startswith("127.")):
        lines.append(f"host={socket.gethostname()}")  # all of it is on one machine, and others have a localhost too
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
