"""Following a run by a cursor: nothing is missed, nothing comes twice."""

import os

import pytest

from ridgepole import RunDirError
from ridgepole.permanences import BasicLogger
from ridgepole.runs import follow
from ridgepole.runs.follow import read_since


def numbers(found):
    return [line["seq"] for line in found.records]


def test_a_run_is_followed_record_by_record(tmp_path):
    cursor, seen = None, []
    with BasicLogger(str(tmp_path)) as logger:
        for step in range(5):
            logger.log_metrics({"loss": step, "val/acc": float("nan")})
            found = read_since(tmp_path, cursor)
            cursor, seen = found.cursor, seen + numbers(found)
            assert read_since(tmp_path, cursor).records == []
    assert seen == [0, 1, 2, 3, 4]
    assert numbers(read_since(tmp_path, "2")) == [3, 4]
    found = read_since(tmp_path, "3", ["val/*"])
    assert [list(line["metrics"]) for line in found.records] == [["val/acc"]]
    assert found.cursor == "4"
    found = read_since(tmp_path, "3", ["none"])
    assert (found.records, found.cursor) == ([], "4"), "the cursor moves past what is not wanted"


@pytest.mark.isolated
def test_the_files_of_other_processes_are_followed_each_by_its_own_cursor(tmp_path):
    with BasicLogger(str(tmp_path)) as logger:
        logger.log_metrics({"loss": 0.0})
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.read(read, 1)
            logger.log_metrics({"child": 1.0})
            os._exit(0)
        logger.log_metrics({"loss": 1.0})
        first = read_since(tmp_path)
        os.write(write, b"x")
        assert os.waitpid(child, 0)[1] == 0
        second = read_since(tmp_path, first.cursor)
        logger.log_metrics({"loss": 2.0})
        third = read_since(tmp_path, second.cursor)
    assert [line["metrics"] for line in first.records] == [{"loss": 0.0}, {"loss": 1.0}]
    assert [line["metrics"] for line in second.records] == [{"child": 1.0}], "although its number is lower"
    assert [line["metrics"] for line in third.records] == [{"loss": 2.0}]
    assert third.cursor.count("=") == 1


def line(seq, **metrics):
    return b'{"seq":%d,"time":1.0,"step":%d,"metrics":{"loss":%d}}\n' % (seq, seq, seq)


@pytest.mark.parametrize("near", [1, 100, 1 << 16])
def test_the_place_of_a_cursor_is_found_in_a_long_file(near, tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "_NEAR", near)
    lines = [line(seq) for seq in range(0, 400, 2)]
    lines.insert(50, b"not a line\n")
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines) + b'{"seq": 4')
    for since in (-1, 0, 1, 99, 100, 101, 397, 398, 1000):
        found = read_since(tmp_path, str(since))
        assert numbers(found) == [seq for seq in range(0, 400, 2) if seq > since]
        assert found.cursor == str(max(398, since) if since < 398 else since)


def test_what_a_resume_has_undone_is_named_and_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(map(line, range(6))))
    (tmp_path / "attempts.jsonl").write_text('{"attempt": 2, "resumed_from_seq": 2, "first_seq": 4}\n')
    found = read_since(tmp_path)
    assert (numbers(found), found.hidden) == ([0, 1, 4, 5], [(2, 4)])


@pytest.mark.parametrize("cursor", ["x", "", "1,a", "1,=3", "1.5", "1,a=b"])
def test_a_cursor_that_is_none(cursor, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(line(0))
    with pytest.raises(ValueError, match="is not a cursor"):
        read_since(tmp_path, cursor)


def test_a_directory_without_metrics(tmp_path):
    with pytest.raises(RunDirError, match="holds no metrics"):
        read_since(tmp_path)
