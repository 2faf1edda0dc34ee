"""The line format and its reader: nothing lost, nothing raised, whatever a crash left."""

import json
import logging
import math

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepole.errors import MissingExtraError, RunDirError
from ridgepole.metrics import MetricRecord, load_metrics, read_metrics
from ridgepole.metrics.codec import decode, encode
from ridgepole.metrics.steps import StepCounter, plan

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
scalars = st.one_of(
    st.floats(), st.integers(-(2**63), 2**64 - 1), st.booleans(), st.text(st.characters(exclude_categories=["Cs"]))
)
values = st.one_of(scalars, st.lists(st.floats() | st.integers(-5, 5), max_size=4))


def lines_of(metrics, seq=0, time=1.5, counter=None):
    return encode(plan(metrics, None, counter or StepCounter()).rows, seq, time)


def same(a, b):
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return a == b and (type(a) is type(b) or not isinstance(a, bool))


@given(st.dictionaries(names, values, max_size=5))
def test_every_value_comes_back(metrics):
    line = lines_of(metrics)
    strict = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert list(strict) in (["seq", "time", "step", "metrics"], ["seq", "time", "step", "metrics", "special"])
    back = decode(line)["metrics"]
    assert list(back) == list(metrics)
    for name, value in metrics.items():
        assert same(value, back[name]), f"{name!r}: {value!r} came back as {back[name]!r}"


def test_the_format_of_a_line():
    rows = [MetricRecord("loss", float("inf"), "p", "train", "s"), {"v": [1.0, float("nan")], "ok": True}]
    assert lines_of(rows, seq=7) == (
        b'{"seq":7,"time":1.5,"step":0,"metrics":{"loss":null,"v":[1.0,null],"ok":true},"pattern":{"loss":"p"},'
        b'"stage":{"loss":"train"},"split":{"loss":"s"},"special":{"loss":"inf","v":{"1":"nan"}}}\n'
    )


@pytest.fixture
def metrics_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    counter = StepCounter()
    with path.open("wb") as file:
        for seq in range(300):
            late = {"late": 0.5} if seq >= 150 else {}  # first seen where type inference has stopped looking
            made = plan({"a": seq, **late}, None, counter)
            counter.adopt(made)
            file.write(encode(made.rows, seq, float(seq)))
    return path


def test_columns_and_values(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        lines_of([{"i": 3, "f": 0.5, "nan": float("nan"), "inf": float("-inf"), "yes": True, "text": "null",
                   "v": [1, float("nan")], "big": 2**53 + 1}, MetricRecord("r", 1.0, "p", "st", "sp")])
    )  # fmt: skip
    frame = read_metrics(tmp_path)
    assert frame.schema == {
        "seq": pl.Int64, "time": pl.Float64, "step": pl.Int64, "name": pl.String, "value": pl.Float64,
        "text": pl.String, "pattern": pl.String, "stage": pl.String, "split": pl.String,
    }  # fmt: skip
    rows = {row["name"]: row for row in frame.iter_rows(named=True)}
    assert {name: row["text"] for name, row in rows.items() if row["text"] is not None} == {
        "yes": "true", "text": "null", "v": '[1, "nan"]', "big": str(2**53 + 1)}  # fmt: skip
    assert math.isnan(rows["nan"]["value"])
    assert {name: row["value"] for name, row in rows.items() if name != "nan"} == {
        "i": 3.0, "f": 0.5, "inf": -math.inf, "yes": 1.0, "text": None, "v": None, "big": float(2**53), "r": 1.0
    }  # fmt: skip
    assert [rows["r"][key] for key in ("seq", "time", "step", "pattern", "stage", "split")] == [
        0, 1.5, 0, "p", "st", "sp"]  # fmt: skip


def test_a_metric_seen_late_is_not_dropped(metrics_file):
    frame = read_metrics(metrics_file)
    assert frame.filter(pl.col("name") == "late").height == 150
    assert frame.filter(pl.col("name") == "a")["value"].to_list() == [float(i) for i in range(300)]


def test_one_string_does_not_turn_a_column(metrics_file):
    with metrics_file.open("ab") as file:
        file.write(lines_of({"a": "word"}, seq=300))
    frame = read_metrics(metrics_file).filter(pl.col("name") == "a")
    assert frame["value"].null_count() == 1
    assert frame["text"].to_list()[-1] == "word"


