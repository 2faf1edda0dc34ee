"""Hyperband's decisions, against a table that was worked out by hand."""

from __future__ import annotations

import math

import optuna
import pytest

from ridgepole.sweeps import Hyperband, Metric, make_pruner, make_sampler, read_sweep, should_stop

LOSS = Metric("loss")
ACCURACY = Metric("accuracy", "maximize")


@pytest.mark.parametrize(
    ("rule", "upto", "bands"),
    [
        (Hyperband(min_iter=3), 100, [3, 9, 27, 81]),  # 3 * 3**i, the example of W&B's page on early termination
        (Hyperband(max_iter=27, s=2), 100, [3, 9]),  # 27/3 and 27/9, that page's other example
        (Hyperband(max_iter=27, s=9), 100, [1, 3, 9]),  # 27/81 is below one value
        (Hyperband(max_iter=100, s=3, eta=2), 100, [12, 25, 50]),  # 12.5 lies between 12 and 13: the lower one
        (Hyperband(min_iter=1, eta=1.5), 8, [1, 2, 3, 5, 7]),  # 1, 1.5, 2.25, 3.375, 5.06, 7.59: 1 and 1.5 are one band
        (Hyperband(min_iter=2, eta=2), 8, [2, 4, 8]),
        (Hyperband(min_iter=5), 4, []),
    ],
)
def test_bands(rule, upto, bands):
    assert rule.bands(upto) == bands


# A sweep of six runs that minimises, min_iter = 2, eta = 2: bands at 2, 4, 8. The runs log one after the other, each
# until it ends or is stopped, so at every band the field is: all runs before, as far as they got there, and the run.
#
#   run  values logged           best of the first 2 / of the first 4
#   A    0.9  0.8  0.7  0.6      0.8 / 0.6
#   B    1.0  0.9                0.9
#   C    0.5  0.6  0.9  0.9      0.5 / 0.5
#   D    0.7  0.75 0.4  0.3      0.7 / 0.3
#   E    0.8  0.9                0.8
#   F    nan  0.6  0.65 0.9 0.8  0.6 / 0.6        (nan is no value: its band 2 is the third thing that it logs)
#
# n runs at a band, max(1, floor(n/2)) go on, and a run stops if at least so many are strictly better.
#
#   run  band 2                                              band 4
#   A    alone, 0 better of 1 place: on                      alone: on
#   B    {.8 A, .9}: 1 better, floor(2/2) = 1 place: STOP
#   C    {.8, .9, .5}: 0 better, 1 place: on                 {.6 A, .5}: 0 better, 1 place: on
#   D    {.8, .9, .5, .7}: 1 better (C), 2 places: on        {.6, .5, .3}: 0 better, 1 place: on
#   E    {.8, .9, .5, .7, .8}: 2 better (C, D; A ties),
#        floor(5/2) = 2 places: STOP
#   F    {.8, .9, .5, .7, .8, .6}: 1 better (C),             {.6, .5, .3, .6}: 2 better (C, D; A ties),
#        3 places: on                                        floor(4/2) = 2 places: STOP
NAN = math.nan
RUNS = {
    "A": ([0.9, 0.8, 0.7, 0.6], None),
    "B": ([1.0, 0.9, 0.1, 0.1], 2),
    "C": ([0.5, 0.6, 0.9, 0.9], None),
    "D": ([0.7, 0.75, 0.4, 0.3], None),
    "E": ([0.8, 0.9, 0.1, 0.1], 2),
    "F": ([NAN, 0.6, 0.65, 0.9, 0.8, 0.1], 5),
}
"""What each run would log, and after how many things logged it is stopped."""
RULE = Hyperband(min_iter=2, eta=2)


def played(rule: Hyperband, metric: Metric, sign: float = 1.0) -> dict[str, int | None]:
    """Plays the table with the pure decision; gives for each run after how many things logged it was stopped."""
    histories: list[list[float]] = []
    stopped: dict[str, int | None] = {}
    for name, (values, _) in RUNS.items():
        history: list[float] = []
        stopped[name] = None
        for said, value in enumerate(values, start=1):
            if not math.isfinite(value):
                continue
            history.append(sign * value)
            if should_stop(rule, metric, history, histories):
                stopped[name] = said
                break
        histories.append(history)
    return stopped


EXPECTED = {name: stop for name, (_, stop) in RUNS.items()}


