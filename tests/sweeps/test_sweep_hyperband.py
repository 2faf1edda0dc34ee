"""Hyperband's decisions: by hand, and against W&B's own controller."""

from __future__ import annotations

import math
import os
import random
from typing import Any

import pytest
import wandb_oracle

from ridgepole.sweeps import Hyperband, Metric, read_sweep, should_stop
from ridgepole.sweeps.study.pruning import Rungs
from ridgepole.sweeps.study.trial_record import TrialRecord

LOSS = Metric("loss")
ACCURACY = Metric("accuracy", "maximize")
NAN = math.nan


@pytest.mark.parametrize(
    ("rule", "upto", "bands"),
    [
        (Hyperband(min_iter=3), 100, [3, 9, 27, 81]),  # 3 * 3**i, the example of W&B's page on early termination
        (Hyperband(max_iter=27, s=2), 100, [3, 9]),  # 27/3 and 27/9, that page's other example
        (Hyperband(max_iter=27, s=9), 100, [1, 3, 9]),  # 27/81 is below one value
        (Hyperband(max_iter=100, s=3, eta=2), 100, [12, 25, 50]),  # 12.5 lies between 12 and 13: the lower one
        (Hyperband(min_iter=1, eta=1.5), 8, [1, 1, 2, 3, 5, 7]),  # 1, 1.5, 2.25, 3.375, 5.06, 7.59
        (Hyperband(min_iter=2, eta=2), 8, [2, 4, 8]),
        (Hyperband(min_iter=5), 4, []),
        (Hyperband(min_iter=5, max_iter=27, s=2), 100, [3, 9]),  # max_iter with s wins
        (Hyperband(min_iter=5, s=2), 20, [5, 15]),  # s alone says nothing
    ],
)
def test_bands_are_those_of_w_and_b(rule, upto, bands):
    assert rule.bands(upto) == bands


def test_bands_end_after_a_hundred():
    assert len(Hyperband(min_iter=1, eta=1.01).bands(10**6)) == 100


# eta = 2, bands at 2, 4, 8. The threshold of n runs at a band is the value at place int(n/2) of their sorted values
# there; a run stops if it is worse than that. A run is judged at the last band that it has reached.
#
#   at band 2       sorted           place   threshold
#   A alone  .8     .8               0       .8            nothing is worse than itself
#   A, B     .8 .9  .8 .9            1       .9            nobody stops
#   A, B, C  + .5   .5 .8 .9         1       .8            B stops: its best value so far is .9
#   ... D    + .7   .5 .7 .8 .9      2       .8            A stays: .8 is not worse
#   ... E    + .6   .5 .6 .7 .8 .9   2       .7            A stops, though it logged nothing since
def test_the_table_by_hand_stops_runs_as_others_come():
    rows = {number: TrialRecord(number=number) for number in range(5)}
    rungs, running = Rungs(Hyperband(min_iter=2, eta=2), LOSS, {}), dict(rows)
    stopped = []
    for number, values in enumerate([(0.8, 0.8), (1.0, 0.9), (0.6, 0.5), (0.7, 0.7), (0.6, 0.6)]):
        for value in values:
            rows[number].history.append(value)
            for row in rungs.judge(rows[number], running.values()):
                stopped.append((number, row.number))
                del running[row.number]
    assert stopped == [(2, 1), (4, 0)]


def test_not_strict_the_best_value_of_all_counts_against_the_values_at_the_band():
    others = [[0.5, 0.5], [0.4, 0.4]]  # at band 2 with the run: .4 .5 .9, place int(3/3) = 1, threshold .5
    assert should_stop(Hyperband(min_iter=2), LOSS, [0.9, 0.9], others)
    assert should_stop(Hyperband(min_iter=2), LOSS, [0.1, 0.9], others), "strict is what W&B's schema fills in"
    assert not should_stop(Hyperband(min_iter=2, strict=False), LOSS, [0.1, 0.9], others)
    assert not should_stop(Hyperband(min_iter=2, strict=False), LOSS, [0.9, 0.9, 0.5], others), "a later value helps"


def test_a_goal_of_maximising_turns_everything_round():
    others = [[0.5, 0.5], [0.6, 0.6]]
    assert should_stop(Hyperband(min_iter=2), ACCURACY, [0.1, 0.1], others)
    assert not should_stop(Hyperband(min_iter=2), ACCURACY, [0.1, 0.5], others)


