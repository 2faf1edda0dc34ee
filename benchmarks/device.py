"""What it costs to choose a card, beside other ways of looking at the machine.

Every contender finds the card with the lowest share of memory in use, in a fresh process (cold) and then again and
again in the same one (warm), in turn in every round and in an order that changes. The cards are those of a driver
library that is compiled here (tests/devices/fake_nvml.c) and answers at once, so what is measured is what a
contender adds; a real driver takes its own time for each call. Where this machine has a real card, the same is measured
on it, with `torch.cuda.mem_get_info` beside it.

    import   loading the contender's modules (Device() needs nvidia-ml-py only in its first choice)
    first    the first choice, with the driver's library loaded in it
    cold     both, and how many times what Device() needs
    warm     a later choice in the same process, likewise

Target: the first choice of Device() takes less than 5 ms beyond loading the driver's library.

gpustat also measures how much of the processors each process uses, for which it sleeps a tenth of a second a card that
has any. Contenders that are not installed are named and left out. Usage: python benchmarks/device.py [rounds]
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

FAKE = Path(__file__).parents[1] / "tests" / "devices" / "fake_nvml.c"
CARDS = (1, 4, 8)
WARM_CALLS, WARM_SECONDS = 30, 1.0
US = "Device()"
LIMIT = "loading the library, nothing else"
TORCH = "torch.cuda.mem_get_info"

Choose = Callable[[], Any]


def loading() -> Choose:
    import ctypes

    def choose() -> None:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        library.nvmlInit_v2()
        library.nvmlShutdown()

    return choose


def device(lease: str = "shared") -> Choose:
    from ridgepole.permanences import Device

    def choose() -> str:
        made = Device(lease=lease, max_usage=1)  # type: ignore[arg-type]
        made.cleanup()
        return str(made)

    return choose


def without_lease() -> Choose:
    return device("off")


def nvidia_ml_py() -> Choose:
    import pynvml

    def choose() -> int:
        pynvml.nvmlInit()
        usage = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetUUID(handle)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
            pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            usage.append(memory.used / memory.total)
        pynvml.nvmlShutdown()
        return usage.index(min(usage))

    return choose


def gpustat() -> Choose:
    import gpustat as package

    def choose() -> int:
        cards = package.new_query().gpus
        return int(min(cards, key=lambda card: card.memory_used / card.memory_total).index)

    return choose


def mem_get_info() -> Choose:
    import torch

    def choose() -> int:
        shares = []
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            shares.append(1 - free / total)
        return shares.index(min(shares))

    return choose


CONTENDERS: dict[str, tuple[Callable[[], Choose], str]] = {
    LIMIT: (loading, ""),
    US: (device, ""),
    'Device(lease="off")': (without_lease, ""),
    "nvidia-ml-py": (nvidia_ml_py, "pynvml"),
    "gpustat": (gpustat, "gpustat"),
    TORCH: (mem_get_info, "torch"),
}


def work(name: str) -> None:
    """What a fresh process does: imports, chooses once, chooses again and again, and prints the seconds."""
    here = str(Path(__file__).parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]  # logging.py lies beside this file
    started, busy = perf_counter(), process_time()
    choose = CONTENDERS[name][0]()
    imported, busy_imported = perf_counter(), process_time()
    choose()
    first, busy_first = perf_counter(), process_time()
    warm: list[float] = []
    while len(warm) < WARM_CALLS and sum(warm) < WARM_SECONDS:
        begun = perf_counter()
        choose()
        warm.append(perf_counter() - begun)
    seconds = {
        "import": imported - started,
        "first": first - imported,
        "cold": first - started,
        "warm": statistics.median(warm),
        "first cpu": busy_first - busy_imported,
        "cold cpu": busy_first - busy,
    }
    print(json.dumps(seconds))


def measure(names: list[str], rounds: int, environment: dict[str, str]) -> dict[str, dict[str, float]]:
    """Milliseconds of each contender: medians over the rounds."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in random.sample(names, len(names)):
            done = subprocess.run(
                [sys.executable, __file__, "--work", name], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{name} fails:\n{done.stderr}")
            if number:  # the first round compiles the modules
                rows[name].append(json.loads(done.stdout))
    return {
        name: {key: 1e3 * statistics.median(row[key] for row in found) for key in found[0]}
        for name, found in rows.items()
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    ours, limit = rows[US], rows[LIMIT]
    print(f"\n{title}")
    print(f"  {'milliseconds':34}{'import':>9}{'first':>9}{'cold':>9}{'ratio':>7}{'warm':>9}{'ratio':>7}")
    for name, row in rows.items():
        cold, warm = row["cold"], row["warm"]
        print(f"  {name:34}{row['import']:9.2f}{row['first']:9.2f}", end="")
        print(f"{cold:9.2f}{cold / ours['cold']:7.2f}{warm:9.3f}{warm / ours['warm']:7.2f}")
    # Device() imports ctypes in its first choice, so it belongs to both.
    beyond, busy = ours["first"] - limit["cold"], ours["first cpu"] - limit["cold cpu"]
    print(f"  first choice of {US} beyond loading the library: {beyond:.2f} ms (target: under 5)", end="")
    print(f"; {busy:.2f} ms of the processor, which a busy machine doesn't lengthen", flush=True)


def build(folder: Path) -> str | None:
    """Makes the driver library and a torch that says it was built for CUDA; what is missing, if anything."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return "no C compiler, or not Linux"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", folder / "libnvidia-ml.so.1", FAKE], check=True)
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("raise ImportError('nobody needs torch to choose')\n")
    (folder / "torch" / "version.py").write_text("__version__ = '2.9.0+cu130'\ncuda = '13.0'\nhip = None\nxpu = None\n")
    return None


def has_card() -> bool:
    script = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def main(rounds: int) -> None:
    installed = {name for name, (_, needs) in CONTENDERS.items() if not needs or importlib.util.find_spec(needs)}
    for name in CONTENDERS.keys() - installed:
        print(f"{name}: not installed, left out")
    dropped = ("CUDA_", "HIP_", "ROCR_", "LOCAL_", "SLURM_", "PYTHONDONTWRITEBYTECODE")
    base = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    print(f"medians of {rounds} interleaved rounds, each in a fresh process, up to {WARM_CALLS} warm calls", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base["RIDGEPOLE_LEASE_DIR"] = str(folder / "leases")
        base["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")  # modules are compiled once, as after any install
        missing = build(folder)
        names = [name for name in CONTENDERS if name in installed and name != TORCH]
        fake = base | {"LD_LIBRARY_PATH": name, "PYTHONPATH": name}
        for cards in CARDS if missing is None else ():
            used = ",".join(str(30 - 3 * card) for card in range(cards))
            environment = fake | {"FAKE_NVML_CARDS": str(cards), "FAKE_NVML_USED_GIB": used}
            show(f"{cards} fake card{'s' * (cards > 1)}", measure(names, rounds, environment))
        if missing:
            print(f"fake cards left out: {missing}")
        if has_card():
            real = [name for name in CONTENDERS if name in installed]
            show("the cards of this machine", measure(real, max(3, rounds // 3), base))
        else:
            print(f"\n{TORCH} and the cards of this machine: left out, torch sees none")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
