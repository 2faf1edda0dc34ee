"""Images, tables, histograms, texts and hyperparameters: every form that users have, refused or kept whole."""

import contextlib
import datetime as dt
import enum
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ridgepole.errors import LogWriteError
from ridgepole.loggers.figures.annotations import colour, overlaid
from ridgepole.loggers.local.media_files import (
    from_csv,
    from_hparams,
    read_histogram,
    read_image,
    read_table,
    read_text,
    to_csv,
    to_hparams,
)
from ridgepole.loggers.media.validate import binned, plain_params, plain_table
from ridgepole.loggers.media.validate_image import annotated_image
from ridgepole.loggers.media_types import AnnotatedImage, Box, Histogram, Mask, Table
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup, NullLogger


def media(directory):
    path = directory / "media.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def picture(directory, name):
    with Image.open(directory / name) as image:
        return np.asarray(image)


@pytest.fixture
def logger(tmp_path):
    with BasicLogger(tmp_path) as logger:
        yield logger


class Keeper(BaseLoggerManager):
    """A backend with every hook."""

    def __init__(self):
        self.got = []

    def log_metrics(self, metrics, *, step=None):
        self.resolve(metrics, step)

    def log_figure(self, name, figure):
        self.got.append(("figure", name, figure))

    def _log_image(self, name, image, step):
        self.got.append(("image", name, image, step))

    def _log_table(self, name, table, step):
        self.got.append(("table", name, table, step))

    def _log_histogram(self, name, histogram, step):
        self.got.append(("histogram", name, histogram, step))

    def _log_text(self, name, text, step):
        self.got.append(("text", name, text, step))

    def _log_hparams(self, params, metrics, step):
        self.got.append(("hparams", params, metrics))

    def cleanup(self):
        pass


class Bare(BaseLoggerManager):
    """A backend with none of them."""

    def __init__(self):
        self.figures = []

    def log_metrics(self, metrics, *, step=None):
        self.resolve(metrics, step)

    def log_figure(self, name, figure):
        self.figures.append((name, figure))

    def cleanup(self):
        pass


def log_everything(logger):
    logger.log_image("i", np.zeros((4, 4), np.uint8), masks={"m": np.eye(4, dtype=int)})
    logger.log_table("t", {"a": [1]})
    logger.log_histogram("h", [1.0, 2.0])
    logger.log_text("x", "text")
    logger.log_hparams({"lr": 0.1}, {"acc": 0.9})


# -- all of them -------------------------------------------------------------------------------------------------------


def test_every_kind_has_its_line(logger, tmp_path):
    logger.log_metrics({"a": 1}, step=6)
    log_everything(logger)
    logger.log_text("x", "later", step=9)
    entries = media(tmp_path)
    assert [(e["seq"], e["step"], e["kind"], e["name"]) for e in entries] == [
        (1, 6, "image", "i"),
        (2, 6, "table", "t"),
        (3, 6, "histogram", "h"),
        (4, 6, "text", "x"),
        (5, 9, "text", "x"),
    ]
    assert json.loads((tmp_path / "hparams.json").read_text()) == {"params": {"lr": 0.1}, "metrics": {"acc": 0.9}}
    assert logger.last_step == 6, "media moved the step"


def test_a_group_brings_things_into_form_once(logger, tmp_path):
    one, two, bare = Keeper(), Keeper(), Bare()
    group = LoggerGroup([one, logger, bare, two])
    group.log_metrics({"a": 1}, step=3)
    log_everything(group)
    assert [entry[0] for entry in one.got] == ["image", "table", "histogram", "text", "hparams"]
    assert all(
        a is b
        for first, second in zip(one.got[:4], two.got[:4], strict=True)
        for a, b in zip(first[2:3], second[2:3], strict=True)
    ), "each member had its own"
    assert [entry[3] for entry in one.got[:4]] == [3] * 4
    assert len(media(tmp_path)) == 4
    ((name, pixels),) = bare.figures
    assert name == "i"
    assert tuple(pixels[1, 1]) == tuple(round(c / 2) for c in colour(1)), "the mask is not in the figure"


def test_the_null_logger_drops_them():
    logger = NullLogger()
    log_everything(logger)
    assert logger.last_step == 0


