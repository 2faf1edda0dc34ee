"""A clock that is set: what watches over a run goes by another one."""

import os
import time

import pytest

from ridgepole import rundir
from ridgepole.ticks import COUNT, FIRST, STEP
from ridgepole.watch import helper
from ridgepole.watch.alerts import read_alerts
from ridgepole.watch.heartbeat import SharedBeat
from ridgepole.watch.helper import Helper, Orders, Words
from ridgepole.watch.reports import StallReport, recent_reports, write_report


@pytest.fixture
def watched(tmp_path):
    """A helper of this process, as a child would be."""
    reading, writing = os.pipe()
    beat = SharedBeat()
    made = Helper(Orders(run=str(tmp_path), parent=os.getpid(), stall_action="warn", slow={}), Words(reading), beat, -1)
    yield made, beat.numbers
    os.close(reading)
    os.close(writing)
    beat.close()


@pytest.mark.parametrize("jump", [86_400 * 365, -86_400 * 365])
def test_a_clock_that_jumps_is_no_stall_and_hides_none(watched, tmp_path, monkeypatch, jump):
    made, beat = watched
    reported = []
    monkeypatch.setattr(made, "_report_stall", lambda stalls: reported.append(stalls.waited))
    monkeypatch.setattr(made, "_is_stopped", lambda: False)
    beat[FIRST] = 0
    start = time.time()
    for count in range(1, 60):
        beat[COUNT] = beat[STEP] = count
        made._look(1.0)
        if count == 30:
            monkeypatch.setattr(helper.time, "time", lambda: start + jump)
    assert (reported, read_alerts(tmp_path)[0]) == ([], [])
    for _ in range(70):
        made._look(1.0)
    assert len(reported) == 1, "a real stall is seen at once"
    made.tell("slow", "warning", "an alert of another time")
    assert len(read_alerts(tmp_path)[0]) == 1


def test_a_report_from_the_future_is_not_of_this_stall(tmp_path):
    name = write_report(tmp_path, StallReport(rank=1, steps=3, waits=True), 2, "")
    assert len(recent_reports(tmp_path, 60)) == 1
    for jump in (3600, -3600):
        os.utime(tmp_path / name, (time.time() + jump,) * 2)
        assert recent_reports(tmp_path, 60) == []
    assert (tmp_path / rundir.STALLS).is_dir()
