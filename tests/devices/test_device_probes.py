"""Probes of installed packages, by the entry point `ridgepole.device_probes`."""

from __future__ import annotations

import pytest

from ridgepole.devices import Device, survey

PLUGIN = """
from ridgepole.devices.gpus import Card
from ridgepole.devices.probe.base import DeviceAbsentError
from ridgepole.devices.visibility import Visible

class NpuProbe:
    def __init__(self, build):
        if build is None:
            raise DeviceAbsentError("no torch for the NPU")

    def read(self, *, util=False, processes=True):
        return tuple(
            Card(kind="npu", uuid=f"NPU-{place}", name="Some NPU", place=place, total=100, free=free, source="npu-smi")
            for place, free in enumerate((40, 90))
        )

    def see(self, cards):
        return Visible(uuids=tuple(card.key for card in cards))

    def close(self):
        pass
"""


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """Installs a package with one device probe; gives the file of its entry points."""
    packages = tmp_path / "packages"
    (packages / "npu-1.0.dist-info").mkdir(parents=True)
    (packages / "ridgepole_npu.py").write_text(PLUGIN)
    (packages / "npu-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: npu\nVersion: 1.0\n")
    points = packages / "npu-1.0.dist-info" / "entry_points.txt"
    points.write_text("[ridgepole.device_probes]\nnpu = ridgepole_npu:NpuProbe\n")
    monkeypatch.syspath_prepend(packages)
    return points


def test_a_probe_of_an_installed_package_finds_its_devices(machine, plugin, torch):
    machine("missing")
    torch.npu = type(torch.cuda)()  # as torch's own plug-in for that backend would
    with Device(only="npu:1") as device:
        assert (str(device), device.uuid, torch.npu.current) == ("npu:1", "NPU-1", 1)
        assert device.get_state()["source"] == "npu-smi"
    assert [row["device"] for row in survey().rows] == ["npu:0", "npu:1", "cpu"]


def test_a_card_of_a_known_driver_comes_first(machine, plugin):
    machine("eight")
    assert survey().chosen == "cuda:2"


def test_a_probe_that_cannot_be_imported_is_skipped_with_a_warning(machine, plugin, caplog):
    machine("missing")
    plugin.write_text("[ridgepole.device_probes]\nnpu = ridgepole_npu:Misspelt\n")
    assert survey().chosen == "cpu"
    assert "the device probe 'npu' can't be imported (ridgepole_npu:Misspelt)" in caplog.text
