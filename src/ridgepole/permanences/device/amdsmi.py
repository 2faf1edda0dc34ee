"""AMD's own library (amdsmi) by ctypes: memory, model and load of a card.

Only calls whose signature has stayed the same since ROCm 6.0 (`amdsmi.h`; AMD SMI C API reference). The structures of
processes have not, so those come from `kfd`. The Python package of the same name loads 3,000 lines for these six calls,
and must match the library's version to the letter.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_int, c_uint32, c_uint64, c_void_p
from typing import Any

from ridgepole.permanences.device.kfd import Address

_OK = 0
_INIT_AMD_GPUS = 1 << 1
_VRAM = 0
# Larger than the structure in any version: only its first field is read.
_ASIC_BYTES = 4096
_NAME_BYTES = 64
_USAGE_WORDS = 64
_UNKNOWN_USAGE = 100


def open_library() -> Any:
    """Loads the library.

    Raises:
        OSError: If it is not on this machine.
    """
    root = os.environ.get("ROCM_PATH") or "/opt/rocm"
    try:
        return ctypes.CDLL("libamd_smi.so")
    except OSError:
        return ctypes.CDLL(f"{root}/lib/libamd_smi.so")


class AmdSmi:
    """The opened library; cards are asked for by their address on the bus.

    Raises:
        OSError: If it is not there or can't be started.
    """

    def __init__(self) -> None:
        self._library = open_library()
        code = self._call("amdsmi_init", c_uint64(_INIT_AMD_GPUS))
        if code != _OK:
            raise OSError(f"amdsmi can't be started (its code {code})")
        self._handles: dict[Address, c_void_p] = {}
        for socket in self._list("amdsmi_get_socket_handles"):
            for handle in self._list("amdsmi_get_processor_handles", socket):
                # A partitioned card is listed once for each part: its counters are the card's, the first will do.
                self._handles.setdefault(self._address(handle), handle)

    def close(self) -> None:
        """Gives the library back."""
        self._call("amdsmi_shut_down")

    def memory(self, address: Address) -> tuple[int, int] | None:
        """Total bytes of memory and those in use, every process counted; None where it doesn't tell."""
        amounts = []
        for what in ("total", "usage"):
            amount = c_uint64()
            if self._ask(f"amdsmi_get_gpu_memory_{what}", address, c_int(_VRAM), byref(amount)) != _OK:
                return None
            amounts.append(int(amount.value))
        return amounts[0], amounts[1]

    def name(self, address: Address) -> str:
        """The model; empty where it doesn't tell."""
        asic = (ctypes.c_char * _ASIC_BYTES)()
        if self._ask("amdsmi_get_gpu_asic_info", address, byref(asic)) != _OK:
            return ""
        return asic.raw[:_NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")

    def busy(self, address: Address) -> int | None:
        """How much of the time it computes, in percent; None where it doesn't tell."""
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
