"""Summarise what a device's memory holds when it is used up, and say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import text_of
from ridgepole.watch.units import in_bytes

_SETTING = "expandable_segments"
_MUCH = 0.1
"""The share of a device's memory from which a cause is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """The memory of a device, in bytes.

    Attributes:
        index: torch's number of the device.
        total: All of it.
        free: Bytes that no process holds.
        reserved: Bytes that torch holds in this process.
        allocated: Bytes of them that tensors hold.
        peak: The most that they have held.
        split: Bytes in pieces between tensors, which torch can't give back.
    """

    index: int
    total: int
    free: int
    reserved: int
    allocated: int
    peak: int
    split: int

    @property
    def others(self) -> int:
        """Bytes that other processes and the driver hold."""
        return max(0, self.total - self.free - self.reserved)

    def __str__(self) -> str:
        """Return it as a line for people."""
        return (
            f"device {self.index}: {in_bytes(self.total)}, of which tensors hold {in_bytes(self.allocated)} (at most "
            f"{in_bytes(self.peak)}), torch keeps {in_bytes(self.reserved - self.allocated)} more, other processes "
            f"and the driver hold {in_bytes(self.others)}, and {in_bytes(self.free)} are free"
        )

    def advice(self) -> Iterator[str]:
        """Yield what to do, the most promising first."""
        if self.others > _MUCH * self.total:
            yield f"other processes hold {in_bytes(self.others)} of device {self.index}: see ridgepole devices"
        if self.split > _MUCH * self.total and _SETTING not in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
            yield (
                f"{in_bytes(self.split)} lie in pieces between tensors: set "
                f"PYTORCH_CUDA_ALLOC_CONF={_SETTING}:True before Python starts"
            )
        if self.allocated > self.total / 2:
            yield (
                f"tensors hold {in_bytes(self.allocated)}: take smaller batches and accumulate gradients, bfloat16 "
                "(torch.autocast), or activation checkpointing (torch.utils.checkpoint)"
            )


def read_devices(torch: Any) -> list[DeviceMemory]:
    """Return the memory of the devices that this process uses; empty without one."""
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    found = (_read(torch.cuda, index) for index in range(torch.cuda.device_count()))
    return [memory for memory in found if memory.reserved]


def _read(cuda: Any, index: int) -> DeviceMemory:
    stats = cuda.memory_stats(index)
    free, total = cuda.mem_get_info(index) if stats.get("reserved_bytes.all.current") else (0, 0)
    return DeviceMemory(
        index=index,
        total=total,
        free=free,
        reserved=stats.get("reserved_bytes.all.current", 0),
        allocated=stats.get("allocated_bytes.all.current", 0),
        peak=stats.get("allocated_bytes.all.peak", 0),
        split=stats.get("inactive_split_bytes.all.current", 0),
    )


def write_snapshot(torch: Any, path: Path) -> str:
    """Write the blocks of all devices as https://pytorch.org/memory_viz reads them.

    Returns:
        A line about it.
    """
    try:
        torch.cuda.memory._dump_snapshot(str(path))  # noqa: SLF001 - it has no public name
    except Exception as error:  # noqa: BLE001 - a private function of torch, and no memory is left
        return f"no snapshot: {type(error).__name__}: {text_of(error)}"
    return f"snapshot: {path.name}, for https://pytorch.org/memory_viz"
