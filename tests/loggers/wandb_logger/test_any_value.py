"""No log call raises because of a value, and each logger holds what it was given, or its text."""

import collections
import datetime as dt
import decimal
import fractions
import inspect
import json
import math
import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ridgepole.loggers.local.media_files import from_hparams, read_table
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.metrics import ConfusionMatrixFigurePattern, MetricRecord, load_metrics
from ridgepole.permanences import (
    BaseLoggerManager,
    BasicLogger,
    LoggerGroup,
    NullLogger,
    TensorBoardLogger,
    WandBLogger,
)
from wandb_server import forget_account

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*quantized tensor:UserWarning", "ignore:.*deprecated.*in Matplotlib 3", "ignore:vert:DeprecationWarning"
)


class Broken:
    """An object all of whose faces raise."""

    def __repr__(self):
        raise RuntimeError("no text")

    def __float__(self):
        raise RuntimeError("no number")

    shape = property(__float__)
    dtype = property(__float__)
    to_dict = property(__float__)


@dataclass
class Case:
    """A value, and what a metric and a cell of it are: number, list, `(finite, nonfinite)` or text."""

    value: Any
    metric: Any
    cell: Any


FINITE = (0.0, 0.5, -1.25, 3.0, 448.0)
ALL = (*FINITE, math.nan, math.inf, -math.inf)

ONE = (
    *(lambda x, kind=kind: np.array(x, kind) for kind in ("f2", "f4", "f8", np.longdouble)),
    *(lambda x, kind=kind: np.array([[x]], kind) for kind in ("f2", "f4", "f8")),
    *(lambda x, kind=kind: torch.tensor(x, dtype=kind) for kind in (torch.float16, torch.float32, torch.bfloat16)),
    *(lambda x, kind=kind: torch.tensor([x], dtype=kind) for kind in (torch.float64, torch.bfloat16)),
    lambda x: torch.tensor([[x]], requires_grad=True),
    lambda x: torch.tensor([-x * 1j]).conj().imag if x and math.isfinite(x) else x,
    lambda x: torch.tensor([x]).to_sparse(),
    lambda x: np.float32(x),
    lambda x: pd.Series([x], index=["row"]),
    lambda x: pl.Series([x]),
    lambda x: pd.DataFrame({"a": [x]}),
    lambda x: np.ma.array(x),
    float,
)
MANY = (
    *(lambda x, kind=kind: np.array(x, kind) for kind in ("f2", "f4", "f8", np.longdouble, object)),
    *(lambda x, kind=kind: torch.tensor(x, dtype=kind) for kind in (torch.float16, torch.float32, torch.bfloat16)),
    lambda x: torch.tensor(x).to_sparse(),
    lambda x: torch.tensor([0.0, *x])[1:],
    lambda x: np.array([x, x]).T[:, 0],
    pd.Series,
    pl.Series,
    collections.deque,
    lambda x: [torch.tensor(each) for each in x],
    tuple,
    list,
)
OTHER = (
    lambda r: None,
    lambda r: r.randbytes(r.randrange(5)),
    lambda r: complex(r.random(), math.nan),
    lambda r: np.array([1j, 2j]),
    lambda r: np.zeros((50, 3), "c8"),
    lambda r: r.randrange(2**64, 2**90),
    lambda r: -(10 ** r.randrange(30, 6000)),
    lambda r: object(),
    lambda r: Broken(),
    lambda r: iter([1]),
    lambda r: {r.choice("abc"), 1},
    lambda r: ["a", 1.0],
    lambda r: [None, {"a": [1, Broken()]}],
    lambda r: ["x"] * 40,
    lambda r: "a\ud800" * r.randrange(1, 3),
    lambda r: np.array(["a", "b"]),
    lambda r: np.array([b"a", b"b"]),
    lambda r: np.array(["2026-01-02", "NaT"], r.choice(["datetime64[ns]", "datetime64[D]"])),
    lambda r: np.datetime64("2026-01-02", r.choice(["ns", "s", "D"])),
    lambda r: np.timedelta64(r.randrange(9), "ns"),
    lambda r: pd.Timestamp("2026-01-02", tz="UTC"),
    lambda r: dt.datetime(2026, 1, r.randrange(1, 9)),
    lambda r: dt.timedelta(r.randrange(3)),
    lambda r: pd.Interval(0, r.randrange(1, 5)),
    lambda r: Path("a") / r.choice("bc"),
    lambda r: decimal.Decimal("1e400"),
    lambda r: fractions.Fraction(10**400, 3),
    lambda r: torch.empty((2, 3), device="meta"),
    lambda r: torch.empty((), device="meta"),
    lambda r: torch.float16,
    lambda r: torch.nn.Linear,
    lambda r: np.zeros(2, [("a", "f4")]),
    lambda r: pd.DataFrame({"a": ["x", "y"]}),
    lambda r: pd.Categorical(["a", "b"]),
    lambda r: pl.DataFrame({"a": [None, "y"]}),
    lambda r: ConfusionMatrixFigurePattern(),
    lambda r: len,
    lambda r: NotImplemented,
)


