"""What can't be stored is refused before anything is written, with its path, its type and what to do."""

import enum
import pickle
import random
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from ridgepole import StateError
from ridgepole.checkpoint import CheckpointStore, KeepBest

NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Hostile:
    """Whatever is asked of it, it fails: a refusal must not run a user's code."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")

    def __eq__(self, other):
        raise RuntimeError("eq")

    def __hash__(self):
        return 1


@dataclass
class Point:
    x: int = 1


Pair = namedtuple("Pair", "a b")
ordered = OrderedDict(a=1)
ordered.extra = 1


class Tensor(torch.Tensor):
    pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "what", "advice"),
    [
        (Colour.RED, "Colour", ".value"),
        (Point(), "Point", "asdict"),
        (Pair(1, 2), "Pair", "tuple(x)"),
        (defaultdict(list), "defaultdict", "dict(x)"),
        (Text("a"), "Text", "str(x)"),
        (lambda: 1, "function", "code is not stored"),
        (int, "type", "code is not stored"),
        (random.Random(), "Random", ".getstate()"),
        (np.random.default_rng(), "Generator", ".bit_generator.state"),
        (torch.Generator(), "Generator", ".get_state()"),
        (torch.nn.Linear(1, 1), "Linear", ".state_dict()"),
        (datetime.now(UTC), "datetime", ".isoformat()"),
        (object(), "object", "numbers, text"),
        (ordered, "OrderedDict with attributes", "dict(x)"),
        (np.array([None]), "array of Python objects", ".tolist()"),
        (np.ma.masked_array([1], [True]), "MaskedArray", "asarray"),
        pytest.param(
            np.array(["a"], dtype=np.dtypes.StringDType()) if NUMPY_2 else None,
            "numpy dtype StringDType",
            "numpy.save",
            marks=pytest.mark.skipif(not NUMPY_2, reason="numpy 1 has no such dtype"),
        ),
        (torch.eye(2).to_sparse(), "layout torch.sparse_coo", "to_dense"),
        (torch.ones(2, device="meta"), "meta device", "no values"),
        (torch.ones(2).as_subclass(Tensor), "Tensor", "plain tensor"),
    ],
    ids=lambda value: value if type(value) is str else "",
)
def test_a_value_is_refused_with_its_path(store, value, what, advice):
    state = {"permanences": {"network": {"optimiser": {"state": {0: {"exp_avg": value}}}}}}
    with pytest.raises(StateError) as caught:
        store.save(state, step=0, kind="step")
    assert caught.value.path == "permanences.network['optimiser']['state'][0]['exp_avg']"
    assert what in caught.value.what
    assert advice in caught.value.advice
    assert str(caught.value).startswith(caught.value.path)
    assert not store.list()
    assert not any(store.path.iterdir()), "something is left of it"


def test_a_refusal_runs_no_code_of_the_value(store):
    for state in ({"a": {"x": Hostile()}}, {"a": {"x": {Hostile(): 1}}}, {"a": {"x": {Hostile()}}}):
        with pytest.raises(StateError, match=r"a\.x.* is a .*Hostile"):
            store.save(state, step=0, kind="step")


@pytest.mark.filterwarnings("ignore")
def test_kinds_of_tensors_that_warn_when_made(store):
    with pytest.raises(StateError, match=r"x is a quantized tensor.*int_repr"):
        store.save({"x": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)}, step=0, kind="step")
    with pytest.raises(StateError, match=r"x is a nested tensor.*unbind"):
        store.save({"x": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])}, step=0, kind="step")


@pytest.mark.parametrize("kind", [list, dict, OrderedDict, tuple])
def test_a_cycle_is_refused(store, kind):
    inside = []
    around = {"a": inside} if kind in (dict, OrderedDict) else kind([inside])
    inside.append(around)
    with pytest.raises(StateError, match="contains itself"):
        store.save({"x": around}, step=0, kind="step")


def test_depth_is_bounded_and_what_is_within_it_comes_back(round_trip, store):
    deep = 0
    for level in range(99):
        deep = [deep] if level % 2 else {1: deep}
    round_trip({"x": deep})
    with pytest.raises(StateError, match="100 levels"):
        store.save({"x": [[deep]]}, step=0, kind="step")


def test_a_tree_that_multiplies_is_refused(store, monkeypatch):
    from ridgepole.checkpoint.codec import encode

    monkeypatch.setattr(encode, "MAX_VALUES", 10_000)
    node = [1]
    for _ in range(60):
        node = [node, node]
    with pytest.raises(StateError, match="first 10,000 values"):
        store.save({"x": node}, step=0, kind="step")


def test_the_same_list_twice_is_no_cycle(round_trip):
    shared = [1, 2]
    round_trip({"x": [shared, shared, {"a": shared}]})


@pytest.mark.parametrize("key", [torch.ones(1), Point, (1, torch.ones(1)), Colour.RED])
def test_a_key_that_can_not_be_stored(store, key):
    with pytest.raises(StateError, match=r"x\[<?.*>?\]"):
        store.save({"x": {key: 1}}, step=0, kind="step")


@pytest.mark.parametrize("meta", [{"a": object()}, {"a": float("nan")}, {"a": 2**70}, {"a": np.float32(1)}])
def test_meta_is_plain_json(store, meta):
    with pytest.raises(StateError, match="meta is not plain JSON"):
        store.save({}, step=0, kind="step", meta=meta)
    assert not store.list()


@pytest.mark.parametrize("step", [-1, 1.5, True, None, 2**63])
def test_a_step_that_is_none(store, step):
    with pytest.raises(ValueError, match="step="):
        store.save({}, step=step, kind="step")


@pytest.mark.parametrize("kind", ["", "../x", "Step", "a/b", "x" * 99])
def test_a_kind_that_is_no_word(store, kind):
    with pytest.raises(ValueError, match="kind="):
        store.save({}, step=0, kind=kind)


@pytest.mark.parametrize("keep_last", [0, 1, -1])
def test_at_least_two_are_kept(tmp_path, keep_last):
    with pytest.raises(ValueError, match="at least 2"):
        CheckpointStore(tmp_path, keep_last=keep_last, keep_best=KeepBest("loss"))


def test_the_error_can_cross_a_process_border():
    error = pickle.loads(pickle.dumps(StateError("a.b", "a thing", "drop it")))
    assert (error.path, error.what, error.advice) == ("a.b", "a thing", "drop it")
    assert str(error) == "a.b is a thing, which a checkpoint can't store: drop it"
