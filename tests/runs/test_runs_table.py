"""The table of runs: names of columns, what differs, sorting, and the frame and comparison made of it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import ridgepole
from ridgepole import ConfigError, Pipeline, RunDirError, process
from ridgepole.permanences import BaseLoggerManager
from ridgepole.rundir import read_run
from ridgepole.runs.compare import compare
from ridgepole.runs.row import FIELDS, RunRow
from ridgepole.runs.table import RunTable


def row(identity, config=(), metrics=(), **fields):
    return RunRow(
        path=f"runs/{identity}",
        fields=dict.fromkeys(FIELDS) | {"id": identity, "archived": False, "tags": []} | fields,
        config=dict(config),
        metrics={name: entry if isinstance(entry, dict) else {"last": entry} for name, entry in dict(metrics).items()},
    )


ROWS = [
    row("c", {"processes.train.params.lr": 0.1, "permanences.net.params.width": 8, "pipeline.deterministic": False}),
    row("b", {"processes.train.params.lr": 0.2, "permanences.net.params.width": 8, "processes.eval.params.lr": 0.2}),
    row("a", {"processes.train.params.lr": 0.1, "permanences.net.params.width": True}, {"loss": {"last": 3, "min": 1}}),
]


def ids(table):
    return [each.id for each in table.rows]


def test_a_label_is_the_shortest_name_that_no_other_column_has():
    labels = {column.key: column.label for column in RunTable(ROWS).columns()}
    assert labels == {
        "processes.train.params.lr": "train.lr",
        "processes.eval.params.lr": "eval.lr",
        "permanences.net.params.width": "width",
        "pipeline.deterministic": "deterministic",
        "loss": "loss",
    }
    taken = [row("a", {"processes.train.params.status": 1, "processes.train.params.loss": 2}, {"loss": 1})]
    labels = {(column.kind, column.key): column.label for column in RunTable(taken).columns()}
    assert labels["config", "processes.train.params.status"] == "train.status", "status is a field"
    assert labels["config", "processes.train.params.loss"] == "train.loss"
    assert labels["metric", "loss"] == "metrics.loss"
    for (kind, key), label in labels.items():
        stored = getattr(taken[0], "config" if kind == "config" else "metrics")[key]
        assert RunTable(taken).getter(label)(taken[0]) == (stored["last"] if kind == "metric" else stored)


def test_every_form_of_a_name_finds_its_column():
    table = RunTable(ROWS)
    for name in ("train.lr", "processes.train.lr", "processes.train.params.lr", "config.train.lr"):
        assert table.getter(name)(ROWS[1]) == 0.2
    assert table.getter("loss")(ROWS[2]) == 3
    assert table.getter("loss.min")(ROWS[2]) == table.getter("metrics.loss.min")(ROWS[2]) == 1
    assert table.getter("loss")(ROWS[0]) is None


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("lr", "'lr' could be processes.train.params.lr or processes.eval.params.lr", "write more of the name"),
        ("widht", "no run has anything called 'widht'", "did you mean 'width'?"),
        ("loss.mean", "no run has anything called 'loss.mean'", "did you mean 'loss'?"),
    ],
)
def test_a_name_that_is_unknown_or_ambiguous(name, message, hint):
    for call in (RunTable(ROWS).sorted, RunTable(ROWS).select, lambda text: RunTable(ROWS).filtered(f"{text} > 1")):
        with pytest.raises(ConfigError) as caught:
            call(name)
        assert (caught.value.problems[0].message, caught.value.problems[0].hint) == (message, hint)


def test_what_varies_and_what_differs():
    columns = {column.label: (column.varies, column.differs) for column in RunTable(ROWS).columns()}
    assert columns == {
        "train.lr": (True, True),
        "eval.lr": (True, False),
        "width": (True, True),
        "deterministic": (True, False),
        "loss": (True, False),
    }
    alike = [row("a", {"x": 1, "y": [1]}), row("b", {"x": 1, "y": [1]})]
    assert [(column.varies, column.differs) for column in RunTable(alike).columns()] == [(False, False)] * 2


def test_sorting_is_stable_and_leaves_what_is_missing_at_the_end():
    rows = [
        row(name, {"x": x}) for name, x in [("a", 2), ("b", None), ("c", float("nan")), ("d", "t"), ("e", 1), ("f", 2)]
    ]
    assert ids(RunTable(rows).sorted("x")) == ["e", "a", "f", "d", "c", "b"]
    assert ids(RunTable(rows).sorted("-x")) == ["c", "d", "a", "f", "e", "b"]
    assert ids(RunTable(rows).sorted("x, -id")) == ["e", "f", "a", "d", "c", "b"]
    assert ids(RunTable(rows).sorted(None)) == list("abcdef")


def test_a_filter_may_name_what_only_runs_have_that_it_leaves_out():
    table = RunTable([*ROWS, row("d", archived=True, status="failed")]).archived("no").filtered("train.lr < 0.15")
    assert ids(table) == ["c", "a"]
    assert ids(table.filtered("eval.lr == 0.2")) == []
    assert ids(RunTable([*ROWS, row("d", archived=True)]).archived("only")) == ["d"]


@process
def train(logger: BaseLoggerManager, lr: float = 0.1, sizes: tuple[int, ...] = (1, 2)):
    for step in range(3):
        logger.log_metrics({"loss": lr / (step + 1), "note": "text"})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames") / "runs"
    for lr in (0.25, 0.5):
        pipeline = Pipeline("frames", progress=False, seed=1, checkpoint=False, tags=["t"])
        pipeline.process("train", train, lr=lr).run(root, name=f"lr {lr}", tags=["second"] if lr == 0.5 else [])
    return root


def test_load_runs_gives_a_typed_frame_that_pandas_takes(root):
    frame = ridgepole.load_runs(root)
    assert frame["name"].to_list() == ["lr 0.5", "lr 0.25"]
    assert frame["tags"].to_list() == [["t", "second"], ["t"]]
    assert frame["lr"].to_list() == [0.5, 0.25]
    assert frame["sizes"].to_list() == ["[1, 2]"] * 2
    assert frame["loss"].to_list() == [0.5 / 3, 0.25 / 3]
    assert frame["loss.best"].to_list() == [0.5 / 3, 0.25 / 3]
    assert frame["note"].to_list() == ["", ""], "a field, so the metric of this name has a longer one"
    assert frame["metrics.note"].to_list() == ["text"] * 2
    assert frame.schema["started"] == pl.Datetime("us", "UTC")
    assert abs((frame["started"][0] - datetime.now(UTC)).total_seconds()) < 3600
    assert frame.schema["seed"] == pl.Int64
    assert frame.schema["deterministic"] == pl.Boolean
    table = pd.DataFrame(frame.to_dicts())
    assert table.loc[table.lr == 0.25, "status"].tolist() == ["finished"]


def test_load_runs_filters_and_sorts(root):
    assert ridgepole.load_runs(root, filter="lr > 0.3")["lr"].to_list() == [0.5]
    assert ridgepole.load_runs(root, sort="lr")["lr"].to_list() == [0.25, 0.5]
    with pytest.raises(ConfigError, match="filter:1:1: error: no run has anything called 'rl'"):
        ridgepole.load_runs(root, filter="rl > 0.3")


def test_load_runs_of_nothing(tmp_path):
    assert ridgepole.load_runs(tmp_path).shape == (0, len(FIELDS) + 1)
    with pytest.raises(RunDirError, match="is not a directory of runs"):
        ridgepole.load_runs(tmp_path / "none")


def test_read_metrics_of_several_runs(root):
    paths = sorted(root.glob("2*"))
    frame = ridgepole.read_metrics(paths)
    assert frame.columns[:3] == ["run", "seq", "time"]
    losses = frame.filter(pl.col("name") == "loss").group_by("run", maintain_order=True).agg("value")
    assert losses["run"].to_list() == [path.name for path in paths]
    assert losses["value"].to_list()[1] == [0.5, 0.25, 0.5 / 3]
    assert ridgepole.read_metrics(iter([])).columns == frame.columns
    with pytest.raises(RunDirError, match="does not exist"):
        ridgepole.read_metrics([paths[0], root / "none"])


def test_compare_aligns_what_differs(root):
    runs = [read_run(path) for path in sorted(root.glob("2*"))]
    found = compare(runs, baseline=0)
    assert [(value.label, value.values) for value in found["config"]] == [("lr", [0.25, 0.5])]
    (loss,) = found["metrics"]
    assert (loss.key, loss.goal, loss.percent) == ("loss", "min", [0.0, 100.0])
    assert found["code"] == found["packages"] == []
    everything = compare(runs, everything=True)
    assert {"note", "loss"} == {value.key for value in everything["metrics"]}
    assert all(value.percent == () for value in everything["metrics"])
    assert any(value.key == "pytest" for value in everything["packages"])


def test_compare_sees_packages_code_and_missing_values(root, tmp_path):
    runs = [read_run(path) for path in sorted(root.glob("2*"))]
    other = tmp_path / "other"
    other.mkdir()
    for name in ("run.json", "config.resolved.json", "provenance.json"):
        (other / name).write_bytes((runs[0].path / name).read_bytes())
    provenance = json.loads((other / "provenance.json").read_text())
    provenance["packages"] |= {"pytest": "0.1"}
    provenance["code"] = {"train.py": "0123"}
    (other / "provenance.json").write_text(json.dumps(provenance))
    found = compare([runs[0], read_run(other)], baseline=1)
    assert [(value.key, value.values[1]) for value in found["packages"]] == [("pytest", "0.1")]
    assert ("train.py", [None, "0123"]) in [(value.key, value.values) for value in found["code"]]
    assert [value.percent for value in found["metrics"]] == [[None, None]] * 2


CASES = json.loads((Path(__file__).parents[1] / "view" / "filters.json").read_text(encoding="utf-8"))


def shared_row():
    """The run of the cases that the page's own filter answers as well."""
    run = CASES["run"]
    fields = {**dict.fromkeys(FIELDS), **{name: run[name] for name in run if name in FIELDS}, "id": run["runId"]}
    return RunRow(path="", fields=fields, config=run["config"], metrics=run["metrics"])


@pytest.mark.parametrize("text", CASES["passes"])
def test_what_passes_in_the_page_passes_here(text):
    assert RunTable([shared_row()]).filtered(text).rows


@pytest.mark.parametrize("text", CASES["fails"])
def test_what_does_not_pass_in_the_page_does_not_here(text):
    assert not RunTable([shared_row()]).filtered(text).rows


@pytest.mark.parametrize(("text", "column"), CASES["wrong"])
def test_what_is_wrong_in_the_page_is_wrong_here(text, column):
    with pytest.raises(ConfigError) as caught:
        RunTable([shared_row()]).filtered(text)
    assert caught.value.problems[0].place.column == column