def test_a_failing_sink_is_switched_off(logger, tmp_path, capfd):
    class Broken(Keeper):
        def _log_table(self, name, table, step):
            raise ConnectionError("gone")

    sink = Broken()
    group = LoggerGroup([logger, sink])
    log_everything(group)
    assert [entry[0] for entry in sink.got] == ["image"]
    assert capfd.readouterr().err.count("Broken failed and is switched off") == 1
    assert [entry["kind"] for entry in media(tmp_path)] == ["image", "table", "histogram", "text"]


@pytest.mark.parametrize("call", ["log_image", "log_table", "log_histogram", "log_text"])
@pytest.mark.parametrize(("name", "error"), [("", ValueError), (3, TypeError), ("\ud800", TypeError)])
def test_names(logger, tmp_path, call, name, error):
    value = {"log_image": np.zeros((2, 2)), "log_table": {"a": [1]}, "log_histogram": [1], "log_text": "x"}[call]
    with pytest.raises(error, match=f"name .*{call[4:]}"):
        getattr(logger, call)(name, value)
    with pytest.raises(ValueError, match="step"):
        getattr(logger, call)("name", value, step=-1)
    assert media(tmp_path) == []


EVIL = ["../x", "/abs", "a\0b", "🔥" * 90, "Loss", "loss", " "]


def test_evil_names_stay_in_their_folders(logger, tmp_path):
    for name in EVIL:
        logger.log_table(name, {"a": [1]})
        logger.log_image(name, np.zeros((2, 2)), boxes={name: [Box((0, 0, 1, 1))]})
        logger.log_text(name, "x" * 70_000)
    for folder, count in (("tables", 1), ("figures", 2), ("texts", 1)):
        assert len(list((tmp_path / folder).iterdir())) == count * len(EVIL)
    assert {p.name for p in tmp_path.iterdir()} <= {
        "figures",
        "tables",
        "texts",
        "media.jsonl",
        "metrics.jsonl",
        "run.log",
        "summary.json",
    }


def test_nothing_is_left_where_the_index_cannot_be_written(logger, tmp_path):
    (tmp_path / "media.jsonl").symlink_to("/dev/full")
    for log in (
        lambda: logger.log_image("i", np.zeros((4, 4)), masks={"m": np.eye(4, dtype=int)}, boxes={"b": []}),
        lambda: logger.log_table("t", {"a": [1]}),
        lambda: logger.log_text("x", "x" * 70_000),
        lambda: logger.log_histogram("h", [1]),
        lambda: logger.log_figure("f", np.zeros((2, 2))),
        lambda: logger.log_seaborn_graph("g", [1, 2, 3]),
    ):
        with pytest.raises(LogWriteError):
            log()
    left = [path for folder in ("figures", "tables", "texts") for path in (tmp_path / folder).glob("*")]
    assert left == []


# -- images ------------------------------------------------------------------------------------------------------------

GREY = np.array([[0, 128], [255, 64]], np.uint8)
RGB = np.stack([GREY, GREY // 2, GREY // 4], 2)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, np.stack([GREY] * 3, 2)),
        (GREY[..., None], np.stack([GREY] * 3, 2)),
        (GREY[None], np.stack([GREY] * 3, 2)),
        (RGB, RGB),
        (np.moveaxis(RGB, 2, 0), RGB),
        (RGB.astype(np.float32) / 255, RGB),
        (torch.from_numpy(np.moveaxis(RGB, 2, 0).copy()).float().div(255).requires_grad_(), RGB),
        (torch.from_numpy(RGB), RGB),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(GREY), np.stack([GREY] * 3, 2)),
        (Image.fromarray(GREY).convert("P"), np.stack([GREY] * 3, 2)),
        (np.dstack([RGB, np.full((2, 2), 255, np.uint8)]), RGB),
        (np.dstack([RGB, np.zeros((2, 2), np.uint8)]), np.full((2, 2, 3), 255)),
        (Image.new("RGBA", (2, 2), (10, 20, 30, 0)), np.full((2, 2, 3), 255)),
        (GREY > 100, np.stack([(GREY > 100) * 255] * 3, 2)),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.stack([GREY] * 3, 2)),
    ],
)
def test_images_of_every_form(logger, tmp_path, image, expected):
    logger.log_image("i", image)
    (entry,) = media(tmp_path)
    assert picture(tmp_path, entry["file"]).tolist() == expected.tolist()
    assert (entry["width"], entry["height"]) == (2, 2)
    assert entry.keys().isdisjoint({"plain", "masks", "boxes"})


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("path.png", TypeError),
        (None, TypeError),
        ([[1, 2]], TypeError),
        (np.zeros(3), ValueError),
        (np.zeros((2, 2, 2)), ValueError),
        (np.zeros((0, 2)), ValueError),
        (np.array([["a"]]), TypeError),
        (np.zeros((2, 2), complex), TypeError),
    ],
)
def test_what_is_no_image(logger, tmp_path, image, error):
    with pytest.raises(error, match=r"^image is"):
        logger.log_image("i", image)
    assert media(tmp_path) == []


