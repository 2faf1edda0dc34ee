"""A grid: which combinations, in which order, and what is left of it after a resume."""

from __future__ import annotations

import itertools
import json
import math

import optuna
import pytest

from ridgepole.errors import ConfigError
from ridgepole.sweeps import Grid, SweepSpec, read_sweep
from ridgepole.sweeps.study.trial_store import make_sampler


def grid_of(parameters: dict, **keys) -> Grid:
    return read_sweep({"method": "grid", "parameters": parameters, **keys}).grid()


SMALL = {"b": {"values": ["x", "y"]}, "a": {"min": 1, "max": 3}, "c": {"value": 7}}


def test_names_are_sorted_and_the_last_runs_fastest():
    grid = grid_of(SMALL)
    assert grid.size == 6
    assert list(grid) == [{"a": a, "b": b, "c": 7} for a in (1, 2, 3) for b in ("x", "y")]
    assert [list(point) for point in grid] == [["a", "b", "c"]] * 6


def test_the_order_depends_on_nothing_but_the_names():
    turned = dict(reversed(SMALL.items()))
    assert list(grid_of(turned)) == list(grid_of(SMALL))


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"values": [3, 1, 2]}, [3, 1, 2]),
        ({"values": [1, 1.0, True, 1]}, [1, 1.0, True]),  # three values; the fourth is the first again
        ({"value": "one"}, ["one"]),
        ({"min": -1, "max": 1}, [-1, 0, 1]),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 4}, [0, 4, 8]),
        ({"distribution": "q_uniform", "min": 1, "max": 4}, [1, 2, 3]),
        # as numpy.arange means it, without the dust that adds a step to arange(1, 1.3, 0.1)
        ({"distribution": "q_uniform", "min": 1.0, "max": 1.3, "q": 0.1}, [1.0, 1.1, 1.2]),
        ({"distribution": "q_uniform", "min": 0.05, "max": 0.5, "q": 0.2}, [0.05, 0.25, 0.45]),
        ({"values": ["a", "b"], "probabilities": [0.9, 0.1]}, ["a", "b"]),
    ],
)
def test_the_values_of_one_parameter(entry, values):
    points = [point["x"] for point in grid_of({"x": entry})]
    assert [json.dumps(point) for point in points] == [json.dumps(value) for value in values]


def test_numbers_and_combinations_belong_to_each_other():
    grid = grid_of({**SMALL, "d": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25}})
    for number in range(grid.size):
        point = grid.point(number)
        assert grid.index(point) == number
        assert grid.index(json.loads(json.dumps(point))) == number
    with pytest.raises(IndexError, match="24 is out of range"):
        grid.point(24)


@pytest.mark.parametrize(
    "values", [{"a": 4, "b": "x"}, {"a": 1}, {"a": 1, "b": "z"}, {"a": True, "b": "x"}, {"a": math.nan, "b": "x"}, {}]
)
def test_what_is_none_of_the_grid_has_no_number(values):
    assert grid_of(SMALL).index(values) is None


def test_a_resume_takes_what_is_left_in_order():
    grid = grid_of(SMALL)
    done = [grid.point(4), grid.point(0), grid.point(0), {"a": 99, "b": "x"}]  # a failed trial counts as visited too
    left = list(grid.remaining(done))
    assert left == [grid.point(number) for number in (1, 2, 3, 5)]
    assert list(grid.remaining([*done, *left])) == []


def test_a_huge_grid_is_counted_and_begun_without_being_listed():
    grid = grid_of({f"p{index:02}": {"min": 1, "max": 10**12} for index in range(20)})
    assert grid.size == 10**240
    first = list(itertools.islice(grid, 3))
    assert [point["p19"] for point in first] == [1, 2, 3]
    visited = [grid.point(number) for number in range(1000)]
    assert next(grid.remaining(visited))["p19"] == 1001
    assert grid.index(grid.point(10**239)) == 10**239


def ask_all(spec: SweepSpec) -> list[dict]:
    study = optuna.create_study(sampler=make_sampler(spec))
    values = []
    for point in spec.grid():
        study.enqueue_trial(spec.space.encode(point))
        trial = study.ask(spec.space.distributions())
        values.append(spec.space.decode(trial.params))
    return values


