"""ResumableLoader through its public names: positions, randomness, workers, data sets, bad input."""

import copy
import gc
import itertools
import json
import multiprocessing
import pickle
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, get_worker_info

from ridgepole import ResumableLoader, track
from ridgepole.data import Resumable
from ridgepole.permanence import current_run

# Python 3.12 and newer warn where a process with threads forks, as every test runner's process has.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


class Counted:
    """Remembers which items were asked for."""

    def __init__(self, length=100):
        self.length = length
        self.asked = []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.asked.append(index)
        return index


class Noisy:
    """Each item draws from the three global generators, and from the cached halves of their normal variates."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor(
            [index, random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.randn(()).item()],
            dtype=torch.float64,
        )


class Broken:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index == 11:
            raise OSError("item 11 can't be read")
        return index


def numbers(loader):
    return [batch.tolist() for batch in loader]


def workers() -> list:
    return multiprocessing.active_children()


def test_one_loop_goes_through_all_epochs():
    loader = ResumableLoader(range(10), 4, 3)
    assert len(loader) == 9
    assert loader.batches_per_epoch == 3
    epochs, ends, cursors = [], [], []
    for _ in loader:
        epochs.append(loader.epoch)
        ends.append(loader.epoch_ends)
        cursors.append(loader.cursor)
    assert epochs == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert ends == [False, False, True] * 3
    assert cursors == list(range(1, 10))


def test_batches_are_what_torch_makes_of_them():
    data = TensorDataset(torch.arange(20.0).reshape(10, 2), torch.arange(10))
    ours = list(ResumableLoader(data, 4, shuffle=False))
    theirs = list(DataLoader(data, 4))
    for one, other in zip(ours, theirs, strict=True):
        assert type(one) is type(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_second_loop_begins_anew_and_break_leaves_the_position():
    loader = ResumableLoader(range(20), 2)
    whole = numbers(loader)
    for _ in itertools.islice(loader, 4):
        pass
    assert loader.cursor == 4
    assert loader.state_dict()["cursor"] == 4
    assert loader.start == 0
    assert numbers(loader) == whole
    assert loader.cursor == 10


def test_a_loaded_position_counts_for_one_loop():
    loader = ResumableLoader(range(20), 2, 2)
    whole = numbers(loader)
    loader.load_state_dict(loader.state_dict() | {"cursor": 13})
    assert (loader.start, loader.cursor, loader.epoch) == (13, 13, 1)
    assert loader.state_dict()["cursor"] == 13
    assert numbers(loader) == whole[13:]
    assert loader.start == 0
    assert numbers(loader) == whole


def test_a_finished_loop_stays_finished_when_it_goes_on():
    loader = ResumableLoader(range(6), 2)
    assert len(list(loader)) == 3
    again = ResumableLoader(range(6), 2)
    again.load_state_dict(loader.state_dict())
    assert list(again) == []
    assert again.epoch_ends
    assert len(list(again)) == 3


@pytest.mark.parametrize("cursor", [0, 1, 24, 25, 26, 74, 75])
def test_nothing_before_the_cursor_is_touched(cursor):
    whole = ResumableLoader(Counted(), 4, 3, num_workers=0)
    list(whole)
    asked = whole.dataset.asked
    loader = ResumableLoader(Counted(), 4, 3)
    loader.load_state_dict(loader.state_dict() | {"cursor": cursor})
    list(loader)
    assert loader.dataset.asked == asked[4 * cursor :]


def test_nothing_is_fetched_ahead_without_workers():
    loader = ResumableLoader(Counted(), 4)
    for done, _ in enumerate(loader, 1):
        assert len(loader.dataset.asked) == 4 * done
        if done == 3:
            break
    assert len(loader.dataset.asked) == 12


@pytest.mark.process
@pytest.mark.parametrize("prefetch", [1, 6])
def test_batches_fetched_ahead_do_not_count(prefetch):
    loader = ResumableLoader(range(40), 2, num_workers=2, prefetch_factor=prefetch)
    for done, _ in enumerate(loader, 1):
        assert loader.cursor == done
        assert loader.state_dict()["cursor"] == done
        if done == 5:
            break
    assert loader.cursor == 5


def test_an_older_loop_does_not_move_the_position_of_a_newer_one():
    loader = ResumableLoader(range(10), 1)
    older, newer = iter(loader), iter(loader)
    next(newer)
    for _ in range(5):
        next(older)
    assert loader.cursor == 1
    loader.load_state_dict(loader.state_dict() | {"cursor": 7})
    next(newer)
    assert loader.cursor == 7


@pytest.mark.process
@pytest.mark.parametrize("count", [1, 2])
def test_augmentation_draws_the_same_with_any_number_of_workers_and_from_any_cursor(count):
    alone = [batch.numpy() for batch in ResumableLoader(Noisy(), 4, 2, seed=5)]
    assert len({row.tobytes() for batch in alone for row in batch[:, 1:]}) == 20, "each item drew something else"
    loader = ResumableLoader(Noisy(), 4, 2, seed=5, num_workers=count)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(alone, loader, strict=True))
    for cursor in (1, 4):
        loader.load_state_dict(loader.state_dict() | {"cursor": cursor})
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(alone[cursor:], loader, strict=True))


def test_generators_draw_different_numbers():
    """Python's and numpy's are both Mersenne Twisters, and would draw the same from the same seed."""
    (batch,) = ResumableLoader(Noisy(), 10)
    assert not np.isclose(batch[:, 1], batch[:, 3]).any()


def test_ranks_draw_different_numbers():
    first, second = (next(iter(ResumableLoader(Noisy(), 5, rank=rank, world_size=2))) for rank in (0, 1))
    assert not np.isclose(first[:, 1:], second[:, 1:]).any()


@pytest.mark.process
@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("twister", [True, False], ids=["numpy's own", "another bit generator"])
def test_the_training_s_own_randomness_is_untouched(count, twister):
    def draw():
        # an odd number of normal variates: the other half of the last pair is kept by the generator
        return random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(17)[3].item()

    def seed():
        random.seed(1)
        torch.manual_seed(1)
        np.random.set_bit_generator(np.random.MT19937(1) if twister else np.random.PCG64(1))

    own = np.random.get_bit_generator()
    try:
        seed()
        expected = [draw() for _ in range(6)]
        seed()
        found = [draw()]
        loader = ResumableLoader(Noisy() if twister or not count else range(10), 4, 2, num_workers=count)
        found += [draw()]
        for done, _ in enumerate(loader, 1):
            if done < 4:
                found.append(draw())
            if done == 5:
                break
        found.append(draw())
    finally:
        np.random.set_bit_generator(own)
    assert found == expected


def test_randomness_is_given_back_when_an_item_fails():
    random.seed(3)
    torch.manual_seed(3)
    np.random.seed(3)
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    with pytest.raises(OSError, match="item 11"):
        list(ResumableLoader(Broken(), 4))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.random.get_state()[1].tolist() == before[2]


@pytest.mark.parametrize("persistent", [False, True])
def test_no_worker_outlives_its_use(persistent):
    loader = ResumableLoader(range(40), 2, 2, num_workers=2, persistent_workers=persistent)
    for done, _ in enumerate(loader, 1):
        if done == 3:
            first = {child.pid for child in workers()}
            break
    assert len(first) == 2
    assert len(workers()) == (2 if persistent else 0), "after break"
    whole = numbers(loader)
    assert whole == numbers(ResumableLoader(range(40), 2, 2))
    assert ({child.pid for child in workers()} == first) is persistent, "after the end"
    with loader:
        batches = iter(loader)
        next(batches)
        assert len(workers()) == 2
    assert workers() == [], "after close"
    assert list(batches) == [], "a closed loop is over"
    assert numbers(loader) == whole, "a closed loader can be used again"
    del loader, batches
    gc.collect()
    assert workers() == [], "after the loader is gone"


@pytest.mark.parametrize("persistent", [False, True])
def test_a_kept_traceback_keeps_no_workers(persistent):
    loader = ResumableLoader(Broken(), 4, num_workers=2, persistent_workers=persistent)
    kept = None
    try:
        list(loader)
    except OSError as error:
        kept = error
    assert kept is not None
    assert workers() == []


@pytest.mark.process
def test_workers_live_through_epochs():
    class Who(Noisy):
        def __getitem__(self, index):
            return get_worker_info().id, torch.utils.data.get_worker_info().seed, __import__("os").getpid()

    loader = ResumableLoader(Who(), 2, 4, num_workers=2, collate_fn=list)
    assert len({pid for batch in loader for _, _, pid in batch}) == 2


@pytest.mark.process
def test_worker_init_sees_the_user_s_data_set():
    class Opened:
        handle = None

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return self.handle, index

    def begin(worker):
        get_worker_info().dataset.handle = f"worker {worker}"

    batches = list(ResumableLoader(Opened(), 2, num_workers=2, worker_init_fn=begin, collate_fn=list))
    assert {handle for batch in batches for handle, _ in batch} == {"worker 0", "worker 1"}


SPAWNED = """
import random, sys
import torch
from ridgepole import ResumableLoader

