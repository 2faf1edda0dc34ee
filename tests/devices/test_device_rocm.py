"""AMD cards: on recorded machines, with AMD's library and without it, and through a real shared object."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from programs import require
from ridgepole.devices import Device, host, survey
from ridgepole.devices.gpus import Card, Process
from ridgepole.devices.probe import amd
from ridgepole.devices.visibility import resolve_rocm
from ridgepole.errors import DeviceUnavailableError, VRAMUsageError

GIB = 1024**3
FIRST, SECOND, THIRD, FOURTH = (
    *("GPU-8f2c11d04a9b7e31", "GPU-8f2c77aa90c1d402"),
    *("GPU-1c4e90bb72f3a6d8", "GPU-0e5d3b8824617f9c"),
)


@pytest.fixture
def rocm(machine, torch, monkeypatch, environment, fake_rocm):
    """Makes this machine an AMD one with a torch for ROCm: `rocm("four")`."""
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    torch.version.cuda, torch.version.hip = None, "6.4"

    def install(name, **more):
        machine("missing")
        description = fake_rocm.machine(name) | more
        fake_rocm.lay_out(description, environment)
        monkeypatch.setattr(amd, "SYS", environment / "sys")
        monkeypatch.setattr(amd, "DRI", environment / "dri")
        library = fake_rocm.FakeAmdSmi(description)
        monkeypatch.setattr(amd, "open_library", library.load)
        return library

    return install


def chosen(**options):
    with Device(**options) as device:
        return str(device), device.uuid


def test_the_emptiest_card_in_rocms_own_order(rocm):
    library = rocm("four")
    with Device() as device:
        assert (str(device), device.uuid) == ("cuda:1", SECOND), "the kernel's second, not the second on the bus"
        state = device.get_state()
        assert (state["name"], state["source"]) == ("AMD Instinct MI300X OAM", "amdsmi")
        assert [row["used_bytes"] >> 30 for row in state["candidates"]] == [180, 3, 20, 3]
        device.validate()
    assert library.opened == 0, "every opening is closed again"


def test_every_process_is_counted(rocm):
    rocm("four")
    found = survey().rows
    assert [[one["pid"] for one in row["processes"]] for row in found[:4]] == [[4711], [], [4802], []]
    assert found[0]["processes"][0]["used_bytes"] == 175 * GIB
    assert found[0]["reason"] == "above 80%"
    with pytest.raises(VRAMUsageError, match=r"the AMD driver \(amdsmi\), every process on the machine counted"):
        Device(max_usage=0.01)
    assert chosen(only=[0, 2], max_usage=1, max_processes=1) == ("cuda:2", THIRD)


@pytest.mark.parametrize("how", [{"library": False}, {"init": 34}, {"lacks": ["amdsmi_get_gpu_memory_usage"]}])
def test_without_the_library_the_kernels_files_say_the_same(rocm, how):
    rocm("four")
    first = survey().rows
    shutil.rmtree(amd.SYS)
    rocm("four", **how)
    second = survey().rows
    assert {row["source"] for row in second[:4]} == {"kfd"}
    keys = ("device", "uuid", "used_bytes", "total_bytes", "processes", "verdict")
    assert [[row[key] for key in keys] for row in second[:4]] == [[row[key] for key in keys] for row in first[:4]]


def test_a_card_that_one_call_fails_for_is_read_from_the_kernel(rocm, fake_rocm):
    description = fake_rocm.machine("four")
    description["cards"][1]["library_error"] = 12
    rocm("four", **description)
    assert [row["source"] for row in survey().rows[:4]] == ["amdsmi", "kfd", "amdsmi", "amdsmi"]


def test_utilisation_decides_where_it_is_asked_for(rocm):
    rocm("four")
    assert chosen(prefer="util", max_usage=1)[0] == "cuda:1"
    assert [row["util"] for row in survey(prefer="util").rows[:4]] == [98, 0, 40, 0]


def test_cards_without_a_unique_id_are_known_by_their_place(rocm):
    rocm("consumer")
    first, second = Device(), Device(max_usage=1)
    assert (str(first), first.uuid, str(second)) == ("cuda:0", "", "cuda:1"), "the second sees the first's lease"
    first.initialize()
    first.validate()
    first.cleanup()
    second.cleanup()


def test_parts_of_a_card_say_whose_memory_they_show(rocm):
    rocm("parts")
    rows = survey().rows[:2]
    assert "whole card" in rows[1]["reason"]
    assert [row["device"] for row in rows] == ["cuda:0", "cuda:1"], "though both bear the card's own id"
    with Device(), Device() as second:
        assert str(second) == "cuda:1", "each has leases of its own"


def test_a_chip_without_memory_of_its_own_has_the_hosts(rocm):
    rocm("apu")
    row = survey().rows[0]
    assert (row["source"], row["total_bytes"]) == ("amdsmi+host", host.memory()[0])


def test_a_card_that_may_not_be_opened_has_no_number(rocm, fake_rocm):
    description = fake_rocm.machine("four")
    description["cards"][0]["closed"] = True
    rocm("four", **description)
    assert chosen() == ("cuda:0", SECOND), "ROCm passes over it too"
    assert "may not open" in survey().rows[0]["reason"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [FIRST, SECOND, THIRD, FOURTH]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, [THIRD, FIRST]),
        ({"CUDA_VISIBLE_DEVICES": "3"}, [FOURTH]),
        ({"CUDA_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "1"}, [SECOND]),
        ({"ROCR_VISIBLE_DEVICES": "3,1"}, [FOURTH, SECOND]),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "1"}, [SECOND]),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "CUDA_VISIBLE_DEVICES": "0"}, [FOURTH]),
        ({"ROCR_VISIBLE_DEVICES": " 3 , 0x1,02"}, [FOURTH, SECOND, THIRD]),
        ({"ROCR_VISIBLE_DEVICES": THIRD.upper()}, [THIRD]),
        ({"ROCR_VISIBLE_DEVICES": "gpu-1c,0"}, [THIRD, FIRST]),
        ({"ROCR_VISIBLE_DEVICES": "1,GPU-8f2c,0"}, [SECOND]),
        ({"ROCR_VISIBLE_DEVICES": "1,1,0"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": "1,1,0"}, [SECOND, FIRST]),
        ({"HIP_VISIBLE_DEVICES": "1, 0"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": "1,01"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": "1,9,0"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": "1,"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": f"{THIRD},0"}, [THIRD, FIRST]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "1"}, []),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_the_variables_are_read_as_rocm_reads_them(variables, expected):
    cards = [
        Card(kind="cuda", uuid=uuid, name="MI300X", place=place, total=1, free=1)
        for place, uuid in enumerate((FIRST, SECOND, THIRD, FOURTH))
    ]
    assert list(resolve_rocm(cards, variables).uuids) == expected


numbers = st.lists(st.sampled_from(["0", "1", "2", "3"]), unique=True, min_size=1).map(",".join)


@settings(deadline=None)
@given(numbers, st.none() | numbers)
def test_plain_numbers_are_read_as_torch_reads_them(cuda, hip):
    import torch.cuda

    variables = {"CUDA_VISIBLE_DEVICES": cuda} | ({} if hip is None else {"HIP_VISIBLE_DEVICES": hip})
    cards = [Card(kind="cuda", uuid=f"GPU-{place}", name="MI300X", place=place, total=1, free=1) for place in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.version, "hip", "6.4")
        for name, value in variables.items():
            patch.setenv(name, value)
        assert [int(uuid[4:]) for uuid in resolve_rocm(cards, variables).uuids] == torch.cuda._parse_visible_devices()


def test_hidden_and_misspelt_cards_are_never_a_silent_cpu(rocm, monkeypatch, caplog):
    rocm("four")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "")
    assert chosen()[0] == "cpu"
    assert "ROCR_VISIBLE_DEVICES='' hides every device: 4 devices hidden" in caplog.text
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1,2")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "gpu0")
    with pytest.raises(DeviceUnavailableError, match="HIP_VISIBLE_DEVICES='gpu0' names no device"):
        Device()
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0,7")
    caplog.clear()
    with Device() as device:
        assert device.uuid == SECOND
        reasons = [row["reason"] for row in device.get_state()["candidates"]]
    assert reasons[0] == "hidden by ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES"
    assert "HIP_VISIBLE_DEVICES='0,7' is read only up to its first invalid entry" in caplog.text


def test_torchs_spelling_of_the_uuid_is_known(rocm, torch):
    rocm("four")
    # torch prints the 16 bytes as numbers; ROCm fills them with the characters of the unique id
    torch.cuda.uuids = {1: "38663263-3737-6161-3930-633164343032"}
    assert chosen() == ("cuda:1", SECOND)
    torch.cuda.uuids = {1: "38663263-3131-6430-3461-396237653331"}
    device = Device()
    with pytest.raises(DeviceUnavailableError, match=f"chosen as {SECOND}"):
        device.initialize()
    device.cleanup()


def test_a_torch_that_is_not_for_rocm_beside_amd_cards(rocm, torch, caplog):
    rocm("four")
    torch.version.hip = None
    assert chosen()[0] == "cpu"
    assert "4 AMD GPUs are here" in caplog.text
    assert "install a ROCm build" in caplog.text
    with pytest.raises(DeviceUnavailableError, match="install a ROCm build"):
        Device(cpu="never")


def test_a_graphics_chip_that_nobody_computes_on_is_no_accelerator(rocm, torch, caplog):
    rocm("consumer", library=False)
    torch.version.hip = None
    assert chosen()[0] == "cpu"
    assert "AMD" not in " ".join(record.message for record in caplog.records if record.levelname == "WARNING")


def test_torch_for_rocm_takes_the_amd_card_beside_an_nvidia_one(rocm, machine):
    rocm("four")
    machine("eight")
    assert chosen() == ("cuda:1", SECOND)


def test_torch_for_cuda_takes_the_nvidia_card_beside_an_amd_one(rocm, machine, torch):
    rocm("four")
    machine("eight")
    torch.version.cuda, torch.version.hip = "13.0", None
    assert chosen()[0] == "cuda:2"


def test_an_nvidia_driver_in_trouble_does_not_keep_from_the_amd_card(rocm, machine):
    rocm("four")
    machine("mismatch")
    assert chosen() == ("cuda:1", SECOND)


def test_a_process_without_memory_on_a_card_is_not_on_it(rocm):
    rocm("four")
    node = amd.nodes()[0]
    assert node.processes() == (Process(4711, 175 * GIB),)
    shutil.rmtree(amd.SYS / "class" / "kfd" / "kfd" / "proc")
    assert node.processes() is None, "unknown is not none"


def test_the_real_calling_convention(tmp_path, fake_rocm):
    if sys.platform != "linux":
        pytest.skip("the fake library is made for Linux")
    compiler = require("cc", "gcc", "clang", package="gcc libc6-dev")
    source = str(Path(__file__).with_name("fake_amdsmi.c"))
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(tmp_path / "libamd_smi.so"), source]
    subprocess.run(command, check=True)
    script = (
        "import json\n"
        "from ridgepole.devices.probe.amd import AmdSmi\n"
        "smi = AmdSmi()\n"
        "places = [(1, 0xC1, 2), (1, 0xC2, 2), (0, 0xC1, 2)]\n"
        "print(json.dumps([[smi.memory(one), smi.name(one), smi.busy(one)] for one in places]))\n"
        "smi.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        [[192 * GIB, 100 * GIB], "AMD Instinct MI300X #0", 37],
        [[192 * GIB, 5 * GIB], "AMD Instinct MI300X #1", None],
        [None, "", None],
    ]
