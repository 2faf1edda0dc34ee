"""NVIDIA cards, read through the driver's own library (NVML) by ctypes.

Why not nvidia-ml-py: it is the same library behind 7,000 lines of Python, of which 25 calls are needed here. Importing
it took 17 to 43 ms with compiled files and several times that without; these lines take 1, ctypes included 2 to 6.
Structures, versions and codes are those of `nvml.h` (NVML API reference, "Device Queries", "Multi Instance GPU
Management"). No call here makes a CUDA context.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from ctypes import byref, c_char, c_uint, c_ulonglong, c_void_p, create_string_buffer, sizeof
from typing import Any, NamedTuple

from ridgepole.permanences.device import child, host, torchside, visible
from ridgepole.permanences.device.cards import Card, Process, SourceAbsentError, SourceTroubleError

_OK = 0
_NOT_SUPPORTED = 3
_INSUFFICIENT_SIZE = 7
_DRIVER_NOT_LOADED = 9
_FUNCTION_NOT_FOUND = 13
_GONE = {15, 16, 28}

_WORDS = {
    1: "the library was not initialised",
    2: "the driver refused an argument",
    3: "not supported by this device",
    4: "no permission",
    9: "the NVIDIA driver is not loaded",
    10: "the driver did not answer in time",
    12: "a library of the driver is missing",
    13: "the driver is too old for this call",
    15: "the GPU is lost: it fell off the bus or is not reachable",
    16: "the GPU needs a reset",
    17: "the operating system refused access to the driver",
    18: "the driver in the kernel and its library have different versions",
    20: "out of memory",
    28: "the GPU was not found",
    999: "the driver reports an unknown error",
}
_ADVICE = {
    4: "check the permissions of /dev/nvidiactl and /dev/nvidia*",
    17: "check that the container or job was given the GPU's device files",
    18: "the driver was updated while it was running: reboot, or unload and load its kernel modules",
    999: "nvidia-smi may say more; in a container, start it again with its GPUs",
}
_NOT_AVAILABLE = 2**64 - 1
_TEXT = 96


class _Memory(ctypes.Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class _MemoryV2(ctypes.Structure):
    _fields_ = [
        ("version", c_uint),
        ("total", c_ulonglong),
        ("reserved", c_ulonglong),
        ("free", c_ulonglong),
        ("used", c_ulonglong),
    ]


class _ProcessV1(ctypes.Structure):
    _fields_ = [("pid", c_uint), ("used", c_ulonglong)]


class _ProcessV2(ctypes.Structure):
    # `_v3` of the call has this same structure.
    _fields_ = [("pid", c_uint), ("used", c_ulonglong), ("gpu_instance", c_uint), ("compute_instance", c_uint)]


class _Pci(ctypes.Structure):
    _fields_ = [
        ("legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("device_id", c_uint),
        ("subsystem_id", c_uint),
        ("bus_id", c_char * 32),
    ]


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", c_uint), ("memory", c_uint)]


class _Unit(NamedTuple):
    """What never changes of one card, or of one MIG instance, while the library is open."""

    # Not a dataclass: making that class takes half a millisecond, a tenth of what a choice may take.

    handle: c_void_p | None
    uuid: str
    name: str
    place: int
    parent: str = ""
    trouble: str = ""


def open_library() -> Any:
    """Loads the driver's library.

    Raises:
        OSError: If it is not on this machine.
    """
    if sys.platform == "win32":
        return ctypes.CDLL("nvml.dll")
    try:
        return ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        # Under WSL the library is not on the loader's path in every distribution.
        return ctypes.CDLL("/usr/lib/wsl/lib/libnvidia-ml.so.1")


def words(code: int) -> str:
    """What an NVML return code means."""
    return _WORDS.get(code, f"NVML error {code}")


class Nvml:
    """An open NVML library. The cards are listed once; `read` asks each for its memory and processes.

    Raises:
        SourceAbsentError: If there is no library, no driver, or no card.
        SourceTroubleError: If the driver is there but doesn't answer as it should.
    """

    def __init__(self) -> None:
        try:
            self._library = open_library()
        except OSError:
            raise SourceAbsentError("no NVIDIA driver library (libnvidia-ml.so.1)") from None
        code = self._call("nvmlInit_v2")
        if code == _FUNCTION_NOT_FOUND:
            code = self._call("nvmlInit")
        if code == _DRIVER_NOT_LOADED:
            raise SourceAbsentError("the NVIDIA driver is not loaded")
        if code != _OK:
            advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
            raise SourceTroubleError(f"the NVIDIA driver can't be asked: {words(code)} (NVML {code}){advice}")
        try:
            self._units = self._enumerate()
            if not self._units:
                raise SourceAbsentError("the NVIDIA driver is loaded, but lists no card")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the library back; NVML counts openings, so torch's own use of it is not disturbed."""
        self._call("nvmlShutdown")

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:
        """Reads memory and processes of every card; see `Source.read`."""
        return tuple(self._read_unit(unit, util=util, processes=processes) for unit in self._units)

    def see(self, cards: Sequence[Card]) -> visible.Visible:
        """What CUDA shows this process; see `Source.see`. Can take a child process."""
        return visible.resolve(cards, os.environ, started=torchside.cuda_started(), ask=child.cuda_order)

    def _call(self, name: str, *args: object) -> int:
        function = getattr(self._library, name, None)  # an older driver lacks the newer symbols
        return _FUNCTION_NOT_FOUND if function is None else int(function(*args))

    def _enumerate(self) -> tuple[_Unit, ...]:
        count = c_uint()
        code = self._call("nvmlDeviceGetCount_v2", byref(count))
        if code != _OK:
            raise SourceTroubleError(f"the NVIDIA driver can't list its cards: {words(code)} (NVML {code})")
        found: list[tuple[tuple[int, ...], int, c_void_p | None, str]] = []
        for number in range(count.value):
            handle = c_void_p()
            code = self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(number), byref(handle))
            if code == _OK:
                found.append((self._pci(handle, number), number, handle, ""))
            else:
                found.append(((2**32, number), number, None, words(code)))
        # NVML promises no stable order of its indices; CUDA's PCI_BUS_ID order is that of the addresses.
        found.sort(key=lambda entry: entry[:2])
        units: list[_Unit] = []
        for place, (_, _, some, trouble) in enumerate(found):
            if some is None:
                units.append(_Unit(None, "", "unknown NVIDIA card", place, trouble=trouble))
            else:
                units.extend(self._units_of(some, place))
        return tuple(units)

    def _units_of(self, handle: c_void_p, place: int) -> list[_Unit]:
        """The card itself, or its MIG instances where it is cut into such."""
        uuid = self._text("nvmlDeviceGetUUID", handle)
        name = self._text("nvmlDeviceGetName", handle) or "NVIDIA card"
        if not self._mig_enabled(handle):
            trouble = "" if uuid else "its UUID can't be read"
            return [_Unit(handle, uuid, name, place, trouble=trouble)]
        limit = c_uint()
        self._call("nvmlDeviceGetMaxMigDeviceCount", handle, byref(limit))
        instances = []
        for number in range(limit.value):
            instance = c_void_p()
            if self._call("nvmlDeviceGetMigDeviceHandleByIndex", handle, c_uint(number), byref(instance)) != _OK:
                continue  # numbers have gaps
            part = self._text("nvmlDeviceGetUUID", instance)
            label = self._text("nvmlDeviceGetName", instance) or f"{name} MIG {number}"
            instances.append(_Unit(instance, part, label, place, parent=uuid))
        return instances or [_Unit(handle, uuid, name, place, trouble="MIG is on, but no instance was made")]

    def _read_unit(self, unit: _Unit, *, util: bool, processes: bool) -> Card:
        if unit.handle is None or unit.trouble:
            return Card("cuda", unit.uuid, unit.name, unit.place, None, None, parent=unit.parent, trouble=unit.trouble)
        code, total, free = self._memory(unit.handle)
        known = code == _OK and total > 0
        source, doubt = "nvml", ""
        if code == _NOT_SUPPORTED or (code == _OK and total == 0):
            # A chip with unified memory (Jetson, DGX Spark) has none of its own: what the host has free is free to it.
            total, free = host.memory()
            known, source = True, "nvml+host"
        elif code != _OK:
            doubt = f"its memory can't be read: {words(code)}"
        return Card(
            "cuda",
            unit.uuid,
            unit.name,
            unit.place,
            total if known else None,
            min(free, total) if known else None,
            processes=self._processes(unit.handle) if processes else None,
            util=self._utilization(unit.handle) if util else None,
            source=source,
            parent=unit.parent,
            trouble=words(code) if code in _GONE else "",
            doubt=doubt,
        )

    def _memory(self, handle: c_void_p) -> tuple[int, int, int]:
        second = _MemoryV2(version=sizeof(_MemoryV2) | (2 << 24))
        if self._call("nvmlDeviceGetMemoryInfo_v2", handle, byref(second)) == _OK:
            return _OK, int(second.total), int(second.free)
        first = _Memory()
        code = self._call("nvmlDeviceGetMemoryInfo", handle, byref(first))
        return code, int(first.total), int(first.free)

    def _processes(self, handle: c_void_p) -> tuple[Process, ...] | None:
        computing = self._list_processes("Compute", handle)
        if computing is None:
            return None
        found = {pid: Process(pid, used, graphics=True) for pid, used in self._list_processes("Graphics", handle) or ()}
        # Clients of the CUDA multi-process service are listed apart.
        for pid, used in (*(self._list_processes("MPSCompute", handle) or ()), *computing):
            found[pid] = Process(pid, used)
        return tuple(sorted(found.values(), key=lambda process: process.pid))

    def _list_processes(self, what: str, handle: c_void_p) -> list[tuple[int, int | None]] | None:
        for version, layout in (("_v3", _ProcessV2), ("_v2", _ProcessV2), ("", _ProcessV1)):
            size, code = 32, _INSUFFICIENT_SIZE
            while code == _INSUFFICIENT_SIZE and size <= 2**16:
                count, infos = c_uint(size), (layout * size)()
                code = self._call(f"nvmlDeviceGet{what}RunningProcesses{version}", handle, byref(count), infos)
                size *= 4  # the list may grow between two calls, so the count it asks for is not trusted
            if code == _OK:
                rows = (infos[number] for number in range(count.value))
                return [(int(row.pid), None if row.used == _NOT_AVAILABLE else int(row.used)) for row in rows]
            if code != _FUNCTION_NOT_FOUND:
                return None
        return None

    def _utilization(self, handle: c_void_p) -> int | None:
        rates = _Utilization()
        return int(rates.gpu) if self._call("nvmlDeviceGetUtilizationRates", handle, byref(rates)) == _OK else None

    def _mig_enabled(self, handle: c_void_p) -> bool:
        current, pending = c_uint(), c_uint()
        return self._call("nvmlDeviceGetMigMode", handle, byref(current), byref(pending)) == _OK and current.value == 1

    def _pci(self, handle: c_void_p, number: int) -> tuple[int, ...]:
        pci = _Pci()
        code = self._call("nvmlDeviceGetPciInfo_v3", handle, byref(pci))
        return (pci.domain, pci.bus, pci.device) if code == _OK else (2**31, number)

    def _text(self, name: str, handle: c_void_p) -> str:
        buffer = create_string_buffer(_TEXT)
        code = self._call(name, handle, buffer, c_uint(_TEXT))
        return buffer.value.decode("utf-8", "replace") if code == _OK else ""
