"""Objects as people have them, read back from the files: labels, types and images are kept."""

import argparse
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from ridgepole.loggers.local.media_files import from_hparams, read_histogram, read_image, read_table
from ridgepole.loggers.media.validate import binned, plain_params, plain_table
from ridgepole.loggers.media.validate_image import annotated_images
from ridgepole.loggers.media_types import Box, Histogram, RenderedFigure, Table
from ridgepole.metrics.convert import Described
from ridgepole.permanences import BasicLogger, LoggerGroup, NullLogger, TensorBoardLogger


def media(directory):
    return [json.loads(line) for line in (directory / "media.jsonl").read_text().splitlines()]


@pytest.fixture
def logger(tmp_path):
    with BasicLogger(tmp_path) as logger:
        yield logger


# -- tables ------------------------------------------------------------------------------------------------------------

SCORES = pd.DataFrame({"model": ["a", "a", "b"], "loss": [1.0, 3.0, 5.0]})


@pytest.mark.parametrize(
    ("data", "columns", "first"),
    [
        (SCORES.groupby("model").mean(), ("model", "loss"), ("a", 2.0)),
        (SCORES.groupby("model")["loss"].mean(), ("model", "loss"), ("a", 2.0)),
        (SCORES.describe(), ("index", "loss"), ("count", 3.0)),
        (SCORES[SCORES.loss > 2], ("index", "model", "loss"), (1, "a", 3.0)),
        (SCORES.set_index(["model", "loss"]).assign(n=1), ("model", "loss", "n"), ("a", 1.0, 1)),
        (SCORES.set_index("model", drop=False), ("model (index)", "model", "loss"), ("a", "a", 1.0)),
        (SCORES.groupby("model").agg(["min", "max"]), ("model", "loss/min", "loss/max"), ("a", 1.0, 3.0)),
        (SCORES, ("model", "loss"), ("a", 1.0)),
        (pl.Series("s", [1.5]), ("s",), (1.5,)),
        (pd.Series([1.5]), ("value",), (1.5,)),
    ],
)
def test_the_index_of_a_frame_becomes_columns(data, columns, first):
    table = plain_table(data)
    assert (table.columns, table.rows[0]) == (columns, first)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    betas: tuple = (0.9, 0.99)


@pytest.mark.parametrize(
    ("cell", "text", "kind"),
    [
        (decimal.Decimal("1.10"), "1.10", "decimal.Decimal"),
        (Path("/a/b"), "/a/b", "path"),
        (pd.Interval(0, 1), "(0, 1]", "pandas.Interval"),
        ([1, "a", None], '[1, "a", null]', "list"),
        ({"a": [1.5]}, '{"a": [1.5]}', "dict"),
        (Optimizer(), '{"name": "adam", "betas": [0.9, 0.99]}', "test_logger_objects.Optimizer"),
        (np.arange(3), "[0, 1, 2]", "numpy.ndarray"),
        (torch.tensor([0.5, 1.0]).bfloat16(), "[0.5, 1.0]", "torch.Tensor"),
        (np.datetime64("2026-01-02", "ns"), "2026-01-02T00:00:00.000000000", "datetime64[ns]"),
        (dt.date(2026, 1, 2), "2026-01-02", "datetime.date"),
        (b"x", "b'x'", "bytes"),
        (1j, "1j", "complex"),
        (2**70, str(2**70), "int"),
        ("\ud800", "\\ud800", "str"),
        (torch.float32, "torch.float32", "torch.dtype"),
    ],
)
def test_a_cell_of_another_type_is_text_with_its_type(logger, tmp_path, cell, text, kind):
    cells = np.empty(2, dtype=object)
    cells[0] = cell
    logger.log_table("t", {"n": [1, 2], "x": pd.Series(cells, dtype=object)})
    (entry,) = media(tmp_path)
    assert {name: found.rpartition(".")[2] for name, found in entry["types"].items()} == {"x": kind.rpartition(".")[2]}
    assert read_table(tmp_path, entry).rows == ((1, text), (2, None))
    assert pd.read_csv(tmp_path / entry["file"], dtype=str)["x"].tolist()[0] == text
    assert pl.read_csv(tmp_path / entry["file"], infer_schema=False)["x"].to_list()[0] == text


@pytest.mark.parametrize("cell", [np.int64(3), np.array([3]), torch.tensor([[3]]), pl.Series([3])])
def test_a_cell_of_one_element_is_a_number(cell):
    assert plain_table({"a": [cell]}) == Table(("a",), ((3,),))


@pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, np.ma.masked, np.datetime64("NaT"), float("nan")])
def test_a_missing_cell_stays_missing(missing):
    ((cell,),) = plain_table({"a": [missing]}).rows
    assert cell is None or math.isnan(cell)


