"""`Device()` on recorded machines: which card, which error, which CPU."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgepole.devices import Device, survey, torch_calls
from ridgepole.devices.probe import nvidia
from ridgepole.errors import DeviceUnavailableError, DeviceWaitTimeout, VRAMUsageError

GIB = 1024**3


def made(**options):
    device = Device(**options)
    name = str(device)
    device.cleanup()
    return name


def test_the_emptiest_card_is_taken(machine):
    machine("eight")
    with Device() as device:
        assert str(device) == "cuda:2", "2 and 4 are equally empty: the lower index"
        assert device.device == "torch.device(cuda:2)"
        assert device.uuid.startswith("GPU-00000002")


def test_a_driver_of_the_first_version_is_enough(machine):
    machine("v1_only")
    assert made() == "cuda:1"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(order=st.permutations(range(8)), used=st.lists(st.integers(0, 40), min_size=8, max_size=8))
def test_permuting_nvmls_order_never_changes_the_card(machine, card, order, used):
    cards = [card(number, used=amount * GIB) for number, amount in enumerate(used)]

    def chosen(**more):
        machine(cards, **more)
        device = Device(max_usage=1)
        device.cleanup()
        return device.uuid

    assert chosen() == chosen(order=list(order))


def test_all_busy_is_an_error_with_a_table(machine, card):
    here = {"pid": os.getpid(), "used": 30 * GIB}
    machine([card(0, used=39 * GIB, processes=[here]), card(1, used=35 * GIB)])
    with pytest.raises(VRAMUsageError) as caught:
        Device()
    assert isinstance(caught.value, RuntimeError)
    assert not isinstance(caught.value, TimeoutError)
    lines = str(caught.value).splitlines()
    assert lines[0] == "All devices are using more than 80% of VRAM"
    assert "39.0 / 40.0" in lines[2]
    assert "97.5%" in lines[2]
    assert f"{os.getpid()} " in lines[2], "the process, by the name that the system has for it"
    assert lines[3].endswith("above 80%")
    assert "every process on the machine counted" in str(caught.value)
    assert "wait=600" in lines[-1]
    json.dumps(caught.value.devices)
    assert [row["verdict"] for row in caught.value.devices] == ["rejected", "rejected"]


def test_a_limit_of_ones_own_is_named_in_the_error(machine, card):
    machine([card(0, used=20 * GIB)])
    with pytest.raises(VRAMUsageError, match=r"^All devices are using more than 12.5% of VRAM\n"):
        Device(max_usage=0.125)
    assert made(max_usage=0.5) == "cuda:0", "exactly half is not more than half"


def test_a_mix_of_reasons_is_counted(machine, card):
    machine([card(0, used=39 * GIB), card(1, used=20 * GIB)])
    with pytest.raises(VRAMUsageError, match="No device can be taken: 1 use more than 80% of VRAM, 1 lack free VRAM"):
        Device(min_free="30GiB")
    with pytest.raises(VRAMUsageError, match="No device has as much VRAM free") as caught:
        Device(min_free="30GiB", exclude=0)
    assert [row["reason"].split(" free")[0] for row in caught.value.devices] == ["excluded", "20.0 GiB"]


def test_every_argument_of_the_choice_does_something(machine, card):
    busy = [{"pid": 1, "used": GIB}]
    machine([card(0, util=80), card(1, used=2 * GIB, util=0, total=80 * GIB), card(2, used=GIB, processes=busy)])
    assert made() == "cuda:0"
    assert made(prefer="free") == "cuda:1"
    assert made(prefer="util") == "cuda:1"
    assert made(exclude=[0, "cuda:1"]) == "cuda:2"
    assert made(only="GPU-00000001") == "cuda:1"
    assert made(min_free=50 * GIB) == "cuda:1"
    assert made(rank=2) == "cuda:2"
    with pytest.raises(VRAMUsageError, match="more than max_processes=0"):
        Device(only=2, max_processes=0)
    assert made(cpu="force") == "cpu"


@pytest.mark.parametrize("option", ["exclude", "only"])
def test_an_entry_that_matches_nothing_is_an_error(machine, card, option):
    machine([card(0)])
    with pytest.raises(ValueError, match=f"{option}: 'RTX' matches no device; there is: cuda:0 NVIDIA A100"):
        Device(**{option: ["RTX"]})


def test_no_accelerator_is_the_cpu_with_one_log_line(machine, caplog):
    machine("missing")
    with caplog.at_level(logging.INFO, "ridgepole.device"):
        assert made() == "cpu"
    assert [record.message for record in caplog.records] == [
        "device: cpu, no accelerator (no NVIDIA driver library (libnvidia-ml.so.1))"
    ]
    assert made(cpu="allow") == "cpu"
    assert made(exclude=0) == "cpu"
    with pytest.raises(DeviceUnavailableError, match=r"no accelerator.*cpu='never'"):
        Device(cpu="never")
    with pytest.raises(ValueError, match="only: 0 matches no device; there is no accelerator"):
        Device(only=0)


def test_a_driver_that_does_not_match_is_never_a_silent_cpu(machine, caplog):
    machine("mismatch")
    with pytest.raises(DeviceUnavailableError, match=r"different versions.*reboot.*cpu='allow'"):
        Device()
    assert made(cpu="allow") == "cpu"
    assert caplog.records[-1].levelname == "WARNING"


def test_a_cpu_build_of_torch_beside_a_gpu_is_loud(machine, torch, caplog):
    machine("eight")
    torch.version.cuda = None
    assert made() == "cpu"
    assert caplog.records[-1].levelname == "WARNING"
    assert "8 NVIDIA GPUs are here, but the installed torch 2.9.0+cu130 was built for the CPU" in caplog.text
    with pytest.raises(DeviceUnavailableError, match="install a CUDA build"):
        Device(cpu="never")
    with pytest.raises(DeviceUnavailableError, match="install a CUDA build"):
        Device(only=0)


def test_busy_cards_are_the_cpu_only_where_that_is_allowed(machine, card, caplog):
    machine([card(0, used=39 * GIB)])
    assert made(cpu="allow") == "cpu"
    assert "cpu='allow'" in caplog.text
    with pytest.raises(VRAMUsageError):
        Device(cpu="never")


def test_forcing_the_cpu_probes_nothing(machine):
    library = machine("eight")
    assert made(cpu="force") == "cpu"
    assert not library.calls


@pytest.mark.parametrize("value", ["", "-1"])
def test_cards_hidden_on_purpose_give_the_cpu_with_a_warning(machine, monkeypatch, caplog, value):
    machine("eight")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert made() == "cpu"
    assert f"CUDA_VISIBLE_DEVICES={value!r} hides every device: 8 devices hidden" in caplog.text
    with pytest.raises(DeviceUnavailableError, match="hides every device"):
        Device(cpu="never")


def test_a_malformed_list_is_an_error(machine, monkeypatch):
    machine("eight")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "gpu0")
    with pytest.raises(DeviceUnavailableError, match="'gpu0' names no device"):
        Device()
    assert made(cpu="allow") == "cpu"


def test_the_index_counts_visible_cards(machine, monkeypatch):
    machine("eight")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,4")
    with Device() as device:
        assert (str(device), device.uuid[:12]) == ("cuda:1", "GPU-00000004")
        hidden = [row["device"] for row in device.get_state()["candidates"] if "hidden" in row["reason"]]
    assert hidden == ["#0", "#1", "#2", "#3", "#5", "#7"]


def test_unequal_cards_fix_cudas_order_before_it_starts(machine):
    machine("two_models")
    assert made() == "cuda:1"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_unequal_cards_after_cuda_started_ask_cuda(machine, environment, monkeypatch):
    machine("two_models")
    (environment / "maps").write_text("7f00-7f01 r-xp 00000000 00:00 0 /usr/lib/libcuda.so.580.1\n")
    bodies = ["00000001-1111-2222-3333-444444444444", "00000000-1111-2222-3333-444444444444"]
    monkeypatch.setattr(nvidia, "cuda_order", lambda: bodies)
    assert made() == "cuda:0", "CUDA's first is the fastest, which is second on the bus"
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_a_mig_instance_becomes_the_only_visible_device(machine):
    machine("mig")
    with Device() as device:
        assert str(device) == "cuda:0"
        assert device.uuid.startswith("MIG-bbbb")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == device.uuid
        device.validate()


def test_unknown_memory_is_taken_only_where_nothing_else_is(machine):
    machine("mig_no_permission")
    assert made() == "cuda:0"
    with pytest.raises(VRAMUsageError, match="unknown amount"):
        Device(min_free="1GiB")


def test_lost_cards_are_passed_over(machine):
    machine("lost")
    with Device() as device:
        assert device.uuid.startswith("GPU-00000001")
        assert str(device) == "cuda:0", "CUDA does not count a card that fell off the bus"


def test_unified_memory_reads_the_host(machine):
    machine("unified")
    with Device(max_usage=1) as device:
        assert device.get_state()["source"] == "nvml+host"


def test_waiting_ends_when_a_card_becomes_free(machine, card, caplog):
    library = machine([card(0, used=39 * GIB)])
    reads = []
    fill = library._fill

    def counted(handle, memory):
        reads.append(1)
        if len(reads) > 6:
            library.cards[0]["used"] = 0
        return fill(handle, memory)

    library._fill = counted
    assert made(wait=0.5) == "cuda:0"
    assert sum("waiting up to" in record.message for record in caplog.records) == 1, "says once what blocks"


def test_waiting_in_vain_ends_in_a_timeout(machine, card):
    machine([card(0, used=39 * GIB)])
    with pytest.raises(
        DeviceWaitTimeout, match=r"All devices are using more than 80% of VRAM\n  waited 0.1 s"
    ) as caught:
        Device(wait=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, VRAMUsageError)
    assert len(caught.value.devices) == 1


def test_a_survey_lists_everything_and_takes_nothing(machine, environment):
    machine("eight")
    found = survey()
    json.dumps(found.as_dict(), allow_nan=False)
    assert found.chosen == "cuda:2"
    assert [row["device"] for row in found.rows] == [*(f"cuda:{index}" for index in range(8)), "cpu"]
    assert [row["verdict"] for row in found.rows].count("chosen") == 1
    assert found.rows[0]["reason"] == "above 80%"
    assert not (environment / "leases").exists()
    assert survey(max_usage=0.001).chosen is None
    assert survey(max_usage=0.001, cpu="allow").rows[-1]["verdict"] == "chosen"


def test_a_survey_of_a_machine_without_accelerator(machine):
    machine("missing")
    found = survey()
    (row,) = found.rows
    assert (found.chosen, row["device"], row["verdict"]) == ("cpu", "cpu", "chosen")
    assert row["total_bytes"] > row["used_bytes"] > 0


def test_the_real_torch_is_recognised_without_importing_it():
    script = (
        "import sys\n"
        "from ridgepole.devices import Device, torch_calls\n"
        "build = torch_calls.installed_build()\n"
        "heavy = {'torch', 'pynvml', 'numpy', 'psutil', 'pydantic'} & set(sys.modules)\n"
        "device = Device(cpu='force')\n"
        "assert not heavy, heavy\n"
        "import torch\n"
        "assert device.device == torch.device('cpu')\n"
        "assert build == torch_calls.installed_build(), (build, torch_calls.installed_build())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unreadable_build_is_not_called_a_cpu_build(tmp_path, monkeypatch):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch_calls.installed_build().cuda
    (package / "version.py").write_text("__version__ = '2.9'\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n")
    assert (torch_calls.installed_build().target, torch_calls.installed_build().version) == ("ROCm", "2.9")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"only": "cuda:1", "exclude": 1},
            "No device can be taken: 2 left out by exclude or only; leave something out",
        ),
        ({"exclude": "NVIDIA*"}, "2 left out by exclude or only; leave something out of exclude, or add to only"),
        ({"rank": 0, "exclude": 0}, "1 left out by exclude or only, 1 for other ranks"),
        ({"min_free": "100GiB"}, "min_free asks for 100.0 GiB, and the largest device that may be taken has 40.0 GiB"),
    ],
)
def test_what_no_waiting_can_help_is_refused_at_once(machine, card, caplog, options, says):
    machine([card(0), card(1)])
    with pytest.raises(DeviceUnavailableError, match=says) as caught:
        Device(wait=3600, **options)
    assert "cuda:1" in str(caught.value), "with the table"
    assert made(cpu="allow", **options) == "cpu"
    assert caplog.records[-1].levelname == "WARNING"
    assert survey(**options).chosen is None


def test_cards_that_are_all_out_of_order_are_not_waited_for(machine, card):
    machine([card(0, memory_error=15), card(1, handle_error=15)])
    with pytest.raises(DeviceUnavailableError, match=r"No device can be taken: 2 out of order(.|\n)*the GPU is lost"):
        Device(wait=3600)
