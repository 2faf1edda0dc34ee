"""Readings through torch, where no library of the driver was found."""

from __future__ import annotations

import types

import pytest

from ridgepole.devices import Device, survey
from ridgepole.devices.probe import torch
from ridgepole.errors import DeviceUnavailableError

GIB = 1024**3


@pytest.fixture
def node(monkeypatch, tmp_path):
    """A device node of every driver: without one torch is not even imported."""
    path = tmp_path / "node"
    path.touch()
    monkeypatch.setattr(torch, "_NODES", dict.fromkeys(("cuda", "hip", "xpu"), (str(path),)))
    return path


def test_cuda_without_nvml_is_the_last_resort_and_warned_about(machine, torch, node, caplog):
    machine("missing")
    torch.cuda.uuids = {0: "aa", 1: "bb"}
    torch.cuda.held = {0: GIB}
    with Device() as device:
        assert str(device) == "cuda:1"
        assert (device.get_state()["source"], device.uuid) == ("own-process", "GPU-bb")
        assert torch.cuda.current == 1
        device.validate()
    assert "by this process's own memory alone" in caplog.text


def test_rocm_is_driven_as_cuda(machine, torch, node):
    machine("missing")
    torch.version.cuda, torch.version.hip = None, "6.4"
    torch.cuda.uuids = {0: ""}
    assert str(Device()) == "cuda:0"


def test_torch_is_not_asked_where_the_system_has_no_device(machine, torch, node):
    machine("missing")
    torch.cuda.uuids = {0: "aa"}
    node.unlink()
    assert str(Device()) == "cpu"


def test_a_broken_nvml_falls_back_on_torch_where_torch_sees_a_card(machine, torch, node):
    machine("mismatch")
    with pytest.raises(DeviceUnavailableError, match="different versions"):
        Device()
    torch.cuda.uuids = {0: "aa"}
    assert str(Device()) == "cuda:0"


def test_xpu_reads_the_whole_device(machine, torch, node):
    machine("missing")
    torch.version.cuda, torch.version.xpu = None, "20250101"
    backend = type(torch.cuda)()
    backend.uuids = {0: "", 1: ""}
    backend.mem_get_info = lambda index: ((1 if index == 0 else 6) * GIB, 8 * GIB)
    torch.xpu = backend
    with Device() as device:
        assert str(device) == "xpu:1"
        assert device.get_state()["source"] == "torch.xpu"
        assert backend.current == 1
    assert survey().rows[0]["reason"] == "above 80%"


def test_xpu_without_counters_is_own_process(machine, torch, node):
    machine("missing")
    torch.version.cuda, torch.version.xpu = None, "20250101"
    torch.xpu = type(torch.cuda)()
    torch.xpu.uuids = {0: ""}
    assert survey().rows[0]["source"] == "own-process"


def test_mps_is_marked_own_process(machine, torch, monkeypatch, caplog):
    machine("missing")
    torch.version.cuda = None
    torch.mps = types.SimpleNamespace(
        is_available=lambda: True,
        recommended_max_memory=lambda: 16 * GIB,
        driver_allocated_memory=lambda: 2 * GIB,
        empty_cache=lambda: None,
    )
    monkeypatch.setattr("sys.platform", "darwin")
    with Device(empty_cache_on_cleanup=True) as device:
        assert str(device) == "mps:0"
        state = device.get_state()
        device.checkpoint()
    assert (state["source"], state["candidates"][0]["usage"]) == ("own-process", 0.125)
    assert "may be full" in caplog.text
