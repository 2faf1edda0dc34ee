"""A machine to test on: the fake driver library, its own lease directory, a clean environment, a stand-in for torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from programs import require
from ridgepole.devices import torch_calls
from ridgepole.devices.probe import amd, nvidia

HERE = Path(__file__).parent


def _load(name):
    spec = importlib.util.spec_from_file_location(f"ridgepole_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake():
    return _load("fake_nvml")


@pytest.fixture(scope="session")
def fake_rocm():
    return _load("fake_rocm")


@pytest.fixture
def card(fake):
    return fake.card


class FakeCuda:
    """What `Device` uses of `torch.cuda`, and what it did with it."""

    def __init__(self):
        self.started = False
        self.current = None
        self.emptied = 0
        self.held = {}
        self.uuids = {}

    def is_initialized(self):
        return self.started

    def is_available(self):
        return bool(self.uuids)

    def device_count(self):
        return len(self.uuids)

    def get_device_properties(self, index):
        self.started = True
        return types.SimpleNamespace(uuid=self.uuids.get(index, ""), name="Some GPU", total_memory=8 * 1024**3)

    def set_device(self, index):
        self.started, self.current = True, index

    def memory_reserved(self, index):
        return self.held.get(index, 0)

    def empty_cache(self):
        self.emptied += 1


@pytest.fixture
def torch(monkeypatch):
    """A torch built for CUDA, of which no card is really there."""
    module = types.ModuleType("torch")
    module.__version__ = "2.9.0+cu130"
    module.version = types.SimpleNamespace(cuda="13.0", hip=None, xpu=None)
    module.cuda = FakeCuda()
    module.device = lambda name: f"torch.device({name})"
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in (
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID"),
    ):
        monkeypatch.setenv(name, "")  # so that what the code under test sets is taken back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("RIDGEPOLE_LEASE_DIR", str(tmp_path / "leases"))
    (tmp_path / "maps").write_text("7f00-7f01 r-xp 00000000 00:00 0 /usr/lib/libc.so.6\n")
    monkeypatch.setattr(torch_calls, "_MAPS", tmp_path / "maps")
    monkeypatch.setattr(amd, "SYS", tmp_path / "nothing")
    return tmp_path


@pytest.fixture
def machine(monkeypatch, environment, torch, fake):
    """Makes this machine another one: `machine("eight")` by a recording, `machine([card(0), …])` by hand."""

    def install(description, **more):
        if isinstance(description, str):
            description = fake.machine(description)
        elif isinstance(description, list):
            description = {"cards": description}
        library = fake.FakeNvml({**description, **more})
        library.put_in_place(monkeypatch.setattr)
        monkeypatch.setattr(nvidia, "cuda_order", lambda: None)
        return library

    return install


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A directory with a `libnvidia-ml.so.1` in it: the fake driver library as a real shared object."""
    if sys.platform != "linux":
        pytest.skip("the fake library is made for Linux")
    compiler = require("cc", "gcc", "clang", package="gcc libc6-dev")
    folder = tmp_path_factory.mktemp("nvml")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / "libnvidia-ml.so.1"]
    subprocess.run([*command, HERE / "fake_nvml.c"], check=True)
    return folder


@pytest.fixture
def elsewhere(library, tmp_path):
    """A process's environment on another machine: `elsewhere("0,30")` has two cards, the second with 30 GiB in use.

    The torch there was built for CUDA, and dies when it is imported. `cpu` is the name of its processor.
    """
    package = tmp_path / "packages" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('torch was imported')\n")
    (package / "version.py").write_text("__version__ = '2.9.0+cu130'\ncuda = '13.0'\nhip = None\nxpu = None\n")
    (tmp_path / "meminfo").write_text("MemTotal: 33554432 kB\nMemAvailable: 29360128 kB\n")
    (package.parent / "sitecustomize.py").write_text(
        "import pathlib\nfrom ridgepole.devices import host\n"
        f"host.MEMINFO, host.CPUINFO = map(pathlib.Path, {[str(tmp_path / 'meminfo'), str(tmp_path / 'cpuinfo')]})\n"
    )
    prefixes = ("CUDA_", "SLURM_", "LOCAL_", "HIP_", "ROCR_")

    def environment(used, cpu="Some CPU"):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: {cpu}\n")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(prefixes)},
            "LD_LIBRARY_PATH": str(library),
            "PYTHONPATH": str(package.parent),
            "RIDGEPOLE_LEASE_DIR": str(tmp_path / "leases"),
            "FAKE_NVML_CARDS": str(len(used.split(","))),
            "FAKE_NVML_USED_GIB": used,
        }

    return environment
