"""Whatever a state may hold comes back the same: to the bit, to the type, and in its order."""

import random
from collections import Counter, OrderedDict, deque
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

EVERY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

NUMBERS = st.one_of(st.booleans(), st.integers(), st.floats(), st.complex_numbers())
TEXT = st.text(st.characters(codec=None, exclude_categories=()))
KEYS = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXT, st.binary(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
SCALARS = st.one_of(
    hnp.scalar_dtypes().flatmap(hnp.from_dtype),
    hnp.from_dtype(np.dtype("U5")).map(np.str_),
    st.binary(max_size=9).map(np.bytes_),
)
PLAIN_DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.byte_string_dtypes(),
    hnp.nested_dtypes(max_leaves=4, max_itemsize=64).filter(lambda dtype: dtype.subdtype is None),
)
ARRAYS = PLAIN_DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
LEAVES = st.one_of(
    st.none(),
    NUMBERS,
    TEXT,
    st.binary(max_size=5000),
    st.binary(max_size=50).map(bytearray),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
    SCALARS,
    ARRAYS,
    st.lists(st.integers(), min_size=30, max_size=40),
    st.lists(st.floats(), min_size=30, max_size=40).map(tuple),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda x: deque(x, maxlen=9)),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
        st.dictionaries(KEYS, st.integers(), max_size=4).map(Counter),
        st.sets(KEYS, max_size=4),
    ),
    max_leaves=12,
)


@pytest.mark.slow
@EVERY
@given(state=st.dictionaries(st.text(max_size=9), VALUES, max_size=4))
def test_any_tree_of_values_comes_back(round_trip, state):
    round_trip(state)


@pytest.mark.parametrize(
    "value",
    [
        [],
        (),
        {},
        ((),),
        {"": ""},
        {"map": 1, "torch": {"at": "x"}},
        {"__metadata__": np.zeros(1)},
        {1: "int", "1": "str", (1,): "tuple", None: "none", 2.5: "float", b"1": "bytes"},
        {True: "bool", 0: "int"},
        {10**6000: [np.zeros(2)]},
        2**63,
        -(2**63),
        2**64,
        -(10**400),
        10**6000,
        float("inf"),
        -0.0,
        [float("nan")] * 40,
        list(range(40)),
        tuple(range(-5, 60)),
        [2**64 - 1] * 40,
        [2**64] * 40,
        [True] * 40,
        [1, 1.0] * 40,
        complex("nan+infj"),
        "\ud800 lone",
        "日本 \0 \U0001f600",
        {"日本": 1, "\udcff": 2},
        bytes(range(256)) * 99,
        bytearray(9999),
        random.Random(3).getstate(),
        Path("/a/b"),
        PurePosixPath("a\udcff"),
        PureWindowsPath("C:\\a"),
        range(3, 10**30, 7),
        frozenset({frozenset(), (1, 2)}),
        deque([1, 2, 3], maxlen=3),
        deque(),
        np.float32(0.1),
        np.float64("nan"),
        np.str_("a\0"),
        np.bytes_(b"a\0"),
        np.datetime64("2026-01-01"),
        np.timedelta64("NaT"),
        np.longdouble(1) / 3,
        np.array([(1, "x")], dtype=[("a", "<i4"), ("b", "U3")])[0],
        {np.int64(3): 1, np.str_("x"): 2},
        np.dtype("<f4"),
        np.dtype([("a", "<i4", (2, 3)), ("b", [("c", "S2")])]),
        np.arange(12).reshape(3, 4)[::2, ::-1],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(3, dtype=">i4"),
        np.array(["a\0", "bcd"]),
        np.array(["2026-01-01", "NaT"], dtype="M8[ms]"),
        np.array(7, dtype=np.uint8),
        np.zeros((0, 3)),
        np.zeros(3, dtype="V0"),
        np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back(round_trip, value):
    round_trip({"value": value, "nested": [{"again": (value,)}]})


NAMES = """
bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 bfloat16 complex32 complex64 complex128
float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2
"""
STORED = [getattr(torch, name) for name in NAMES.split() if hasattr(torch, name)]  # the last ones are young


def of_dtype(dtype, *shape):
    """Random bits as a tensor of that type."""
    elements = int(np.prod(shape, dtype=int))
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (elements * dtype.itemsize,), dtype=torch.uint8)
    return torch.empty(0, dtype=dtype).set_(bits.untyped_storage(), 0, shape)


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_a_tensor_of_every_type_comes_back(round_trip, dtype):
    loaded = round_trip(
        {
            "matrix": of_dtype(dtype, 5, 3),
            "scalar": of_dtype(dtype),
            "empty": of_dtype(dtype, 0, 3),
            "transposed": of_dtype(dtype, 4, 6).t(),
            "every other": of_dtype(dtype, 9)[1::2],
            "dtype": dtype,
        }
    )
    assert loaded["transposed"].stride() == (1, 6)
    assert loaded["every other"].is_contiguous()


def test_torchs_small_types_come_back(round_trip):
    round_trip({"size": torch.Size([2, 3]), "dtype": torch.bfloat16, "device": torch.device("cuda:1")})


def test_a_parameter_comes_back_as_a_tensor_without_a_gradient(store):
    parameter = torch.nn.Parameter(torch.randn(3))
    parameter.grad = torch.ones(3)
    store.save(
        {"p": parameter, "b": torch.nn.Buffer(torch.zeros(2)), "conj": torch.randn(2, dtype=torch.cfloat).conj()},
        step=0,
        kind="step",
    )
    loaded = store.load().state
    assert type(loaded["p"]) is torch.Tensor
    assert torch.equal(loaded["p"], parameter)
    assert not loaded["p"].requires_grad
    assert type(loaded["b"]) is torch.Tensor
    assert not loaded["conj"].is_conj()


def test_a_trained_network_goes_on_bit_equal(round_trip, rich_state):
    """AdamW's state has int keys, a module's state dict an attribute; both are needed to go on."""
    loaded = round_trip(rich_state)
    results = []
    for state in (rich_state, loaded):
        network = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.BatchNorm1d(30), torch.nn.Linear(30, 2))
        optimiser = torch.optim.AdamW(network.parameters())
        network.load_state_dict(state["permanences"]["network"]["model"])
        optimiser.load_state_dict(state["permanences"]["network"]["optimiser"])
        rng = state["ranks"][0]["rng"]
        random.setstate(rng["python"])
        np.random.set_state(rng["numpy"])
        torch.set_rng_state(rng["torch"])
        network(torch.randn(8, 40)).square().sum().backward()
        optimiser.step()
        results.append((network.state_dict(), random.random(), np.random.rand()))
    assert results[0][1:] == results[1][1:]
    assert all(torch.equal(a, b) for a, b in zip(results[0][0].values(), results[1][0].values(), strict=True))
    assert loaded["permanences"]["network"]["model"]._metadata


