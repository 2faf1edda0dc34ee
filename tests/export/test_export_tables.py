"""A run as a table: csv for pandas and spreadsheets, parquet in the long form."""

import json
import math
import os

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ridgepole.errors import RunDirError
from ridgepole.export import TARGETS, export_run, table
from ridgepole.metrics import MetricRecord, read_metrics
from ridgepole.permanences import BasicLogger


def logged(directory, *calls):
    with BasicLogger(directory) as logger:
        for metrics, step in calls:
            logger.log_metrics(metrics, step=step)
    return directory


def test_csv_is_what_pandas_expects(tmp_path):
    run = logged(
        tmp_path / "run",
        ({"loss": 0.5, "nested": {"x": 1}}, None),
        ({"loss": 0.25}, None),
        ({"accuracy": 0.75}, 1),
        ({"loss": 0.125, "accuracy": 1.0}, 7),
    )
    done = export_run(run, "csv")
    assert done.path == run / "export" / "csv"
    assert done.records == 6
    frame = pd.read_csv(done.path / "metrics.csv", index_col="step")
    assert list(frame.columns) == ["time", "loss", "nested/x", "accuracy"]
    assert frame["loss"].to_dict() == {0: 0.5, 1: 0.25, 7: 0.125}
    assert frame["accuracy"].dropna().to_dict() == {1: 0.75, 7: 1.0}
    assert frame["nested/x"].count() == 1
    times = read_metrics(run).group_by("step").agg(pl.col("time").min()).sort("step")["time"].to_list()
    assert frame["time"].tolist() == pytest.approx(times, abs=1e-3)


def test_csv_rows_are_in_the_order_of_steps(tmp_path):
    run = logged(tmp_path / "run", *(({"a": step}, step) for step in (5, 2, 9, 0)))
    frame = pd.read_csv(export_run(run, "csv").path / "metrics.csv")
    assert frame["step"].tolist() == frame["a"].tolist() == [0, 2, 5, 9]


def test_csv_keeps_every_value_of_a_step(tmp_path):
    run = logged(tmp_path / "run", ({"a": 1, "b": 10}, 3), ({"a": 2}, 3), ({"a": 3}, 4))
    frame = pd.read_csv(export_run(run, "csv").path / "metrics.csv")
    assert list(zip(frame["step"], frame["a"], frame["b"].fillna(-1), strict=True)) == [
        (3, 1, 10),
        (3, 2, -1),
        (4, 3, -1),
    ]


def test_csv_of_values_that_are_no_plain_numbers(tmp_path):
    large = 2**60 + 1
    run = logged(
        tmp_path / "run",
        ({"nan": math.nan, "inf": math.inf, "flag": True, "word": 'a,"b"\nc', "pair": [1, 2], "large": large}, 0),
        ({"nan": 1.0, "inf": -math.inf, "flag": False, "word": "", "pair": [math.nan], "large": 1}, 1),
    )
    frame = pd.read_csv(export_run(run, "csv").path / "metrics.csv", keep_default_na=False, na_values=["NaN"])
    assert math.isnan(frame["nan"][0])
    assert frame["inf"].tolist() == [math.inf, -math.inf]
    assert frame["flag"].tolist() == [True, False]
    assert frame["word"].tolist() == ['a,"b"\nc', ""]
    assert json.loads(frame["pair"][0]) == [1, 2]
    assert int(frame["large"][0]) == large


def test_csv_of_names_that_a_table_has_itself(tmp_path):
    names = ["step", "time", "nth", "row", "value", "name", "metrics/step", "a,b", 'q"q', "n\nn", "Loss", "loss", "é"]
    run = logged(tmp_path / "run", ({name: float(i) for i, name in enumerate(names)}, 40))
    row = pd.read_csv(export_run(run, "csv").path / "metrics.csv").iloc[0].to_dict()
    assert row["step"] == 40
    assert row["metrics/metrics/step"] == 0.0, "metrics/step is taken by a metric of that name"
    assert row["metrics/time"] == 1.0
    assert [row[name] for name in names[2:]] == [float(i) for i in range(2, len(names))]


def test_parquet_is_the_long_frame(tmp_path):
    run = logged(
        tmp_path / "run",
        ({"loss": 0.5, "words": "x", "nan": math.nan}, None),
        ([MetricRecord("val", 1.0, "p", "validation", "held out")], 4),
    )
    done = export_run(run, "parquet", tmp_path / "elsewhere")
    assert done.path == tmp_path / "elsewhere"
    assert pl.read_parquet(done.path / "metrics.parquet").equals(read_metrics(run))


