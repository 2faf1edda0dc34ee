"""What may be logged, what it becomes, and what is refused by name."""

import enum
import fractions

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ridgepole.metrics.values import MAX_INLINE, flatten, plain_value

pytestmark = pytest.mark.fault("NaN, Inf, huge ints, bytes, cycles, depth: strict JSON or a typed refusal")


def flat(metrics):
    out = {}
    flatten(metrics, "", out)
    return out


class Phase(enum.IntEnum):
    TRAIN = 3


class Word(enum.StrEnum):
    GOOD = "good"


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


@pytest.mark.parametrize(
    "value",
    [None, b"bytes", 1j, object(), 2**64, -(2**63) - 1, ["a"], [None], [[1, 2]], {1, 2}, np.array(["a", "b"]),
     np.array("2020-01-01", dtype="datetime64[s]"), np.array(1j), np.array([1j] * 40), "\ud800", range(3), lambda: 1,
     np.array(None), torch.empty((), device="meta")],
)  # fmt: skip
def test_refused_by_name(value):
    with pytest.raises(TypeError, match="good/bad"):
        flat({"good": {"fine": 1, "bad": value}})


@pytest.mark.parametrize("key", [1, None, ("a",), b"a", "\ud800"])
def test_names_are_text(key):
    with pytest.raises(TypeError, match="name"):
        flat({key: 1})


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
