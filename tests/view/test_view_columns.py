"""The columns of a run: the same numbers as `read_metrics`, however the file grew, and whatever is in it."""

import json
import random

import numpy as np
import polars as pl
import pytest

from ridgepole.metrics import read_metrics
from ridgepole.metrics.codec import encode_line
from ridgepole.view import columns as module
from ridgepole.view.columns import RunColumns
from ridgepole.view.index_cache import IndexCache


def lines(count, seed=0):
    """Lines of every kind that the local logger writes, and some that are bad."""
    pick = random.Random(seed)
    found = []
    for seq in range(count):
        metrics = {"loss": pick.random(), "lr": seq}
        if seq % 7 == 3:
            metrics = {"val/acc": pick.choice([0.5, float("nan"), float("inf"), -float("inf")]), "flag": True}
        if seq % 11 == 5:
            metrics |= {"text": "a", "list": [1.0, 2.0], "hist": {"counts": [1]}}
        found.append(encode_line(seq, 1000.0 + seq, seq // 2 if seq % 13 else seq // 4, metrics))
        if seq % 50 == 20:
            found.append(pick.choice([b"not json\n", b"[]\n", b"\n", b'{"seq": "1"}\n', b"1,2\n"]))
    return found


def check_same(columns, directory):
    """Compare with the reader that users have."""
    frame = read_metrics(directory)
    numbers = frame.filter(pl.col("value").is_not_null())
    expected = {name[0]: part.sort("seq") for name, part in numbers.group_by("name")}
    assert set(columns.metrics) == set(expected)
    for name, part in expected.items():
        points = columns.points(name)
        assert np.array_equal(points.value, part["value"].to_numpy(), equal_nan=True), name
        assert points.step.tolist() == part["step"].to_list()
        assert points.time.tolist() == part["time"].to_list()


@pytest.mark.parametrize("block", [64, 1000, 256 << 10])
def test_columns_follow_a_file_that_grows_anywhere(block, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    text = b"".join(lines(200))
    file, columns, at = tmp_path / "metrics.jsonl", RunColumns(tmp_path), 0
    pick = random.Random(1)
    while at < len(text):
        end = at + pick.randrange(1, 4000)
        with file.open("ab") as opened:
            opened.write(text[at:end])
        at = end
        columns.update()
        check_same(columns, tmp_path)
    assert columns.generation == 0
    assert set(columns.texts) == {"text"}


def test_a_budget_ends_a_look_and_the_next_one_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 256 << 10)
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines(20_000)))
    columns, looks = RunColumns(tmp_path), 0
    while not columns.complete:
        assert columns.update(1)
        looks += 1
    assert looks > 3
    check_same(columns, tmp_path)
    assert columns.update() is False


def test_what_a_resume_has_undone_is_hidden_also_later(tmp_path):
    file = tmp_path / "metrics.jsonl"
    text = lines(60)
    file.write_bytes(b"".join(text))
    columns = RunColumns(tmp_path)
    columns.update()
    before = columns.state
    attempt = {"attempt": 2, "resumed_from_seq": 10, "first_seq": 40}
    (tmp_path / "attempts.jsonl").write_text(json.dumps(attempt) + "\n")
    assert columns.update() is True
    assert columns.state != before
    check_same(columns, tmp_path)
    with file.open("ab") as opened:
        opened.write(b"".join(encode_line(seq, 0.0, seq, {"loss": 1.0}) for seq in range(60, 90)))
    columns.update()
    check_same(columns, tmp_path)


@pytest.mark.parametrize("change", ["shorter", "other", "replaced"])
def test_a_file_that_was_rewritten_is_read_again(change, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"".join(lines(50)))
    columns = RunColumns(tmp_path)
    columns.update()
    new = b"".join(lines(20 if change == "shorter" else 70, seed=9))
    if change == "replaced":
        (tmp_path / "new").write_bytes(new)
        (tmp_path / "new").replace(file)
    else:
        file.write_bytes(new)
    assert columns.update() is True
    assert columns.generation == 1
    check_same(columns, tmp_path)


def test_files_of_other_processes_belong_to_the_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines(30)))
    (tmp_path / "metrics-7-100.jsonl").write_bytes(encode_line(100, 5.0, 3, {"worker": 1.0}))
    columns = RunColumns(tmp_path)
    columns.update()
    assert columns.points("worker").value.tolist() == [1.0]
    assert len(columns.seq) == 31
    assert RunColumns(tmp_path / "none").update() is False


def test_the_summary_is_that_of_the_logger(tmp_path):
    from ridgepole.permanences import BasicLogger

    with BasicLogger(str(tmp_path)) as logger:
        for step, value in enumerate([3.0, 1.0, float("nan"), 2.0]):
            logger.log_metrics({"loss": value, "acc": float("inf"), "odd": step})
    columns = RunColumns(tmp_path)
    columns.update()
    expected = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    found = columns.summary()
    assert {name: found[name] | {} for name in found} == {name: expected[name] for name in found}
    assert set(found) == set(expected)


