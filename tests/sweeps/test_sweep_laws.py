"""Each distribution follows its law when it is drawn as a random sweep draws it: through Optuna, trial by trial.

Continuous laws are held against SciPy's by the Kolmogorov-Smirnov test, discrete ones against their exact
probabilities by the chi-square test, which are worked out here from W&B's definition and not by Ridgepole's code. Seeds
are fixed; a right law fails a limit of 1e-4 once in ten thousand seeds, a wrong one has a p of 1e-7 or less.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from typing import Any

import optuna
import pytest
from scipy import stats

from ridgepole.sweeps import SweepSpec, read_sweep
from ridgepole.sweeps.study.trial_store import make_sampler

DRAWS = 2000
LIMIT = 1e-4


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def spec_of(entry: dict[str, Any]) -> SweepSpec:
    return read_sweep({"method": "random", "parameters": {"x": entry}})


@cache
def _all_drawn() -> dict[str, list[Any]]:
    """What one random sweep over all entries of this module draws, by the entry's JSON text."""
    texts = [json.dumps(entry) for entry in ALL]
    parameters = {f"p{index:02}": json.loads(text) for index, text in enumerate(texts)}
    spec = read_sweep({"method": "random", "parameters": parameters})
    study = optuna.create_study(sampler=make_sampler(spec, seed=20))
    drawn: dict[str, list[Any]] = {text: [] for text in texts}
    for _ in range(DRAWS):
        trial = study.ask()
        values = spec.space.suggest(trial)
        assert spec.space.decode(trial.params) == values, "what Optuna stores stands for other values"
        for text, value in zip(texts, values.values(), strict=True):
            drawn[text].append(value)
    return drawn


def drawn(entry: dict[str, Any]) -> list[Any]:
    return _all_drawn()[json.dumps(entry)]


