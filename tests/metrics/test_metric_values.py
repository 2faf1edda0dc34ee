"""What may be logged and what it becomes; names are refused, values never."""

import collections
import datetime as dt
import decimal
import enum
import fractions
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ridgepole.metrics.convert import Described
from ridgepole.metrics.values import MAX_INLINE, flatten, plain_value, settle

pytestmark = pytest.mark.fault("NaN, Inf, huge ints, bytes, cycles, depth: strict JSON or a typed refusal")


def flat(metrics):
    out = {}
    flatten(metrics, "", out)
    return out


class Phase(enum.IntEnum):
    TRAIN = 3


class Word(enum.StrEnum):
    GOOD = "good"


class Color(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1.5, 1.5),
        (2, 2),
        (True, True),
        ("text", "text"),
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.int8(-3), -3),
        (np.bool_(True), True),
        (np.str_("n"), "n"),
        (np.longdouble(0.5), 0.5),
        (np.array(7), 7),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(2.0, dtype=torch.bfloat16), 2.0),
        (torch.tensor(True), True),
        (fractions.Fraction(1, 4), 0.25),
        (Phase.TRAIN, 3),
        (Word.GOOD, "good"),
        ([1, 2.5, True], [1, 2.5, True]),
        ((np.float32(1), torch.tensor(2)), [1.0, 2]),
        (np.arange(3), [0, 1, 2]),
        (torch.tensor([0.5, 1.5]), [0.5, 1.5]),
        ([], []),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_becomes_plain(value, plain):
    got = plain_value("m", value)
    assert got == plain
    assert type(got) is type(plain), f"{value!r} became a {type(got).__name__}"


LIST = [0.5, 2.0]
SPARSE = torch.tensor(LIST).to_sparse()
NEGATIVE = torch.tensor([1 + 0.5j, 1 + 2j]).conj().imag  # a view whose sign is a bit


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_a_single_element_of_any_shape_is_a_number(make, shape):
    assert plain_value("m", make(0.5).reshape(shape)) == 0.5
    assert plain_value("m", make(3).reshape(shape)) == 3


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (torch.tensor(LIST, dtype=torch.bfloat16), LIST),
        (torch.tensor(LIST).to(torch.float8_e4m3fn), LIST),
        (torch.tensor([0.5]).to_sparse(), 0.5),
        (SPARSE, LIST),
        (NEGATIVE, [-0.5, -2.0]),
        (NEGATIVE[0], -0.5),
        (pd.Series(LIST, index=[7, 9]), LIST),
        (pd.Series([0.5], name="loss"), 0.5),
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pl.Series(LIST), LIST),
        (pl.Series([0.5]), 0.5),
        (pl.Series([3]), 3),
        (pl.DataFrame({"a": [3]}), 3),
        (pd.Series([3]), 3),
        (torch.tensor(5).to_sparse(), 5),
        (torch.tensor(5, dtype=torch.uint8), 5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.array(3, object), 3),
        (np.array([0.5, 2.0], object), LIST),
        (pd.DataFrame({"a": [0.5]}), 0.5),
        (np.array(LIST, np.longdouble), LIST),
        (range(3), [0, 1, 2]),
        (collections.deque(LIST), LIST),
        (decimal.Decimal("0.1"), 0.1),
        (Color.RED, "red"),
        (np.array(["word"]), "word"),
    ],
)
def test_objects_of_every_library_become_plain(value, plain):
    got = plain_value("m", value)
    assert got == plain
    assert type(got) is type(plain)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.ma.masked, [math.nan]),
        (pd.NA, [math.nan]),
        (np.ma.array(0.5, mask=True), [math.nan]),
        (np.ma.array(3, mask=True), [math.nan]),
        (np.ma.array([True], mask=True), [math.nan]),
        (np.ma.array([0.5, 1.5], mask=[True, False]), [math.nan, 1.5]),
        (pd.Series([1, None], dtype="Int64"), [1.0, math.nan]),
    ],
)
def test_a_masked_or_missing_number_is_nan(value, expected):
    got = plain_value("m", value)
    assert repr(got if isinstance(got, list) else [got]) == repr(expected)