def test_the_image_is_as_it_was_at_the_call():
    pixels, labels = GREY.copy(), np.eye(2, dtype=np.uint8)
    image = annotated_image(np.dstack([pixels] * 3), {"m": labels})
    source = np.zeros((2, 2, 3), np.uint8)
    other = annotated_image(source)
    labels[:] = 7
    source[:] = 9
    assert image.masks["m"].labels.tolist() == [[1, 0], [0, 1]]
    assert other.pixels.max() == 0


def test_masks_and_boxes_are_drawn_in_and_kept_beside(logger, tmp_path):
    labels = np.zeros((40, 60), np.int64)
    labels[10:20, 10:20] = 3
    logger.log_image(
        "scene",
        np.full((40, 60, 3), 100, np.uint8),
        masks={"truth": {"labels": labels, "names": {3: "cat"}}, "big": torch.full((40, 60), 700)},
        boxes={
            "found": [{"corners": (30, 5, 50, 25), "label": 2, "name": "dog", "score": 0.5}],
            "empty": np.zeros((0, 4)),
        },
    )
    (entry,) = media(tmp_path)
    drawn = picture(tmp_path, entry["file"])
    assert tuple(drawn[15, 40]) != (100, 100, 100), "the mask is not drawn in"
    assert tuple(drawn[25, 35]) == colour(2), "the box is not drawn in"
    assert (picture(tmp_path, entry["plain"]) == 100).all()
    back = read_image(tmp_path, entry)
    assert (back.pixels == 100).all()
    assert back.masks["truth"].names == {3: "cat"}
    assert (back.masks["truth"].labels == labels).all()
    assert (back.masks["big"].labels == 700).all()
    assert back.boxes == {"found": (Box((30, 5, 50, 25), label=2, name="dog", score=0.5),), "empty": ()}


def test_class_zero_is_see_through_and_colours_differ():
    pixels = np.full((1, 4, 3), 50, np.uint8)
    drawn = overlaid(AnnotatedImage(pixels, {"m": Mask(np.array([[0, 1, 2, 255]]))}))
    assert drawn[0, 0].tolist() == [50, 50, 50]
    assert len({tuple(pixel) for pixel in drawn[0]}) == 4
    assert pixels.max() == 50, "the image itself was drawn on"


def test_boxes_anywhere_can_be_drawn():
    boxes = [
        Box((-1e9, -1e9, 1e9, 1e9), label=1, name="x" * 500),
        Box((5, 5, 5, 5)),
        Box((900, 900, 999, 999), label=3, name="\n", score=0.1),
    ]
    assert overlaid(AnnotatedImage(np.zeros((8, 8, 3), np.uint8), {}, {"b": tuple(boxes)})).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "boxes",
    [
        [Box((1, 2, 3, 4))],
        [(1, 2, 3, 4)],
        np.array([[1, 2, 3, 4]]),
        torch.tensor([[1.0, 2, 3, 4]]),
        [np.array([1, 2, 3, 4])],
        [{"corners": torch.tensor([1, 2, 3, 4])}],
        {"boxes": torch.tensor([[1, 2, 3, 4]])},
    ],
)
def test_boxes_of_every_form(boxes):
    assert annotated_image(GREY, None, {"b": boxes}).boxes == {"b": (Box((1, 2, 3, 4)),)}


def test_a_detector_s_answer():
    answer = {
        "boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]]),
        "labels": torch.tensor([5, 6]),
        "scores": torch.tensor([0.5, 1]),
    }
    assert annotated_image(GREY, None, {"b": answer}).boxes["b"] == (
        Box((0, 0, 1, 1), label=5, score=0.5),
        Box((0, 0, 2, 2), label=6, score=1.0),
    )