E = math.e
CONTINUOUS = {
    "floats": ({"min": -1.5, "max": 2.5}, stats.uniform(-1.5, 4)),
    "int and float": ({"min": 0, "max": 0.5}, stats.uniform(0, 0.5)),
    "uniform": ({"distribution": "uniform", "min": 1, "max": 3}, stats.uniform(1, 2)),
    "log_uniform_values": (
        {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
        stats.loguniform(1e-5, 1e-1),
    ),
    "log_uniform": ({"distribution": "log_uniform", "min": -9, "max": -2.5}, stats.loguniform(E**-9, E**-2.5)),
    # log(1/X) = -log(X) is uniform between log(1/max) and log(1/min), so log(X) is between log(min) and log(max)
    "inv_log_uniform_values": (
        {"distribution": "inv_log_uniform_values", "min": 1e-4, "max": 1e-1},
        stats.loguniform(1e-4, 1e-1),
    ),
    # log(1/X) is uniform between min and max, so log(X) is between -max and -min
    "inv_log_uniform": ({"distribution": "inv_log_uniform", "min": 2, "max": 9}, stats.loguniform(E**-9, E**-2)),
    "normal": ({"distribution": "normal", "mu": 3, "sigma": 0.5}, stats.norm(3, 0.5)),
    "normal by default": ({"distribution": "normal"}, stats.norm(0, 1)),
    "log_normal": ({"distribution": "log_normal", "mu": -1, "sigma": 0.7}, stats.lognorm(0.7, scale=E**-1)),
    "log_normal by default": ({"distribution": "log_normal"}, stats.lognorm(1)),
    "beta": ({"distribution": "beta", "a": 2, "b": 5}, stats.beta(2, 5)),
    "beta with horns": ({"distribution": "beta", "a": 0.5, "b": 0.5}, stats.beta(0.5, 0.5)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "law"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_a_continuous_law(entry, law):
    values = drawn(entry)
    assert {type(value) for value in values} == {float}
    result = stats.kstest(values, law.cdf)
    assert result.pvalue > LIMIT, f"{entry} is off by {result.statistic:.3f} (p = {result.pvalue:.1e})"


def test_the_kolmogorov_smirnov_test_sees_a_wrong_law():
    values = drawn({"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1})
    assert stats.kstest(values, stats.loguniform(1e-5, 2e-1).cdf).pvalue < 1e-7
    assert stats.kstest(values, stats.uniform(0, 0.1).cdf).pvalue < 1e-10


def rounded(law: Any, q: float) -> dict[float, float]:
    """The exact probabilities of round(X / q) * q: k * q takes what is nearer to it than to another."""
    first, last = round(law.ppf(1e-9) / q), round(law.ppf(1 - 1e-9) / q)
    return {k * q: law.cdf((k + 0.5) * q) - law.cdf((k - 0.5) * q) for k in range(first, last + 1)}


def even(values: Any) -> dict[Any, float]:
    values = list(values)
    return {value: 1 / len(values) for value in values}


DISCRETE = {
    "ints": ({"min": -2, "max": 4}, even(range(-2, 5)), int),
    "int_uniform": ({"distribution": "int_uniform", "min": 16, "max": 17}, even([16, 17]), int),
    "values": ({"values": [0.5, 1.5, 7.0]}, even([0.5, 1.5, 7.0]), float),
    "categorical": ({"distribution": "categorical", "values": ["adam", "sgd"]}, even(["adam", "sgd"]), str),
    "repeated values": ({"values": ["a", "b", "a"]}, {"a": 2 / 3, "b": 1 / 3}, str),
    "probabilities": (
        {"values": ["a", "b", "c", "d"], "probabilities": [0.1, 0.6, 0.0, 0.3]},
        {"a": 0.1, "b": 0.6, "d": 0.3},
        str,
    ),
    "categorical_w_probabilities": (
        {"distribution": "categorical_w_probabilities", "values": [1, 2], "probabilities": [0.9, 0.1]},
        {1: 0.9, 2: 0.1},
        int,
    ),
    # round(x/q)*q of x between min and max: 16 takes what lies from 10 to 24, 64 what lies from 56 to 65
    "q_uniform": (
        {"distribution": "q_uniform", "min": 10, "max": 65, "q": 16},
        {16: 14 / 55, 32: 16 / 55, 48: 16 / 55, 64: 9 / 55},
        int,
    ),
    "q_uniform of floats": (
        {"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.1},
        {0.0: 0.1, 0.1: 0.2, 0.2: 0.2, 0.3: 0.2, 0.4: 0.2, 0.5: 0.1},
        float,
    ),
    "q_uniform by default": (
        {"distribution": "q_uniform", "min": 0.6, "max": 3.4},
        {1: 0.9 / 2.8, 2: 1 / 2.8, 3: 0.9 / 2.8},
        int,
    ),
    "q_log_uniform_values": (
        {"distribution": "q_log_uniform_values", "min": 1, "max": 50, "q": 8},
        rounded(stats.loguniform(1, 50), 8),
        int,
    ),
    "q_log_uniform": (
        {"distribution": "q_log_uniform", "min": 0, "max": 3, "q": 2},
        rounded(stats.loguniform(1, E**3), 2),
        int,
    ),
    "q_normal": ({"distribution": "q_normal", "mu": 1, "sigma": 2, "q": 0.5}, rounded(stats.norm(1, 2), 0.5), float),
    "q_normal by default": ({"distribution": "q_normal"}, rounded(stats.norm(), 1), int),
    "q_log_normal": (
        {"distribution": "q_log_normal", "mu": 1, "sigma": 0.5, "q": 1},
        rounded(stats.lognorm(0.5, scale=E), 1),
        int,
    ),
    "q_beta": ({"distribution": "q_beta", "a": 2, "b": 3, "q": 0.25}, rounded(stats.beta(2, 3), 0.25), float),
}


@pytest.mark.parametrize(("entry", "law", "kind"), DISCRETE.values(), ids=DISCRETE)
def test_a_discrete_law(entry, law, kind):
    values = drawn(entry)
    assert {type(value) for value in values} == {kind}
    counts = Counter(values)
    assert set(counts) <= set(law), f"drawn, and not among the values of {entry}: {set(counts) - set(law)}"
    # cells of a few expected draws are put together, as the chi-square law holds for larger ones
    rare = [value for value, share in law.items() if share * DRAWS < 8]
    cells = [(counts[value], share) for value, share in law.items() if value not in rare]
    if rare and sum(law[value] for value in rare) * DRAWS > 0.5:
        cells.append((sum(counts[value] for value in rare), sum(law[value] for value in rare)))
    seen = [count for count, _ in cells]
    total = sum(share for _, share in cells)
    result = stats.chisquare(seen, [share / total * sum(seen) for _, share in cells])
    assert result.pvalue > LIMIT, f"{entry}: {dict(counts)} (p = {result.pvalue:.1e})"


def test_a_float_multiple_has_no_dust():
    values = set(drawn({"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.1}))
    assert values == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}, "3 * 0.1 must be 0.3, not 0.30000000000000004"


ANY = {"values": [None, True, 1, 1.0, "1", [1, [2.5, None]], {"kind": "cosine", "steps": [1, 2]}, ""]}


def test_any_json_value_can_be_chosen_and_keeps_its_type():
    values = ANY["values"]
    seen = drawn(ANY)
    kinds = {json.dumps(value) for value in seen}
    assert kinds == {json.dumps(value) for value in values}
    study = optuna.create_study()
    space = spec_of({"values": values}).space
    for value in values:
        study.enqueue_trial(space.encode({"x": value}))
        trial = study.ask()
        assert json.dumps(space.suggest(trial)["x"]) == json.dumps(value), "1, 1.0 and true are three values"


def test_what_a_trial_is_given_is_its_own():
    space = spec_of({"values": [{"layers": [64]}]}).space
    stored = space.encode({"x": {"layers": [64]}})
    first = space.decode(stored)
    first["x"]["layers"].append(1)
    assert space.decode(stored) == {"x": {"layers": [64]}}


ALL = [*(entry for entry, *_ in [*CONTINUOUS.values(), *DISCRETE.values()]), ANY]
IDS = [*CONTINUOUS, *DISCRETE, "any JSON"]


@pytest.mark.parametrize("entry", ALL, ids=IDS)
def test_values_survive_json_and_lead_back_to_what_optuna_stores(entry):
    space = spec_of(entry).space
    for value in drawn(entry)[:200]:
        copied = json.loads(json.dumps(value))
        assert copied == value
        assert type(copied) is type(value)
        again = space.decode(space.encode({"x": value}))["x"]
        expected = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        assert again == expected, f"{entry}: {value} came back as {again}"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_searches_every_law(sampler):
    """The space is one that Optuna's own samplers take: they propose, after their random start, values that decode."""
    parameters = {f"p{index:02}": entry for index, entry in enumerate(ALL)}
    options = {"sampler": sampler, "startup_trials": 3, "seed": 1}
    spec = read_sweep(
        {"method": "bayes", "metric": {"name": "loss"}, "run_cap": 5, "parameters": parameters, "ridgepole": options}
    )
    study = optuna.create_study(sampler=make_sampler(spec))
    for number in range(spec.limit()):
        trial = study.ask()
        values = spec.space.suggest(trial)
        assert spec.space.decode(trial.params) == values
        study.tell(trial, number % 3)


def test_constants_are_outside_the_space():
    spec = read_sweep({"method": "random", "parameters": {"b": {"value": [1]}, "a": {"min": 1, "max": 2}}})
    study = optuna.create_study(sampler=make_sampler(spec, seed=0))
    trial = study.ask()
    assert list(spec.space.suggest(trial)) == ["a", "b"]
    assert list(trial.params) == ["a"]
    assert list(spec.space.distributions()) == ["a"]


def test_nested_parameters_are_named_by_dots_and_nest_again():
    nested = {"train": {"parameters": {"lr": {"min": 0.0, "max": 1.0}, "optimiser": {"value": "sgd"}}}}
    spec = read_sweep({"method": "random", "parameters": {**nested, "net.width": {"value": 8}}})
    assert spec.space.names == ("net.width", "train.lr", "train.optimiser")
    flat = spec.space.decode({"train.lr": 0.25})
    assert flat == {"net.width": 8, "train.lr": 0.25, "train.optimiser": "sgd"}
    assert spec.space.nest(flat) == {"net.width": 8, "train": {"lr": 0.25, "optimiser": "sgd"}}


def test_a_value_that_no_draw_gives_is_refused():
    space = spec_of({"values": ["a", "b"]}).space
    with pytest.raises(ValueError, match=r"'c' is not a value of the parameter 'x'"):
        space.encode({"x": "c"})