def test_the_table():
    assert played(RULE, LOSS) == EXPECTED


def test_the_table_upside_down_for_a_goal_of_maximising():
    assert played(RULE, ACCURACY, sign=-1.0) == EXPECTED


@pytest.mark.parametrize("ask_at_each_value", [True, False])
def test_the_pruner_of_optuna_decides_the_same(ask_at_each_value):
    spec = read_sweep(
        {
            "method": "random",
            "metric": {"name": "loss"},
            "parameters": {"x": {"min": 0.0, "max": 1.0}},
            "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
        }
    )
    study = optuna.create_study(direction=spec.direction, sampler=make_sampler(spec, 0), pruner=make_pruner(spec))
    stopped: dict[str, bool] = {}
    for name, (values, _) in RUNS.items():
        trial = study.ask(spec.space.distributions())
        stopped[name] = False
        count = 0
        for value in values:
            if not math.isfinite(value):
                continue
            count += 1
            trial.report(value, step=count)
            if (ask_at_each_value or count == len(values)) and trial.should_prune():
                stopped[name] = True
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            # A run whose bands came by unasked is judged at all of them in one question.
            stopped[name] = trial.should_prune() or stopped[name]
            study.tell(trial, min(value for value in values if math.isfinite(value)))
    if ask_at_each_value:
        assert stopped == {name: stop is not None for name, stop in EXPECTED.items()}
    else:
        assert stopped["B"], "band 2 came by before the question, and still counts"
        assert stopped["F"]


# Strict: A is alone at band 2 with 0.9 and goes on. B comes with 0.5 while A still runs. At A's next value, which is
# at no band, A is judged again at band 2: {.9, .5}, 1 better, 1 place: STOP. Not strict, A is not judged before band 4.
def test_strict_judges_a_run_again_by_those_that_come_later():
    early, later = [1.0, 0.9, 0.9], [[0.5, 0.6]]
    assert not should_stop(Hyperband(min_iter=2, eta=2), LOSS, early[:2], [])
    assert not should_stop(Hyperband(min_iter=2, eta=2), LOSS, early, later)
    assert should_stop(Hyperband(min_iter=2, eta=2, strict=True), LOSS, early, later)
    assert not should_stop(Hyperband(min_iter=2, eta=2, strict=True), LOSS, early[:2], [])


# A run that improves late: at band 4 of the table's rule its best so far counts, not its last value.
def test_the_best_value_up_to_the_band_counts():
    assert not should_stop(RULE, LOSS, [0.2, 0.9, 0.9, 0.9], [[0.8, 0.7, 0.6, 0.5]])
    assert should_stop(RULE, LOSS, [0.9, 0.8, 0.8, 0.8], [[0.8, 0.7, 0.6, 0.5]])


def test_values_after_the_band_don_t_count_at_the_band():
    """A rival's later success is not held against a run at an earlier band, and neither does a run's own help it."""
    assert not should_stop(RULE, LOSS, [0.7, 0.7], [[0.8, 0.8, 0.1]])


def test_bands_between_two_questions_are_judged_together():
    history, others = [0.9, 0.9, 0.9], [[0.5, 0.5]]
    assert not should_stop(RULE, LOSS, history, others), "the band of 2 was to be judged at the value before"
    assert should_stop(RULE, LOSS, history, others, judged=0)


def test_a_tie_keeps_a_run():
    others = [[0.5, 0.5]] * 9
    assert not should_stop(RULE, LOSS, [0.5, 0.5], others)


def test_the_first_at_a_band_goes_on():
    assert not should_stop(Hyperband(min_iter=1), LOSS, [99.0], [])


# eta = 3: floor(n/3) places, at least one. Of 5 runs only 1 goes on; with a 6th there are 2 places.
def test_how_many_of_how_many_go_on():
    rule = Hyperband(min_iter=1, eta=3)
    assert should_stop(rule, LOSS, [0.2], [[0.1], [0.3], [0.4], [0.5]])
    assert not should_stop(rule, LOSS, [0.2], [[0.1], [0.3], [0.4], [0.5], [0.6]])


def test_without_early_terminate_nothing_is_pruned():
    spec = read_sweep({"method": "grid", "parameters": {"x": {"values": [1]}}})
    assert isinstance(make_pruner(spec), optuna.pruners.NopPruner)