def test_times_of_a_column_are_not_numbers():
    times = np.array(["2026-01-02"], "datetime64[ns]")
    assert plain_table({"t": times}).rows == (("2026-01-02T00:00:00.000000000",),)
    assert plain_table(pd.DataFrame({"t": times})).rows == (("2026-01-02T00:00:00",),)


def test_a_row_of_none_survives_readers(logger, tmp_path):
    for values in ([1, None, 2], ["a", None, ""], [None]):
        logger.log_table("t", {"a": values})
    entries = media(tmp_path)
    frames = [pd.read_csv(tmp_path / entry["file"]) for entry in entries]
    assert [len(frame) for frame in frames] == [3, 3, 1]
    assert frames[0]["a"].isna().tolist() == [False, True, False]
    for entry, values in zip(entries, ([1, None, 2], ["a", None, ""], [None]), strict=True):
        assert read_table(tmp_path, entry).rows == tuple((value,) for value in values)


def test_images_in_cells_are_images(logger, tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    logger.log_table("t", {"loss": [0.5, 1.5], "image": [Image.fromarray(pixels), pixels + 1]})
    (entry,) = media(tmp_path)
    assert entry["types"] == {"image": "image"}
    names = pd.read_csv(tmp_path / entry["file"])["image"].tolist()
    for number, name in enumerate(names):
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image).tolist() == (pixels + number).tolist()
    back = read_table(tmp_path, entry).rows
    assert [row[0] for row in back] == [0.5, 1.5]
    assert all(isinstance(row[1], RenderedFigure) and (row[1].width, row[1].height) == (4, 4) for row in back)
    logger.log_table("batch", {"image": np.stack([pixels, pixels])})
    assert media(tmp_path)[1]["types"] == {"image": "image"}


def test_unknown_objects_are_said_once(logger, tmp_path, capfd):
    for _ in range(3):
        logger.log_table("t", {"a": [object(), functools.partial(len)]})
    said = capfd.readouterr().err
    assert said.count("log_table: 'column a' is a object; such values are stored as text (said once)") == 1
    assert said.count("functools.partial") == 1
    assert len(media(tmp_path)) == 3


# -- histograms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "nan", "infinite"),
    [([], 0, 0), ([math.nan] * 3, 3, 0), ([math.inf, -math.inf], 0, 2), (torch.full((2, 2), math.nan), 4, 0),
     ([None, 1e999], 1, 1), (np.ma.array([1.0, 2.0], mask=True), 2, 0)],
)  # fmt: skip
def test_a_histogram_without_finite_values(logger, tmp_path, values, nan, infinite):
    logger.log_histogram("h", values)
    (entry,) = media(tmp_path)
    expected = Histogram(counts=(), edges=(), total=0.0, squares=0.0, nonfinite=nan + infinite, nan=nan)
    assert read_histogram(entry) == expected


@pytest.mark.parametrize(
    "values",
    [
        [torch.tensor([0.0, 1.0]), torch.tensor([[2.0, 3.0]])],
        [[0], [1, 2, 3]],
        (np.arange(2), [2, 3]),
        torch.arange(4).to(torch.float8_e4m3fn),
        torch.arange(4.0).to_sparse(),
        torch.complex(torch.zeros(4), -torch.arange(4.0)).conj().imag,
        np.array([0, 1, 2, 3], np.longdouble),
        pd.Series([0, 1, 2, 3], dtype="Int64"),
        pd.DataFrame({"a": [0, 1], "b": [2, 3]}),
    ],
)
def test_histograms_of_every_library(values):
    assert binned(values, 4) == Histogram(counts=(1,) * 4, edges=(0.0, 0.75, 1.5, 2.25, 3.0), total=6.0, squares=14.0)


@pytest.mark.parametrize("values", [np.array([1j, 2j]), ["a", "b"], np.array(["2026-01-02"], "datetime64[ns]")])
def test_a_histogram_of_something_else_is_text(logger, tmp_path, values, capfd):
    assert isinstance(binned(values), Described)
    for _ in range(2):
        logger.log_histogram("h", values)
    assert [entry["kind"] for entry in media(tmp_path)] == ["text", "text"]
    assert capfd.readouterr().err.count("such values are stored as text") == 1


def test_a_text_with_a_lone_surrogate_is_escaped(logger, tmp_path):
    logger.log_text("t", "a \ud800 b")
    assert media(tmp_path)[0]["text"] == "a \\ud800 b"


# -- hyperparameters ---------------------------------------------------------------------------------------------------


