"""The place of this process among several, as torchrun, MPI and SLURM set it in the environment."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Launcher:
    """The variables of one launcher: rank, number of ranks, and what identifies one launch."""

    rank: str
    size: str
    identity: tuple[str, ...]


_LAUNCHERS = (
    _Launcher("RANK", "WORLD_SIZE", ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID")),
    # Before SLURM's: under mpirun all ranks of a node inherit the script's SLURM_PROCID.
    _Launcher(
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        ("OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE", "SLURM_JOB_ID"),
    ),
    _Launcher("PMI_RANK", "PMI_SIZE", ("PMI_JOBID", "SLURM_JOB_ID")),
    # Not SLURM_NTASKS: a batch script has that too, and runs once for all tasks.
    _Launcher("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
)

_LOCAL = (
    ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),  # torchrun
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),  # Open MPI
    ("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),  # MVAPICH2
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # Intel MPI, MPICH's hydra
    ("PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),  # HPE Cray
)
"""The variables of a rank on its machine, and of the number of ranks there."""

_OWN = "RIDGEPOLE_LAUNCH"
"""The user's own name for a launch, where two launches have the same variables."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A place among the processes that were launched together.

    Attributes:
        rank: Counted from 0.
        size: Number of processes; at least 2.
        key: The same text on all ranks, and another text for each other launch at the same time.
    """

    rank: int
    size: int
    key: str


def _launcher() -> _Launcher | None:
    return next((known for known in _LAUNCHERS if known.rank in os.environ), None)


def is_launched() -> bool:
    """Return whether a launcher of several processes has started this one."""
    return _launcher() is not None


def global_rank() -> int:
    """Return the rank of this process in a distributed run; 0 outside of one."""
    launcher = _launcher()
    text = os.environ[launcher.rank] if launcher else "0"
    return int(text) if text.isdecimal() else 0


def place() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks; 0 of 1 where no launcher sets both.

    Raises:
        ValueError: A launcher's variable is not a whole number.
    """
    launcher = _launcher()
    if launcher is None or launcher.size not in os.environ:
        return 0, 1
    return _number(launcher.rank), _number(launcher.size)


def local_place(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the rank and the number of ranks on this machine; None for a process alone."""
    for rank_name, size_name in _LOCAL:
        rank, size = _integer(environ.get(rank_name)), _integer(environ.get(size_name))
        if rank is not None and size is not None:
            return (rank, size) if size > 1 else None
    rank = _integer(environ.get("SLURM_LOCALID"))
    size = _slurm_size(environ.get("SLURM_STEP_TASKS_PER_NODE", ""), _integer(environ.get("SLURM_NODEID")) or 0)
    return (rank, size) if rank is not None and size is not None and size > 1 else None


def launched() -> Launch | None:
    """Return the launch that this process is part of; None where it is alone.

    Raises:
        ValueError: The variables contradict each other, or the number of ranks is missing.
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


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None


def _slurm_size(text: str, node: int) -> int | None:
    """Read the tasks on a node from SLURM's form (srun(1)): `"2(x3),1"` is 2, 2, 2, 1."""
    nodes = 0
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", part.strip())
        if match is None:
            return None
        nodes += int(match[2] or 1)
        if node < nodes:
            return int(match[1])
    return None


def _key(launcher: _Launcher) -> str:
    names = (*launcher.identity, _OWN)
    lines = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    address = os.environ.get("MASTER_ADDR", "")
    if launcher.rank == "RANK" and (address in ("localhost", "::1") or address.startswith("127.")):
        # The launch is on one machine, and others have a localhost too.
        lines.append(f"host={socket.gethostname()}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
