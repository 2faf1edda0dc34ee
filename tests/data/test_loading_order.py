"""Which items come in which batch: the order is fair, and the same wherever a loop begins."""

import itertools
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler

from ridgepole import ResumableLoader


def loader_of(length: int, *arguments, **options) -> ResumableLoader:
    """Batches as lists of item numbers."""
    return ResumableLoader(range(length), *arguments, collate_fn=list, **options)


@st.composite
def shapes(draw):
    shape = {
        "length": draw(st.integers(1, 60)),
        "batch_size": draw(st.integers(1, 13)),
        "epochs": draw(st.integers(0, 4)),
        "drop_last": draw(st.booleans()),
        "shuffle": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "world_size": draw(st.integers(1, 4)),
    }
    assume(not shape["drop_last"] or shape["length"] >= shape["batch_size"] * shape["world_size"])
    return shape


@settings(deadline=None)
@given(shape=shapes(), data=st.data())
def test_going_on_at_any_cursor_gives_what_was_left(shape, data):
    rank = data.draw(st.integers(0, shape["world_size"] - 1), label="rank")
    whole = list(loader_of(**shape, rank=rank))
    cursor = data.draw(st.integers(0, len(whole)), label="cursor")
    stopped = loader_of(**shape, rank=rank)
    before = list(itertools.islice(stopped, cursor))
    resumed = loader_of(**shape, rank=rank)
    resumed.load_state_dict(stopped.state_dict())
    assert before + list(resumed) == whole
    assert resumed.cursor == len(resumed) == len(whole)


@settings(deadline=None)
@given(shape=shapes())
def test_ranks_and_batches_are_dealt_as_torch_deals_them(shape):
    """In the data set's own order, index for index against DistributedSampler and BatchSampler."""
    shape["shuffle"] = False
    for rank in range(shape["world_size"]):
        sampler = DistributedSampler(
            range(shape["length"]), shape["world_size"], rank, shuffle=False, drop_last=shape["drop_last"]
        )
        epoch = list(BatchSampler(sampler, shape["batch_size"], shape["drop_last"]))
        assert list(loader_of(**shape, rank=rank)) == epoch * shape["epochs"]


@settings(deadline=None)
@given(shape=shapes())
def test_every_epoch_has_every_item(shape):
    ranks = [list(loader_of(**shape, rank=rank)) for rank in range(shape["world_size"])]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1, "all ranks get as many batches, of one size"
    each = len(ranks[0]) // max(1, shape["epochs"])
    for epoch in range(shape["epochs"]):
        seen = Counter(x for batches in ranks for batch in batches[epoch * each : (epoch + 1) * each] for x in batch)
        if shape["drop_last"]:
            assert set(seen.values()) <= {1}
            assert sum(seen.values()) > shape["length"] - shape["batch_size"] * shape["world_size"]
        else:
            assert set(seen) == set(range(shape["length"]))
            assert sum(seen.values()) - shape["length"] < shape["world_size"], "more repeated than needed"


def orders(length: int, seeds: range, epochs: int = 1) -> np.ndarray:
    """One row for each epoch: the whole order."""
    rows = [batch for seed in seeds for batch in loader_of(length, length, epochs, seed=seed)]
    return np.array(rows)


def chi_square(counts: np.ndarray) -> float:
    """How many standard deviations the statistic lies from what a uniform distribution gives."""
    expected = counts.sum() / counts.size
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), counts.size - 1
    return float((statistic - freedom) / np.sqrt(2 * freedom))


@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_every_order_of_few_items_is_equally_likely(length):
    names = {order: number for number, order in enumerate(itertools.permutations(range(length)))}
    found = Counter(names[tuple(row)] for row in orders(length, range(200), epochs=30).tolist())
    counts = np.array([found[number] for number in range(len(names))])
    assert chi_square(counts) < 5, f"orders are not equally likely: {counts}"


@pytest.mark.slow
@pytest.mark.parametrize("length", [9, 64, 1000])
def test_items_are_spread_evenly_over_places(length):
    rows = orders(length, range(20), epochs=max(20, 4000 // length))
    parts = min(length, 20)
    places = np.arange(length) * parts // length
    counts = np.zeros((parts, parts))
    np.add.at(counts, (np.tile(places, len(rows)), rows.ravel() * parts // length), 1)
    counts /= np.outer(np.bincount(places), np.bincount(places)) / (length / parts) ** 2
    # rows and columns have fixed sums, so that about 2 in `parts` of the cells are not free
    assert abs(chi_square(counts)) < 6 + np.sqrt(2 * parts), f"{chi_square(counts):.1f} standard deviations"


@pytest.mark.slow
def test_half_of_the_orders_are_odd():
    """A permutation made of even ones would never be odd, whatever the other statistics say."""
    rows = orders(9, range(100), epochs=20)
    inversions = sum((rows[:, a] > rows[:, b]).astype(int) for a, b in itertools.combinations(range(9), 2))
    assert 0.45 < (inversions % 2).mean() < 0.55


@pytest.mark.parametrize("length", [5_000, 200_000])
def test_neighbours_and_epochs_have_nothing_to_do_with_each_other(length):
    first, second = orders(length, range(1), epochs=2)
    bound = 5 / np.sqrt(length)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < bound
    assert abs(np.corrcoef(first, second)[0, 1]) < bound
    assert abs(np.corrcoef(first, np.arange(length))[0, 1]) < bound
    assert (first == second).sum() < 12, "about one item keeps its place by chance"
    assert (np.diff(first) == 1).sum() < 12, "about one pair of neighbours stays together by chance"
    assert len(np.unique(first)) == length


def test_seeds_epochs_and_ranks_differ_and_repeat():
    epochs = [row.tolist() for row in orders(50, range(3), epochs=3)]
    assert len(set(map(tuple, epochs))) == 9
    assert epochs == [row.tolist() for row in orders(50, range(3), epochs=3)]


def test_the_order_is_the_same_with_every_version():
    """Frozen: a stored cursor means the same batches with the next release of this package, numpy and torch."""
    assert list(loader_of(10, 5, 2, seed=7)) == [[9, 5, 0, 1, 8], [7, 4, 6, 2, 3], [0, 6, 4, 1, 2], [5, 3, 7, 9, 8]]
    large = loader_of(10**8, 4, 3, seed=2**64 - 1)
    large.load_state_dict(large.state_dict() | {"cursor": 60_000_000})
    assert next(iter(large)) == [50740582, 71283453, 50225682, 15482470]
    weighted = loader_of(4, 8, seed=1, weights=[1, 0, 2, 1])
    assert next(iter(weighted)) == [3, 3, 2, 0]


def test_a_hundred_million_items_take_no_memory():
    tracemalloc.start()
    loader = loader_of(10**8, 64, 1000)
    loader.load_state_dict(loader.state_dict() | {"cursor": len(loader) - 10})
    found = [batch for batch in iter(loader)]  # noqa: C416 - `list` would make room for all of them
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 10
    assert peak < 8e6, f"{peak / 1e6:.0f} MB; one number for each item would be 800"


def test_weights_draw_in_proportion():
    weights = [0.0, 1.0, 2.0, 0.0, 5.0, 0.0]
    drawn = Counter(x for batch in loader_of(6, 6, 4000, weights=weights) for x in batch)
    total = sum(drawn.values())
    assert total == 24_000
    assert set(drawn) == {1, 2, 4}
    for item, weight in enumerate(weights):
        assert drawn[item] / total == pytest.approx(weight / 8, abs=0.02)
