"""A record that `log_metrics` acknowledged survives `kill -9` of the process, at whatever moment it comes."""

import os
import random
import signal
import struct
import time

import pytest

from ridgepole.metrics import load_metrics
from ridgepole.permanences import BasicLogger

pytestmark = pytest.mark.fault("kill -9 while logging: no acknowledged record is lost")

SHAPES = {
    "line of 200 bytes": lambda i: {"i": i, "pad": "x" * 120},
    "line of 4 KB": lambda i: {"i": i, "pad": "x" * 4000},
    "batch of lines": lambda i: [{"i": i, "pad": "y" * 300}, *_others(i)],
    "values that need a look": lambda i: {"i": i, "nan": float("nan"), "nested": {"a": [1, 2]}},
}


def _others(i):
    from ridgepole.metrics import MetricRecord

    return [MetricRecord("j", k, step=i + k) for k in range(20)]


def child(directory, pipe, shape, number):
    """Logs for ever and acknowledges the number of each record once it is logged."""
    logger = BasicLogger(directory)
    while True:
        logger.log_metrics(SHAPES[shape](number))
        os.write(pipe, struct.pack("q", number))
        number += 1


def killed_run(directory, shape, delay, first):
    """Runs a child for a while, kills it, and returns what it had acknowledged."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            child(directory, write, shape, first)
        finally:
            os._exit(1)
    os.close(write)
    acknowledged = bytearray(os.read(read, 8))  # it has started
    assert acknowledged, "the child died before it logged anything"
    os.set_blocking(read, False)
    until = time.monotonic() + delay
    while time.monotonic() < until:  # a full pipe would hold the child still
        try:
            acknowledged += os.read(read, 1 << 20)
        except BlockingIOError:
            time.sleep(0)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child ended before it was killed"
    os.set_blocking(read, True)
    while block := os.read(read, 1 << 20):
        acknowledged += block
    os.close(read)
    whole = len(acknowledged) // 8
    return [number for (number,) in struct.iter_unpack("q", acknowledged[: whole * 8])]


def check(directory, shape, times, tally):
    rng = random.Random(repr(shape))
    wanted = []
    for run in range(times):
        began = time.monotonic()
        wanted += killed_run(directory, shape, rng.uniform(0.0, 0.03), run * 10**6)
        before = load_metrics(directory)
        got = set(before.frame.filter(before.frame["name"] == "i")["value"].to_list())
        lost = [number for number in wanted if number not in got]
        assert not lost, f"{len(lost)} acknowledged records were lost, the first is {lost[0]}"
        assert before.bad == 0
        assert before.torn <= 1
        tally(kills=1, torn=before.torn, worst=time.monotonic() - began)
    with BasicLogger(directory) as logger:
        logger.log_metrics({"after": 1})
    after = load_metrics(directory)
    assert (after.bad, after.torn) == (0, 0), "the next opening repairs a torn tail"
    seqs = after.frame["seq"].unique()
    assert len(seqs) == after.records, "no sequence number twice"


@pytest.mark.isolated
@pytest.mark.parametrize("shape", SHAPES)
def test_kill_nine(tmp_path, shape, tally):
    check(tmp_path / "logs", shape, 4, tally)


@pytest.mark.isolated
@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", range(10))
def test_kill_nine_two_hundred_times(tmp_path, shape, part, tally):
    check(tmp_path / "logs", shape, 20, tally)
