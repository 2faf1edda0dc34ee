"""A sweep's program sees the card of its worker, whether it uses `Device` or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepole.devices import Device, survey
from ridgepole.devices.gpus import Card
from ridgepole.devices.visibility import alone, resolve_cuda, resolve_rocm
from ridgepole.sweeps.run.program_card import ONE_CARD, program_card

CUDA = "CUDA_VISIBLE_DEVICES"
UUIDS = [f"GPU-{number:08x}-1111-2222-3333-444444444444" for number in range(3)]


@pytest.fixture
def beside_others(monkeypatch):
    """This process is a worker, one of several on this machine."""
    monkeypatch.setenv(ONE_CARD, "1")
    monkeypatch.setenv("RIDGEPOLE_DEVICE_LEASE", "exclusive")


def leases():
    return [len(row["leases"]) for row in survey().rows[:2]]


@pytest.mark.usefixtures("beside_others")
def test_each_program_has_a_card_of_its_own_while_they_suffice(machine, card):
    machine([card(0), card(1)])
    with program_card("a") as first, program_card("b") as second, program_card("c") as third:
        assert [each[CUDA] for each in (first, second, third)] == [UUIDS[0], UUIDS[1], UUIDS[0]]
        assert leases() == [2, 1]
    assert leases() == [0, 0], "a card is free when its program has ended"
    assert CUDA not in os.environ


@pytest.mark.usefixtures("beside_others")
def test_a_full_card_is_no_reason_to_wait_but_one_that_another_run_has_alone_is(machine, card, monkeypatch):
    machine([card(0, used=39 << 30), card(1)])
    monkeypatch.setenv("RIDGEPOLE_DEVICE_WAIT", "0")
    with Device(lease="exclusive"), program_card("a") as environ:
        assert environ[CUDA] == UUIDS[0]


@pytest.mark.usefixtures("beside_others")
@pytest.mark.parametrize(
    ("variable", "expected"), [("2,0", [UUIDS[2], UUIDS[0]]), ("", [None, None]), ("7", [None, None])]
)
def test_only_cards_that_the_sweep_was_given_are_taken(machine, card, monkeypatch, variable, expected):
    machine([card(0), card(1), card(2)])
    monkeypatch.setenv(CUDA, variable)
    with program_card("a") as first, program_card("b") as second:
        assert [each.get(CUDA) for each in (first, second)] == expected


@pytest.mark.usefixtures("beside_others")
def test_the_same_card_is_a_device_of_the_program(machine, card, monkeypatch):
    machine([card(0), card(1)])
    with program_card("a"), program_card("b") as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with Device() as device:
            assert (str(device), device.uuid) == ("cuda:0", UUIDS[1])


def test_a_lone_worker_shows_all_cards(machine, card):
    machine([card(0), card(1)])
    with program_card("a") as environ:
        assert environ == {}
    assert leases() == [0, 0]


@pytest.mark.usefixtures("beside_others")
def test_without_a_card_there_is_nothing_to_hide(machine):
    machine("missing")
    with program_card("a") as environ:
        assert environ == {}


numbers = st.none() | st.lists(st.sampled_from(["0", "1", "2", "3"]), unique=True, min_size=1).map(",".join)


@given(numbers, numbers, numbers, st.booleans())
def test_the_variables_leave_exactly_this_card(cuda, hip, rocr, amd):
    cards = [
        Card(kind="cuda", uuid=f"GPU-{place}", name="X", place=place, total=1, free=1, source="kfd" if amd else "nvml")
        for place in range(4)
    ]
    given = {CUDA: cuda, "HIP_VISIBLE_DEVICES": hip, "ROCR_VISIBLE_DEVICES": rocr}
    environ = {name: value for name, value in given.items() if value is not None}

    def see(environ):
        return (
            resolve_rocm(cards, environ).uuids
            if amd
            else resolve_cuda(cards, environ, started=False, ask=lambda: None).uuids
        )

    for uuid in see(environ):
        assert see(environ | alone(cards[int(uuid[4:])], cards, environ)) == (uuid,)


SCRIPT = """
import json, os, sys, time
from pathlib import Path
Path(sys.argv[1].replace("=", "")).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
limit = time.monotonic() + 60
while len(list(Path().glob("--lr*"))) < 2 and time.monotonic() < limit:
    time.sleep(0.01)  # both hold their cards now
print(json.dumps({"loss": 1.0}))
"""


def test_two_workers_programs_see_a_card_each(elsewhere, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    config = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "loss", "from": "stdout"},
        "parameters": {"lr": {"values": [1, 2]}},
        "ridgepole": {"executor": "process", "workers": 2},
    }
    (tmp_path / "sweep.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "ridgepole", "sweep", "start", "sweep.json", "--no-report"]
    done = subprocess.run(command, cwd=tmp_path, env=elsewhere("0,0"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = [Path(tmp_path, f"--lr{lr}").read_text() for lr in (1, 2)]
    assert len(set(seen)) == 2
    assert all(value.startswith("GPU-") and "," not in value for value in seen)