def test_abandoned_segments_are_hidden(tmp_path):
    run = logged(tmp_path / "run", *(({"a": float(i)}, i) for i in range(6)))
    (run / "attempts.jsonl").write_text('{"attempt": 2, "first_seq": 5, "resumed_from_seq": 2}\n')
    csv, parquet = export_run(run, "csv"), export_run(run, "parquet")
    assert csv.hidden == parquet.hidden == 3
    assert pd.read_csv(csv.path / "metrics.csv")["a"].tolist() == [0, 1, 5]
    assert pl.read_parquet(parquet.path / "metrics.parquet")["value"].to_list() == [0, 1, 5]


def test_bad_lines_are_counted(tmp_path):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'nonsense\n{"seq":9,"tim')
    assert export_run(run, "csv").bad == 2


@pytest.mark.parametrize("to", TARGETS)
def test_never_twice_into_the_same_place(to, tmp_path):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    place = run / "export" / to
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("kept")
    with pytest.raises(
        RunDirError, match="holds something else already; remove it, or name another place with --output"
    ):
        export_run(run, to)
    assert [path.name for path in place.iterdir()] == ["mine.txt"]


def test_the_refusal_says_what_is_there(tmp_path):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    before = (export_run(run, "csv").path / "metrics.csv").read_bytes()
    with pytest.raises(RunDirError, match="holds a finished export of run to csv already"):
        export_run(run, "csv")
    assert (run / "export/csv/metrics.csv").read_bytes() == before
    manifest = json.loads((run / "export/csv/export.json").read_text())
    assert (manifest["run"], manifest["to"], manifest["records"], manifest["complete"]) == ("run", "csv", 1, True)
    (run / "export/csv/export.json").write_text(json.dumps(manifest | {"complete": False}))
    with pytest.raises(RunDirError, match="holds an unfinished export of run to csv"):
        export_run(run, "csv")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunDirError, match="it is a file"):
        export_run(run, "csv", file)


def test_an_empty_directory_will_do(tmp_path):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    (tmp_path / "out").mkdir()
    assert (export_run(run, "csv", tmp_path / "out").path / "metrics.csv").exists()


@pytest.mark.parametrize("there_before", [True, False])
def test_a_failure_leaves_nothing(there_before, tmp_path, monkeypatch):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    out = tmp_path / "deep" / "out"
    if there_before:
        out.mkdir(parents=True)

    def half(self):
        yield "half"
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(table._WideTable, "lines", half)
    with pytest.raises(OSError, match="No space left"):
        export_run(run, "csv", out)
    assert out.exists() == there_before
    assert not there_before or not list(out.iterdir())
    monkeypatch.undo()
    assert export_run(run, "csv", out).records == 1


def test_nothing_to_export(tmp_path):
    BasicLogger(tmp_path / "silent").cleanup()
    with BasicLogger(tmp_path / "empty"):
        pass
    (tmp_path / "other").mkdir()
    for name, reason in (
        ("empty", "has logged nothing yet"),
        ("other", "holds no record of a run"),
        ("missing", "is not a directory"),
    ):
        with pytest.raises(RunDirError, match=reason):
            export_run(tmp_path / name, "csv")
        assert not (tmp_path / name / "export").exists()


def test_figures_alone_make_no_table(tmp_path):
    with BasicLogger(tmp_path / "run") as logger:
        logger.log_figure("f", np.zeros((2, 2)))
    with pytest.raises(RunDirError, match="holds no metrics yet"):
        export_run(tmp_path / "run", "csv")
    assert not (tmp_path / "run/export/csv").exists()


def test_an_unknown_target(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'parquet'"):
        export_run(logged(tmp_path / "run", ({"a": 1}, None)), "parket")


def test_a_run_of_a_newer_version_is_refused(tmp_path):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    (run / "run.json").write_text('{"format": 99}')
    with pytest.raises(RunDirError, match="newer Ridgepole"):
        export_run(run, "csv")


def test_a_place_that_cannot_be_made(tmp_path):
    run = logged(tmp_path / "run", ({"a": 1}, None))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="--output"):
        export_run(run, "csv", tmp_path / "file" / "below")