class Data:
    def __len__(self):
        return 10
    def __getitem__(self, index):
        return index, random.random()

if __name__ == "__main__":
    runs = [
        [[t.tolist() for t in b] for b in ResumableLoader(Data(), 3, 2, num_workers=n, multiprocessing_context=c)]
        for n, c in ((0, None), (1, "spawn"), (1, "fork"))
    ]
    assert runs[0] == runs[1] == runs[2]
"""


def test_spawned_workers_load_the_same(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.process
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_a_copy_stands_where_the_original_stands(copied):
    loader = ResumableLoader(list(range(20)), 2, num_workers=1, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    loader.load_state_dict(loader.state_dict() | {"cursor": 7})
    twin = copied(loader)
    loader.close()
    assert twin.state_dict() == loader.state_dict()
    assert numbers(twin) == numbers(loader)
    twin.close()


class Sentences:
    """Like Hugging Face's: a dictionary an item, and a way to fetch several at once."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        raise AssertionError("__getitems__ is there, and quicker")

    def __getitems__(self, indices):
        return [{"number": index, "text": str(index)} for index in indices]


@pytest.mark.parametrize(
    ("dataset", "first"),
    [
        (list(range(6)), [0, 1]),
        ((0, 1, 2, 3, 4, 5), [0, 1]),
        (range(6), [0, 1]),
        (np.arange(6), [0, 1]),
        (np.arange(12).reshape(6, 2), [[0, 1], [2, 3]]),
        (torch.arange(6), [0, 1]),
        (Subset(list(range(10)), [2, 3, 4, 5, 6, 7]), [2, 3]),
    ],
    ids=["list", "tuple", "range", "array", "rows of an array", "tensor", "Subset"],
)
def test_what_can_be_loaded_from(dataset, first):
    loader = ResumableLoader(dataset, 2, shuffle=False)
    assert len(loader) == 3
    assert next(iter(loader)).tolist() == first


