"""`log_seaborn_graph`: every kind, every form of data, and clear words where it can't be."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from ridgepole.errors import MissingExtraError
from ridgepole.loggers.figures import queue
from ridgepole.loggers.figures.graph import KINDS, prepare_graph
from ridgepole.permanences import BasicLogger, LoggerGroup

# seaborn 0.13 calls matplotlib 3.11 in ways that the latter is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:vert:DeprecationWarning", "ignore:.*deprecated.*in Matplotlib 3")


def media(directory):
    return [json.loads(line) for line in (directory / "media.jsonl").read_text().splitlines()]


def axes_of(data, x=None, y=None, kind="line"):
    return prepare_graph("name", data, x, y, kind)().figure.axes[0]


def test_graphs_that_are_drawn_during_cleanup_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "START_AFTER_S", 0.0)
    with BasicLogger(tmp_path) as logger:
        logger.log_seaborn_graph("first", [1, 2, 3])
        logger.log_seaborn_graph("second", [1, 2, 3])
    assert [entry["name"] for entry in media(tmp_path)] == ["first", "second"]


@pytest.fixture
def logger(tmp_path):
    with BasicLogger(tmp_path) as logger:
        yield logger


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(logger, tmp_path, kind, capfd):
    rng = np.random.default_rng(0)
    data = {"a": np.arange(30) % 5, "b": rng.normal(size=30)}
    x, y = {"count": ("a", None), "hist": ("b", None), "kde": ("b", None), "ecdf": ("b", None), "rug": ("b", None)}.get(
        kind, ("a", "b")
    )
    if kind == "heatmap":
        data, x, y = rng.normal(size=(4, 4)), None, None
    logger.log_seaborn_graph(f"kind {kind}", data, x, y, kind)
    assert capfd.readouterr().err == ""
    assert media(tmp_path)[0]["bytes"] > 2000


FORMS = {
    "dict of lists": lambda x, y: {"x": list(x), "y": list(y)},
    "dict of arrays": lambda x, y: {"x": x, "y": y},
    "dict of tensors": lambda x, y: {"x": torch.tensor(x), "y": torch.tensor(y, requires_grad=True)},
    "pandas": lambda x, y: pd.DataFrame({"x": x, "y": y, "other": "z"}, index=range(100, 105)),
    "polars": lambda x, y: pl.DataFrame({"x": x, "y": y}),
    "series": lambda x, y: {"x": pd.Series(x, index=[3, 1, 2, 0, 4]), "y": pl.Series(y)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_draws_the_same(form):
    x, y = np.arange(5), np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    line = axes_of(FORMS[form](x, y), "x", "y").lines[0]
    assert line.get_xydata().tolist() == np.column_stack([x, y]).tolist()


@pytest.mark.parametrize("data", [[1.0, 3.0, 2.0], np.array([1.0, 3.0, 2.0]), pd.Series([1.0, 3.0, 2.0], name="s"),
                                  pl.Series("s", [1.0, 3.0, 2.0]), torch.tensor([1.0, 3.0, 2.0])])  # fmt: skip
def test_one_series_is_drawn_along_its_index(data):
    assert axes_of(data).lines[0].get_xydata().tolist() == [[0, 1], [1, 3], [2, 2]]


def test_columns_of_their_own_and_values_instead_of_names():
    both = axes_of({"a": [1, 2], "b": [3, 4]})
    assert [line.get_ydata().tolist() for line in both.lines if len(line.get_ydata())] == [[1, 2], [3, 4]]
    assert axes_of(None, x=[5, 6], y=np.array([1, 2])).lines[0].get_xydata().tolist() == [[5, 1], [6, 2]]
    assert axes_of({"b": [3.0, 4.0]}, y="b").lines[0].get_xydata().tolist() == [[0, 3], [1, 4]]


def test_columns_named_by_numbers():
    assert axes_of(np.array([[0, 5], [1, 6]]), 0, 1).lines[0].get_xydata().tolist() == [[0, 5], [1, 6]]


@pytest.mark.parametrize(
    ("data", "x", "y", "kind", "says"),
    [
        ({"a": [1]}, None, None, "pie", "kind='pie' is unknown.*line, scatter"),
        ({"a": [1]}, None, None, "lime", "did you mean 'line'"),
        (
            {"step": [1], "loss": [1]},
            "step",
            "los",
            "line",
            "y='los': data has no such column.*'step', 'loss'.*did you",
        ),
        (pd.DataFrame({"a": [1]}), "b", None, "line", "x='b'.*it has 'a'"),
        (pl.DataFrame({"a": [1]}), "b", None, "line", "x='b'.*it has 'a'"),
        ({"a": [1, 2], "b": [1]}, None, None, "line", "differ in length: 'a' has 2, 'b' has 1"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), None, None, "line", "two columns named 'a', so the name is ambig"),
        (
            pd.DataFrame({"a": [1]}, pd.Index([1], name="a")),
            None,
            None,
            "line",
            "both a column and the index.*ambiguous",
        ),
        (np.zeros((2, 2, 2)), None, None, "line", "shape"),
        ({"a": [[1, 2]]}, None, None, "line", "one-dimensional"),
        ({"a": [1, 2]}, "a", None, "reg", "both x and y"),
    ],
)
def test_bad_input_is_said_and_nothing_is_written(logger, tmp_path, data, x, y, kind, says):
    with pytest.raises(ValueError, match=says):
        logger.log_seaborn_graph("g", data, x, y, kind)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("data", [3, "text", b"bytes", object()])
def test_data_of_an_unknown_type(logger, data):
    with pytest.raises(TypeError, match="data is a"):
        logger.log_seaborn_graph("g", data)


def test_what_seaborn_cannot_draw_is_reported_and_not_fatal(logger, tmp_path, capfd):
    logger.log_seaborn_graph("g", {"a": ["x", "y"], "b": ["u", "v"]}, kind="heatmap")
    assert "the figure 'g' could not be drawn" in capfd.readouterr().err
    assert not (tmp_path / "media.jsonl").exists()


@pytest.mark.parametrize("data", [{}, [], None, pd.DataFrame(), np.zeros((0, 3)), {"a": []}])
def test_empty_data_is_reported_and_not_fatal(logger, tmp_path, capfd, data):
    logger.log_seaborn_graph("g", data)
    assert "the figure 'g' could not be drawn: ValueError: data is empty" in capfd.readouterr().err
    assert logger.get_state()["dropped"] == 1


def test_the_index_of_pandas_is_the_horizontal_axis():
    frame = pd.DataFrame({"a": [1.0, 3.0, 2.0], "b": [4.0, 5.0, 6.0]}, index=[100, 200, 300])
    assert axes_of(frame).lines[0].get_xydata().tolist() == [[100, 1], [200, 3], [300, 2]]
    assert axes_of(frame, y="b").lines[0].get_xydata().tolist() == [[100, 4], [200, 5], [300, 6]]
    assert axes_of(frame["a"]).lines[0].get_xydata().tolist() == [[100, 1], [200, 3], [300, 2]]
    assert axes_of(None, y=frame["a"]).lines[0].get_xydata().tolist() == [[100, 1], [200, 3], [300, 2]]
    assert axes_of({"a": frame["a"]}).lines[0].get_xdata().tolist() == [100, 200, 300]
    named = frame.rename_axis("epoch")
    assert axes_of(named, "epoch", "a").lines[0].get_xydata().tolist() == [[100, 1], [200, 3], [300, 2]]
    days = frame.set_axis(pd.date_range("2020-01-01", periods=3))
    assert len(axes_of(days, y="a").lines[0].get_xdata()) == 3


def test_a_long_line_keeps_the_index_of_its_points():
    frame = pd.DataFrame({"a": np.zeros(100_000)}, index=np.arange(100_000) * 10)
    frame.loc[430_000, "a"] = 7.0
    graph = prepare_graph("g", frame)()
    drawn = dict(graph.figure.axes[0].lines[0].get_xydata().tolist())
    assert graph.drawn < 3000
    assert drawn[430_000] == 7.0


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_a_heatmap_keeps_the_labels_of_its_rows_and_columns():
    frame = pd.DataFrame({"lr": [1.0, 2, 3], "loss": [3.0, 2, 2]})
    axes = axes_of(frame.corr(), kind="heatmap")
    assert (labels(axes.xaxis), labels(axes.yaxis)) == (["lr", "loss"], ["lr", "loss"])
    confusion = pd.DataFrame([[5, 1], [0, 7]], ["cat", "dog"], ["cat", "dog"])
    axes = axes_of(confusion, kind="heatmap")
    assert (labels(axes.xaxis), labels(axes.yaxis)) == (["cat", "dog"], ["cat", "dog"])
    nested = pd.DataFrame(
        [[5, 1]], pd.MultiIndex.from_tuples([("a", 1)]), pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])
    )
    assert labels(axes_of(nested, kind="heatmap").xaxis) == ["x/1", "y/2"]


def test_columns_of_several_levels_have_one_name_each():
    frame = pd.DataFrame({("loss", "mean"): [1.0, 2.0], ("loss", "std"): [0.1, 0.2]})
    for x, y in ((("loss", "mean"), ("loss", "std")), ("loss/mean", "loss/std")):
        assert axes_of(frame, x, y).lines[0].get_xydata().tolist() == [[1.0, 0.1], [2.0, 0.2]]


def test_two_series_of_one_name_are_two_columns(logger, tmp_path):
    one, two = pd.DataFrame({"loss": [1.0, 2.0]}), pd.DataFrame({"loss": [5.0, 6.0]})
    axes = axes_of(None, one["loss"], two["loss"])
    assert axes.lines[0].get_xydata().tolist() == [[1, 5], [2, 6]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("loss", "loss (y)")
    assert axes_of(one, "loss", two["loss"]).lines[0].get_xydata().tolist() == [[1, 5], [2, 6]]
    logger.log_seaborn_graph("g", None, one["loss"], two["loss"])
    kept = pl.read_parquet(tmp_path / media(tmp_path)[0]["data"])
    assert kept.to_dict(as_series=False) == {"loss": [1.0, 2.0], "loss (y)": [5.0, 6.0]}


SIZES = ["small", "large", "medium"]


@pytest.mark.parametrize("column", [
    pd.Categorical(SIZES, categories=["small", "medium", "large"], ordered=True),
    pl.Series(SIZES, dtype=pl.Enum(["small", "medium", "large"])),
])  # fmt: skip
def test_categories_keep_their_order(column, logger, tmp_path):
    data = {"size": column, "loss": [1.0, 3.0, 2.0]}
    frame = pl.DataFrame(data) if isinstance(column, pl.Series) else pd.DataFrame(data)
    assert labels(axes_of(frame, "size", "loss", "bar").xaxis) == ["small", "medium", "large"]
    logger.log_seaborn_graph("g", frame, "size", "loss", "bar")
    kept = pl.read_parquet(tmp_path / media(tmp_path)[0]["data"])
    assert kept["size"].to_list() == SIZES
    assert kept["size"].dtype.categories.to_list() == ["small", "medium", "large"]


def test_hue_colours(logger, tmp_path):
    data = {"x": [1, 2, 1, 2], "y": [1, 2, 3, 4], "run": ["a", "a", "b", "b"]}
    for hue in ("run", ["a", "a", "b", "b"]):
        axes = prepare_graph("g", data, "x", "y", hue=hue)().figure.axes[0]
        assert [line.get_ydata().tolist() for line in axes.lines if len(line.get_ydata())] == [[1, 2], [3, 4]]
    LoggerGroup([logger]).log_seaborn_graph("g", data, "x", "y", hue="run")
    assert pl.read_parquet(tmp_path / media(tmp_path)[0]["data"]).columns == ["x", "y", "run"]
    for wrong in ({"kind": "heatmap", "x": "x"}, {}):
        with pytest.raises(ValueError, match="leave hue out"):
            logger.log_seaborn_graph("g", data, hue="run", **wrong)


def test_a_long_line_is_thinned_by_hue():
    rows = 60_000
    data = {"y": np.zeros(rows), "x": np.arange(rows), "run": np.arange(rows) % 2}
    data["y"][[30_000, 30_001]] = 5.0, 7.0
    graph = prepare_graph("g", data, "x", "y", hue="run")()
    assert graph.drawn < 3000
    drawn = [line.get_ydata().max() for line in graph.figure.axes[0].lines if len(line.get_ydata())]
    assert drawn == [5.0, 7.0]


def test_the_index_is_kept_with_the_data(logger, tmp_path):
    frame = pd.DataFrame({"a": [0.5, 1.5]}, pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["run", None]))
    logger.log_seaborn_graph("g", frame, y="a", kind="bar")
    kept = pl.read_parquet(tmp_path / media(tmp_path)[0]["data"])
    assert kept.to_dict(as_series=False) == {"run": ["x", "y"], "level_1": [1, 2], "a": [0.5, 1.5]}


def test_a_million_points_are_thinned_and_keep_their_spike(logger, tmp_path):
    y = np.zeros(1_000_000)
    y[123_456] = 9.0
    graph = prepare_graph("g", {"x": np.arange(1_000_000)[::-1], "y": y}, "x", "y")()
    assert graph.drawn <= 2100
    assert graph.figure.axes[0].lines[0].get_ydata().max() == 9.0
    logger.log_seaborn_graph("g", y)
    entry = media(tmp_path)[0]
    assert (entry["rows"], entry["drawn"] <= 2100) == (1_000_000, True)
    kept = pl.read_parquet(tmp_path / entry["data"])
    assert kept["value"].to_numpy().tolist() == y.tolist()


def test_the_data_is_kept_beside_the_picture(logger, tmp_path):
    frame = pd.DataFrame({"x": [1, 2], "y": [0.5, np.nan], "word": ["a", None], "unused": [1, 1]})
    logger.log_seaborn_graph("g", frame, "word", "y", "bar")
    entry = media(tmp_path)[0]
    assert entry["data"].removesuffix(".parquet") == entry["file"].removesuffix(".png")
    kept = pl.read_parquet(tmp_path / entry["data"])
    assert kept.columns == ["word", "y"]
    assert kept["word"].to_list()[0] == "a"


def test_without_seaborn(logger, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "seaborn", None)
    with pytest.raises(MissingExtraError, match=r"log_seaborn_graph needs seaborn.*pip install .*'seaborn>="):
        logger.log_seaborn_graph("g", [1, 2])


def test_a_name_is_no_formula_and_no_path(logger, tmp_path):
    logger.log_seaborn_graph("../$x_{\n</b>", [1, 2])
    assert media(tmp_path)[0]["name"] == "../$x_{\n</b>"
