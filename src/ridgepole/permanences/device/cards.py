"""What is known of one device at one moment: frozen readings, the only thing that the rule looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ridgepole.permanences.device.visible import Visible

Kind = Literal["cuda", "xpu", "mps"]

OWN_PROCESS = "own-process"
"""The source of a reading that sees only this process's memory, and so can't tell a busy card from an empty one."""


class SourceAbsentError(Exception):
    """There is nothing of this kind on the machine; the text says how that was seen."""


class SourceTroubleError(Exception):
    """There is, or may be, a device of this kind, but it can't be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has memory on a card.

    Attributes:
        pid: Its number, as the driver sees it.
        used: Bytes of the card's memory, or None where the driver doesn't tell.
        graphics: Whether it only draws (a display server) and does not compute.
    """

    pid: int
    used: int | None = None
    graphics: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """One device at one moment.

    Attributes:
        kind: The backend of torch that drives it.
        uuid: The driver's own name of the device, such as `"GPU-8f2c…"`; empty where it can't be asked.
        name: The model, such as `"NVIDIA A100-SXM4-40GB"`.
        place: Position on the machine in PCI order, as `nvidia-smi` counts.
        total: Bytes of memory, or None where unknown.
        free: Free bytes, every process on the machine counted (but see `source`), or None where unknown.
        processes: Who has memory on it, or None where unknown.
        util: Share of the last sample period in which it computed, in percent, or None where unknown or not asked.
        source: Where the numbers come from: `"nvml"`, `"amdsmi"`, `"kfd"` (the files of AMD's kernel driver),
            one of these with `"+host"` (memory shared with the host), `"torch.xpu"`, or `"own-process"`.
        index: The number in `"cuda:1"`, or None for a device that this process can't see.
        hidden: The variable that keeps it from this process, where one does; else empty.
        parent: UUID of the card that a MIG instance is a part of, else empty.
        trouble: Why it can't be used at all, such as a card that fell off the bus; else empty.
        doubt: Why something is unknown, such as a permission; else empty.
    """

    kind: Kind
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
        """Bytes that are not free, what the driver reserves for itself included; None where unknown."""
        return None if self.total is None or self.free is None else max(0, self.total - self.free)

    @property
    def key(self) -> str:
        """What leases and look-ups know the device by: its UUID, or its place where it has none."""
        return self.uuid or f"{self.kind}-{self.place}"

    @property
    def label(self) -> str:
        """The name that torch gives the device, or its place where torch can't see it."""
        return f"{self.kind}:{self.index}" if self.index is not None else f"#{self.place}"

    def computing(self, own_pid: int) -> int | None:
        """How many other processes compute on it; None where unknown."""
        if self.processes is None:
            return None
        return sum(1 for process in self.processes if not process.graphics and process.pid != own_pid)


class Source(Protocol):
    """Where readings come from: one file each. Opening it creates no context on any device."""

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:
        """Reads every device now.

        Args:
            util: Whether to ask for the utilisation too.
            processes: Whether to ask for the processes.
        """
        ...

    def see(self, cards: Sequence[Card]) -> Visible:
        """Finds out which cards this process can see, and in what order.

        Args:
            cards: As `read` gave them.
        """
        ...

    def close(self) -> None:
        """Gives the library back."""
        ...
