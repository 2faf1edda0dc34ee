"""The permanence: initialise, validate, checkpoint, explain, clean up; and what happens without torch."""

from __future__ import annotations

import json
import os
import pickle
import sys
from types import SimpleNamespace

import pytest

from ridgepole.devices import Device, survey
from ridgepole.errors import DeviceUnavailableError, MissingExtraError, VRAMUsageError
from ridgepole.permanence import Permanence, State, construct, current_run, state_of
from ridgepole.permanences import Device as PublicDevice

GIB = 1024**3


@pytest.fixture
def one(machine, card):
    """A machine with one card, and the card's description."""
    library = machine([card(0, used=4 * GIB)])
    return library.cards[0]


def leased():
    return len(survey().rows[0]["leases"])


def test_the_life_of_a_device(one, torch):
    device = Device()
    assert isinstance(device, Permanence)
    assert PublicDevice is Device
    assert not device.is_initialized()
    device.initialize()
    assert device.is_initialized()
    assert torch.cuda.current == 0
    device.validate()
    device.checkpoint()
    assert leased() == 1
    device.cleanup()
    assert not device.is_initialized()
    assert leased() == 0
    device.cleanup()


def test_choosing_never_touches_cuda(one, torch):
    device = Device()
    device.is_initialized()
    device.get_state()
    device.validate()
    device.checkpoint()
    assert not torch.cuda.started
    device.cleanup()


def test_a_named_method_makes_the_choice_and_may_be_called_again(one):
    device = Device()
    assert device._calculate_best_device() == "cuda:0"
    assert leased() == 1, "the first lease was given back"
    one["used"] = 39 * GIB
    with pytest.raises(VRAMUsageError, match="All devices are using more than 80% of VRAM"):
        device._calculate_best_device()
    assert leased() == 0


def test_initialize_checks_again(one):
    device = Device()
    one["used"] = 39 * GIB
    with pytest.raises(VRAMUsageError, match="other processes have filled cuda:0 since it was chosen"):
        device.initialize()
    assert state_of(device) is State.FAILED
    device.cleanup()
    assert leased() == 0


def test_memory_of_ones_own_is_not_held_against_oneself(one, torch):
    by_driver = Device(strict=True)
    one["used"], one["processes"] = 39 * GIB, [{"pid": os.getpid(), "used": 35 * GIB}]
    by_driver.initialize()
    by_driver.validate()
    one["processes"] = []
    torch.cuda.started, torch.cuda.held = True, {0: 35 * GIB}
    one["used"] = 4 * GIB
    by_torch = Device(strict=True)
    one["used"] = 39 * GIB
    by_torch.initialize()
    by_torch.validate()
    for device in (by_driver, by_torch):
        device.cleanup()


def test_a_card_that_torch_numbers_differently_is_refused(one, torch):
    torch.cuda.uuids = {0: "00000000-1111-2222-3333-444444444444"}
    with Device():
        pass
    torch.cuda.current = None
    torch.cuda.uuids = {0: "ffffffff-1111-2222-3333-444444444444"}
    device = Device()
    with pytest.raises(DeviceUnavailableError, match=r"chosen as GPU-00000000-.*torch sees ffffffff-.*PCI_BUS_ID"):
        device.initialize()
    assert torch.cuda.current is None, "the wrong card gets no context"
    device.cleanup()


def test_a_mig_instance_may_be_told_by_its_cards_uuid(machine, torch):
    machine("mig")
    torch.cuda.uuids = {0: "00000000-1111-2222-3333-444444444444"}
    with Device() as device:
        assert str(device) == "cuda:0"


def test_a_card_that_is_gone_is_noticed(one, machine, card):
    with Device() as device:
        one["memory_error"] = 15
        with pytest.raises(DeviceUnavailableError, match=r"cuda:0 .* is gone: the GPU is lost"):
            device.validate()
        machine([card(7)])
        with pytest.raises(DeviceUnavailableError, match="is gone"):
            device.validate()
        machine("mismatch")
        with pytest.raises(DeviceUnavailableError, match="different versions"):
            device.validate()


def test_growth_of_others_warns_and_raises_where_strict(one, caplog):
    with Device() as device, Device(strict=True) as strict:
        one["used"] = 7 * GIB
        strict.validate()
        device.validate()
        assert not caplog.records, "less than a tenth of the card"
        one["used"] = 10 * GIB
        device.validate()
        assert "other processes have taken 6.0 GiB more of cuda:0" in caplog.text
        with pytest.raises(VRAMUsageError, match=r"6.0 GiB more") as caught:
            strict.validate()
        assert caught.value.devices[0]["used_bytes"] == 10 * GIB
        one["used"] = 4 * GIB
        strict.validate()


def test_a_lease_file_that_was_removed_is_taken_again(one, caplog):
    with Device(lease="exclusive") as device:
        device._selection.lease.path.unlink()
        assert not device.get_state()["lease"]["held"]
        device.validate()
        assert "was lost" in caplog.text
        assert device.get_state()["lease"]["held"]
    assert leased() == 0