def test_several_items_at_once():
    batch = next(iter(ResumableLoader(Sentences(), 3, shuffle=False)))
    assert batch["number"].tolist() == [0, 1, 2]
    assert batch["text"] == ["0", "1", "2"]


class Endless(IterableDataset):
    def __iter__(self):
        return itertools.count()


class NoLength(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    ("dataset", "error", "says"),
    [
        (Endless(), TypeError, "Endless is an IterableDataset.*__getitem__"),
        ((x for x in "ab"), TypeError, "generator has no __getitem__: turn it into a list"),
        ({1, 2}, TypeError, "set has no __getitem__"),
        (None, TypeError, "NoneType has no __getitem__"),
        (NoLength(), TypeError, "NoLength has none.*__len__"),
        (torch.tensor(1), TypeError, "must have a length"),
    ],
)
def test_data_that_can_not_be_loaded_from(dataset, error, says):
    with pytest.raises(error, match=says):
        ResumableLoader(dataset, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be 1 or more, not 0"),
        ({"batch_size": -3}, ValueError, "batch_size must be 1 or more"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number, not True"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be a whole number"),
        ({"epochs": -1}, ValueError, "epochs must be 0 or more"),
        ({"epochs": "3"}, TypeError, "epochs must be a whole number"),
        ({"seed": -1}, ValueError, "seed must be 0 or more"),
        ({"seed": 2**64}, ValueError, "seed must be less than"),
        ({"seed": 1.5}, TypeError, "seed must be a whole number"),
        ({"num_workers": -1}, ValueError, "num_workers must be 0 or more"),
        ({"num_workers": 2, "prefetch_factor": -1}, ValueError, "prefetch_factor"),
        ({"rank": 1}, TypeError, "rank and world_size belong together"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank must be less than world_size"),
        ({"rank": 0, "world_size": 0}, ValueError, "world_size must be 1 or more"),
        ({"batch_size": 11, "drop_last": True}, ValueError, "drop_last leaves nothing: 10 items"),
        ({"batch_size": 6, "drop_last": True, "rank": 0, "world_size": 2}, ValueError, "each of 2 ranks"),
        ({"weights": [1, 2]}, ValueError, r"each of the 10 items, not of shape \[2\]"),
        ({"weights": [0] * 10}, ValueError, "must not all be 0"),
        ({"weights": [1] * 9 + [-1]}, ValueError, r"that of item 9 is -1\.0"),
        ({"weights": [1, float("nan")] + [1] * 8}, ValueError, "that of item 1 is nan"),
        ({"weights": [1] * 10, "shuffle": False}, ValueError, "shuffle=False"),
    ],
)
def test_bad_arguments_are_named(arguments, error, says):
    with pytest.raises(error, match=says):
        ResumableLoader(range(10), **arguments)


