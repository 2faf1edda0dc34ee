"""The devices of this machine as this process sees them, read through the first probe that answers.

The probes of Ridgepole are registered here: NVIDIA and AMD first, torch as the last resort.
Installed packages add further ones between the two (`ridgepole.device_probes`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ridgepole.devices import visibility
from ridgepole.devices.gpus import Card, Sensors
from ridgepole.devices.probe.base import DeviceAbsentError, DeviceProbe, DeviceTroubleError
from ridgepole.devices.torch_calls import Build, installed_build
from ridgepole.devices.visibility import Visible

GROUP = "ridgepole.device_probes"
Factory = Callable[[Build | None], DeviceProbe]

log = logging.getLogger("ridgepole.device")


def _nvidia(build: Build | None) -> DeviceProbe:
    from ridgepole.devices.probe.nvidia import NvidiaProbe

    return NvidiaProbe(build)


def _amd(build: Build | None) -> DeviceProbe:
    from ridgepole.devices.probe.amd import AmdProbe

    return AmdProbe(build)


def _torch(build: Build | None) -> DeviceProbe:
    from ridgepole.devices.probe.torch import TorchProbe

    return TorchProbe(build)


def _factories(build: Build | None) -> Iterator[Factory]:
    """Yield the probes in the order to try them, the one that torch was built for first."""
    yield from (_amd, _nvidia) if build is not None and build.hip else (_nvidia, _amd)
    # Only where no card was found: this reads the metadata of every installed package.
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            yield point.load()
        except Exception as error:  # noqa: BLE001 - another package's code
            log.warning("the device probe %r can't be imported (%s): %s", point.name, point.value, error)
    yield _torch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSnapshot:
    """The devices of the machine at one moment.

    Attributes:
        cards: Every accelerator, numbered as torch numbers it; hidden ones have no index.
        seen: Which of them this process can see.
        build: What the installed torch was built for, or None without torch.
        absent: Why there is no accelerator; empty where there is one.
        trouble: Why an accelerator that seems to be there can't be asked; empty where it can.
    """

    cards: tuple[Card, ...] = ()
    seen: Visible = field(default_factory=lambda: Visible(uuids=()))
    build: Build | None = None
    absent: str = ""
    trouble: str = ""

    @property
    def wrong_build(self) -> str:
        """The problem where torch can't drive the cards that are there; else empty."""
        if not self.cards or self.build is None:
            return ""
        source = self.cards[0].source
        if source.startswith("nvml"):
            maker, platform, fits = "NVIDIA", "CUDA", self.build.cuda
        elif source.startswith(("amdsmi", "kfd")):
            maker, platform, fits = "AMD", "ROCm", self.build.hip
        else:
            return ""  # torch itself has listed them
        if fits:
            return ""
        count = len(self.cards)
        are, them = ("GPU is", "it") if count == 1 else ("GPUs are", "them")
        return (
            f"{count} {maker} {are} here, but the installed torch {self.build.version} was built for "
            f"{self.build.target} and can't use {them}: install a {platform} build "
            "(https://pytorch.org/get-started/locally)"
        )


class Prober:
    """Takes snapshots; what never changes is read once. Made by `probing`."""

    def __init__(self, seen: Visible | None = None) -> None:
        self._build = installed_build()
        self._probe: DeviceProbe | None = None
        self._absent: list[str] = []
        self._trouble = ""
        self._seen = seen
        for factory in _factories(self._build):
            try:
                self._probe = factory(self._build)
                return
            except DeviceAbsentError as error:
                self._absent += [str(error)] if str(error) else []
            except DeviceTroubleError as error:
                self._trouble = str(error)

    def prepare(self) -> bool:
        """Find torch's order of the cards; do it outside of locks, as it may need a child process.

        Returns:
            Whether any probe has answered.
        """
        if self._probe is not None and self._seen is None:
            self._seen = self._probe.see(self._probe.read(processes=False))
        return self._probe is not None

    def snapshot(self, *, util: bool = False) -> DeviceSnapshot:
        """Read every device now, with its utilisation where `util` asks for that."""
        if self._probe is None:
            return DeviceSnapshot(build=self._build, absent="; ".join(self._absent), trouble=self._trouble)
        cards = self._probe.read(util=util)
        if self._seen is None:
            self._seen = self._probe.see(cards)
        return DeviceSnapshot(cards=visibility.number(cards, self._seen), seen=self._seen, build=self._build)

    def cards(self) -> tuple[tuple[Card, Sensors], ...]:
        """Read every device and its sensors, without torch's numbers, which only CUDA knows."""
        if self._probe is None:
            return ()
        sense = getattr(self._probe, "sense", None)  # another package's probe may be older
        return tuple((card, Sensors() if sense is None else sense(card)) for card in self._probe.read(util=True))

    def close(self) -> None:
        """Release the driver."""
        if self._probe is not None:
            self._probe.close()


@contextmanager
def probing(seen: Visible | None = None) -> Iterator[Prober]:
    """Open a `Prober` and close it at the end.

    Args:
        seen: What CUDA shows this process, where that was found out before.
    """
    prober = Prober(seen)
    try:
        yield prober
    finally:
        prober.close()