def test_a_lease_that_somebody_else_has_now_is_an_error(one, monkeypatch):
    from ridgepole.devices.leases import LeaseHolder, LeaseRegistry

    with Device(lease="exclusive") as device:
        device._selection.lease.path.unlink()
        registry = LeaseRegistry()
        with registry.lock():
            theirs = registry.take(device.uuid, LeaseHolder(pid=1, user="ada"))
        with pytest.raises(DeviceUnavailableError, match=r"was lost, and pid 1 \(ada\) has the card now"):
            device.validate()
        theirs.release()


def test_checkpoints_sample_the_memory_and_keep_the_peak(one, caplog, machine):
    with Device() as device:
        one["used"] = 20 * GIB
        device.checkpoint()
        one["used"] = 5 * GIB
        device.checkpoint()
        machine("mismatch")
        device.checkpoint()
        assert "no memory sample" in caplog.text, "a driver that fails must not fail the checkpoint"
        history = device.get_state()["history"]
    assert history["count"] == 3, "initialize took one too"
    assert history["peak"]["used_bytes"] == 20 * GIB
    assert [sample["used_bytes"] for sample in history["samples"]] == [4 * GIB, 20 * GIB, 5 * GIB]


def test_the_cpu_has_a_history_too(machine):
    machine("missing")
    with Device() as device:
        device.checkpoint()
        peak = device.get_state()["history"]["peak"]
    assert peak["total_bytes"] > peak["used_bytes"] > 0
    assert 0 < peak["own_bytes"] < peak["total_bytes"]


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB.",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 8 GB)",
    ],
)
def test_an_out_of_memory_error_gets_the_table(one, text):
    with Device() as device:
        error = RuntimeError(text)
        assert device.explain_oom(error)
        assert device.explain_oom(error)
    (note,) = error.__notes__
    assert note.startswith("cuda:0 ran out of memory; this process holds")
    assert "4.0 / 40.0" in note
    assert "chosen" in note


def test_out_of_memory_is_found_in_groups_and_causes_and_nothing_else_is(one):
    class OutOfMemoryError(RuntimeError):
        __module__ = "torch"

    with Device() as device:
        inner = OutOfMemoryError("whatever it says")
        outer = ValueError("could not train")
        outer.__cause__ = inner
        assert device.explain_oom(ExceptionGroup("both", [KeyError("x"), outer]))
        assert inner.__notes__
        assert not hasattr(outer, "__notes__")
        for other in (RuntimeError("shape mismatch"), MemoryError(), ValueError("CUDA out of memory")):
            assert not device.explain_oom(other)


def test_explaining_never_replaces_the_error(one, machine):
    with Device() as device:
        machine("mismatch")
        error = RuntimeError("CUDA out of memory")
        assert device.explain_oom(error)
    assert "can't be listed now" in error.__notes__[0]


def test_memory_is_left_alone_unless_asked(one, torch):
    with Device():
        pass
    assert torch.cuda.emptied == 0
    with Device(empty_cache_on_cleanup=True):
        pass
    assert torch.cuda.emptied == 1
    torch.cuda.started = False
    Device(empty_cache_on_cleanup=True).cleanup()
    assert torch.cuda.emptied == 1, "emptying must not start CUDA"


def test_the_state_is_plain_json_and_complete(one):
    with Device(min_free="1GiB") as device:
        state = json.loads(json.dumps(device.get_state(), allow_nan=False))
    assert state["type"] == "Device"
    assert state["initialized"] is True
    assert (state["device"], state["source"], state["name"]) == ("cuda:0", "nvml", "NVIDIA A100-SXM4-40GB")
    assert state["lease"] == {"mode": "shared", "held": True}
    assert state["options"]["min_free"] == GIB
    (candidate,) = state["candidates"]
    assert (candidate["verdict"], candidate["used_bytes"], candidate["usage"]) == ("chosen", 4 * GIB, 0.1)


def test_without_torch_everything_but_the_device_itself_works(one, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with Device() as device:
        assert str(device) == "cuda:0"
        device.checkpoint()
        with pytest.raises(MissingExtraError, match=r"Device\(\).device needs torch.*pip install .*'torch>="):
            device.device  # noqa: B018


def test_a_torch_that_fails_to_import_shows_its_own_error(one, monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.syspath_prepend(tmp_path)
    with Device(cpu="force") as device, pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        device.device  # noqa: B018


def test_a_subclass_that_forgets_its_base_gives_the_lease_back_all_the_same(one):
    class Mine(Device):
        def cleanup(self):
            pass

    with Mine():
        assert leased() == 1
    assert leased() == 0


def test_a_constructor_that_fails_after_the_choice_gives_the_lease_back(one):
    class Broken(Device):
        def __init__(self):
            super().__init__()
            raise OSError("later")

    with pytest.raises(OSError, match="later"):
        construct(Broken)
    assert leased() == 0


def test_the_lease_names_the_run(one):
    token = current_run.set(SimpleNamespace(run_id="20260101-abc"))
    try:
        device = Device()
    finally:
        current_run.reset(token)
    assert survey().rows[0]["leases"][0]["run"] == "20260101-abc"
    device.cleanup()


def test_a_pickled_twin_knows_the_device_and_holds_no_lease(one):
    with Device() as device:
        twin = pickle.loads(pickle.dumps(device))
        assert str(twin) == "cuda:0"
        twin.validate()
        twin.cleanup()
        assert leased() == 1