@pytest.mark.parametrize(
    ("masks", "boxes", "error", "says"),
    [
        ([1], None, TypeError, "masks must be a mapping of layers"),
        ({1: GREY}, None, TypeError, "masks: the name of a layer must be a string"),
        ({"m": np.zeros((3, 2), int)}, None, ValueError, r"masks\['m'\] has the shape \(3, 2\); the image is 2 high"),
        ({"m": np.zeros((2, 2))}, None, TypeError, r"masks\['m'\] holds float64; classes are whole numbers"),
        ({"m": {"label": GREY}}, None, ValueError, r"unknown key 'label'; did you mean 'labels'"),
        ({"m": {"names": {}}}, None, ValueError, "lacks 'labels'"),
        ({"m": {"labels": GREY, "names": {"a": "b"}}}, None, TypeError, "class number 'a' must be an integer"),
        ({"m": {"labels": GREY, "names": {1: 2}}}, None, TypeError, "name of class 1 must be a string"),
        ({"m": None}, None, TypeError, r"masks\['m'\]"),
        (None, [1], TypeError, "boxes must be a mapping of layers"),
        (None, {"b": 3}, TypeError, r"boxes\['b'\] is a int; give a list"),
        (None, {"b": [(1, 2, 3)]}, ValueError, r"boxes\['b'\]\[0\]: corners must be the four numbers"),
        (None, {"b": np.zeros((2, 5))}, ValueError, r"boxes\['b'\] has the shape \(2, 5\)"),
        (None, {"b": [{"corner": (1, 2, 3, 4)}]}, ValueError, "unknown key 'corner'; did you mean 'corners'"),
        (None, {"b": [{"corners": (1, 2, 3, 4), "label": "cat"}]}, TypeError, "label must be a class number"),
        (None, {"b": [{"corners": (1, 2, 3, 4), "score": "x"}]}, TypeError, "score must be a number"),
        (None, {"b": {"boxes": np.zeros((2, 4)), "labels": [1]}}, ValueError, "one entry for each of the 2 boxes"),
    ],
)
def test_annotations_that_are_none(logger, tmp_path, masks, boxes, error, says):
    with pytest.raises(error, match=says):
        logger.log_image("i", GREY, masks=masks, boxes=boxes)
    assert media(tmp_path) == []


def test_lines_of_others_name_no_file_elsewhere(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "link.png").symlink_to("/etc/hostname")
    for name in ("../x.png", "/etc/hostname", "figures/../../x", "figures/link.png", "a/b/c", 3, None, "figures/a\0b"):
        with pytest.raises(ValueError, match=r"not a file that was logged|is a link"):
            read_image(tmp_path, {"file": name})


# -- tables ------------------------------------------------------------------------------------------------------------

TWO = Table(("a", "b"), ((1, "x"), (2, "y")))


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), None),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": 0}), ["a", "b"]),
        (pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}), None),
        (pl.DataFrame({"b": ["x", "y"], "a": [1, 2]}), ["a", "b"]),
        ({"a": [1, 2], "b": ("x", "y")}, None),
        ({"a": np.array([1, 2]), "b": pd.Series(["x", "y"])}, None),
        ({"a": torch.tensor([1, 2]), "b": pl.Series(["x", "y"])}, None),
        ([{"a": 1, "b": "x"}, {"b": "y", "a": 2}], None),
        ([[1, "x"], (2, "y")], ["a", "b"]),
        (np.array([[1, "x"], [2, "y"]], object), ["a", "b"]),
        ([{"a": np.int64(1), "b": "x"}, {"a": np.float32(2), "b": "y"}], None),
    ],
)
def test_tables_of_every_form(data, columns):
    assert plain_table(data, columns) == TWO


def test_what_is_missing_and_times():
    assert plain_table([{"a": 1}, {"b": 2}]) == Table(("a", "b"), ((1, None), (None, 2)))
    frame = pd.DataFrame(
        {
            "n": [1.5, math.nan],
            "s": ["x", None],
            "i": pd.array([1, None], "Int64"),
            "t": [pd.Timestamp("2026-01-02"), pd.NaT],
        }
    )
    (one, two) = plain_table(frame).rows
    assert one == (1.5, "x", 1, "2026-01-02T00:00:00")
    assert math.isnan(two[0])
    assert two[1:] == (None, None, None)
    day = dt.date(2026, 1, 2)
    assert plain_table({"d": [day, dt.timedelta(seconds=1)]}).rows == (("2026-01-02",), ("0:00:01",))
    assert plain_table({}) == plain_table([]) == Table((), ())
    assert plain_table({"a": []}) == Table(("a",), ())
    assert plain_table(torch.tensor([[1, 2]])) == Table(("0", "1"), ((1, 2),))


