"""`global_batch`: the items of all ranks together do not depend on the number of ranks."""

from collections import Counter

import pytest
from torch.utils.data import BatchSampler, DistributedSampler, SequentialSampler

from ridgepole import ResumableLoader


def loaders(length, size, world, **options):
    return [
        ResumableLoader(range(length), global_batch=size, rank=r, world_size=world, **options) for r in range(world)
    ]


def together(made):
    """The items of each step, of all ranks."""
    return [[item for batch in step for item in batch.tolist()] for step in zip(*made, strict=True)]


@pytest.mark.parametrize(
    "options", [{"shuffle": False}, {"seed": 3}, {"seed": 3, "drop_last": True}, {"weights": [1.0] * 29 + [5.0] * 21}]
)
@pytest.mark.parametrize("length", [50, 5])
def test_the_order_is_the_same_at_any_number_of_ranks(options, length):
    if "weights" in options:
        options = options | {"weights": options["weights"][-length:]}
    if options.get("drop_last") and length < 12:
        with pytest.raises(ValueError, match="drop_last leaves nothing"):
            loaders(length, 12, 2, **options)
        return
    alone = together(loaders(length, 12, 1, epochs=3, **options))
    for world in (2, 3, 4, 6, 12):
        assert together(loaders(length, 12, world, epochs=3, **options)) == alone
    assert {len(step) for step in alone} == {12}, "padding goes by the global batch"
    if "weights" not in options:
        of_epoch = alone[: len(alone) // 3]
        seen = Counter(item for step in of_epoch for item in step)
        wanted = length // 12 * 12 if options.get("drop_last") else length
        assert len(seen) == wanted, "each item once, but for the padding"
        assert sum(seen.values()) == len(of_epoch) * 12


def test_another_number_of_ranks_continues_in_the_middle():
    whole = together(loaders(50, 12, 1, epochs=2, seed=7))
    first = loaders(50, 12, 4, epochs=2, seed=7)
    running = [iter(each) for each in first]
    done = [[item for batch in (next(each) for each in running) for item in batch.tolist()] for _ in range(7)]
    (state,) = {str(each.state_dict()): each.state_dict() for each in first}.values()
    assert state["cursor"] == 7
    for world in (1, 2, 3):
        second = loaders(50, 12, world, epochs=2, seed=7)
        for each in second:
            each.load_state_dict(state)
        assert done + together(second) == whole


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"global_batch": 10, "world_size": 4}, r"global_batch=10 can't be divided among 4 ranks.*such as 8 or 12"),
        ({"global_batch": 3, "world_size": 4}, r"use a multiple of 4, such as 4, or"),
        ({"global_batch": 12, "world_size": 4, "batch_size": 3}, "batch_size=3 and global_batch=12 say the same"),
        ({"global_batch": 12, "world_size": 4, "batch_size": None}, "batch_size=None and global_batch=12"),
        (
            {"global_batch": 12, "world_size": 4, "sampler": DistributedSampler(range(50), 4, 0)},
            "DistributedSampler does already",
        ),
        (
            {"global_batch": 4, "world_size": 4, "batch_sampler": BatchSampler(SequentialSampler(range(50)), 4, False)},
            "batch_sampler gives whole batches",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        ResumableLoader(range(50), rank=0, **options)


def test_a_state_of_another_order_is_refused():
    state = loaders(50, 12, 4)[0].state_dict()
    with pytest.raises(ValueError, match="global_batch was 12 and is 24"):
        loaders(50, 24, 4)[0].load_state_dict(state)
    with pytest.raises(ValueError, match="global_batch was 12 and is None"):
        ResumableLoader(range(50), 3, rank=0, world_size=4).load_state_dict(state)
    older = {key: value for key, value in loaders(50, 12, 1)[0].state_dict().items() if key != "global_batch"}
    with pytest.raises(ValueError, match="global_batch was None and is 12"):
        loaders(50, 12, 1)[0].load_state_dict(older)
