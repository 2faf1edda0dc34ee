"""The rule, on frozen readings."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgepole.devices.gpus import Card, Process
from ridgepole.devices.leases import LeaseHolder
from ridgepole.devices.policy import evaluate, exceeds, pick
from ridgepole.devices.request import make_request, parse_size

GIB = 1024**3


def reading(index, used=0, total=40 * GIB, **more):
    free = None if total is None else total - used
    fields = {"name": "A100", "place": index, "index": index, "processes": (), **more}
    return Card(kind="cuda", uuid=f"GPU-{index}", total=total, free=free, **fields)


def winner(cards, holders=None, **options):
    best = pick(evaluate(cards, make_request(**options), holders or {}, own_pid=1))
    return None if best is None else best.card.index


def reasons(card, holders=(), **options):
    return [one.code for one in evaluate([card], make_request(**options), {card.key: holders}, own_pid=1)[0].reasons]


@settings(deadline=None)
@given(st.integers(1, 2**40).map(lambda fifth: fifth * 5))
def test_exactly_eighty_percent_passes_and_a_byte_more_does_not(total):
    used = total // 5 * 4
    assert reasons(reading(0, used, total)) == []
    assert reasons(reading(0, used + 1, total)) == ["usage"]


@settings(deadline=None)
@given(st.integers(0, 2**42), st.integers(1, 2**42))
def test_the_limit_is_the_pages_formula(used, total):
    assert exceeds(used, total, make_request().limit) == (used * 100 > 80 * total)


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 2**40))
def test_any_whole_percentage_is_exact(percent, hundredth):
    limit = make_request(max_usage=percent / 100).limit
    assert not exceeds(percent * hundredth, 100 * hundredth, limit)
    assert exceeds(percent * hundredth + 1, 100 * hundredth, limit)


cards_strategy = st.lists(
    st.tuples(st.integers(0, 40 * GIB), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8
)


@settings(deadline=None)
@given(cards_strategy, st.randoms(use_true_random=False), st.sampled_from(["usage", "free", "util"]))
def test_the_order_in_which_cards_are_read_never_changes_the_choice(facts, shuffler, prefer):
    cards = [
        reading(index, used, util=util * 30, processes=tuple(Process(100 + n) for n in range(count)))
        for index, (used, count, util) in enumerate(facts)
    ]
    shuffled = random.Random(shuffler.random()).sample(cards, len(cards))
    assert winner(cards, prefer=prefer) == winner(shuffled, prefer=prefer)


def test_each_criterion_yields_to_the_one_before_it():
    full, empty = reading(0, 20 * GIB), reading(1)
    assert winner([full, empty]) == 1, "lowest usage"
    assert winner([full, empty], {"GPU-1": (LeaseHolder(pid=5),)}) == 0, "fewest leases come before usage"
    same_bucket = [reading(0, 1000), reading(1, 0, processes=(Process(7),))]
    assert winner(same_bucket) == 0, "within 1 % usage is equal, then fewest processes"
    assert winner([reading(0, 1000), reading(1, 0)]) == 1, "then most bytes free"
    assert winner([reading(1), reading(0)]) == 0, "then the lowest index"


def test_prefer_replaces_the_second_criterion():
    small, large = reading(0, 0, 8 * GIB, util=90), reading(1, 20 * GIB, 80 * GIB, util=5)
    assert winner([small, large]) == 0
    assert winner([small, large], prefer="free") == 1
    assert winner([small, large], prefer="util") == 1
    assert winner([reading(0, util=None), reading(1, util=99)], prefer="util") == 1, "unknown comes last"


def test_unknown_memory_ranks_last_and_never_satisfies_min_free():
    unknown = reading(0, total=None)
    assert winner([unknown, reading(1, 31 * GIB)], {"GPU-1": (LeaseHolder(pid=5), LeaseHolder(pid=6))}) == 1
    assert winner([unknown]) == 0
    assert reasons(unknown, min_free="1GiB") == ["min_free"]


def test_min_free_and_max_processes_reject():
    card = reading(0, 10 * GIB, processes=(Process(1), Process(2), Process(3, graphics=True)))
    assert reasons(card, min_free="30GiB") == []
    assert reasons(card, min_free="30.1GiB") == ["min_free"]
    assert reasons(card, max_processes=1) == [], "this process (1) and a display server (3) don't count"
    assert reasons(card, max_processes=0) == ["processes"]
    assert reasons(reading(0, processes=None), max_processes=5) == ["processes"], "unknown is not few"


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ("shared", False, []),
        ("shared", True, ["lease"]),
        ("exclusive", False, ["lease"]),
        ("exclusive", True, ["lease"]),
        ("off", True, []),
    ],
)
def test_an_exclusive_lease_bars_others_and_is_barred_by_others(mine, theirs, expected):
    assert reasons(reading(0), (LeaseHolder(pid=5, exclusive=theirs),), lease=mine) == expected


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        (0, [1, 2]),
        ("0", [1, 2]),
        ("cuda:1", [0, 2]),
        ("xpu:1", [0, 1, 2]),
        ("GPU-2", [0, 1]),
        ("gpu-2", [0, 1]),
        ("GPU-", [0, 1, 2]),
        ("*a100*", [2]),
        ("A100", [2]),
        ("H?00", [0, 1]),
    ],
)
def test_exclude_and_only_name_cards_in_every_way(entry, taken):
    cards = [reading(0), reading(1), reading(2, name="H100")]
    left = [one.card.index for one in evaluate(cards, make_request(exclude=entry), {}, own_pid=1) if not one.reasons]
    assert left == taken
    kept = [one.card.index for one in evaluate(cards, make_request(only=[entry]), {}, own_pid=1) if not one.reasons]
    assert sorted(left + kept) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GiB", 20 * GIB), ("500 MB", 500_000_000), ("1.5TiB", 3 * 1024**4 // 2), ("2gib", 2 * GIB), (2**31, 2**31)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_usage": 0}, "above 0 and at most 1"),
        ({"max_usage": 80}, "above 0 and at most 1"),
        ({"max_usage": float("nan")}, "finite"),
        ({"max_usage": True}, "must be a number"),
        ({"min_free": 20}, "did you mean '20GiB'"),
        ({"min_free": "20 bananas"}, "not an amount of memory"),
        ({"min_free": -1.0}, "negative"),
        ({"prefer": "uasge"}, "did you mean 'usage'"),
        ({"cpu": "yes"}, "cpu must be one of"),
        ({"lease": "both"}, "lease must be one of"),
        ({"wait": -1}, "wait must be 0 or more seconds"),
        ({"max_processes": -1}, "0 or more"),
        ({"max_processes": 1.5}, "whole number"),
        ({"exclude": [-1]}, "counts from 0"),
        ({"exclude": [None]}, "takes indices"),
        ({"only": ()}, "leaves no device"),
        ({"only": [1, 2], "exclude": [2]}, "both name 2"),
        ({"rank": "first"}, "rank must be"),
        ({"rank": -1}, "counts from 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_in_words(options, says):
    with pytest.raises((ValueError, TypeError), match=says):
        make_request(**options)
