"""NVIDIA cards, read through the driver's library (NVML), which makes no CUDA context."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ridgepole.devices import host
from ridgepole.devices.gpus import Card, Process, Sensors
from ridgepole.devices.probe.base import DeviceAbsentError, DeviceTroubleError
from ridgepole.devices.torch_calls import Build, cuda_started
from ridgepole.devices.visibility import Visible, resolve_cuda

# Not every WSL has this on the loader's path. Once it is loaded, its short name finds it.
_WSL_LIBRARY = "/usr/lib/wsl/lib/libnvidia-ml.so.1"

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
_GONE = {15, 16, 28}
_THROTTLED = {0x4: "power limit", 0x8: "slowed down by its hardware", 0x20: "heat", 0x40: "heat", 0x80: "power supply"}
"""Bits of NVML's reasons that hold a clock down while the card has work."""


def words(code: int) -> str:
    """Return the meaning of an NVML return code."""
    return _WORDS.get(code, f"NVML error {code}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """The facts of a card or a MIG instance that never change while the library is open."""

    handle: Any
    uuid: str
    name: str
    place: int
    parent: str = ""
    trouble: str = ""


class NvidiaProbe:
    """An open NVML library, which lists the cards once; `read` asks each for its memory.

    Args:
        build: Not used: NVIDIA's cards count whatever torch was built for.

    Raises:
        DeviceAbsentError: There is no library, no driver, or no card.
        DeviceTroubleError: The driver is there but doesn't answer as it should.
    """

    def __init__(self, build: Build | None = None) -> None:  # noqa: ARG002 - the interface
        import pynvml

        self._nvml = pynvml
        try:
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError_LibraryNotFound:
                ctypes.CDLL(_WSL_LIBRARY)
                pynvml.nvmlInit()
        except (OSError, pynvml.NVMLError_LibraryNotFound):
            raise DeviceAbsentError("no NVIDIA driver library (libnvidia-ml.so.1)") from None
        except pynvml.NVMLError_DriverNotLoaded:
            raise DeviceAbsentError("the NVIDIA driver is not loaded") from None
        except pynvml.NVMLError as error:
            advice = f"; {_ADVICE[error.value]}" if error.value in _ADVICE else ""
            reason = f"{words(error.value)} (NVML {error.value}){advice}"
            raise DeviceTroubleError(f"the NVIDIA driver can't be asked: {reason}") from None
        try:
            self._units = self._enumerate()
            if not self._units:
                raise DeviceAbsentError("the NVIDIA driver is loaded, but lists no card")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the library; NVML counts openings, so torch's own use of it is not disturbed."""
        self._ask(self._nvml.nvmlShutdown)

    def read(self, *, util: bool = False, processes: bool = True) -> tuple[Card, ...]:
        """Read memory and processes of every card; see `DeviceProbe.read`."""
        return tuple(self._read_unit(unit, util=util, processes=processes) for unit in self._units)

    def sense(self, card: Card) -> Sensors:
        """Read power, temperature, clock and throttling; those of a MIG instance are its card's."""
        nvml = self._nvml
        unit = next((unit for unit in self._units if unit.place == card.place and unit.handle is not None), None)
        if unit is None:
            return Sensors()
        handle = self._ask(nvml.nvmlDeviceGetHandleByUUID, unit.parent) if unit.parent else unit.handle
        if handle is None:
            return Sensors()
        power, limit = (
            self._ask(ask, handle) for ask in (nvml.nvmlDeviceGetPowerUsage, nvml.nvmlDeviceGetEnforcedPowerLimit)
        )
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return Sensors(
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if limit is None else limit / 1000,
            celsius=self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            throttled=None if reasons is None else ", ".join(word for bit, word in _THROTTLED.items() if reasons & bit),
        )

    def see(self, cards: Sequence[Card]) -> Visible:
        """Find out what CUDA shows this process, maybe in a child; see `DeviceProbe.see`."""
        return resolve_cuda(cards, os.environ, started=cuda_started(), ask=cuda_order)

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the library; return None where the device or the driver doesn't support that."""
        with contextlib.suppress(self._nvml.NVMLError):
            return function(*arguments)
        return None

    def _enumerate(self) -> tuple[_Unit, ...]:
        nvml = self._nvml
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            reason = f"{words(error.value)} (NVML {error.value})"
            raise DeviceTroubleError(f"the NVIDIA driver can't list its cards: {reason}") from None
        found: list[tuple[tuple[int, ...], int, Any, str]] = []
        for number in range(count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
            except nvml.NVMLError as error:
                found.append(((2**32, number), number, None, words(error.value)))
                continue
            pci = self._ask(nvml.nvmlDeviceGetPciInfo, handle)
            order = (pci.domain, pci.bus, pci.device) if pci else (2**31, number)
            found.append((order, number, handle, ""))
        units: list[_Unit] = []
        # NVML promises no order of its indices; CUDA's PCI_BUS_ID order is that of the addresses.
        for place, (_, _, handle, trouble) in enumerate(sorted(found, key=lambda one: one[:2])):
            if handle is None:
                units.append(_Unit(handle=None, uuid="", name="unknown NVIDIA card", place=place, trouble=trouble))
            else:
                units.extend(self._units_of(handle, place))
        return tuple(units)

    def _units_of(self, handle: Any, place: int) -> list[_Unit]:
        """Return the card itself, or its MIG instances if it has any."""
        nvml = self._nvml
        uuid = self._ask(nvml.nvmlDeviceGetUUID, handle) or ""
        name = self._ask(nvml.nvmlDeviceGetName, handle) or "NVIDIA card"
        if (self._ask(nvml.nvmlDeviceGetMigMode, handle) or [0])[0] != 1:
            trouble = "" if uuid else "its UUID can't be read"
            return [_Unit(handle=handle, uuid=uuid, name=name, place=place, trouble=trouble)]
        instances = []
        for number in range(self._ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            instance = self._ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
            if instance is None:
                continue  # numbers have gaps
            own = self._ask(nvml.nvmlDeviceGetUUID, instance) or ""
            label = self._ask(nvml.nvmlDeviceGetName, instance) or f"{name} MIG {number}"
            instances.append(_Unit(handle=instance, uuid=own, name=label, place=place, parent=uuid))
        trouble = "MIG is on, but no instance was made"
        return instances or [_Unit(handle=handle, uuid=uuid, name=name, place=place, trouble=trouble)]

    def _read_unit(self, unit: _Unit, *, util: bool, processes: bool) -> Card:
        total = free = rates = running = None
        source, doubt, trouble = "nvml", "", unit.trouble
        if not trouble:
            try:
                memory = self._memory(unit.handle)
                total, free = int(memory.total), int(memory.free)
            except self._nvml.NVMLError_NotSupported:
                total = 0
            except self._nvml.NVMLError as error:
                doubt = f"its memory can't be read: {words(error.value)}"
                trouble = words(error.value) if error.value in _GONE else ""
            if total == 0:
                # A chip with unified memory (Jetson, DGX Spark) shares the memory of the host.
                (total, free), source = host.memory(), "nvml+host"
            running = self._processes(unit.handle) if processes else None
            rates = self._ask(self._nvml.nvmlDeviceGetUtilizationRates, unit.handle) if util else None
        return Card(
            kind="cuda",
            uuid=unit.uuid,
            name=unit.name,
            place=unit.place,
            total=total,
            free=None if total is None or free is None else min(free, total),
            processes=running,
            util=int(rates.gpu) if rates else None,
            source=source,
            parent=unit.parent,
            trouble=trouble,
            doubt=doubt,
        )

    def _memory(self, handle: Any) -> Any:
        """Ask for total and free memory; the newer call knows what the driver reserves."""
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, handle, self._nvml.nvmlMemory_v2)
        return memory or self._nvml.nvmlDeviceGetMemoryInfo(handle)

    def _processes(self, handle: Any) -> tuple[Process, ...] | None:
        computing = self._running("Compute", handle)
        if computing is None:
            return None
        found = {one.pid: Process(one.pid, one.used, graphics=True) for one in self._running("Graphics", handle) or ()}
        # Clients of the CUDA multi-process service are listed apart.
        for one in (*(self._running("MPSCompute", handle) or ()), *computing):
            found[one.pid] = one
        return tuple(sorted(found.values(), key=lambda process: process.pid))

    def _running(self, what: str, handle: Any) -> list[Process] | None:
        """List processes; None where the driver doesn't tell, as before CUDA 11."""
        for version in ("_v3", "_v2"):
            listed = self._ask(getattr(self._nvml, f"nvmlDeviceGet{what}RunningProcesses{version}"), handle)
            if listed is not None:
                return [Process(int(one.pid), one.usedGpuMemory) for one in listed]
        return None


_CUDA_SCRIPT = """
import ctypes, json, sys, uuid
try:
    cuda = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        sys.exit(1)
    found = []
    for ordinal in range(count.value):
        device, raw = ctypes.c_int(), ctypes.create_string_buffer(16)
        get = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
        if cuda.cuDeviceGet(ctypes.byref(device), ordinal) or get(raw, device):
            sys.exit(1)
        found.append(str(uuid.UUID(bytes=raw.raw)))
    print(json.dumps(found))
except (OSError, AttributeError):
    sys.exit(1)
"""


def cuda_order() -> list[str] | None:
    """Ask CUDA for the UUIDs of its devices in its order, without their prefix; None on failure.

    A child process asks, as `cuInit` would fix this process's environment. The child inherits that
    environment, so it sees what this process will see. It makes no context.
    """
    if not sys.executable:
        return None  # an embedded interpreter
    import subprocess

    try:
        # A constant script: nothing that a user wrote reaches the command line.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-I", "-S", "-c", _CUDA_SCRIPT], capture_output=True, timeout=60.0, check=False, text=True
        )
        return [str(body) for body in json.loads(done.stdout)] if done.returncode == 0 else None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
