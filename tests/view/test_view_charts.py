"""Charts: no spike is lost, the smoothing is what it says, and the container reads back as it was written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepole.metrics.codec import encode_line
from ridgepole.view.charts import ChartQuery, QueryError, draw, etag_of, metric_list
from ridgepole.view.columns import RunColumns
from ridgepole.view.container import Writer, narrow, split
from ridgepole.view.reduce import in_order, moving_average, reduce

FLOATS = st.floats(-1e9, 1e9) | st.sampled_from([float("nan"), float("inf"), -float("inf")])


@given(st.lists(FLOATS, max_size=400), st.integers(16, 30), st.booleans())
def test_a_reduced_curve_keeps_extremes_order_and_counts(values, columns, log):
    y = np.array(values)
    x = np.arange(1.0, len(y) + 1)
    curve = reduce(x, y, 1.0, float(max(1, len(y))), columns, log=log)
    finite = y[np.isfinite(y)]
    assert (np.diff(curve.x) > 0).all()
    if curve.raw:
        assert curve.y.tolist() == finite.tolist()
        assert len(finite) <= 2 * columns
    else:
        assert len(curve.x) <= columns + 2
        assert (curve.low.min(), curve.high.max()) == (finite.min(), finite.max())
        assert (curve.low <= curve.y).all()
        assert (curve.y <= curve.high).all()
        assert curve.last[-1] == finite[-1]
    kinds = {1: np.isnan(y).any(), 2: (y == np.inf).any(), 3: (y == -np.inf).any()}
    assert set(curve.special_kind.tolist()) == {kind for kind, there in kinds.items() if there}


def test_a_range_keeps_one_point_on_each_side():
    x = np.arange(100.0)
    curve = reduce(x, x, 10.5, 20.5, 50)
    assert curve.x.tolist() == list(range(10, 22))
    curve = reduce(np.arange(10_000.0), np.arange(10_000.0), 1000.0, 5000.0, 20)
    assert (curve.x[0], curve.x[-1]) == (999.0, 5001.0)
    assert reduce(x, x, 200.0, 300.0, 50).x.tolist() == [99.0]


def test_points_are_put_in_order_of_x():
    x, y = in_order(np.array([3.0, 1.0, np.nan, 2.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (x.tolist(), y.tolist()) == ([1.0, 1.0, 2.0, 3.0], [2.0, 5.0, 4.0, 1.0])


@pytest.mark.parametrize("weight", [0.1, 0.6, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("count", [1, 5, 1023, 1024, 5000])
def test_the_moving_average_is_the_debiased_one(weight, count):
    values = np.random.default_rng(count).normal(5, 2, count)
    values[count // 2] = np.nan
    expected, total, seen = [], 0.0, 0
    for value in values:
        if np.isnan(value):
            expected.append(np.nan)
            continue
        total, seen = weight * total + (1 - weight) * value, seen + 1
        expected.append(total / (1 - weight**seen))
    np.testing.assert_allclose(moving_average(values, weight), expected, rtol=1e-9)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=9), max_size=4))
def test_a_container_reads_back(arrays):
    writer = Writer()
    references = [writer.add(np.array(each, "<f8")) for each in arrays]
    kinds = [writer.add(np.array([1, 2, 3], kind)) for kind in ("<f4", "<u4", "|u1", "<i8")]
    data = writer.finish({"arrays": references, "kinds": kinds})
    assert int.from_bytes(data[4:8], "little") % 8 == 0
    header, array = split(data)
    assert [array(each).tolist() for each in header["arrays"]] == arrays
    assert [array(each).tolist() for each in header["kinds"]] == [[1, 2, 3]] * 4


def test_values_are_narrowed_only_if_that_is_not_seen():
    assert narrow(np.array([0.1, 0.2])).dtype == np.float32
    for values in ([1e9, 1e9 + 1], [1e300, 0.0], [16_777_217.0, 16_777_217.0]):
        kept = narrow(np.array(values))
        assert kept.dtype == np.float64
        assert kept.tolist() == values
    assert len(narrow(np.array([]))) == 0


@pytest.fixture
def runs(tmp_path):
    found = {}
    for number, key in enumerate(("a", "b")):
        folder = tmp_path / key
        folder.mkdir()
        text = []
        for seq in range(3000):
            epoch = {"epoch": seq // 10} if seq % 10 == 0 else {}
            text.append(encode_line(seq, 100.0 * number + seq / 2, seq, {"loss": float(seq + number)} | epoch))
        (folder / "metrics.jsonl").write_bytes(b"".join(text))
        found[key] = RunColumns(folder)
    return found


def drawn(found, **query):
    query = ChartQuery.read({"metric": "loss", "runs": ["a", "b", "gone"]} | query)
    etag_of(query, found)  # follows the files
    header, array = split(draw(query, found))
    for part in header["series"]:
        for name, value in part.items():
            if isinstance(value, dict) and "at" in value:
                part[name] = array(value)
    return header


def test_a_chart_has_every_run(runs):
    header = drawn(runs, columns=100)
    assert header["domain"] == [0.0, 2999.0]
    a, b, gone = header["series"]
    assert (a["run"], a["state"], a["points"], a["raw"]) == ("a", "exact", 3000, False)
    assert a["low"][0] == 0.0
    assert b["high"][-1] == 3000.0
    assert (gone["state"], gone["points"]) == ("missing", 0)
    assert "time" not in a


@pytest.mark.parametrize(
    ("x", "first", "last"),
    [("step", 0, 2999), ("relative", 0, 1499.5), ("time", 100, 1599.5), ({"metric": "epoch"}, 0, 299)],
)
def test_the_kinds_of_x(x, first, last, runs):
    (b,) = drawn(runs, x=x, runs=["b"], columns=4000)["series"]
    assert (b["x"][0], b["x"][-1]) == (first, last)
    assert len(b["x"]) == 3000


def test_more_of_a_chart(runs):
    header = drawn(runs, columns=50, smooth=0.9, time=True, log_x=True, range=[1, 100])
    a = header["series"][0]
    assert a["x"][0] >= 1
    assert len(a["smooth"]) == len(a["time"]) == len(a["x"])


def test_the_etag_changes_with_the_runs_and_the_query(runs):
    query = ChartQuery.read({"metric": "loss", "runs": ["a"]})
    first = etag_of(query, runs)
    assert etag_of(query, runs) == first
    assert etag_of(ChartQuery.read({"metric": "loss", "runs": ["a"], "columns": 99}), runs) != first
    with (runs["a"].directory / "metrics.jsonl").open("ab") as file:
        file.write(encode_line(9999, 0.0, 9999, {"loss": 1.0}))
    assert etag_of(query, runs) != first


def test_a_run_that_is_not_read_yet_gives_a_preview(tmp_path):
    text = b"".join(encode_line(seq, float(seq), seq, {"loss": float(seq)}) for seq in range(60_000))
    (tmp_path / "metrics.jsonl").write_bytes(text)
    runs = {"a": RunColumns(tmp_path)}
    header = drawn(runs, runs=["a"])
    assert header["indexing"] == 1
    assert header["series"][0]["state"] == "preview"
    assert header["domain"][1] > 59_000
    runs["a"].update()
    assert drawn(runs, runs=["a"])["series"][0]["points"] == 60_000


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "asked for with an object"),
        ({"runs": []}, "'metric' must be the name"),
        ({"metric": "a"}, "'runs' must be a list of keys"),
        ({"metric": "a", "runs": [1]}, "'runs' must be a list of keys"),
        ({"metric": "a", "runs": [], "x": "y"}, "'x' must be"),
        ({"metric": "a", "runs": [], "range": [2, 1]}, "the smaller one first"),
        ({"metric": "a", "runs": [], "range": ["a", 1]}, "'range' must be"),
        ({"metric": "a", "runs": [], "columns": 1e9}, "'columns' must be a number from 16 to 4000"),
        ({"metric": "a", "runs": [], "smooth": True}, "'smooth' must be a number"),
        ({"metric": "a", "runs": [], "colour": 1}, "no member 'colour'"),
    ],
)
def test_a_query_that_is_wrong(query, message):
    with pytest.raises(QueryError, match=message):
        ChartQuery.read(query)


def test_the_list_of_metrics(runs):
    runs["a"].update()
    found = metric_list(list(runs.values()), [{}, {"val/acc": {"min": 0.1, "count": 3}, "note": {"min": None}}])
    assert found["metrics"] == [
        {"name": "epoch", "section": "", "runs": 1, "points": 300, "goal": None},
        {"name": "loss", "section": "", "runs": 1, "points": 3000, "goal": "min"},
        {"name": "val/acc", "section": "val", "runs": 1, "points": 3, "goal": "max"},
    ]
