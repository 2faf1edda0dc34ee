"""Samplers of torch's own, single items, epochs by hand, and data sets that are empty or have a state."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from ridgepole.data import ResumableLoader

DATA = list(range(20))


def items(loader):
    return [batch.tolist() for batch in loader]


def weighted():
    return WeightedRandomSampler([float(number < 5) for number in DATA], 12)


def seeded():
    return RandomSampler(DATA, generator=torch.Generator().manual_seed(1))


SAMPLERS = {
    "weighted": {"sampler": weighted, "batch_size": 5},
    "random": {"sampler": lambda: RandomSampler(DATA), "batch_size": 3},
    "with a generator": {"sampler": seeded, "batch_size": 3},
    "subset": {"sampler": lambda: SubsetRandomSampler(range(7)), "batch_size": 2, "drop_last": True},
    "a list": {"sampler": lambda: [3, 1, 2], "batch_size": 2},
    "distributed": {"sampler": lambda: DistributedSampler(DATA, num_replicas=2, rank=1), "batch_size": 4},
    "batches": {"batch_sampler": lambda: BatchSampler(seeded(), 6, drop_last=False)},
    "batches in a list": {"batch_sampler": lambda: [[0], [1, 2], [3, 4, 5]]},
}


def make(kind, **more):
    options = {key: value() if callable(value) else value for key, value in SAMPLERS[kind].items()}
    return ResumableLoader(DATA, epochs=3, seed=7, **options | more)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_any_batch_of_a_sampler_is_found_again(kind):
    whole = items(make(kind))
    assert len(whole) == len(make(kind))
    torch.manual_seed(0)
    assert items(make(kind)) == whole, "the training's generators have no part in it"
    for position in range(len(whole) + 1):
        loader = make(kind)
        state = None
        for count, _ in enumerate(loader, 1):
            if count == position:
                state = json.loads(json.dumps(loader.state_dict()))
                break
        resumed = make(kind)
        resumed.load_state_dict(state or resumed.state_dict())
        assert items(resumed) == whole[position if state else 0 :]


def test_a_random_sampler_has_another_order_each_epoch_and_leaves_the_generators_alone():
    sampler = seeded()
    before, torch_state = sampler.generator.get_state(), torch.get_rng_state()
    whole = [item for batch in items(make("with a generator", sampler=sampler)) for item in batch]
    epochs = [whole[at : at + 20] for at in (0, 20, 40)]
    assert [sorted(epoch) for epoch in epochs] == [DATA] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert torch.equal(sampler.generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert {item for batch in items(make("weighted")) for item in batch} <= set(range(5))


def test_ranks_share_a_sampler_once():
    shares = [items(make("random", rank=rank, world_size=2)) for rank in (0, 1)]
    first_epoch = [item for share in shares for batch in share[: len(share) // 3] for item in batch]
    assert sorted(first_epoch) == DATA
    own = [
        items(make("distributed", sampler=DistributedSampler(DATA, 2, rank), rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    assert sorted(item for share in own for batch in share[:3] for item in batch) == DATA
    batches = [make("batches in a list", rank=rank, world_size=2) for rank in (0, 1)]
    assert [items(loader)[:2] for loader in batches] == [[[0], [3, 4, 5]], [[1, 2], [0]]]


def test_workers_get_the_same_batches():
    assert items(make("weighted", num_workers=1, multiprocessing_context="fork")) == items(make("weighted"))


class Shrinking:
    """Gives fewer indices each time, which its length does not say."""

    left = 4

    def __len__(self):
        return 3

    def __iter__(self):
        self.left -= 1
        return iter(range(self.left))


def test_samplers_that_can_not_be_resumed_are_refused():
    for given, error, message in [
        ({"sampler": iter([1])}, TypeError, "must have __iter__ and __len__"),
        ({"sampler": [1], "weights": [1.0] * 20}, ValueError, "sampler and weights each give the order"),
        ({"sampler": [1], "batch_sampler": [[1]]}, ValueError, "sampler and batch_sampler each give the order"),
        ({"batch_sampler": [[1]], "batch_size": 4}, ValueError, "leave batch_size and drop_last out"),
        ({"batch_sampler": [[1]], "drop_last": True}, ValueError, "leave batch_size and drop_last out"),
    ]:
        with pytest.raises(error, match=message):
            ResumableLoader(DATA, **given)
    with pytest.raises(ValueError, match="gave 2 entries in epoch 1, but its length is 3"):
        items(ResumableLoader(DATA, 3, 2, sampler=Shrinking()))
    loader = make("weighted")
    with pytest.raises(ValueError, match=r"sampler was .*WeightedRandomSampler of 12.* and is None.*same sampler"):
        ResumableLoader(DATA, 5, 3, seed=7).load_state_dict(loader.state_dict())


def test_items_without_a_batch():
    data = [np.array([number, 1]) for number in range(4)]
    loader = ResumableLoader(data, None, 2, shuffle=False)
    found = list(loader)
    assert len(loader) == 8
    assert [item.tolist() for item in found[:3]] == [[0, 1], [1, 1], [2, 1]]
    assert isinstance(found[0], torch.Tensor), "converted, as torch does"
    doubled = ResumableLoader(DATA, None, shuffle=False, collate_fn=lambda item: item * 2)
    assert list(doubled) == [2 * number for number in DATA]


def test_an_epoch_by_hand():
    whole = items(ResumableLoader(DATA, 6, 3, seed=7))
    loader = ResumableLoader(DATA, 6, seed=7)
    by_hand = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        by_hand += items(loader)
        assert (loader.epoch, loader.epoch_ends) == (epoch, True)
    assert by_hand == whole
    loader.set_epoch(2)
    next(iter(loader))
    state = loader.state_dict()
    resumed = ResumableLoader(DATA, 6, seed=7)
    resumed.load_state_dict(state)
    resumed.set_epoch(2)
    assert items(resumed) == whole[9:], "the position is in this epoch"
    resumed.load_state_dict(state)
    resumed.set_epoch(1)
    assert items(resumed) == whole[4:8]


@pytest.mark.parametrize("data", [[], np.zeros((0, 3)), torch.empty(0)])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True}, {"batch_size": None}])
def test_an_empty_data_set_has_no_batches(data, options):
    loader = ResumableLoader(data, **{"batch_size": 4, "epochs": 3} | options)
    assert (list(loader), len(loader), loader.epoch, loader.epoch_ends) == ([], 0, 0, False)
    loader.load_state_dict(loader.state_dict())
    assert list(loader) == []


class Curriculum:
    """A data set that becomes harder with what was read from it."""

    def __init__(self):
        self.level = 0

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.level += 1
        return self.level

    def state_dict(self):
        return {"level": self.level}

    def load_state_dict(self, state):
        self.level = state["level"]


def test_the_state_of_a_data_set_is_stored():
    whole = items(ResumableLoader(Curriculum(), 2))
    loader = ResumableLoader(Curriculum(), 2)
    first = next(iter(loader)).tolist()
    resumed = ResumableLoader(Curriculum(), 2)
    resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert [first, *items(resumed)] == whole == [[1, 2], [3, 4], [5, 6]]


def test_a_state_of_an_older_version_is_read():
    loader = ResumableLoader(DATA, 6, seed=7)
    iterator = iter(loader)
    next(iterator)
    state = {
        key: value for key, value in loader.state_dict().items() if key not in ("sampler", "first_epoch", "dataset")
    }
    rest = items(iterator)
    resumed = ResumableLoader(DATA, 6, seed=7)
    resumed.load_state_dict(state)
    assert items(resumed) == rest
