"""Readings through torch, for accelerators whose driver has no probe of its own: the last resort.

Intel's XPU reports the memory of the whole device. For CUDA, ROCm and MPS, torch knows only what
this process itself has reserved. Those readings are marked `own-process`, and a
choice by them comes with a warning.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgepole.devices.gpus import OWN_PROCESS, Card, Sensors
from ridgepole.devices.probe.base import DeviceAbsentError
from ridgepole.devices.torch_calls import Build, require
from ridgepole.devices.visibility import Visible

_NODES = {
    # NVIDIA's driver, Jetson's, WSL's; AMD's; any graphics driver.
    "cuda": ("/dev/nvidiactl", "/dev/nvmap", "/dev/nvhost-gpu", "/dev/dxg"),
    "hip": ("/dev/kfd", "/dev/dxg"),
    "xpu": ("/dev/dri", "/dev/dxg"),
}


class TorchProbe:
    """The devices that torch lists.

    Torch is imported only where the system shows a device that it could drive.

    Args:
        build: What the installed torch was built for.

    Raises:
        DeviceAbsentError: Torch is not installed, or sees no accelerator.
    """

    def __init__(self, build: Build | None) -> None:
        if build is None or not _may_have_device(build):
            raise DeviceAbsentError
        self._torch: Any = require("Device")
        readers = {"cuda": self._read_cuda, "xpu": self._read_xpu, "mps": self._read_mps}
        wanted = {"cuda": bool(build.cuda or build.hip), "xpu": bool(build.xpu), "mps": sys.platform == "darwin"}
        for kind, reader in readers.items():
            backend = getattr(self._torch, kind, None)
            if wanted[kind] and backend is not None and backend.is_available():
                self._reader = reader
                return
        raise DeviceAbsentError(f"torch {build.version} (for {build.target}) sees no accelerator")

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:  # noqa: ARG002 - torch knows neither
        """Read every device that torch sees; see `DeviceProbe.read`."""
        return self._reader()

    def sense(self, card: Card) -> Sensors:  # noqa: ARG002 - the interface
        """Return nothing: torch does not read sensors."""
        return Sensors()

    def see(self, cards: Sequence[Card]) -> Visible:
        """Return all of them, in torch's own order; see `DeviceProbe.see`."""
        return Visible(uuids=tuple(card.key for card in cards))

    def close(self) -> None:
        """Do nothing: torch stays imported."""

    def _read_cuda(self) -> tuple[Card, ...]:
        cuda = self._torch.cuda
        return tuple(
            self._card("cuda", index, cuda, OWN_PROCESS, cuda.memory_reserved(index))
            for index in range(cuda.device_count())
        )

    def _read_xpu(self) -> tuple[Card, ...]:
        xpu = self._torch.xpu
        cards = []
        for index in range(xpu.device_count()):
            try:
                free, total = xpu.mem_get_info(index)
                cards.append(self._card("xpu", index, xpu, "torch.xpu", total - free))
            except (AttributeError, RuntimeError):  # older torch, or a driver without the counters
                cards.append(self._card("xpu", index, xpu, OWN_PROCESS, xpu.memory_reserved(index)))
        return tuple(cards)

    def _read_mps(self) -> tuple[Card, ...]:
        mps = self._torch.mps
        total = int(mps.recommended_max_memory())
        free = max(0, total - int(mps.driver_allocated_memory()))
        return (Card(kind="mps", uuid="", name="Apple GPU", place=0, total=total, free=free, source=OWN_PROCESS),)

    @staticmethod
    def _card(kind: str, index: int, backend: Any, source: str, used: int) -> Card:
        properties = backend.get_device_properties(index)
        total, uuid = int(properties.total_memory), str(getattr(properties, "uuid", "") or "")
        return Card(
            kind=kind,
            uuid=f"GPU-{uuid}" if uuid and not uuid.startswith("GPU-") else uuid,
            name=str(properties.name),
            place=index,
            total=total,
            free=max(0, total - int(used)),
            source=source,
        )


def _may_have_device(build: Build) -> bool:
    """Return whether the build drives an accelerator and the system has a node of one."""
    if sys.platform == "darwin":
        return True
    targets = [name for name in ("cuda", "hip", "xpu") if getattr(build, name)]
    return any(Path(node).exists() for name in targets for node in _NODES[name])