def test_numpy_numbers_and_no_epochs_are_fine():
    loader = ResumableLoader(range(10), np.int64(4), np.int32(0), seed=np.uint8(3))
    assert list(loader) == []
    assert not loader.epoch_ends
    assert json.loads(json.dumps(loader.state_dict())) == loader.state_dict()
    assert type(loader.batch_size) is int


def test_arguments_about_workers_may_stay_when_there_are_none():
    """So that one flag turns workers off."""
    loader = ResumableLoader(
        range(4), 2, prefetch_factor=4, persistent_workers=True, timeout=9, multiprocessing_context="spawn"
    )
    assert len(numbers(loader)) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": range(41)}, "length was 40 and is 41.*load the same data set"),
        ({"batch_size": 5}, "batch_size was 4 and is 5.*pass batch_size=4"),
        ({"seed": 2}, "seed was 1 and is 2.*pass seed=1"),
        ({"shuffle": False}, "shuffle was True and is False"),
        ({"drop_last": True}, "drop_last was False and is True"),
        ({"rank": 0, "world_size": 2}, "world_size was 1 and is 2.*as many processes as before"),
        ({"weights": [1.0] * 40}, "weights was None.*pass the same weights"),
        ({"batch_size": 5, "seed": 2}, "seed was 1 and is 2; batch_size was 4 and is 5"),
        ({"epochs": 1}, r"handed out 12 batches of its 2 epochs, more than the 10 .*epochs=2 or more"),
    ],
)
def test_a_state_of_another_order_is_refused(change, says):
    same = {"dataset": range(40), "batch_size": 4, "epochs": 2, "seed": 1}
    stored = ResumableLoader(**same)
    list(itertools.islice(stored, 12))
    loader = ResumableLoader(**same | change)
    with pytest.raises(ValueError, match=says):
        loader.load_state_dict(stored.state_dict())
    assert (loader.start, loader.cursor) == (0, 0), "nothing was taken over"