class Settings(BaseModel):
    lr: float = 0.1
    layers: list[int] = [1, 2]


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "flat"),
    [
        (argparse.Namespace(lr=0.1, opt=argparse.Namespace(name="adam")), {"lr": 0.1, "opt/name": "adam"}),
        (Optimizer(), {"name": "adam", "betas": "[0.9, 0.99]"}),
        (Settings(), {"lr": 0.1, "layers": "[1, 2]"}),
        ({"id2label": {0: "cat", 1: "dog"}}, {"id2label/0": "cat", "id2label/1": "dog"}),
        ({"pair": Pair(1, 2)}, {"pair/a": 1, "pair/b": 2}),
        ({"net": {}}, {"net": "{}"}),
    ],
)
def test_configuration_objects_are_mappings(logger, tmp_path, value, flat):
    logger.log_hparams(value)
    assert from_hparams((tmp_path / "hparams.json").read_bytes())[0] == flat


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (torch.float32, "torch.float32"),
        (torch.device("cpu"), "cpu"),
        (torch.optim.Adam, "torch.optim.adam.Adam"),
        (math.sqrt, "math.sqrt"),
        ([str(n) for n in range(80)], json.dumps([str(n) for n in range(80)])),
        ([{"a": 1}, {"b": (2,)}], '[{"a": 1}, {"b": [2]}]'),
        ({"b", "a"}, '["a", "b"]'),
        (range(3), "[0, 1, 2]"),
        (np.eye(2), "[[1.0, 0.0], [0.0, 1.0]]"),
        (torch.tensor([1, 2]), "[1, 2]"),
        (np.array([0.5]), 0.5),
        (2**70, str(2**70)),
        (Colour.RED, "red"),
        (Path("a/b"), "a/b"),
        (dt.datetime(2026, 1, 2), "2026-01-02T00:00:00"),
        (decimal.Decimal("0.1"), "0.1"),
        (pd.NA, None),
        (1 + 2j, "(1+2j)"),
        (b"x", "b'x'"),
        (np.zeros(100_000), "numpy.ndarray of shape (100000,)"),
    ],
)
def test_every_hyperparameter_has_a_form(value, plain):
    assert plain_params({"x": value}) == {"x": plain}


class Unreadable:
    def __repr__(self):
        raise RuntimeError("no text")


def test_an_object_without_a_text_is_its_type(logger, tmp_path, capfd):
    logger.log_hparams({"lr": 0.1, "hook": object(), "broken": Unreadable(), "part": functools.partial(int, "1")})
    params, _ = from_hparams((tmp_path / "hparams.json").read_bytes())
    assert params["lr"] == 0.1
    assert params["hook"] == "object"
    assert params["broken"].endswith("Unreadable")
    assert params["part"].startswith("functools.partial")
    assert "log_hparams: 'hook' is a object" in capfd.readouterr().err


def test_results_that_are_not_numbers_are_left_out_with_a_warning(logger, tmp_path, capfd):
    results = {"a": None, "b": "x", "c": torch.tensor([0.5]), "d": np.ma.masked, "e": 2**70, "f": 10**999}
    logger.log_hparams({}, results)
    _, metrics = from_hparams((tmp_path / "hparams.json").read_bytes())
    assert list(metrics) == ["c", "d", "e"]
    assert (metrics["c"], metrics["e"]) == (0.5, float(2**70))
    said = capfd.readouterr().err
    assert all(f"log_hparams: {name!r} is a {kind} and is left out" in said
               for name, kind in (("a", "NoneType"), ("b", "str"), ("f", "int")))  # fmt: skip


# -- images ------------------------------------------------------------------------------------------------------------


def test_a_rounding_error_does_not_stretch_a_picture(logger, tmp_path):
    pixels = np.full((2, 2), 0.5)
    pixels[0, 0] = 1.0001
    pixels[1, 1] = -0.004
    logger.log_image("i", pixels)
    logger.log_figure("f", pixels)
    for entry in media(tmp_path):
        with Image.open(tmp_path / entry["file"]) as image:
            assert np.asarray(image.convert("L")).tolist() == [[255, 128], [128, 0]]