def test_a_tie_and_the_first_at_a_band_continue():
    assert not should_stop(Hyperband(min_iter=2), LOSS, [0.5, 0.5], [[0.5, 0.5]] * 9)
    assert not should_stop(Hyperband(min_iter=1), LOSS, [99.0], [])
    assert not should_stop(Hyperband(min_iter=3), LOSS, [99.0], [[0.1] * 3] * 5), "no band is reached"


def random_rule(chance: random.Random) -> dict[str, Any]:
    """An `early_terminate` table that W&B's controller takes."""
    table: dict[str, Any] = {"type": "hyperband"}
    if chance.random() < 0.6:
        table["min_iter"] = chance.choice([1, 1, 2, 3, 5])
        if chance.random() < 0.2:
            table["s"] = chance.randint(1, 3)
    if "min_iter" not in table or chance.random() < 0.2:
        table |= {"max_iter": chance.choice([9, 12, 27, 30]), "s": chance.randint(1, 4)}
    if chance.random() < 0.7:
        table["eta"] = chance.choice([2, 3, 4, 1.5, 2.5, 1.1])
    if chance.random() < 0.7:
        table["strict"] = chance.random() < 0.5
    return table


def play(seed: int) -> int:
    """Play a sweep value by value; at each, W&B's controller must stop the same runs. Return the number stopped."""
    chance, theirs = random.Random(seed), wandb_oracle.controller()
    goal = chance.choice(["minimize", "maximize", None])
    config = {
        "method": "random",
        "metric": {"name": "m"} | ({"goal": goal} if goal else {}),
        "early_terminate": random_rule(chance),
        "parameters": {"x": {"min": 0.0, "max": 1.0}},
    }
    spec = read_sweep(config)
    assert isinstance(spec.early_terminate, Hyperband)
    assert spec.metric is not None
    levels = [round(chance.uniform(-1, 1), 2) for _ in range(chance.randint(2, 8))]  # with ties
    rows = [TrialRecord(number=number) for number in range(chance.randint(1, 7))]
    logged: list[list[dict[str, Any]]] = [[] for _ in rows]
    running, stopped = list(rows), 0
    rungs = Rungs(spec.early_terminate, spec.metric, {})
    for _ in range(chance.randint(4, 24)):
        if not running:
            break
        row = chance.choice(running)
        if row.history and chance.random() < 0.06:  # back to a checkpoint
            seen = chance.randrange(len(row.history))
            rungs.cut(row, seen)
            logged[row.number] = [{"m": value} for value in row.history]
        noise = chance.choice([{"other": 1}, {"m": NAN}, {"m": "text"}, {"m": None}, {"m": math.inf}, None, None, None])
        if noise is not None:
            logged[row.number].append(noise)  # a step without the metric is not a step
        value = chance.choice(levels)
        logged[row.number].append({"m": value, "other": 2})
        row.history.append(value)
        ours = {each.number for each in rungs.judge(row, running)}
        others = {each.number: [other.history for other in rows if other is not each] for each in running}
        plain = {
            each.number
            for each in running
            if should_stop(spec.early_terminate, spec.metric, each.history, others[each.number])
        }
        states = [theirs.RunState.running if each in running else theirs.RunState.killed for each in rows]
        runs = [
            theirs.SweepRun(name=str(each.number), state=state, history=logged[each.number])
            for each, state in zip(rows, states, strict=True)
        ]
        judged = {int(run.name) for run in theirs.stop_runs(config, runs)}
        assert ours == judged, f"seed {seed}: {config} {logged}"
        assert plain == judged, f"seed {seed}: {config} {logged}"
        running = [each for each in running if each.number not in judged]
        stopped += len(judged)
    return stopped


@wandb_oracle.NEEDED
def test_random_histories_are_pruned_as_w_and_b_prunes_them():
    assert sum(play(seed) for seed in range(25)) > 12, "many runs were stopped"


@wandb_oracle.NEEDED
@pytest.mark.torture
@pytest.mark.skipif("RIDGEPOLE_TORTURE" not in os.environ, reason="minutes; see make torture")
def test_ten_thousand_random_histories_are_pruned_as_w_and_b_prunes_them():
    assert sum(play(seed) for seed in range(10_000)) > 5000
