"""NVIDIA's library as ctypes sees it, played from a description of a machine (`machines/*.json`).

Functions take and fill the same ctypes objects that the driver's own would, and answer with NVML's return codes. A
function that a description names in `lacks` does not exist, as in an older driver.
"""
# ruff: noqa: N802 - the functions bear the library's names

from __future__ import annotations

import ctypes
import functools
import json
from collections import Counter
from pathlib import Path

MACHINES = Path(__file__).parent / "machines"
GIB = 1024**3
NOT_AVAILABLE = 2**64 - 1


def card(number, *, used=0, total=40 * GIB, name="NVIDIA A100-SXM4-40GB", processes=(), **more):
    """A description of one card; its UUID and PCI bus follow from its number."""
    return {
        "uuid": f"GPU-{number:08x}-1111-2222-3333-444444444444",
        "name": name,
        "bus": 16 * (number + 1),
        "total": total,
        "used": used,
        "processes": list(processes),
        **more,
    }


def machine(name):
    return json.loads((MACHINES / f"{name}.json").read_text())


def install(description):
    """Puts the fake in the place of the driver's library; for a process of its own."""
    library = FakeNvml(description)
    library.put_in_place(setattr)
    return library


def _point(handle, value):
    """Fills a handle, which is a pointer that callers never follow."""
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = value


class FakeNvml:
    def __init__(self, description):
        self.description = description
        self.calls = Counter()
        self.opened = 0

    def put_in_place(self, set_attribute):
        """Has nvidia-ml-py load this library, the next time that it is started."""
        import pynvml

        set_attribute(pynvml, "CDLL", lambda name: self.load())
        set_attribute(pynvml, "nvmlLib", None)
        set_attribute(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def load(self):
        if self.description.get("missing"):
            raise OSError("libnvidia-ml.so.1: cannot open shared object file: No such file or directory")
        return self

    @property
    def cards(self):
        return self.description["cards"]

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)
        body = name.removeprefix("nvml")
        if name in self.__dict__.get("description", {}).get("lacks", ()):
            raise AttributeError(name)
        for what in ("Compute", "Graphics", "MPSCompute"):
            if body.startswith(f"DeviceGet{what}RunningProcesses"):
                return lambda *args: self._count(name, functools.partial(self._processes, what), args)
        function = getattr(type(self), f"_{body}", None)
        if function is None:
            raise AttributeError(name)
        return lambda *args: self._count(name, lambda *inner: function(self, *inner), args)

    def _count(self, name, function, args):
        self.calls[name] += 1
        if self.opened == 0 and not name.startswith("nvmlInit"):
            return 1
        return function(*args)

    def _unit(self, handle):
        value = ctypes.cast(handle, ctypes.c_void_p).value
        entry = self.cards[value >> 8 & 0xFF]
        return entry["mig"][value & 0xFF] if value & 0x10000 else entry

    def _InitWithFlags(self, flags):
        code = self.description.get("init", 0)
        self.opened += code == 0
        return code

    def _Shutdown(self):
        self.opened -= 1
        return 0

    def _DeviceGetCount_v2(self, count):
        count._obj.value = len(self.cards)
        return 0

    def _DeviceGetHandleByIndex_v2(self, number, handle):
        position = self.description.get("order", list(range(len(self.cards))))[number.value]
        _point(handle, 0x20000 | position << 8)
        return self.cards[position].get("handle_error", 0)

    def _DeviceGetPciInfo_v3(self, handle, pci):
        pci._obj.domain, pci._obj.bus, pci._obj.device = 0, self._unit(handle)["bus"], 0
        return 0

    def _DeviceGetUUID(self, handle, buffer, size):
        buffer.value = self._unit(handle)["uuid"].encode()
        return 0

    def _DeviceGetName(self, handle, buffer, size):
        buffer.value = self._unit(handle)["name"].encode()
        return 0

    def _DeviceGetMemoryInfo_v2(self, handle, memory):
        assert memory._obj.version == 0x02000028, "the version word that nvml.h defines for this structure"
        return self._fill(handle, memory._obj)

    def _DeviceGetMemoryInfo(self, handle, memory):
        return self._fill(handle, memory._obj)

    def _fill(self, handle, memory):
        unit = self._unit(handle)
        if code := unit.get("memory_error", 0):
            return code
        memory.total, memory.free = unit["total"], unit["total"] - unit["used"]
        return 0

    def _processes(self, what, handle, count, infos):
        unit = self._unit(handle)
        if code := unit.get("processes_error", 0):
            return code
        mine = [one for one in unit["processes"] if one.get("type", "Compute") == what]
        if len(mine) > count._obj.value:
            count._obj.value = len(mine)
            return 7
        count._obj.value = len(mine)
        for slot, one in zip(infos or (), mine, strict=False):
            slot.pid = one["pid"]
            slot.usedGpuMemory = NOT_AVAILABLE if one.get("used") is None else one["used"]
        return 0

    def _DeviceGetUtilizationRates(self, handle, rates):
        util = self._unit(handle).get("util")
        rates._obj.gpu = util or 0
        return 3 if util is None else 0

    def _sensor(self, handle, name, value):
        reading = self._unit(handle).get(name)
        if reading is not None:
            value._obj.value = reading
        return 3 if reading is None else 0

    def _DeviceGetPowerUsage(self, handle, milliwatts):
        return self._sensor(handle, "milliwatts", milliwatts)

    def _DeviceGetEnforcedPowerLimit(self, handle, milliwatts):
        return self._sensor(handle, "milliwatts_limit", milliwatts)

    def _DeviceGetTemperature(self, handle, sensor, celsius):
        assert sensor.value == 0, "the sensor of the chip"
        return self._sensor(handle, "celsius", celsius)

    def _DeviceGetClockInfo(self, handle, clock, mhz):
        assert clock.value == 1, "the clock of the processors"
        return self._sensor(handle, "mhz", mhz)

    def _DeviceGetCurrentClocksThrottleReasons(self, handle, reasons):
        return self._sensor(handle, "throttle_reasons", reasons)

    def _DeviceGetHandleByUUID(self, uuid, handle):
        for position, entry in enumerate(self.cards):
            if entry["uuid"].encode() == uuid.value:
                _point(handle, 0x20000 | position << 8)
                return 0
        return 6

    def _DeviceGetMigMode(self, handle, current, pending):
        unit = self._unit(handle)
        current._obj.value = pending._obj.value = int("mig" in unit)
        return 0 if "mig" in unit or "mig_capable" in unit else 3

    def _DeviceGetMaxMigDeviceCount(self, handle, count):
        count._obj.value = 7
        return 0

    def _DeviceGetMigDeviceHandleByIndex(self, handle, number, instance):
        parts = self._unit(handle)["mig"]
        if number.value >= len(parts) or parts[number.value] is None:
            return 6
        _point(instance, ctypes.cast(handle, ctypes.c_void_p).value | 0x10000 | number.value)
        return 0
