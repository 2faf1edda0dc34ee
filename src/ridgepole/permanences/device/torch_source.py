"""Readings through torch, for accelerators that no library of their driver was found for.

Intel's XPU reports the memory of the whole device. For CUDA, ROCm and MPS this is the last resort: torch knows only
what this process itself has reserved, so the readings are marked `own-process` and whoever chooses by them warns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgepole.permanences.device.cards import OWN_PROCESS, Card, SourceAbsentError
from ridgepole.permanences.device.torchside import Build, require
from ridgepole.permanences.device.visible import Visible

_NODES = {
    # NVIDIA's driver, Jetson's, WSL's; AMD's; any graphics driver.
    "cuda": ("/dev/nvidiactl", "/dev/nvmap", "/dev/nvhost-gpu", "/dev/dxg"),
    "hip": ("/dev/kfd", "/dev/dxg"),
    "xpu": ("/dev/dri", "/dev/dxg"),
}


def may_have_device(build: Build) -> bool:
    """Whether it is worth importing torch to ask: the build drives an accelerator, and the system has such a node."""
    if sys.platform == "darwin":
        return True
    if not sys.platform.startswith("linux"):
        return bool(build.cuda or build.hip or build.xpu)
    targets = [name for name in ("cuda", "hip", "xpu") if getattr(build, name)]
    return any(Path(node).exists() for name in targets for node in _NODES[name])


class TorchSource:
    """Devices as torch lists them: what it can't see is not there.

    Args:
        build: What the installed torch was built for.

    Raises:
        SourceAbsentError: If torch sees no accelerator.
    """

    def __init__(self, build: Build) -> None:
        self._torch: Any = require("Device")
        readers = {"cuda": self._read_cuda, "xpu": self._read_xpu, "mps": self._read_mps}
        wanted = {"cuda": bool(build.cuda or build.hip), "xpu": bool(build.xpu), "mps": sys.platform == "darwin"}
        for kind, reader in readers.items():
            backend = getattr(self._torch, kind, None)
            if wanted[kind] and backend is not None and backend.is_available():
                self._reader = reader
                return
        raise SourceAbsentError(f"torch {build.version} (for {build.target}) sees no accelerator")

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:  # noqa: ARG002 - torch knows neither
        """Reads every device that torch sees; see `Source.read`."""
        return self._reader()

    def see(self, cards: Sequence[Card]) -> Visible:
        """All of them, in torch's own order; see `Source.see`."""
        return Visible(tuple(card.key for card in cards))

    def close(self) -> None:
        """Nothing to give back: torch stays imported."""

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
        return (Card("mps", "", "Apple GPU", 0, total, free, source=OWN_PROCESS),)

    @staticmethod
    def _card(kind: Any, index: int, backend: Any, source: str, used: int) -> Card:
        properties = backend.get_device_properties(index)
        total = int(properties.total_memory)
        uuid = str(getattr(properties, "uuid", "") or "")
        named = f"GPU-{uuid}" if uuid and not uuid.startswith("GPU-") else uuid
        free = max(0, total - int(used))
        return Card(kind, named, str(properties.name), index, total, free, source=source)