BAD = [b"", b"{", b"null", b"[]", b"3", b'{"seq":1}', b'{"seq":"x","time":1,"step":0,"metrics":{}}', b"\xff\xfe",
       b'{"seq":1,"time":1,"step":0,"metrics":[1]}', b'{"seq":1,"time":1,"step":0,"metrics":{"a":NaN}}',
       b'{"seq":18446744073709551615,"time":1,"step":0,"metrics":{"a":1}}', b"\x00" * 50,
       b'{"seq":1,"time":1,"step":0,"metrics":{"a":null},"special":{"a":"junk"}}',
       b'{"seq":1,"time":1,"step":0,"metrics":{"a":[1]},"special":{"a":{"9":"nan"}}}',
       b'{"seq":1,"time":1,"step":0,"metrics":{"a":1}},{"seq":2,"time":1,"step":0,"metrics":{"a":1}}']  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_is_skipped_and_counted(metrics_file, bad):
    good = metrics_file.read_bytes()
    middle = good.index(b"\n", len(good) // 2) + 1
    metrics_file.write_bytes(good[:middle] + bad + b"\n" + good[middle:])
    table = load_metrics(metrics_file)
    assert (table.records, table.bad, table.torn) == (300, 1, 0)
    assert table.frame["seq"].n_unique() == 300


def test_every_torn_tail_is_skipped_and_counted(metrics_file):
    good = metrics_file.read_bytes()
    last = good.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(good)):
        metrics_file.write_bytes(good[:cut])
        table = load_metrics(metrics_file)
        assert (table.records, table.bad, table.torn) == (299, 0, 1), f"cut at {cut}"


def test_what_was_skipped_is_reported(metrics_file, caplog):
    with metrics_file.open("ab") as file:
        file.write(b"junk\n{")
    with caplog.at_level(logging.WARNING, "ridgepole.metrics"):
        assert read_metrics(metrics_file.parent).height == 450
    assert "1 unreadable and 1 torn" in caplog.text


@given(st.binary(max_size=200))
def test_reading_never_raises(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("junk") / "metrics.jsonl"
    path.write_bytes(lines_of({"a": 1}) + junk)
    table = load_metrics(path)
    assert table.frame.height >= 1


def test_files_of_several_processes_are_one(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(lines_of({"a": 0}, seq=0) + lines_of({"a": 2}, seq=10))
    (tmp_path / "metrics-123-5.jsonl").write_bytes(lines_of({"a": 1}, seq=5))
    assert read_metrics(tmp_path)["value"].to_list() == [0.0, 1.0, 2.0]


def test_abandoned_segments_are_hidden_and_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(lines_of({"a": seq}, seq=seq) for seq in range(10)))
    attempts = [{"attempt": 1, "first_seq": 0, "resumed_from_seq": None},
                {"attempt": 2, "first_seq": 5, "resumed_from_seq": 3}]  # fmt: skip
    (tmp_path / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in attempts) + "torn {")
    before = path.read_bytes()
    assert read_metrics(tmp_path)["seq"].to_list() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert read_metrics(tmp_path, raw=True)["seq"].to_list() == list(range(10))
    assert load_metrics(tmp_path).hidden == 2
    assert path.read_bytes() == before


def test_an_empty_file_gives_an_empty_frame(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    frame = read_metrics(tmp_path)
    assert frame.shape == (0, 9)
    assert frame["value"].dtype == pl.Float64


@pytest.mark.parametrize(("path", "says"), [("missing", "does not exist"), (".", "holds no metrics")])
def test_nothing_to_read(tmp_path, path, says):
    with pytest.raises(RunDirError, match=says):
        read_metrics(tmp_path / path)


def test_without_polars(metrics_file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(MissingExtraError, match=r"read_metrics needs polars.*pip install .*'polars>="):
        read_metrics(metrics_file)


def test_a_chunk_boundary_loses_nothing(metrics_file, monkeypatch):
    from ridgepole.metrics import reader

    whole = metrics_file.read_bytes()
    for size in (1, 7, 64, 1000):
        chunks = [chunk for chunk, _ in reader.read_chunks(metrics_file, size)]
        assert b"".join(chunks) == whole, f"pieces of {size} bytes"
        assert all(chunk.endswith(b"\n") for chunk in chunks)


def test_pandas_reads_the_file(metrics_file):
    frame = pd.read_json(metrics_file, lines=True)
    assert len(frame) == 300
    assert frame["metrics"].iloc[-1] == {"a": 299, "late": 0.5}