def test_optuna_stores_a_grid_exactly():
    spec = read_sweep(
        {
            "method": "grid",
            "parameters": {
                "lr": {"distribution": "q_uniform", "min": 0.1, "max": 1.0, "q": 0.3},
                "net": {"values": [{"kind": "a"}, None, [1]]},
                "n": {"min": 2, "max": 3},
            },
        }
    )
    assert ask_all(spec) == list(spec.grid())
    assert len(ask_all(spec)) == 18


def test_the_limit_is_the_smallest_that_is_given():
    assert read_sweep({"method": "grid", "parameters": SMALL}).limit() == 6
    assert read_sweep({"method": "grid", "parameters": SMALL, "run_cap": 4}).limit() == 4
    assert read_sweep({"method": "grid", "parameters": SMALL, "run_cap": 4}).limit(2) == 2
    assert read_sweep({"method": "grid", "parameters": SMALL, "run_cap": 40}).limit(20) == 6
    assert read_sweep({"method": "random", "parameters": SMALL, "run_cap": 40}).limit(60) == 60, (
        "a count wins over the file"
    )
    assert read_sweep({"method": "random", "parameters": SMALL}).limit(3) == 3


def test_a_random_sweep_that_nothing_ends_is_an_error():
    spec = read_sweep({"method": "random", "parameters": SMALL})
    with pytest.raises(ConfigError, match="a random sweep never ends by itself") as caught:
        spec.limit()
    assert "give it a run_cap, or start it with --max-trials N" in str(caught.value)
    with pytest.raises(ValueError, match="at least 1"):
        spec.limit(0)
    with pytest.raises(ValueError, match="a random sweep has no grid"):
        spec.grid()


@pytest.mark.parametrize("entry", [{"min": 0.0, "max": 1.0}, {"distribution": "normal"}])
def test_a_grid_over_a_continuous_range_is_an_error(entry):
    with pytest.raises(ConfigError, match=r"parameters\.x is continuous .* so a grid over it never ends"):
        grid_of({"x": entry})


CONDITIONS = {
    "optimizer": {"values": ["adam", "sgd", "lion"]},
    "betas": {"min": 1, "max": 2, "when": {"optimizer": ["adam", "lion"]}},
    "sgd": {
        "when": {"optimizer": "sgd"},
        "parameters": {
            "momentum": {"values": [0.0, 0.9]},
            "nesterov": {"values": [True, False], "when": {"momentum": 0.9}},
            "kind": {"value": "plain"},
        },
    },
}


def test_a_grid_with_conditions_has_each_combination_once():
    grid = read_sweep({"method": "grid", "parameters": CONDITIONS}).grid()
    plain = {"optimizer": "sgd", "sgd.kind": "plain"}
    expected = [
        {"betas": 1, "optimizer": "adam"},
        {"betas": 2, "optimizer": "adam"},
        plain | {"sgd.momentum": 0.0},
        plain | {"sgd.momentum": 0.9, "sgd.nesterov": True},
        plain | {"sgd.momentum": 0.9, "sgd.nesterov": False},
        {"betas": 1, "optimizer": "lion"},
        {"betas": 2, "optimizer": "lion"},
    ]
    assert list(grid) == expected
    assert grid.size == len(expected)
    assert [grid.point(number) for number in range(7)] == expected
    assert [grid.index(point) for point in expected] == list(range(7))
    assert list(grid.remaining(expected[2:6])) == [*expected[:2], expected[6]]
    assert grid.index({"optimizer": "sgd"}) is None


def test_random_trials_draw_only_the_parameters_that_exist():
    spec = read_sweep({"method": "random", "parameters": CONDITIONS})
    study = optuna.create_study(sampler=make_sampler(spec, seed=1))
    possible = [*read_sweep({"method": "grid", "parameters": CONDITIONS}).grid()]
    seen = []
    for _ in range(40):
        trial = study.ask()
        values = spec.space.suggest(trial)
        assert values in possible
        assert spec.space.decode(trial.params) == values
        assert spec.space.encode(values) == trial.params
        seen.append(possible.index(values))
    assert len(set(seen)) == 7