def test_a_range_says_what_black_and_white_are():
    (image,) = annotated_images(np.array([[-1.0, 0.0], [1.0, 5.0]]), span=(-1, 1))
    assert image.pixels[..., 0].tolist() == [[0, 128], [255, 255]]
    (image,) = annotated_images(np.array([[0, 100]], np.uint8), span=(0, 100))
    assert image.pixels[..., 0].tolist() == [[0, 255]]
    (image,) = annotated_images(np.array([[0.0, 2.0]]))
    assert image.pixels[..., 0].tolist() == [[0, 255]], "values far outside are stretched"
    for wrong, error in (((1, 0), ValueError), ((0, math.nan), ValueError), (3, TypeError)):
        with pytest.raises(error, match="range must be"):
            annotated_images(np.zeros((2, 2)), span=wrong)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_makes_a_grid(first, channels):
    batch = np.stack([np.full((2, 5, channels), 50 * n, np.uint8) for n in range(5)])
    given = np.moveaxis(batch, -1, 1) if first else batch
    (sheet,) = annotated_images(given)
    assert sheet.pixels.shape == (2 * 4 - 2, 3 * 7 - 2, 3)
    assert sheet.pixels[0, 7, 0] == 50
    assert sheet.pixels[4, 7, 0] == 200
    assert sheet.pixels[:, 5].max() == 0, "there is a line between them"
    (row,) = annotated_images(torch.from_numpy(given.copy()), grid=5)
    assert row.pixels.shape[:2] == (2, 5 * 7 - 2)
    assert [each.pixels[0, 0, 0] for each in annotated_images(given, grid=False)] == [0, 50, 100, 150, 200]
    assert annotated_images(given[:1])[0].pixels.shape == (2, 5, 3)


def test_a_list_is_logged_image_by_image(logger, tmp_path):
    pictures = [np.zeros((2, 2), np.uint8), Image.new("RGB", (4, 4)), torch.zeros(3, 2, 2)]
    logger.log_image("list", pictures, step=3)
    assert [(entry["name"], entry["step"], entry["width"]) for entry in media(tmp_path)] == [
        ("list", 3, 2), ("list", 3, 4), ("list", 3, 2)]  # fmt: skip
    logger.log_image("grid", pictures[::2], grid=True)
    assert media(tmp_path)[3]["width"] == 6
    for wrong, says in (({"grid": True}, "several sizes"), ({"masks": {"m": np.zeros((2, 2), int)}}, "one by one"),
                        ({"grid": "x"}, "grid must be")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            logger.log_image("i", pictures, **wrong)


def test_predictions_that_make_no_box_are_kept(logger, tmp_path):
    found = [(3, 2, 1, 4), (1, math.nan, 2, math.inf), {"corners": (0, 0, 1, 1), "score": math.nan}]
    logger.log_image("i", np.zeros((8, 8)), boxes={"b": found})
    text = (tmp_path / "media.jsonl").read_text()
    json.loads(text, parse_constant=pytest.fail)
    back = read_image(tmp_path, json.loads(text)).boxes["b"]
    assert repr(back) == repr((Box((3.0, 2.0, 1.0, 4.0)), Box((1.0, math.nan, 2.0, math.inf)),
                               Box((0.0, 0.0, 1.0, 1.0), score=math.nan)))  # fmt: skip


def test_classes_that_no_mask_holds_are_renumbered_and_named(logger, tmp_path):
    labels = np.array([[-100, 255], [70_000, 1]])
    logger.log_image("i", np.zeros((2, 2)), masks={"m": {"labels": labels, "names": {-100: "ignored", 1: "cat"}}})
    mask = read_image(tmp_path, media(tmp_path)[0]).masks["m"]
    names = {1: "cat"} | dict(mask.names)
    assert mask.labels[0, 1] == 255
    assert [names.get(int(n), int(n)) for n in mask.labels.ravel()] == ["ignored", 255, "70000", "cat"]


# -- directories and messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BasicLogger, TensorBoardLogger])
def test_the_home_directory_is_expanded_and_an_address_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with kind("~/logs") as logger:
        logger.log_metrics({"a": 1.0})
    assert (tmp_path / "logs").is_dir()
    for address in ("s3://bucket/x", "gs://bucket/x", Path("s3://bucket/x")):
        with pytest.raises(ValueError, match="is an address, and logs are written to a local directory"):
            kind(address)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_message_with_the_exception_that_is_handled(tmp_path, capfd, grouped):
    heard = []

    class Chat(NullLogger):
        def error(self, message, *args, exc_info=None):
            heard.append((message % args, exc_info))

    with BasicLogger(tmp_path / "a") as one, BasicLogger(tmp_path / "b") as two:
        logger = LoggerGroup([one, two, Chat()]) if grouped else one
        failure = ZeroDivisionError("by zero")
        try:
            raise failure
        except ZeroDivisionError:
            logger.error("step %d failed", 3, exc_info=True)  # noqa: G201 - the interface has no `exception`
        logger.warning("later", exc_info=failure)
    for directory in ("a", "b") if grouped else ("a",):
        text = (tmp_path / directory / "run.log").read_text()
        assert text.count("ZeroDivisionError: by zero") == 2
        assert "step 3 failed\n    Traceback" in text
    assert heard == ([("step 3 failed", failure)] if grouped else [])
    assert capfd.readouterr().err.count("ZeroDivisionError: by zero") == 2