def case(r: random.Random) -> Case:
    """Make one random object whose right form is known by the way it is made."""
    kind = r.randrange(6)
    if kind == 0:
        x = r.choice(ALL)
        return Case(r.choice(ONE)(x), x, x)
    if kind == 1:
        x = r.randrange(-100, 100)
        make = r.choice([int, np.int8, np.int64, lambda n: torch.tensor([n]), lambda n: np.array([[n]]), pd.Series])
        value = make([x]) if make is pd.Series else make(x)
        return Case(value, x, x)
    if kind == 2:
        x = [r.choice(ALL) for _ in range(r.randrange(2, 33))]
        return Case(r.choice(MANY)(x), x, x)
    if kind == 3:
        x = [r.choice(ALL) for _ in range(r.randrange(33, 120))]
        finite = sum(map(math.isfinite, x))
        return Case(r.choice(MANY)(x), (finite, len(x) - finite), x)
    if kind == 4:
        text = "".join(r.choices("aé🔥\n\"'\0,;<|`", k=r.randrange(6)))
        return Case(text, text, text)
    return Case(r.choice(OTHER)(r), str, None)


def same(a, b):
    """Compare as text: NaN is not equal to itself, and 1 is 1.0."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return repr(float(a)) == repr(float(b))
    return a == b


def rounded(x):
    """A number as TensorBoard's scalars hold it."""
    try:
        return struct.unpack("f", struct.pack("f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def kind_of(metric):
    return {float: "number", int: "number", list: "list", tuple: "histogram"}.get(type(metric), "text")


def cases(count):
    r = random.Random(14)
    return [case(r) for _ in range(count)]


COUNT = 5000 if os.environ.get("RIDGEPOLE_TORTURE") else 120


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """All objects through all calls of all loggers."""
    work = tmp_path_factory.mktemp("any")
    objects = cases(COUNT)
    with pytest.MonkeyPatch.context() as patch:
        forget_account(patch, work / "home")
        patch.setenv("WANDB_DIR", str(work / "wandb"))
        local, board = BasicLogger(work / "local"), TensorBoardLogger(work / "board")
        tracker = WandBLogger(project="any", mode="offline")
        with local, board, tracker:
            group = LoggerGroup([local, board, tracker])
            for number, each in enumerate(objects):
                name = kind_of(each.metric)
                group.log_metrics({name: each.value}, step=number)
                group.log_table("table", {"cell": [each.value]}, step=number)
                if number % 10 == 0:
                    group.flush()  # W&B's queue is not what is tested
            values = {str(number): each.value for number, each in enumerate(objects)}
            for part in range(0, COUNT, 50):
                names = [str(number) for number in range(part, min(part + 50, COUNT))]
                group.log_hparams({f"p{n}": values[n] for n in names}, {f"m{n}": values[n] for n in names})
            state = group.get_state()
            directory = tracker.get_state()["sync_dir"]
    assert state["off"] == []
    return work, objects, directory


def test_the_local_record_has_every_value(logged):
    work, objects, _ = logged
    rows = [json.loads(line) for line in (work / "local" / "metrics.jsonl").read_bytes().splitlines()]
    frame = load_metrics(work / "local").frame
    assert len(rows) == len(frame) == len(objects)
    values = dict(zip(frame["step"], zip(frame["value"], frame["text"], strict=True), strict=True))
    for number, (row, each) in enumerate(zip(rows, objects, strict=True)):
        found = row["metrics"][kind_of(each.metric)]
        special = row.get("special", {}).get(kind_of(each.metric))
        if isinstance(found, list) and special:
            found = [float(special[str(at)]) if str(at) in special else x for at, x in enumerate(found)]
        elif special:
            found = float(special)
        if each.metric is str:
            assert isinstance(found, str)
            assert found.partition(" ")[0]
        elif isinstance(each.metric, tuple):
            assert (found["count"], found["nonfinite"]) == each.metric
        else:
            assert same(found, each.metric), (number, each)
        if kind_of(each.metric) == "number":
            assert same(values[number][0], float(each.metric))
        elif isinstance(found, str):
            assert values[number][1] == found


def test_tables_and_hyperparameters_have_every_value(logged):
    work, objects, _ = logged
    lines = [json.loads(line) for line in (work / "local" / "media.jsonl").read_bytes().splitlines()]
    params, metrics = from_hparams((work / "local" / "hparams.json").read_bytes())
    assert len(lines) == len(objects)
    for number, (line, each) in enumerate(zip(lines, objects, strict=True)):
        ((cell,),) = read_table(work / "local", line).rows
        flat = {name.partition("/")[0]: value for name, value in params.items() if name.startswith(f"p{number}/")}
        param = params.get(f"p{number}", flat.get(f"p{number}"))
        for found in (cell, param):
            if isinstance(each.cell, list):
                assert same(json.loads(found), each.cell), (number, each)
            elif each.cell is not None:
                assert same(found, each.cell), (number, each)
            else:
                assert found is None or isinstance(found, str | int | float | RenderedFigure)
        if kind_of(each.metric) == "number":
            assert same(metrics[f"m{number}"], float(each.metric))
        elif not isinstance(each.value, int | decimal.Decimal | fractions.Fraction):
            assert f"m{number}" not in metrics or isinstance(each.metric, list)


def test_tensorboard_has_every_value(logged):
    work, objects, _ = logged
    found = EventAccumulator(str(work / "board"), {"scalars": 0, "histograms": 0, "tensors": 0, "images": 0})
    found.Reload()
    scalars = {tag: {event.step: event.value for event in found.Scalars(tag)} for tag in found.Tags()["scalars"]}
    histograms = {event.step: event.histogram_value.num for event in found.Histograms("histogram")}
    texts = {event.step: event.tensor_proto.string_val[0].decode() for event in found.Tensors("text")}
    local = {row["step"]: row["metrics"] for row in
             map(json.loads, (work / "local" / "metrics.jsonl").read_bytes().splitlines())}  # fmt: skip
    for number, each in enumerate(objects):
        kind = kind_of(each.metric)
        if kind == "number":
            assert same(scalars["number"][number], rounded(each.metric))
        elif kind == "list":
            assert same(
                [scalars[f"list[{at}]"][number] for at in range(len(each.metric))], [*map(rounded, each.metric)]
            )
        elif kind == "histogram":
            assert histograms[number] == each.metric[0]
        else:
            assert texts[number] == local[number]["text"]


def test_wandb_has_every_value(logged, recorded):
    _, objects, directory = logged
    rows = {row["step"]: row for row in recorded(directory).rows if not row.keys().isdisjoint(
        {"number", "list", "histogram", "text"})}  # fmt: skip
    assert len(rows) == len(objects)
    for number, each in enumerate(objects):
        kind = kind_of(each.metric)
        if kind == "number":
            assert same(float(rows[number]["number"]), float(each.metric))
        elif kind == "list":
            assert same([float(x) for x in rows[number]["list"]], each.metric)
        elif kind == "text":
            assert isinstance(rows[number]["text"], str)


# -- the rule ----------------------------------------------------------------------------------------------------------

NAN = float("nan")
PICTURE = np.full((4, 4), NAN)
RENDERED = RenderedFigure(b"<b>\xff</b>", ".html", 0, 0, "<b></b>")
TRAINING_VALUES = {
    "log_metrics": [lambda log, v=v: log({"a": v, "ok": 1.0}) for v in
                    (None, 1j, b"x", object(), Broken(), 2**70, ["a"], torch.tensor([NAN]), np.ma.masked, pd.NA,
                     np.datetime64("2026-01-02", "ns"), torch.empty(2, device="meta"), {1, 2})],
    "log_figure": [lambda log: log("a", PICTURE), lambda log: log("a", torch.full((3, 4, 4), NAN).bfloat16())],
    "log_image": [
        lambda log: log("a", PICTURE, masks={"m": np.full((4, 4), -100)}, boxes={"b": [(NAN, 1, 0, math.inf)]}),
        lambda log: log("a", torch.zeros(5, 3, 4, 4)),
        lambda log: log("a", np.full((4, 4, 3), 1e300)),
    ],
    "log_table": [lambda log: log("a", {"a": [None, 1j, b"x", object(), Broken(), 2**70, PICTURE, "\ud800", pd.NaT]}),
                  lambda log: log("a", pd.DataFrame()), lambda log: log("a", [])],
    "log_histogram": [lambda log, v=v: log("a", v) for v in
                      ([], [NAN], [None, 1.0], [1j], np.zeros(0), torch.full((9,), math.inf), [[1], [2, 3]], ["a"],
                       torch.empty(2, device="meta"), [torch.zeros(2), torch.zeros(1, 3)], pd.DataFrame({"a": ["x"]}))],
    "log_text": [lambda log: log("a", "\ud800"), lambda log: log("a", "\0")],
    "log_hparams": [lambda log: log({"a": object(), "b": Broken(), "c": {1: [Broken()]}}, {"d": None, "e": NAN})],
    "log_seaborn_graph": [lambda log: log("a", []), lambda log: log("a", [NAN, NAN]),
                          lambda log: log("a", {"x": [None, None], "y": ["a", None]}, "x", "y")],
    "log_audio": [lambda log, v=v: log("a", np.full(9, v), sample_rate=8000) for v in (NAN, math.inf, 7.0)],
    "log_video": [lambda log, v=v: log("a", np.full((2, 4, 4), v)) for v in (NAN, math.inf, 7.0)],
    "log_html": [lambda log: log("a", "<b>é</b>")],
    "log_rendered": [lambda log: log("a", RENDERED), lambda log: log("../\n", RENDERED)],
    "log_artifact": [lambda log: log(__file__), lambda log: log(Path(__file__), name="../\n", link=True)],
    "log_metric_figure": [lambda log, v=v: log(ConfusionMatrixFigurePattern(labels=(0, 1)), v, v) for v in
                          ([], [7], [NAN], torch.tensor([0.5]), torch.tensor([1.0]).bfloat16())],
}  # fmt: skip
CALLER_ERRORS = {
    "log_metrics": [(3,), ([3],), ({3: 1.0},), ({"": 1.0},), ({"\ud800": 1.0},)],
    "log_figure": [("", PICTURE), (3, PICTURE), ("a", "text"), ("a", np.zeros(3))],
    "log_image": [("", PICTURE), ("a", "path.png"), ("a", np.zeros(3)), ("a", np.zeros((2, 2), complex))],
    "log_table": [("", {}), ("a", 3), ("a", {"a": [1], "b": []})],
    "log_histogram": [("", [1]), ("a", 3), ("a", "text"), ("a", None)],
    "log_text": [("", "x"), ("a", 3)],
    "log_hparams": [(3,), ({}, 3), ({"": 1},)],
    "log_seaborn_graph": [("", [1]), ("a", 3), ("a", {"x": [1]}, "y")],
    "log_audio": [("", np.zeros(9)), ("a", 3)],
    "log_video": [("", np.zeros((2, 4, 4))), ("a", 3)],
    "log_html": [("", "x"), ("a", 3)],
    "log_rendered": [("", RENDERED), (3, RENDERED), ("a", "text"), ("a", PICTURE)],
    "log_artifact": [(3,), (None,), (b"x",), (Path(__file__).parent,)],
    "log_metric_figure": [("loss",), (ConfusionMatrixFigurePattern(),)],
}

LOGGERS = {
    "basic": lambda path: [BasicLogger(path / "local")],
    "board": lambda path: [TensorBoardLogger(path / "board")],
    "both": lambda path: [BasicLogger(path / "local"), TensorBoardLogger(path / "board")],
    "null": lambda path: [NullLogger()],
    "disabled": lambda path: [WandBLogger(mode="disabled")],
}


def calls():
    names = {name for name, _ in inspect.getmembers(BaseLoggerManager, callable) if name.startswith("log_")}
    return sorted(names)


@pytest.fixture(params=LOGGERS)
def logger(request, tmp_path):
    members = LOGGERS[request.param](tmp_path)
    for member in members:
        member.initialize()
    yield members[0] if len(members) == 1 else LoggerGroup(members)
    for member in members:
        member.cleanup()


@pytest.mark.parametrize("call", calls())
def test_no_call_raises_because_of_a_value(logger, call):
    for log in TRAINING_VALUES[call]:
        log(getattr(logger, call))
    state = logger.get_state()
    assert state.get("off", []) == []


@pytest.mark.parametrize("call", calls())
def test_every_call_refuses_an_error_of_the_caller_at_once(logger, call):
    if isinstance(logger, NullLogger) and getattr(NullLogger, call).__name__ == "_drop":
        pytest.skip("it drops these without a look")
    for arguments in CALLER_ERRORS[call]:
        if isinstance(logger, NullLogger) and call == "log_figure":
            continue
        with pytest.raises((TypeError, ValueError)):
            getattr(logger, call)(*arguments)


@pytest.mark.parametrize("step", [-1, 1.5, True])
def test_the_step_of_a_drawn_figure_is_checked(logger, step):
    if isinstance(logger, NullLogger):
        pytest.skip("it drops these without a look")
    with pytest.raises((TypeError, ValueError), match="step must be"):
        logger.log_rendered("a", RENDERED, step=step)


def test_a_record_of_any_value(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics([MetricRecord("a", object(), "p", "train", "train"), MetricRecord("b", 1j, step=7)])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 7]
    assert rows[0]["metrics"]["a"].startswith("object")
    assert (rows[0]["stage"], rows[1]["metrics"]) == ({"a": "train"}, {"b": "complex 1j"})


def test_what_is_said_is_said_once(tmp_path, capfd):
    with BasicLogger(tmp_path / "a") as local, TensorBoardLogger(tmp_path / "b") as board:
        group = LoggerGroup([local, board])
        for _ in range(5):
            group.log_metrics({"x": 1j, "y": {"z": 2j}})
            group.log_histogram("h", [1j, 2j])
    said = capfd.readouterr().err
    assert said.count("log_metrics: 'x' is a complex; such values are stored as text (said once)") == 1
    assert said.count("such values are stored as text") == 2
