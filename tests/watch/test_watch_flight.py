"""Torch's flight recorder: which rank has not entered which collective operation."""

import importlib
import json
import os
import sys
from types import SimpleNamespace

import pytest

from ridgepole import rundir
from ridgepole.watch import flight
from ridgepole.watch.flight import Collective, FlightAnswers, last_collectives, who_is_missing
from ridgepole.watch.reports import StallReport, recent_reports, who_is_behind, write_report


def entry(number, name="gloo:all_reduce", group=("0", "default_pg"), **more):
    sizes = more.pop("sizes", [[3]])
    return {
        "collective_seq_id": number,
        "process_group": list(group),
        "profiling_name": name,
        "input_sizes": sizes,
        "is_p2p": False,
        "retired": False,
        "state": "scheduled",
    } | more


def entered(number, name="all_reduce", *, done=False, group="default_pg", sizes="[3]"):
    return Collective(group=group, number=number, name=name, sizes=sizes, done=done)


def test_the_last_operation_of_each_group_counts():
    entries = [
        entry(1, retired=True),
        entry(2, "nccl:_all_gather_base", sizes=[[4, 2], [1]]),
        entry(9, is_p2p=True),
        entry(5, group=("7", "mesh_tp"), state="completed"),
    ]
    found = list(last_collectives(json.dumps({"entries": entries}).encode()))
    gather = entered(2, "_all_gather_base", sizes="[4, 2] [1]")
    assert found == [gather, entered(5, group="mesh_tp", done=True)]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"entries": 3}', b'{"entries": [{"x": 1}, 3]}'])
def test_a_damaged_record_tells_nothing(data):
    assert list(last_collectives(data)) == []


WHERE = "operation 5 of the process group default_pg"


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        (
            {0: [entered(5)], 1: [entered(4, done=True)]},
            f"rank 0 waits in all_reduce [3], {WHERE}, which rank 1 has not",
        ),
        (
            {0: [entered(5)], 1: [entered(5)], 2: []},
            f"ranks 0, 1 wait in all_reduce [3], {WHERE}, which rank 2 has not",
        ),
        (
            {0: [entered(5)], 1: [entered(5, "broadcast")]},
            f"the ranks call different operations as {WHERE}: rank 0: all",
        ),
        ({0: [entered(5)], 1: [entered(5, sizes="[4]")]}, "the ranks call different operations"),
        ({0: [entered(5)], 1: [entered(5)]}, ""),
        ({0: [entered(5, done=True)], 1: [entered(4, done=True)]}, ""),
        (
            {0: [entered(5, group="tp")], 1: [], 2: [entered(4, group="tp")]},
            "process group tp, which rank 2 has not entered",
        ),
        ({0: [], 1: []}, ""),
        ({}, ""),
    ],
)
def test_who_is_missing(ranks, said):
    found = who_is_missing(ranks)
    assert said in found
    assert bool(said) == bool(found)


def test_a_report_keeps_the_operations_for_the_other_ranks(tmp_path):
    for rank, number in enumerate([5, 4]):
        report = StallReport(rank=rank, steps=3, waits=True, collectives=(entered(number),))
        write_report(tmp_path, report, 2, f", no step\n{report.details()}\nstacks")
    reports = recent_reports(tmp_path, 60)
    assert [each.collectives for each in reports] == [(entered(5),), (entered(4),)]
    assert who_is_behind(reports, 2).startswith("rank 0 waits in all_reduce [3]")
    path = next((tmp_path / rundir.STALLS).glob("*-rank-0.txt"))
    path.write_text(path.read_text().replace("collectives: [", "collectives: 3["))
    assert recent_reports(tmp_path, 60)[0].collectives == (), "it is damaged"


@pytest.fixture
def answers():
    made = FlightAnswers()
    asks = os.dup(made.asks)
    made.start()
    yield asks
    os.close(asks)
    made.close()
    assert not made._thread.is_alive()


def test_the_run_answers_with_its_record(answers, tmp_path, monkeypatch):
    module = SimpleNamespace(_dump_fr_trace_json=lambda: json.dumps({"entries": [entry(3)]}).encode())
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", module)
    path = tmp_path / "stalls" / "a.json"
    assert flight.ask(answers, path) == [entered(3)]
    assert path.exists()


@pytest.mark.parametrize("how", ["no torch", "a failing function", "nothing recorded", "no directory"])
def test_without_a_record_there_is_none(answers, tmp_path, monkeypatch, how):
    dumps = {"a failing function": lambda: 1 / 0, "nothing recorded": lambda: b'{"entries": []}'}
    dump = dumps.get(how)
    module = None if how == "no torch" else SimpleNamespace(**({"_dump_nccl_trace_json": dump} if dump else {}))
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", module)
    path = tmp_path / "stalls" / "a.json"
    if how == "no directory":
        (tmp_path / "stalls").write_text("a file")
    assert flight.ask(answers, path) == []
    assert not path.exists()


def test_a_run_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(flight, "_WAIT_SECONDS", 0.05)
    reading, asks = os.pipe()
    assert flight.ask(asks, tmp_path / "a.json") == []
    os.close(reading)
    os.close(asks)


def test_this_torch_s_record_can_be_read():
    pytest.importorskip("torch")
    module = importlib.import_module("torch._C._distributed_c10d")
    if not any(hasattr(module, name) for name in flight._DUMPS):
        pytest.skip("this torch has no record without NCCL")
    assert json.loads(flight.record()) == {}
