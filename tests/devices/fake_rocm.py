"""An AMD machine from `machines/rocm_*.json`: the kernel's files in a directory, AMD's library as ctypes sees it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

MACHINES = Path(__file__).parent / "machines"

# What Linux 6.8 writes for a GPU, shortened.
PROPERTIES = """\
cpu_cores_count {cpu_cores}
simd_count {simd}
mem_banks_count 1
max_waves_per_simd 8
array_count 32
gfx_target_version 90402
vendor_id 4098
device_id 29857
location_id {location}
domain {domain}
drm_render_minor {render}
hive_id 16112374928834
num_sdma_engines 2
capability 745402976
unique_id {unique}
num_xcc 8
"""


def machine(name):
    return json.loads((MACHINES / f"rocm_{name}.json").read_text())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def lay_out(description, root):
    """Writes the files of a machine below `root / "sys"` and `root / "dri"`."""
    kfd = root / "sys" / "class" / "kfd" / "kfd"
    write(kfd / "topology" / "nodes" / "0" / "gpu_id", 0)
    write(
        kfd / "topology" / "nodes" / "0" / "properties",
        PROPERTIES.format(cpu_cores=96, simd=0, location=0, domain=0, render=0, unique=0),
    )
    (kfd / "proc").mkdir(parents=True)
    for number, card in enumerate(description["cards"], start=1):
        node = kfd / "topology" / "nodes" / str(number)
        write(node / "gpu_id", card["gpu"])
        location = card["bus"] << 8 | card.get("part", 0) << 28
        facts = {"location": location, "domain": card.get("domain", 0), "render": card["render"]}
        write(node / "properties", PROPERTIES.format(cpu_cores=0, simd=1216, unique=int(card["unique"], 16), **facts))
        files = root / "sys" / "class" / "drm" / f"renderD{card['render']}" / "device"
        for name, key in (
            ("mem_info_vram_total", "total"),
            ("mem_info_vram_used", "used"),
            ("gpu_busy_percent", "busy"),
            ("product_name", "name"),
        ):
            if key in card:
                write(files / name, card[key])
        if not card.get("closed"):
            write(root / "dri" / f"renderD{card['render']}", "")
    for pid, amounts in description.get("processes", {}).items():
        for gpu, used in amounts.items():
            write(kfd / "proc" / pid / f"vram_{gpu}", used)


class FakeAmdSmi:
    def __init__(self, description):
        self.description = description
        self.calls = Counter()
        self.opened = 0
        self.cards = sorted(description["cards"], key=lambda card: card["bus"])  # as the library does

    def load(self):
        if self.description.get("library") is False:
            raise OSError("libamd_smi.so: cannot open shared object file: No such file or directory")
        return self

    def __getattr__(self, name):
        function = getattr(type(self), f"_{name.removeprefix('amdsmi_')}", None)
        if function is None or name in self.__dict__.get("description", {}).get("lacks", ()):
            raise AttributeError(name)

        def call(*args):
            self.calls[name] += 1
            return function(self, *args) if self.opened or name == "amdsmi_init" else 32

        return call

    def _init(self, flags):
        assert flags.value == 2, "GPUs alone: its CPU part wants drivers that few machines have"
        code = self.description.get("init", 0)
        self.opened += code == 0
        return code

    def _shut_down(self):
        self.opened -= 1
        return 0

    def _get_socket_handles(self, count, handles):
        for place in range(len(self.cards) if handles is not None else 0):
            handles[place] = 0x100 + place
        count._obj.value = len(self.cards)
        return 0

    def _get_processor_handles(self, socket, count, handles):
        if handles is not None:
            handles[0] = socket.value + 0x100
        count._obj.value = 1
        return 0

    def _card(self, handle):
        return self.cards[handle.value - 0x200]

    def _get_gpu_device_bdf(self, handle, bits):
        card = self._card(handle)
        bits._obj.value = card.get("domain", 0) << 16 | card["bus"] << 8 | card.get("part", 0)
        return 0

    def _memory(self, handle, kind, amount, key):
        card = self._card(handle)
        if "library_error" in card or kind.value != 0:
            return card.get("library_error", 2)
        amount._obj.value = card[key]
        return 0

    def _get_gpu_memory_total(self, handle, kind, amount):
        return self._memory(handle, kind, amount, "total")

    def _get_gpu_memory_usage(self, handle, kind, amount):
        return self._memory(handle, kind, amount, "used")

    def _get_gpu_asic_info(self, handle, asic):
        name = self._card(handle).get("market_name", "").encode()
        asic._obj[0 : len(name) + 1] = name + b"\0"
        return 0

    def _get_gpu_activity(self, handle, usage):
        usage._obj[0] = self._card(handle).get("busy", 2**32 - 1)
        return 0