@pytest.mark.parametrize(
    ("data", "columns", "error", "says"),
    [
        (3, None, TypeError, "data is a int; give a pandas or polars frame"),
        ("text", None, TypeError, "data is a str"),
        (np.zeros(3), None, ValueError, r"of shape \(3,\); a table has two dimensions"),
        ({"a": [1], "b": [1, 2]}, None, ValueError, "differ in length: 'a' has 1, 'b' has 2"),
        ({"a": "text"}, None, TypeError, r"data\['a'\] is a str"),
        ([[1, 2], [3]], None, ValueError, r"data\[1\] has 1 values; there are 2 columns"),
        ([[1, 2]], ["a"], ValueError, "2 values; there are 1 columns"),
        ([{"a": 1}, [2]], None, TypeError, r"data\[1\] is a list, and other rows are mappings"),
        ({"aa": [1]}, ["a"], ValueError, "no column 'a'; did you mean 'aa'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), None, ValueError, "two columns named 'a'"),
        ([[1]], "a", TypeError, "columns must be a list"),
        ([3, 4], None, TypeError, r"data\[0\] is a int"),
    ],
)
def test_what_is_no_table(logger, tmp_path, data, columns, error, says):
    with pytest.raises(error, match=says):
        logger.log_table("t", data, columns=columns)
    assert media(tmp_path) == []
    assert not (tmp_path / "tables").exists()


def test_a_table_s_file(logger, tmp_path):
    logger.log_table("results", {"a": [1, None], 'b"': ['say "x", y', "line\nbreak"], "c": [True, 0.5]})
    (entry,) = media(tmp_path)
    assert (entry["rows"], entry["columns"]) == (2, ["a", 'b"', "c"])
    assert (tmp_path / entry["file"]).read_bytes() == (
        b'"a","b""","c"\r\n1,"say ""x"", y",true\r\n,"line\nbreak",0.5\r\n'
    )
    assert pd.read_csv(tmp_path / entry["file"]).shape == (2, 3)
    assert read_table(tmp_path, entry).rows == ((1, 'say "x", y', True), (None, "line\nbreak", 0.5))


cells = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)


@pytest.mark.slow
@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=5)))
def test_any_table_comes_back(rows):
    width = len(rows[0]) if rows else 1
    table = Table(tuple(map(str, range(width))), tuple(map(tuple, rows)))
    back = from_csv(to_csv(table))
    assert back == table
    assert [[type(cell) for cell in row] for row in back.rows] == [[type(cell) for cell in row] for row in table.rows]


@given(st.text(alphabet='",\r\n1ax', max_size=30))
def test_any_text_is_a_table_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        from_csv(text.encode())


# -- histograms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2, 3],
        (0.0, 1, 2, 3),
        np.arange(4),
        torch.arange(4.0, requires_grad=True),
        np.arange(4).reshape(2, 2),
        pd.Series(range(4)),
        pl.Series(range(4)),
        range(4),
        torch.arange(4).bfloat16(),
        [torch.tensor(i) for i in range(4)],
    ],
)
def test_histograms_of_every_form(values):
    histogram = binned(values, 3)
    assert histogram == Histogram(counts=(1, 1, 2), edges=(0.0, 1.0, 2.0, 3.0), total=6.0, squares=14.0)


def test_a_histogram_s_line(logger, tmp_path):
    logger.log_histogram("h", [math.nan, 1.0, 2.0, math.inf], bins=2)
    logger.log_histogram("huge", [1e308, -1e308, 1e308])
    first, second = media(tmp_path)
    assert read_histogram(first) == Histogram(
        counts=(1, 1), edges=(1.0, 1.5, 2.0), total=3.0, squares=5.0, nonfinite=2, nan=1
    )
    assert (first["counts"], first["nonfinite"]) == ([1, 1], 2)
    assert sum(second["counts"]) == 3


@pytest.mark.parametrize(
    "values", [[7.0], [7, 7, 7], [0.0, 5e-324], [1.0, math.nextafter(1, 2)], [-1e308, 1e308], [True, False]]
)
def test_narrow_and_wide_ranges(values):
    histogram = binned(values, 64)
    assert sum(histogram.counts) == len(values)
    assert list(histogram.edges) == sorted(set(histogram.edges))
    assert len(histogram.edges) == len(histogram.counts) + 1


