"""Reading NVIDIA's library, on recorded machines."""

from __future__ import annotations

import pytest

from ridgepole.devices import host
from ridgepole.devices.gpus import Process
from ridgepole.devices.probe import nvidia
from ridgepole.devices.probe.base import DeviceAbsentError, DeviceTroubleError

GIB = 1024**3
MIB = 1024**2


def read(util=False):
    probe = nvidia.NvidiaProbe()
    try:
        return probe.read(util=util)
    finally:
        probe.close()


def test_eight_cards_with_their_memory_and_processes(machine):
    library = machine("eight")
    cards = read()
    assert [card.place for card in cards] == list(range(8))
    assert cards[3].used == 31250 * MIB
    assert cards[3].processes == (Process(4003, 15000 * MIB), Process(4004, 15600 * MIB))
    assert library.opened == 0, "every opening is closed again"


def test_a_driver_with_the_first_versions_only_tells_its_memory_alone(machine):
    machine("v1_only")
    full, empty = read()
    assert (full.used, full.processes) == (15000 * MIB, None), "nvidia-ml-py lists processes from CUDA 11 on"
    assert empty.used == 11 * MIB


def test_a_driver_without_the_newest_calls_lists_its_processes(machine):
    lacks = [f"nvmlDeviceGet{what}RunningProcesses_v3" for what in ("Compute", "Graphics", "MPSCompute")]
    machine("eight", lacks=lacks)
    assert read()[3].processes == (Process(4003, 15000 * MIB), Process(4004, 15600 * MIB))


def test_cards_are_listed_in_pci_order_whatever_nvml_says(machine):
    machine("eight", order=[5, 2, 7, 0, 1, 4, 3, 6])
    assert [card.uuid[4:12] for card in read()] == [f"{number:08x}" for number in range(8)]


def test_a_lost_card_is_listed_with_its_trouble(machine):
    machine("lost")
    cards = read()
    assert ["lost" in card.trouble for card in cards] == [True, False, True]
    assert cards[1].used == 9 * GIB


def test_mig_asks_the_instances_only(machine):
    machine("mig")
    cards = read()
    assert [card.uuid[:8] for card in cards] == ["MIG-aaaa", "MIG-bbbb"]
    assert {card.parent[:4] for card in cards} == {"GPU-"}
    assert cards[0].used == 30 * GIB
    assert cards[0].processes == (Process(71, 29 * GIB),)


def test_no_permission_on_a_mig_instance_leaves_its_memory_unknown(machine):
    machine("mig_no_permission")
    (card,) = read()
    assert (card.total, card.used, card.processes) == (None, None, None)
    assert "no permission" in card.doubt


def test_a_card_in_mig_mode_without_instances_cannot_be_used(machine, card):
    machine([card(0, mig=[])])
    assert "no instance" in read()[0].trouble


@pytest.mark.parametrize("how", [{"memory_error": 3}, {"total": 0}])
def test_unified_memory_is_the_hosts(machine, card, how):
    machine([card(0, **how)])
    (only,) = read()
    total, free = host.memory()
    assert (only.total, only.source) == (total, "nvml+host")
    assert abs(only.free - free) < 2 * GIB


def test_long_process_lists_and_every_type(machine, card):
    listed = [{"pid": pid, "used": None} for pid in range(1000, 1150)]
    kinds = [{"pid": 5, "used": 7, "type": "Graphics"}, {"pid": 6, "used": 8, "type": "MPSCompute"}]
    machine([card(0, processes=[*listed, *kinds])])
    found = {one.pid: one for one in read()[0].processes}
    assert len(found) == 152
    assert found[5] == Process(5, 7, graphics=True)
    assert found[6] == Process(6, 8)
    assert found[1000].used is None, "NVML_VALUE_NOT_AVAILABLE is not a number of bytes"


def test_utilisation_is_asked_only_where_it_is_wanted(machine, card):
    library = machine([card(0, util=37), card(1)])
    assert [one.util for one in read()] == [None, None]
    assert library.calls["nvmlDeviceGetUtilizationRates"] == 0
    assert [one.util for one in read(util=True)] == [37, None]


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("missing", DeviceAbsentError, "no NVIDIA driver library"),
        ("not_loaded", DeviceAbsentError, "not loaded"),
        ("mismatch", DeviceTroubleError, "different versions.*reboot"),
    ],
)
def test_what_is_absent_is_told_from_what_is_broken(machine, name, kind, says):
    machine(name)
    with pytest.raises(kind, match=says):
        nvidia.NvidiaProbe()


def test_a_driver_without_cards_is_absent_and_closed(machine):
    library = machine([])
    with pytest.raises(DeviceAbsentError, match="lists no card"):
        nvidia.NvidiaProbe()
    assert library.opened == 0
