"""AMD cards: memory from AMD's library (amdsmi), order and processes from the kernel (KFD).

ROCm numbers its devices in the order of the kernel's nodes, and knows them by this unique id; no
other library says either in every version. Formats: `drivers/gpu/drm/amd/amdkfd/kfd_topology.c` and
`kfd_process.c` (nodes, processes) and `Documentation/gpu/amdgpu/driver-misc.rst` (memory, name,
load) of the Linux kernel.

Of amdsmi only calls are used whose signature has stayed the same since ROCm 6.0 (`amdsmi.h`; AMD
SMI C API reference); the structures of processes have not. The Python package of that name must
match the library's version to the letter.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from ctypes import byref, c_int, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.devices import host
from ridgepole.devices.gpus import Card, Process, Sensors
from ridgepole.devices.probe.base import DeviceAbsentError
from ridgepole.devices.torch_calls import Build
from ridgepole.devices.visibility import Visible, resolve_rocm

SYS = Path("/sys")
DRI = Path("/dev/dri")

Address = tuple[int, int, int]
"""PCI domain, bus and device."""


class AmdProbe:
    """The AMD cards of this machine. To open it makes no context on any of them.

    Where the library is missing or doesn't answer, its numbers are read where it reads them itself:
    in the files of the kernel.

    Args:
        build: What torch was built for. Unless that is ROCm, a card counts only where ROCm's
            library is installed: desktops have graphics chips that are not for computing.

    Raises:
        DeviceAbsentError: There is no card, or none that counts.
    """

    def __init__(self, build: Build | None = None) -> None:
        wanted = build is not None and build.hip is not None
        self._nodes = nodes()
        if not self._nodes:
            raise DeviceAbsentError("no AMD GPU in /sys/class/kfd" if wanted else "")
        self._library: AmdSmi | None = None
        try:
            self._library = AmdSmi()
        except OSError:
            if not wanted:
                raise DeviceAbsentError("the AMD GPU has neither libamd_smi.so nor a torch for ROCm") from None
        self._names = [self._name(node) for node in self._nodes]

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:
        """Read memory and processes of every card; see `DeviceProbe.read`."""
        nodes = enumerate(self._nodes)
        return tuple(self._card(place, node, util=util, processes=processes) for place, node in nodes)

    def sense(self, card: Card) -> Sensors:
        """Read power, temperature and clock where the kernel's driver writes them."""
        return self._nodes[card.place].sensors() if card.place < len(self._nodes) else Sensors()

    def see(self, cards: Sequence[Card]) -> Visible:
        """Find out what ROCm shows this process; see `DeviceProbe.see`."""
        return resolve_rocm(cards, os.environ)

    def close(self) -> None:
        """Release the library."""
        if self._library is not None:
            self._library.close()

    def _card(self, place: int, node: Node, *, util: bool, processes: bool) -> Card:
        memory = None if self._library is None else self._library.memory(node.address)
        source = "kfd" if memory is None else "amdsmi"
        memory = memory or node.memory()
        shared = [other for other in self._nodes if other.address == node.address]
        doubt = "" if len(shared) == 1 else "one of several parts: the memory is that of the whole card"
        if memory is None:
            doubt = "its memory can't be read"
        elif memory[0] == 0:
            # A processor with graphics shares the memory of the host.
            total, free = host.memory()
            memory, source = (total, total - free), f"{source}+host"
        # Parts of a card can bear the card's own id, which then identifies none of them.
        alone = sum(other.uuid == node.uuid for other in self._nodes) == 1
        return Card(
            kind="cuda",  # torch's name for it
            uuid=node.uuid if alone else "",
            name=self._names[place],
            place=place,
            total=memory and memory[0],
            free=memory and max(0, memory[0] - memory[1]),
            processes=node.processes() if processes else None,
            util=self._busy(node) if util else None,
            source=source,
            trouble=node.trouble,
            doubt=doubt,
        )

    def _name(self, node: Node) -> str:
        name = self._library.name(node.address) if self._library else ""
        return host.printable(name or node.name()) or "AMD GPU"

    def _busy(self, node: Node) -> int | None:
        busy = self._library.busy(node.address) if self._library else None
        return node.busy() if busy is None else busy


# --- the kernel's files


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A GPU, or a partition of one, as the kernel's compute driver lists it.

    Attributes:
        gpu: The driver's number of it, as in the names of files.
        uuid: `"GPU-"` and the unique id in 16 hexadecimal digits, as in ROCm; or empty.
        address: Where its card is on the bus.
        render: The number of its device file.
    """

    gpu: int
    uuid: str
    address: Address
    render: int

    @property
    def trouble(self) -> str:
        """The reason why ROCm ignores it in this process; empty where it doesn't."""
        path = DRI / f"renderD{self.render}"
        return "" if os.access(path, os.R_OK | os.W_OK) else f"this process may not open {path}"

    def memory(self) -> tuple[int, int] | None:
        """Return total bytes and those in use by all processes; None where they can't be read."""
        total, used = _number(self._file("mem_info_vram_total")), _number(self._file("mem_info_vram_used"))
        return None if total is None or used is None else (total, used)

    def busy(self) -> int | None:
        """Return how much of the time it computes, in percent; None where that can't be read."""
        return _number(self._file("gpu_busy_percent"))

    def sensors(self) -> Sensors:
        """Read the card's sensors, in the units of `Documentation/hwmon/sysfs-interface.rst`."""
        folder = next(iter(sorted(self._file("hwmon").glob("hwmon*"))), self._file("hwmon"))

        def read(names: tuple[str, ...], unit: float) -> float | None:
            found = (value for name in names if (value := _number(folder / name)) is not None)
            value = next(found, None)
            return None if value is None else value / unit

        return Sensors(
            power_watts=read(("power1_average", "power1_input"), 1e6),
            power_limit_watts=read(("power1_cap",), 1e6),
            celsius=read(("temp1_input",), 1e3),
            clock_mhz=read(("freq1_input",), 1e6),
        )

    def name(self) -> str:
        """Return the model; empty where the card doesn't tell."""
        return _text(self._file("product_name"))

    def processes(self) -> tuple[Process, ...] | None:
        """Return the processes with memory on it; None before Linux 5.9, which doesn't tell."""
        folder = SYS / "class" / "kfd" / "kfd" / "proc"
        pids = _numbered(folder)
        if pids is None:
            return None
        # A process that has ROCm open has a file for every card, whether it uses it or not.
        used = ((pid, _number(folder / str(pid) / f"vram_{self.gpu}")) for pid in pids)
        return tuple(Process(pid, amount) for pid, amount in used if amount)

    def _file(self, name: str) -> Path:
        return SYS / "class" / "drm" / f"renderD{self.render}" / "device" / name