@pytest.mark.parametrize(
    ("values", "bins", "error", "says"),
    [
        ("text", 64, TypeError, "values is a str"),
        (None, 64, TypeError, "values is a NoneType"),
        ({"a": 1}, 64, TypeError, "values is a dict"),
        ([1], 0, ValueError, "bins must be between 1 and 4096"),
        ([1], 2.0, TypeError, "bins must be an integer"),
        ([1], True, TypeError, "bins must be an integer"),
    ],
)
def test_what_is_no_histogram(logger, tmp_path, values, bins, error, says):
    with pytest.raises(error, match=says):
        logger.log_histogram("h", values, bins=bins)
    assert media(tmp_path) == []


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "short", "</script>\n🔥", "x" * 200_000, "é" * 40_000])
def test_texts(logger, tmp_path, text):
    logger.log_text("t", text)
    (entry,) = media(tmp_path)
    assert read_text(tmp_path, entry) == text
    assert (tmp_path / "media.jsonl").stat().st_size < 70_000


@pytest.mark.parametrize("text", [3, None, b"x"])
def test_what_is_no_text(logger, tmp_path, text):
    with pytest.raises(TypeError, match=r"^text"):
        logger.log_text("t", text)
    assert media(tmp_path) == []


# -- hyperparameters ---------------------------------------------------------------------------------------------------


class Optimiser(enum.Enum):
    ADAM = "adam"


def test_params_of_every_form():
    params = {
        "lr": 0.1,
        "n": np.int64(3),
        "on": True,
        "none": None,
        "name": "x",
        "path": Path("a/b"),
        "enum": Optimiser.ADAM,
        "betas": (0.9, 0.999),
        "layers": ["a", None, 3],
        "t": torch.tensor(2),
        "net": {"width": 8, "act": {"kind": "relu"}},
    }
    assert plain_params(params) == {
        "lr": 0.1,
        "n": 3,
        "on": True,
        "none": None,
        "name": "x",
        "path": "a/b",
        "enum": "adam",
        "betas": "[0.9, 0.999]",
        "layers": '["a", null, 3]',
        "t": 2,
        "net/width": 8,
        "net/act/kind": "relu",
    }


def test_later_calls_add(logger, tmp_path):
    logger.log_hparams({"a": 1, "b": 2})
    logger.log_hparams({"b": math.inf, "c": "x"}, {"test": {"acc": np.float32(0.5), "loss": math.nan}})
    params, metrics = from_hparams((tmp_path / "hparams.json").read_bytes())
    assert params == {"a": 1, "b": math.inf, "c": "x"}
    assert metrics["test/acc"] == 0.5
    assert math.isnan(metrics["test/loss"])
    json.loads((tmp_path / "hparams.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("params", "metrics", "error", "says"),
    [
        ([1], None, TypeError, "params must be a mapping"),
        (3, None, TypeError, "params must be a mapping"),
        ({"": 1}, None, ValueError, "is empty"),
        ({"\ud800": 1}, None, TypeError, "lone surrogate"),
        ({1: 1, "1": 2}, None, ValueError, "'1' is given twice"),
        ({"a/b": 1, "a": {"b": 2}}, None, ValueError, "'a/b' is given twice"),
        ({}, [1], TypeError, "metrics must be a mapping"),
    ],
)
def test_what_are_no_hparams(logger, tmp_path, params, metrics, error, says):
    with pytest.raises(error, match=says):
        logger.log_hparams(params, metrics)
    assert not (tmp_path / "hparams.json").exists()


def test_a_cycle_is_left_out(logger, tmp_path, capfd):
    params = {"lr": 0.1}
    params["self"] = params
    logger.log_hparams(params)
    assert "a mapping that contains itself" in capfd.readouterr().err
    assert from_hparams((tmp_path / "hparams.json").read_bytes())[0]["lr"] == 0.1


@given(
    st.dictionaries(st.text(max_size=5), cells, max_size=5),
    st.dictionaries(st.text(max_size=5), st.floats(), max_size=3),
)
def test_any_hparams_come_back(params, metrics):
    back = from_hparams(to_hparams(params, metrics))
    assert str(back) == str((params, metrics))
