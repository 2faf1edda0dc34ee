"""Several ranks on one machine."""

from __future__ import annotations

import pytest

from ridgepole.devices import Device
from ridgepole.errors import DeviceUnavailableError, VRAMUsageError
from ridgepole.launch import local_place

GIB = 1024**3


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, (1, 4)),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, None),
        ({"LOCAL_RANK": "1"}, None),
        ({"LOCAL_RANK": "one", "LOCAL_WORLD_SIZE": "4"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, (3, 4)),
        ({"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}, (0, 2)),
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}, (1, 2)),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": "3"}, None),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "many"}, None),
        ({"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "4"}, None),
    ],
)
def test_launchers(environ, expected):
    assert local_place(environ) == expected


@pytest.fixture
def as_rank(monkeypatch):
    def become(rank, size):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(size))

    return become


def test_each_rank_gets_its_own_card_however_empty_another_is(machine, card, as_rank):
    machine([card(0, used=20 * GIB), card(1), card(2, used=10 * GIB)])
    for rank in range(3):
        as_rank(rank, 3)
        with Device() as device:
            assert str(device) == f"cuda:{rank}"


def test_the_rule_is_applied_to_the_ranks_card(machine, card, as_rank):
    machine([card(0, used=39 * GIB), card(1)])
    as_rank(0, 2)
    with pytest.raises(VRAMUsageError, match="All devices are using more than 80% of VRAM") as caught:
        Device()
    assert [row["reason"] for row in caught.value.devices] == ["above 80%", "this process is local rank 0"]
    assert str(Device(rank="off")) == "cuda:1"
    assert str(Device(rank=1)) == "cuda:1"


def test_a_rank_that_sees_one_card_takes_it(machine, card, as_rank, monkeypatch):
    machine([card(0), card(1)])
    as_rank(1, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with Device() as device:
        assert str(device) == "cuda:0"
        assert device.uuid.startswith("GPU-00000001")


def test_more_ranks_than_cards_is_an_error(machine, card, as_rank):
    machine([card(0), card(1)])
    as_rank(2, 3)
    with pytest.raises(DeviceUnavailableError, match="local rank 2, but it sees only 2 devices"):
        Device()


def test_ranks_without_accelerator_use_the_cpu(machine, as_rank):
    machine("missing")
    as_rank(1, 2)
    assert str(Device()) == "cpu"
