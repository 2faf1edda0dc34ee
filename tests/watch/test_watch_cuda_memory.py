"""A device whose memory is used up: a summary, a snapshot, and what to do. A stand-in has the place of torch.cuda."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ridgepole import Pipeline, process, rundir
from ridgepole.watch import resources
from ridgepole.watch.cuda_memory import read_devices
from ridgepole.watch.resources import write_memory_report

GB = 1_000_000_000


class OutOfMemoryError(RuntimeError):
    """As torch's."""


class Cuda:
    """The parts of `torch.cuda` that tell of memory, for one device that is used and one that is not."""

    def __init__(self, free=0, total=85, allocated=52, reserved=73, split=19, fails=False):
        self.sizes = {"allocated": allocated, "reserved": reserved, "inactive_split": split}
        self.free, self.total, self.fails = free, total, fails
        self.memory = self

    def is_available(self):
        return True

    def is_initialized(self):
        return True

    def device_count(self):
        return 2

    def memory_stats(self, index):
        if self.fails:
            raise RuntimeError("CUDA error: the driver is gone")
        if index:
            return {}
        current = {f"{name}_bytes.all.current": size * GB for name, size in self.sizes.items()}
        return current | {"allocated_bytes.all.peak": 61 * GB}

    def mem_get_info(self, index):
        return self.free * GB, self.total * GB

    def memory_summary(self, index):
        return f"the table of {index}"

    def _dump_snapshot(self, filename):
        with Path(filename).open("wb") as file:
            file.write(b"blocks")


@pytest.fixture
def torch(monkeypatch):
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)

    def use(**sizes):
        made = SimpleNamespace(cuda=Cuda(**sizes))
        monkeypatch.setattr(resources, "sys", SimpleNamespace(modules={"torch": made}))
        return made

    return use


def test_the_report_has_a_summary_a_snapshot_and_what_to_do(tmp_path, torch):
    torch()
    name, advice = write_memory_report(tmp_path, 3, "OutOfMemoryError: tried to allocate 2 GB")
    text = (tmp_path / name).read_text("utf-8")
    assert name.endswith("-rank-3.txt")
    assert advice == "other processes hold 12 GB of device 0: see ridgepole devices"
    assert "device 0: 85 GB, of which tensors hold 52 GB (at most 61 GB), torch keeps 21 GB more" in text
    assert "try: 19 GB lie in pieces between tensors: set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in text
    assert "try: tensors hold 52 GB: take smaller batches" in text
    assert "the table of 0" in text
    assert "device 1" not in text, "it is not used"
    (snapshot,) = (tmp_path / rundir.OOM).glob("*.pickle")
    assert snapshot.read_bytes() == b"blocks"
    assert f"snapshot: {snapshot.name}" in text


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"free": 1, "allocated": 80, "reserved": 83, "split": 1}, ["tensors hold 80 GB"]),
        ({"free": 1, "allocated": 30, "reserved": 83, "split": 40}, ["40 GB lie in pieces"]),
        ({"free": 1, "allocated": 3, "reserved": 4, "split": 0}, ["other processes hold 80 GB"]),
        ({"free": 40, "allocated": 40, "reserved": 44, "split": 0}, []),
    ],
)
def test_the_advice_fits_what_holds_the_memory(torch, sizes, words):
    (memory,) = read_devices(torch(**sizes))
    advice = list(memory.advice())
    assert len(advice) == len(words)
    assert all(line.startswith(word) for line, word in zip(advice, words, strict=True))


def test_a_setting_that_is_there_is_not_advised(torch, monkeypatch):
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    (memory,) = read_devices(torch(free=1, allocated=30, reserved=83, split=40))
    assert list(memory.advice()) == []


def test_a_driver_that_fails_leaves_the_rest_of_the_report(tmp_path, torch, monkeypatch):
    torch(fails=True)
    name, advice = write_memory_report(tmp_path, 0, "the error")
    text = (tmp_path / name).read_text("utf-8")
    assert advice == ""
    assert "host: " in text
    assert "the devices can't be read: RuntimeError: CUDA error: the driver is gone" in text
    made = torch()
    monkeypatch.setattr(made.cuda, "_dump_snapshot", None)
    assert "no snapshot: TypeError" in (tmp_path / write_memory_report(tmp_path, 1, "")[0]).read_text("utf-8")


@process
def takes_too_much():
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_the_alert_says_what_to_do_and_the_error_goes_on(tmp_path, torch):
    torch()
    with pytest.raises(OutOfMemoryError):
        Pipeline("takes", progress=False).process("takes", takes_too_much).run(tmp_path)
    (run,) = rundir.list_runs(tmp_path)
    (line,) = (run.path / rundir.ALERTS).read_text("utf-8").splitlines()
    alert = json.loads(line)
    assert (alert["kind"], alert["title"]) == ("memory", "out of memory")
    assert (
        "Tried to allocate 2.00 GiB; other processes hold 12 GB of device 0: see ridgepole devices; see oom/"
        in (alert["text"])
    )