def test_other_weights_are_refused_and_the_same_are_not():
    stored = ResumableLoader(range(4), weights=[1, 2, 3, 4]).state_dict()
    ResumableLoader(range(4), weights=torch.tensor([1.0, 2, 3, 4])).load_state_dict(stored)
    with pytest.raises(ValueError, match="the same weights"):
        ResumableLoader(range(4), weights=[1, 2, 3, 5]).load_state_dict(stored)


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        (None, TypeError, "is a mapping"),
        ([1], TypeError, "is a mapping"),
        ({}, ValueError, "not the state of a ResumableLoader: it has no format, cursor"),
        ({"format": 2}, ValueError, "newer Ridgepole"),
        ({"cursor": -1}, ValueError, "integer of at least 0, not -1"),
        ({"cursor": 1.0}, ValueError, "integer of at least 0, not 1.0"),
        ({"cursor": True}, ValueError, "integer of at least 0"),
        ({"cursor": "3"}, ValueError, "integer of at least 0"),
    ],
)
def test_a_damaged_state_is_refused(state, error, says):
    loader = ResumableLoader(range(10))
    if isinstance(state, dict) and state:
        state = loader.state_dict() | state
    with pytest.raises(error, match=says):
        loader.load_state_dict(state)


@pytest.mark.process
def test_training_longer_and_with_other_workers_goes_on():
    short = ResumableLoader(range(10), 4, 1)
    list(short)
    longer = ResumableLoader(range(10), 4, 2, num_workers=1)
    longer.load_state_dict(json.loads(json.dumps(short.state_dict())))
    assert numbers(longer) == numbers(ResumableLoader(range(10), 4, 2))[3:]


def test_the_seed_is_the_run_s():
    assert ResumableLoader(range(3)).seed == 0
    token = current_run.set(SimpleNamespace(seed=77))
    try:
        loader = ResumableLoader(range(3))
        assert ResumableLoader(range(3), seed=5).seed == 5
    finally:
        current_run.reset(token)
    assert loader.seed == 77


def test_ranks_come_from_the_launcher(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert ResumableLoader(range(9)).world_size == 1, "a rank among an unknown number is no rank"
    monkeypatch.setenv("WORLD_SIZE", "3")
    loader = ResumableLoader(range(9), shuffle=False)
    assert (loader.rank, loader.world_size) == (1, 3)
    assert numbers(loader) == [[1], [4], [7]]
    assert ResumableLoader(range(9), rank=0, world_size=1).world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "three")
    with pytest.raises(ValueError, match="WORLD_SIZE must be a whole number, not 'three'"):
        ResumableLoader(range(9))


DISTRIBUTED = """
import os, sys
import torch.distributed as dist
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
from ridgepole import ResumableLoader
loader = ResumableLoader(range(11), 2, 2, seed=4)
mine = [batch.tolist() for batch in loader]
both = [None, None]
dist.all_gather_object(both, (mine, loader.state_dict()))
assert both[0][1] == both[1][1], "one state serves all ranks"
assert [len(b) for b in both[0][0]] == [len(b) for b in both[1][0]] == [2, 2, 2] * 2
assert {x for part in both for batch in part[0][:3] for x in batch} == set(range(11))
dist.destroy_process_group()
"""


def test_two_ranks_of_torch_distributed(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(DISTRIBUTED)
    command = [sys.executable, script]
    started = [
        subprocess.Popen([*command, str(rank), tmp_path / "store"], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=110)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors


def test_track_can_know_it_by_its_members():
    loader = ResumableLoader(range(10), 2)
    assert isinstance(loader, Resumable)
    assert not isinstance(DataLoader(range(10)), Resumable)
    loader.load_state_dict(loader.state_dict() | {"cursor": 3})
    bar = track(loader, "train", total=len(loader), initial=loader.start)
    assert (bar.initial, bar.total) == (3, 5)
    for done, _ in enumerate(bar, 4):
        assert loader.cursor == done, "in the body of an item, that item is counted"
