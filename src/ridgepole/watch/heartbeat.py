"""Numbers that a run writes and its helper process reads, in memory that both share."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import MutableSequence
from typing import cast

from ridgepole.ticks import BEAT_NUMBERS


class SharedBeat:
    """Numbers in shared memory, which lives as long as a process that has it open.

    Args:
        fd: The descriptor of existing memory; None makes some.

    Attributes:
        fd: The descriptor, for another process.
        numbers: The numbers.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = _memory() if fd is None else fd
        self._map = mmap.mmap(self.fd, BEAT_NUMBERS * 8)
        self.numbers = cast("MutableSequence[int]", memoryview(self._map).cast("q"))

    def close(self) -> None:
        """Close the descriptor; the numbers stay for those who have them."""
        os.close(self.fd)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        fd: int = os.memfd_create("ridgepole")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, BEAT_NUMBERS * 8)
    return fd
