"""Frozen readings of one device at one moment: the only thing that the policy decides on."""

from __future__ import annotations

from dataclasses import dataclass

OWN_PROCESS = "own-process"
"""The source of a reading of this process alone, which can't tell a busy card from a free one."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has memory on a card.

    Attributes:
        pid: Its number, as the driver sees it.
        used: Bytes of the card's memory; None where unknown.
        graphics: Whether it only draws, as a display server does, and computes nothing.
    """

    pid: int
    used: int | None = None
    graphics: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    """The power and the heat of a card at one moment; None is unknown.

    Attributes:
        power_watts: What it draws.
        power_limit_watts: What it may draw.
        celsius: The temperature of its chip.
        clock_mhz: The clock of its processors.
        throttled: Why its clock is held down, such as `"heat"`; empty where it is not.
    """

    power_watts: float | None = None
    power_limit_watts: float | None = None
    celsius: float | None = None
    clock_mhz: float | None = None
    throttled: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One device at one moment.

    Attributes:
        kind: The backend of torch that drives it: `"cuda"`, `"xpu"`, `"mps"`.
        uuid: The driver's own name of the device, such as `"GPU-8f2c…"`; empty where it has none.
        name: The model, such as `"NVIDIA A100-SXM4-40GB"`.
        place: Position on the machine in PCI order, as `nvidia-smi` counts.
        total: Bytes of memory; None where unknown.
        free: Free bytes, all processes counted (but see `source`); None where unknown.
        processes: The processes that have memory on it; None where unknown.
        util: Share of the last sample period in which it computed, in percent; None where unknown.
        source: Where the numbers come from: `"nvml"`, `"amdsmi"`, `"kfd"` (the files of AMD's
            kernel driver), one of these with `"+host"` (memory shared with the host),
            `"torch.xpu"`, or `"own-process"`.
        index: The number in `"cuda:1"`; None for a device that this process can't see.
        hidden: The variable that hides it from this process, or empty.
        parent: UUID of the card that a MIG instance is a part of, or empty.
        trouble: Why it can't be used at all, such as a card that fell off the bus; or empty.
        doubt: Why something is unknown, such as a missing permission; or empty.
    """

    kind: str
    uuid: str
    name: str
    place: int
    total: int | None
    free: int | None
    processes: tuple[Process, ...] | None = None
    util: int | None = None
    source: str = "nvml"
    index: int | None = None
    hidden: str = ""
    parent: str = ""
    trouble: str = ""
    doubt: str = ""

    @property
    def used(self) -> int | None:
        """Bytes that are not free, the driver's reserve included; None where unknown."""
        return None if self.total is None or self.free is None else max(0, self.total - self.free)

    @property
    def key(self) -> str:
        """The name for leases and look-ups: the UUID, or else the place."""
        return self.uuid or f"{self.kind}-{self.place}"

    @property
    def label(self) -> str:
        """The name that torch gives the device, or its place where torch can't see it."""
        return f"{self.kind}:{self.index}" if self.index is not None else f"#{self.place}"

    def computing(self, own_pid: int) -> int | None:
        """Count the other processes that compute on it; None where unknown."""
        if self.processes is None:
            return None
        return sum(1 for process in self.processes if not process.graphics and process.pid != own_pid)