def nodes() -> tuple[Node, ...]:
    """Return the GPUs in ROCm's order; empty where the driver is not loaded."""
    folder = SYS / "class" / "kfd" / "kfd" / "topology" / "nodes"
    found = (_node(folder / str(number)) for number in _numbered(folder) or ())
    return tuple(node for node in found if node is not None)


def _node(folder: Path) -> Node | None:
    """Read a node that is a GPU; others are CPUs, or hidden from this process by its container."""
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


def _numbered(folder: Path) -> list[int] | None:
    """Return the names in a directory that are numbers; None where it can't be read."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())  # noqa: PTH208 - names
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


# --- AMD's library

_OK = 0
_INIT_AMD_GPUS = 1 << 1
_VRAM = 0
_ASIC_BYTES = 4096  # larger than the structure in any version: only its first field is read
_NAME_BYTES = 64
_USAGE_WORDS = 64
_UNKNOWN_USAGE = 100


def open_library() -> Any:
    """Load AMD's library.

    Raises:
        OSError: It is not on this machine.
    """
    root = os.environ.get("ROCM_PATH") or "/opt/rocm"
    try:
        return ctypes.CDLL("libamd_smi.so")
    except OSError:
        return ctypes.CDLL(f"{root}/lib/libamd_smi.so")


class AmdSmi:
    """The opened library, asked by a card's address on the bus. None or an empty text is unknown.

    Raises:
        OSError: It is not there or can't be started.
    """

    def __init__(self) -> None:
        self._library = open_library()
        code = self._call("amdsmi_init", c_uint64(_INIT_AMD_GPUS))
        if code != _OK:
            raise OSError(f"amdsmi can't be started (its code {code})")
        self._handles: dict[Address, c_void_p] = {}
        for socket in self._list("amdsmi_get_socket_handles"):
            for handle in self._list("amdsmi_get_processor_handles", socket):
                # A partitioned card is listed once for each part, always with the card's counters.
                self._handles.setdefault(self._address(handle), handle)

    def close(self) -> None:
        """Release the library."""
        self._call("amdsmi_shut_down")

    def memory(self, address: Address) -> tuple[int, int] | None:
        """Return total bytes and those in use, every process counted."""
        amounts = []
        for what in ("total", "usage"):
            amount = c_uint64()
            if self._ask(f"amdsmi_get_gpu_memory_{what}", address, c_int(_VRAM), byref(amount)) != _OK:
                return None
            amounts.append(int(amount.value))
        return amounts[0], amounts[1]

    def name(self, address: Address) -> str:
        """Return the model."""
        asic = (ctypes.c_char * _ASIC_BYTES)()
        if self._ask("amdsmi_get_gpu_asic_info", address, byref(asic)) != _OK:
            return ""
        return asic.raw[:_NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")

    def busy(self, address: Address) -> int | None:
        """Return how much of the time it computes, in percent."""
        usage = (c_uint32 * _USAGE_WORDS)()
        if self._ask("amdsmi_get_gpu_activity", address, byref(usage)) != _OK or usage[0] > _UNKNOWN_USAGE:
            return None
        return int(usage[0])

    def _address(self, handle: c_void_p) -> Address:
        # A union of bit fields: 3 bits function, 5 device, 8 bus, then the domain.
        bits = c_uint64()
        if self._call("amdsmi_get_gpu_device_bdf", handle, byref(bits)) != _OK:
            return (-1, -1, -1)
        return (bits.value >> 16, bits.value >> 8 & 0xFF, bits.value >> 3 & 0x1F)

    def _list(self, name: str, *parent: c_void_p) -> list[c_void_p]:
        count = c_uint32()
        if self._call(name, *parent, byref(count), None) != _OK or not count.value:
            return []
        handles = (c_void_p * count.value)()
        if self._call(name, *parent, byref(count), handles) != _OK:
            return []
        return [c_void_p(handle) for handle in handles[: count.value]]

    def _ask(self, name: str, address: Address, *args: object) -> int:
        handle = self._handles.get(address)
        return -1 if handle is None else self._call(name, handle, *args)

    def _call(self, name: str, *args: object) -> int:
        function = getattr(self._library, name, None)
        return -1 if function is None else int(function(*args))