def test_tied_weights_are_written_once_and_come_back_as_one(store):
    embedding = torch.nn.Embedding(1000, 64)
    head = torch.nn.Linear(64, 1000, bias=False)
    head.weight = embedding.weight
    array = np.zeros(50_000)
    state = {"embedding": embedding.state_dict(), "head": head.state_dict(), "arrays": [array, array]}
    info = store.save(state, step=0, kind="step").info
    assert info.size < 256_000 + 400_000 + 4000
    loaded = store.load().state
    assert loaded["embedding"]["weight"] is loaded["head"]["weight"]
    assert loaded["arrays"][0] is loaded["arrays"][1]


def test_views_of_one_buffer_are_written_once_and_share_again(store):
    buffer = torch.arange(10_000.0)
    state = {
        "head": buffer[:10],
        "whole": buffer,
        "matrix": buffer.view(100, 100).t(),
        "bits": buffer[5000:].view(torch.int32),
    }
    info = store.save(state, step=0, kind="step").info
    assert info.size < 40_000 + 3000
    loaded = store.load().state
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    loaded["whole"][3] = -1
    assert loaded["head"][3] == -1
    assert loaded["matrix"][3, 0] == -1
    loaded["whole"][5000] = 1
    assert loaded["bits"][0] == 0x3F800000


def test_slices_of_a_large_buffer_do_not_drag_it_along(store):
    buffer = torch.zeros(1000, 1000)
    info = store.save({"row": buffer[5], "a": buffer[:, 1], "b": buffer[:, 2]}, step=0, kind="step").info
    assert info.size < 3 * 4000 + 2000


def test_what_is_loaded_has_memory_of_its_own(store):
    store.save({"a": torch.zeros(3), "b": np.zeros(3), "c": torch.zeros(3)}, step=0, kind="step")
    first, second = store.load().state, store.load().state
    first["a"] += 1
    first["b"] += 1
    assert first["a"].resize_(10).shape == (10,)
    assert not second["a"].any()
    assert not second["b"].any()
    assert not first["c"].any()


def test_channels_last_stays_channels_last(round_trip):
    """Kernels are chosen by the layout, and with another one the next step would differ in the last bits."""
    loaded = round_trip({"w": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)})
    assert loaded["w"].is_contiguous(memory_format=torch.channels_last)
    assert np.isfortran(round_trip({"a": np.asfortranarray(np.ones((3, 4)))})["a"])


@pytest.mark.slow
def test_twenty_thousand_small_tensors(round_trip):
    round_trip({"many": {i: torch.tensor(float(i)) for i in range(20_000)}})