class Broken:
    def __repr__(self):
        raise RuntimeError("no text")

    shape = property(__repr__)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NoneType None"),
        (b"bytes", "bytes b'bytes'"),
        (1j, "complex 1j"),
        (np.array(1j), "complex 1j"),
        (2**64, "int 18446744073709551616"),
        (np.array(2**64, object), "int 18446744073709551616"),
        (-(2**63) - 1, "int -9223372036854775809"),
        pytest.param(10**5000, "int of 16610 bits", id="huge"),
        (["a"], 'list ["a"]'),
        ([None], "list [null]"),
        ([1.5, "a"], 'list [1.5, "a"]'),
        ({1, 2}, "set [1, 2]"),
        (np.array(["a", "b"]), 'numpy.ndarray ["a", "b"]'),
        (np.array("2020-01-01", "datetime64[ns]"), "datetime64[ns] 2020-01-01T00:00:00.000000000"),
        (np.datetime64("2020-01-01"), "datetime64[D] 2020-01-01"),
        (np.array(["2020-01-01"], "datetime64[ns]"), "datetime64[ns] 2020-01-01T00:00:00.000000000"),
        (np.timedelta64(5, "s"), "timedelta64[s] 5 seconds"),
        (np.timedelta64(5, "ns"), "timedelta64[ns] 5 nanoseconds"),
        (np.datetime64("NaT"), "numpy.datetime64 NaT"),
        (pd.Timestamp("2020-01-01"), f"{pd.Timestamp.__module__}.Timestamp 2020-01-01T00:00:00"),
        (dt.timedelta(seconds=1), "datetime.timedelta 0:00:01"),
        (np.array([1j, 2j]), 'numpy.ndarray ["1j", "2j"]'),
        ("\ud800", "str \\ud800"),
        (torch.float32, "torch.dtype torch.float32"),
        (decimal.Decimal("1e999"), "decimal.Decimal 1E+999"),
        pytest.param(fractions.Fraction(10**400), f"fractions.Fraction {10**400}", id="fraction"),
        (len, "builtin_function_or_method len"),
    ],
)
def test_what_no_metric_can_be_is_text_behind_its_type(value, text):
    assert str(plain_value("m", value)) == text
    metrics = flat({"good": {"fine": 1, "bad": value}})
    assert settle(metrics) == [("good/bad", text.partition(" ")[0])]
    assert metrics == {"good/fine": 1, "good/bad": text}


@pytest.mark.parametrize(
    "value",
    [object(), Broken(), torch.empty((), device="meta"), torch.empty((2, 3), device="meta"), lambda: 1,
     np.zeros(2, [("a", "f4")]), np.array([1j] * 40), pd.DataFrame({"a": ["x", "y"]}), iter([1]), type],
)  # fmt: skip
def test_any_object_has_a_text(value):
    described = plain_value("m", value)
    assert isinstance(described, Described)
    str(described).encode()


@pytest.mark.parametrize("key", [1, None, ("a",), b"a", "\ud800"])
def test_names_are_text(key):
    with pytest.raises(TypeError, match="name"):
        flat({key: 1})


@pytest.mark.parametrize("metrics", [{"": 1.0}, {"a": {"": 1.0}}])
def test_a_name_is_not_empty(metrics):
    with pytest.raises(ValueError, match="the name of a metric is empty"):
        flat(metrics)


def test_nested_names_are_joined():
    assert flat({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a/b/c": 1, "a/d": 2, "e": 3}


@pytest.mark.parametrize("metrics", [{"a/b": 1, "a": {"b": 2}}, {"a": {"b": 2}, "a/b": 1}])
def test_a_collision_is_an_error(metrics):
    with pytest.raises(ValueError, match="'a/b' is given twice"):
        flat(metrics)


def test_a_cycle_is_an_error():
    metrics = {"a": 1}
    metrics["self"] = metrics
    with pytest.raises(TypeError, match="nested more than"):
        flat(metrics)


@pytest.mark.parametrize(
    "values",
    [
        list(range(MAX_INLINE + 1)),
        np.arange(MAX_INLINE + 1, dtype=np.int32),
        torch.arange(MAX_INLINE + 1).to(torch.bfloat16),
        np.arange(MAX_INLINE + 1).reshape(3, 11),
        np.arange(MAX_INLINE + 1).reshape(3, 11).tolist(),
        torch.arange(MAX_INLINE + 1).float().to_sparse(),
        pd.DataFrame(np.arange(MAX_INLINE + 1).reshape(3, 11)),
        pl.Series(range(MAX_INLINE + 1)),
    ],
)
def test_a_large_array_becomes_a_histogram(values):
    summary = plain_value("w", values)
    assert summary["count"] == MAX_INLINE + 1
    assert sum(summary["counts"]) == summary["count"]
    assert (summary["min"], summary["max"], summary["mean"]) == (0.0, float(MAX_INLINE), MAX_INLINE / 2)
    assert len(summary["edges"]) == len(summary["counts"]) + 1


@given(st.lists(st.floats(), min_size=MAX_INLINE + 1, max_size=80))
def test_a_histogram_of_anything_is_strict_json(values):
    import orjson

    summary = plain_value("w", values)
    finite = [x for x in values if np.isfinite(x)]
    assert summary["count"] == len(finite)
    assert summary["nonfinite"] == len(values) - len(finite)
    assert sum(summary["counts"]) == len(finite)
    assert b"null" not in orjson.dumps([summary["counts"], summary["edges"]])
