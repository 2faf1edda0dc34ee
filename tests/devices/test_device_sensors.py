"""Power, heat and throttling of cards, and which cards are a run's own."""

from __future__ import annotations

import os

import pytest

from ridgepole.devices.gpus import Sensors
from ridgepole.devices.probe import amd, nvidia
from ridgepole.devices.probe.snapshot import Prober
from ridgepole.watch.system import SystemSampler

GIB = 1024**3


def readings(probe):
    try:
        return [probe.sense(card) for card in probe.read(processes=False)]
    finally:
        probe.close()


def test_nvidias_sensors_are_read_in_watts_and_degrees(machine, card):
    hot = {"milliwatts": 650_500, "milliwatts_limit": 700_000, "celsius": 84, "mhz": 1305, "throttle_reasons": 0x24}
    machine([card(0, **hot), card(1, throttle_reasons=0x1), card(2)], lacks=["nvmlDeviceGetClockInfo"])
    first, idle, silent = readings(nvidia.NvidiaProbe())
    assert first == Sensors(power_watts=650.5, power_limit_watts=700.0, celsius=84, throttled="power limit, heat")
    assert idle == Sensors(throttled=""), "a clock that is low without work is not throttled"
    assert silent == Sensors()


def test_the_sensors_of_an_instance_are_those_of_its_card(machine, card):
    instance = {"uuid": "MIG-aaaa", "name": "A100 MIG 1g", "total": GIB, "used": 0, "processes": []}
    machine([card(0, celsius=61, mig=[instance])])
    assert readings(nvidia.NvidiaProbe()) == [Sensors(celsius=61)]


def test_amds_sensors_are_files_of_the_kernel(monkeypatch, tmp_path, fake_rocm):
    described = fake_rocm.machine("four")
    fake_rocm.lay_out(described, tmp_path)
    library = fake_rocm.FakeAmdSmi(described)
    monkeypatch.setattr(amd, "SYS", tmp_path / "sys")
    monkeypatch.setattr(amd, "DRI", tmp_path / "dri")
    monkeypatch.setattr(amd, "open_library", library.load)
    render = described["cards"][0]["render"]
    folder = tmp_path / "sys" / "class" / "drm" / f"renderD{render}" / "device" / "hwmon" / "hwmon3"
    for name, text in {
        "power1_average": "310000000",
        "power1_cap": "500000000",
        "temp1_input": "52000",
        "freq1_input": "2100000000",
    }.items():
        fake_rocm.write(folder / name, text)
    first, *others = readings(amd.AmdProbe())
    assert first == Sensors(power_watts=310.0, power_limit_watts=500.0, celsius=52.0, clock_mhz=2100.0)
    assert set(others) == {Sensors()}


def test_a_probe_of_another_package_need_not_have_sensors(machine, card):
    machine([card(0)])
    prober = Prober()
    probe = prober._probe
    prober._probe = type("Older", (), {"read": staticmethod(probe.read), "close": staticmethod(probe.close)})()
    assert [sensors for _, sensors in prober.cards()] == [Sensors()]
    prober.close()


@pytest.fixture
def sample(machine, card, tmp_path):
    """Samples a machine of three cards, of which processes and `chosen` say whose they are."""

    def take(*, chosen=(), mine=False):
        pid = os.getpid()
        running = [{"pid": pid, "used": 5 * GIB}] if mine else []
        drawing = [{"pid": pid, "used": GIB, "type": "Graphics"}]
        machine(
            [
                card(0, util=93, used=8 * GIB, celsius=70, throttle_reasons=0x8, processes=running),
                card(1, util=50, used=GIB, processes=drawing),
                card(2, util=10, used=2 * GIB, milliwatts=90_000, processes=[{"pid": 1, "used": 2 * GIB}]),
            ]
        )
        sampler = SystemSampler(tmp_path, pid, lambda: set(chosen), host=False)
        values = sampler.sample()
        sampler.close()
        return {name: value for name, value in values.items() if name.startswith("gpu")}, sampler

    return take


def test_the_cards_of_other_runs_are_left_out(sample):
    values, sampler = sample()
    assert (values, sampler.cards) == ({}, ())


def test_a_card_with_a_process_of_the_run_is_its_own(sample):
    values, sampler = sample(mine=True)
    assert values == {
        "gpu0_percent": 93,
        "gpu0_memory_bytes": 8 * GIB,
        "gpu0_memory_percent": 20,
        "gpu0_celsius": 70,
        "gpu0_throttled": 1,
    }
    assert sampler.throttled == {"gpu0": "slowed down by its hardware"}
    (described,) = sampler.described_cards()
    assert (described["card"], described["name"]) == ("gpu0", "NVIDIA A100-SXM4-40GB")


def test_a_card_that_the_run_has_chosen_is_its_own(sample, card):
    values, _ = sample(chosen=[card(2)["uuid"]])
    assert values == {
        "gpu2_percent": 10,
        "gpu2_memory_bytes": 2 * GIB,
        "gpu2_memory_percent": 5,
        "gpu2_power_watts": 90,
    }


def test_a_card_of_which_torch_holds_memory_is_its_own(sample, card, torch):
    """In a container the driver's pids are others than ours."""
    torch.cuda.started = True
    torch.cuda.uuids = {0: card(2)["uuid"].removeprefix("GPU-")}
    torch.cuda.held = {0: GIB}
    assert "gpu2_percent" in sample()[0]


def test_a_machine_without_cards_is_not_asked_again(environment, torch, fake, monkeypatch, tmp_path):
    library = fake.FakeNvml({"cards": [], "missing": True})
    library.put_in_place(monkeypatch.setattr)
    sampler = SystemSampler(tmp_path, os.getpid(), host=False)
    sampler.sample()
    assert sampler._prober is None
    sampler.close()
