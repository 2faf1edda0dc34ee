"""Which of the processes on this machine this one is, as its launcher says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PAIRS = (
    ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),  # torchrun
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),  # Open MPI
    ("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),  # MVAPICH2
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # Intel MPI, MPICH's hydra
    ("PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),  # HPE Cray
)


@dataclass(frozen=True, slots=True)
class Local:
    """A place among the ranks of one machine.

    Attributes:
        rank: Counted from 0.
        size: How many ranks run on this machine.
    """

    rank: int
    size: int


def local(environ: Mapping[str, str]) -> Local | None:
    """This process's place among the ranks of its machine.

    Args:
        environ: The environment.

    Returns:
        The place, or None where no launcher set one, or the process is alone on its machine.
    """
    for rank_name, size_name in _PAIRS:
        rank, size = _integer(environ.get(rank_name)), _integer(environ.get(size_name))
        if rank is not None and size is not None:
            return Local(rank, size) if size > 1 else None
    rank = _integer(environ.get("SLURM_LOCALID"))
    size = _slurm_size(environ.get("SLURM_STEP_TASKS_PER_NODE", ""), _integer(environ.get("SLURM_NODEID")) or 0)
    return Local(rank, size) if rank is not None and size is not None and size > 1 else None


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None


def _slurm_size(text: str, node: int) -> int | None:
    """Tasks on a node, from SLURM's run-length form: `"2(x3),1"` is 2, 2, 2, 1 (srun(1), output environment)."""
    seen = 0
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", part.strip())
        if match is None:
            return None
        seen += int(match[2] or 1)
        if node < seen:
            return int(match[1])
    return None
