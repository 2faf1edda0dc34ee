"""From a card to CUDA's index."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgepole.devices.gpus import Card
from ridgepole.devices.probe import nvidia
from ridgepole.devices.visibility import parse, resolve_cuda, select


def gpu(number, name="A100", parent="", **more):
    prefix = "MIG" if parent else "GPU"
    return Card(kind="cuda", uuid=f"{prefix}-{number}", name=name, place=0, total=100, free=100, parent=parent, **more)


def never():
    raise AssertionError("CUDA was asked although its order is known")


def seen(cards, started=False, ask=never, **environ):
    return resolve_cuda(cards, environ, started=started, ask=ask)


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (None, None),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,1", (0, 1)),
        (" 2 , 0 ", (2, 0)),
        ("1,-1,2", (1,)),
        ("1,,2", (1,)),
        ("1gpu2,2x", (1, 2)),
        ("0,1,0", ()),
        ("0,GPU-1", (0,)),
        ("GPU-8f,GPU-9", ("GPU-8f", "GPU-9")),
        ("GPU-8f,1", ("GPU-8f",)),
        ("MIG-a", ("MIG-a",)),
        ("9" * 5000, ()),
    ],
)
def test_entries_are_read_as_cuda_reads_them(value, entries):
    assert parse(value) == entries


pieces = st.sampled_from(
    ["0", "1", "7", "12", "-1", "+3", "x", "", " ", "1gpu", "GPU-", "GPU-ab", "MIG-1", "GPU-ab ", "00"]
)


@settings(deadline=None)
@given(st.lists(pieces, max_size=5).map(",".join))
def test_entries_are_read_as_torch_reads_them(value):
    import torch.cuda

    with mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": value}):
        assert list(parse(value)) == torch.cuda._parse_visible_devices()


uuids = st.lists(st.text("ab", min_size=1, max_size=4).map("GPU-{}".format), max_size=4)


@settings(deadline=None)
@given(uuids, uuids)
def test_uuid_prefixes_are_resolved_as_torch_resolves_them(entries, machine):
    import torch.cuda

    machine = list(dict.fromkeys(machine))
    expected = [machine[ordinal] for ordinal in torch.cuda._transform_uuid_to_ordinals(entries, machine)]
    assert list(select(entries, machine)) == expected


def test_integers_stop_at_the_first_that_names_no_card():
    result = seen([gpu(0), gpu(1)], CUDA_VISIBLE_DEVICES="1,5,0")
    assert result.uuids == ("GPU-1",)
    assert "first invalid entry" in result.notes[0]


def test_equal_cards_are_in_pci_order_and_nothing_is_set():
    result = seen([gpu(0), gpu(1)])
    assert (result.uuids, dict(result.environ)) == (("GPU-0", "GPU-1"), {})


def test_unequal_cards_make_pci_order_true_before_cuda_starts():
    assert dict(seen([gpu(0), gpu(1, "H100")]).environ) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("started", "environ"),
    [
        (True, {}),
        (False, {"CUDA_VISIBLE_DEVICES": "0,1"}),
        (False, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}),
    ],
    ids=["CUDA has started", "the integers are meant in CUDA's order", "the user asked for that order"],
)
def test_where_the_order_cannot_be_set_cuda_is_asked(started, environ):
    result = seen([gpu(0), gpu(1, "H100")], started, lambda: ["1", "0"], **environ)
    assert result.uuids == ("GPU-1", "GPU-0")
    assert not result.environ


def test_where_cuda_cannot_be_asked_it_is_said():
    result = seen([gpu(0), gpu(1, "H100")], True, lambda: None)
    assert result.uuids == ("GPU-0", "GPU-1")
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in result.notes[0]


def test_a_card_that_only_cuda_lists_keeps_its_place():
    assert seen([gpu(0), gpu(1, "H100")], True, lambda: ["ff", "1"]).uuids[1] == "GPU-1"


def test_uuids_need_no_order():
    result = seen([gpu(0), gpu(1, "H100")], CUDA_VISIBLE_DEVICES="GPU-1,GPU-0")
    assert (result.uuids, dict(result.environ)) == (("GPU-1", "GPU-0"), {})


@pytest.mark.parametrize(("value", "malformed"), [("", False), ("-1", False), ("7", True), ("gpu", True)])
def test_hiding_everything_on_purpose_is_told_from_a_slip(value, malformed):
    result = seen([gpu(0)], CUDA_VISIBLE_DEVICES=value)
    assert (result.uuids, result.hidden_by, result.malformed) == ((), value, malformed)


def test_a_mig_instance_is_pinned_by_its_uuid():
    parts = [gpu(1, parent="GPU-0"), gpu(2, parent="GPU-0")]
    assert seen(parts).pin
    assert seen(parts, CUDA_VISIBLE_DEVICES="0").uuids == ("MIG-1", "MIG-2")
    assert seen(parts, CUDA_VISIBLE_DEVICES="GPU-0").uuids == ("MIG-1", "MIG-2")
    alone = seen(parts, CUDA_VISIBLE_DEVICES="MIG-2")
    assert (alone.uuids, alone.pin) == (("MIG-2",), False)
    after = seen(parts, True, lambda: ["1"])
    assert (after.uuids, after.pin) == (("MIG-1",), False), "too late to pin: only what CUDA shows counts"


def test_a_lost_card_has_no_place_in_the_order():
    assert seen([gpu(0, trouble="lost"), gpu(1)]).uuids == ("GPU-1",)


def test_the_child_asks_a_real_interpreter_and_survives_its_failure():
    if nvidia.cuda_order() is not None:
        pytest.skip("this machine has CUDA")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", nvidia._CUDA_SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, ""), "a machine without CUDA is an answer, not a crash"