def test_a_sample_is_a_part_of_the_points(tmp_path):
    text = b"".join(encode_line(seq, float(seq), seq, {"loss": float(seq)}) for seq in range(40_000))
    (tmp_path / "metrics.jsonl").write_bytes(text)
    sampled = RunColumns(tmp_path).sampled("loss")
    assert 200 < len(sampled.value) < 40_000
    assert (sampled.value == sampled.step).all()
    assert sampled.step[0] == 0
    assert sampled.step[-1] > 39_000
    assert len(RunColumns(tmp_path).sampled("none").value) == 0
    columns, read = RunColumns(tmp_path), []
    look = columns._sample
    columns._sample = lambda: read.append(1) or look()
    assert len(columns.sampled("loss").value) == len(sampled.value)
    columns.sampled("none")
    assert len(read) == 1, "one sample serves all metrics"
    columns.update()
    assert columns._sampled is None, "a run that was read to its end needs none"


@pytest.fixture
def large(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_bytes(b"".join(lines(8000)))
    return run


def test_an_index_gives_the_same_columns_and_continues(large, tmp_path):
    cache = IndexCache(tmp_path / "cache")
    first = cache.load(large)
    first.update()
    assert cache.store(first) is True
    assert cache.store(first) is False, "nothing is new"
    second = IndexCache(tmp_path / "cache").load(large)
    assert second.offset == first.offset > 256 << 10
    with (large / "metrics.jsonl").open("ab") as file:
        file.write(encode_line(9000, 1.0, 9000, {"loss": 1.0, "new": 2.0}))
    second.update()
    check_same(second, large)
    assert second.generation == 0
    assert len(second.seq) == len(first.seq) + 1
    assert sorted(path.name for path in large.iterdir()) == ["metrics.jsonl"], "nothing is added to a run"


def test_a_small_run_has_no_index(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines(10)))
    cache = IndexCache(tmp_path / "cache")
    columns = cache.load(tmp_path)
    columns.update()
    assert cache.store(columns) is False


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "format", "gone"])
def test_a_damaged_index_is_read_from_the_run_again(damage, large, tmp_path):
    cache = IndexCache(tmp_path / "cache")
    columns = cache.load(large)
    columns.update()
    cache.store(columns)
    (index,) = (tmp_path / "cache").iterdir()
    data = index.read_bytes()
    contents = {"empty": b"", "cut": data[: len(data) // 2], "garbage": b"x" * 999}
    contents["format"] = data.replace(b'{"format":1', b'{"format":9', 1)
    if damage == "gone":
        index.unlink()
    else:
        index.write_bytes(contents[damage])
    again = IndexCache(tmp_path / "cache").load(large)
    assert again.offset == 0
    again.update()
    check_same(again, large)


def test_an_index_of_another_run_at_the_same_path_is_not_taken(large, tmp_path):
    cache = IndexCache(tmp_path / "cache")
    columns = cache.load(large)
    columns.update()
    cache.store(columns)
    (large / "metrics.jsonl").rename(tmp_path / "old.jsonl")  # keeps its inode
    (large / "metrics.jsonl").write_bytes(b"".join(lines(9000, seed=5)))
    again = cache.load(large)
    again.update()
    check_same(again, large)


def test_the_least_recently_used_index_goes_first(large, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "old.index").write_bytes(b"x" * 1000)
    import os

    os.utime(folder / "old.index", (1, 1))
    cache = IndexCache(folder, limit=1)
    columns = cache.load(large)
    columns.update()
    cache.store(columns)
    assert not (folder / "old.index").exists()


def test_a_folder_that_cannot_be_written_costs_only_time(large, tmp_path):
    (tmp_path / "file").write_text("")
    cache = IndexCache(tmp_path / "file" / "cache")
    columns = cache.load(large)
    columns.update()
    assert cache.store(columns) is False
    check_same(columns, large)


def test_lines_that_are_alike_are_parsed_at_once_and_others_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1 << 14)
    monkeypatch.setattr(module, "_PARSED", 1 << 10)
    pick = random.Random(1)
    found = []
    for seq in range(3000):
        metrics = {"loss": pick.random(), "count": seq, **({"val/acc": 0.5} if seq % 3 == 0 else {})}
        if seq in (900, 2000):
            metrics |= {"flag": True, "loss": float("nan"), "large": 2**60}
        found.append(encode_line(seq, 1000.0 + seq, seq, metrics))
    found.insert(1500, b'{"seq": 1\n')
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(found))
    columns = RunColumns(tmp_path)
    wide = []
    add = columns._add_wide
    monkeypatch.setattr(columns, "_add_wide", lambda *given: wide.append(add(*given)) or wide[-1])
    columns.update()
    assert {True, False} == set(wide)
    check_same(columns, tmp_path)
    alone = RunColumns(tmp_path)
    alone._uniform = None  # as without polars
    alone.update()
    check_same(alone, tmp_path)
    assert alone.state == columns.state
