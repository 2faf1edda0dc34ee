"""AMD's cards as the kernel's compute driver (KFD) tells them in `/sys`: their order, names and processes.

ROCm numbers its devices in the order of these nodes, and knows them by this unique id; no other library says either in
every version. Formats: `drivers/gpu/drm/amd/amdkfd/kfd_topology.c` and `kfd_process.c` (nodes, processes) and
`Documentation/gpu/amdgpu/driver-misc.rst` (memory, name, load) of the Linux kernel.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ridgepole.permanences.device.cards import Process

SYS = Path("/sys")
DRI = Path("/dev/dri")

Address = tuple[int, int, int]
"""PCI domain, bus and device."""


@dataclass(frozen=True, slots=True)
class Node:
    """A GPU, or a partition of one.

    Attributes:
        gpu: The driver's number of it, which stands in the names of files.
        uuid: `"GPU-"` and the unique id in 16 hexadecimal digits, as ROCm writes it; empty where it has none.
        address: Where its card is on the bus.
        render: The number of its device file.
    """

    gpu: int
    uuid: str
    address: Address
    render: int

    @property
    def files(self) -> Path:
        """The directory in which the driver tells its state."""
        return SYS / "class" / "drm" / f"renderD{self.render}" / "device"

    @property
    def trouble(self) -> str:
        """Why ROCm passes it over in this process; empty where it doesn't."""
        path = DRI / f"renderD{self.render}"
        return "" if os.access(path, os.R_OK | os.W_OK) else f"this process may not open {path}"


def nodes() -> tuple[Node, ...]:
    """The GPUs in ROCm's order; empty where the driver is not loaded."""
    folder = SYS / "class" / "kfd" / "kfd" / "topology" / "nodes"
    try:
        numbers = sorted(int(name) for name in os.listdir(folder) if name.isdigit())  # noqa: PTH208 - names
    except OSError:
        return ()
    found = (_node(folder / str(number)) for number in numbers)
    return tuple(node for node in found if node is not None)


def memory(node: Node) -> tuple[int, int] | None:
    """Total bytes of memory and those in use, every process counted; None where they can't be read."""
    total, used = _number(node.files / "mem_info_vram_total"), _number(node.files / "mem_info_vram_used")
    return None if total is None or used is None else (total, used)


def busy(node: Node) -> int | None:
    """How much of the time it computes, in percent; None where it can't be read."""
    return _number(node.files / "gpu_busy_percent")


def name(node: Node) -> str:
    """The model; empty where the card doesn't tell."""
    return _text(node.files / "product_name")


def processes(node: Node) -> tuple[Process, ...] | None:
    """Who has memory on it; None where the kernel doesn't tell (before Linux 5.9)."""
    folder = SYS / "class" / "kfd" / "kfd" / "proc"
    try:
        pids = sorted(int(name) for name in os.listdir(folder) if name.isdigit())  # noqa: PTH208 - names
    except OSError:
        return None
    # A process that has ROCm open has a file for every card, whether it uses it or not.
    used = ((pid, _number(folder / str(pid) / f"vram_{node.gpu}")) for pid in pids)
    return tuple(Process(pid, amount) for pid, amount in used if amount)


def _node(folder: Path) -> Node | None:
    """A node that is a GPU of this process: others are CPUs, or kept from it by its container."""
    gpu = _number(folder / "gpu_id")
    lines = (line.split() for line in _text(folder / "properties").splitlines())
    facts = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    if not gpu or not facts.get("simd_count"):
        return None
    place, unique = facts.get("location_id", 0), facts.get("unique_id", 0)
    return Node(
        gpu=gpu,
        uuid=f"GPU-{unique:016x}" if unique else "",
        address=(facts.get("domain", 0), place >> 8 & 0xFF, place >> 3 & 0x1F),
        render=facts.get("drm_render_minor", 0),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None
