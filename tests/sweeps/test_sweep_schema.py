"""What a sweep may say, and that everything it says wrongly comes in one report with its place."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from ridgepole.errors import ConfigError, Place
from ridgepole.sweeps import Hyperband, Metric, Options, check_sweep, read_sweep

FINE: dict[str, Any] = {
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}


def problems(sweep: Any) -> list[tuple[str, str, str]]:
    """Severity, message and hint of every problem of a mapping."""
    found = check_sweep(sweep)
    return [(each.severity, each.message, each.hint) for each in found]


MANY: dict[str, Any] = {
    "method": "random",
    "metrics": [{"name": "loss"}, {"name": "accuracy", "goal": "maximize"}],
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}


def with_x(**entry: Any) -> dict[str, Any]:
    return FINE | {"parameters": {"x": entry}}


def two(y: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    """A sweep with a choice `y`, unless it is given, and other parameters."""
    return FINE | {"parameters": {"y": y or {"values": ["a", "b"]}, **parameters}}


def test_everything_at_once():
    spec = read_sweep(
        {
            "method": "bayes",
            "metric": {"name": "validation/accuracy", "goal": "maximize", "target": 1, "impute": "latest"},
            "parameters": {"train.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1}},
            "early_terminate": {"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3, "strict": True},
            "run_cap": 30,
            "name": "first",
            "description": "the first sweep",
            "project": "digits",
            "entity": "us",
            "ridgepole": {
                "executor": "process",
                "workers": 4,
                "on_trial_error": "retry",
                "retries": 2,
                "max_failures": 5,
                "sampler": "gp",
                "startup_trials": 3,
                "seed": 7,
                "reuse_workers": True,
                "storage": "postgresql://me@host/sweeps",
                "pipeline": "digits.toml",
                "ray": {"address": "auto"},
                "slurm": {"partition": "gpu"},
            },
        }
    )
    assert spec.metric == Metric("validation/accuracy", "maximize", target=1.0, impute="latest")
    assert spec.objectives == (spec.metric,)
    assert spec.early_terminate == Hyperband(max_iter=27, s=2, eta=3.0, strict=True)
    assert (spec.run_cap, spec.name, spec.description) == (30, "first", "the first sweep")
    assert (spec.project, spec.entity, spec.file) == ("digits", "us", None)
    assert spec.options == Options(
        executor="process",
        workers=4,
        on_trial_error="retry",
        retries=2,
        max_failures=5,
        sampler="gp",
        startup_trials=3,
        seed=7,
        reuse_workers=True,
        storage="postgresql://me@host/sweeps",
        pipeline="digits.toml",
        ray={"address": "auto"},
        slurm={"partition": "gpu"},
    )
    assert "ridgepole" not in spec.config, "W&B is not told of what is ours"
    assert json.loads(json.dumps(spec.config)) == spec.config
    assert read_sweep(json.loads(json.dumps(spec.to_dict()))) == spec
    no_effect = [each.message for each in spec.warnings]
    assert no_effect == [
        "ridgepole.ray has no effect on the executor 'process'",
        "ridgepole.slurm has no effect on the executor 'process'",
    ]


def test_the_defaults():
    spec = read_sweep({"method": "grid", "parameters": {"x": {"values": [1]}}})
    assert (spec.metric, spec.early_terminate, spec.run_cap, spec.options) == (None, None, None, Options())
    assert (spec.objectives, spec.warnings) == ((), ())
    spec = read_sweep(FINE | {"early_terminate": {"type": "hyperband", "min_iter": 3}})
    assert spec.early_terminate == Hyperband(min_iter=3, eta=3.0, strict=True), "as W&B's schema fills in"


WRONG: dict[str, tuple[Any, str, str]] = {
    "no table": (["method"], "the sweep must be a table, not an array", ""),
    "no sweep": ({"lr": 1}, "this is not a sweep: it has neither 'method' nor 'parameters'", "sweep configuration"),
    "no method": ({"parameters": {"x": {"value": 1}}}, "the sweep has no 'method'", ""),
    "no parameters": ({"method": "grid"}, "the sweep has no 'parameters'", ""),
    "scheduler": (FINE | {"scheduler": {"engine": "ax"}}, "scheduler is a program of yours", "random or bayes"),
    "custom": (FINE | {"method": "custom"}, "leaves the choice of trials to a scheduler", "grid, random or bayes"),
    "metrics no array": (MANY | {"metrics": 1}, "metrics must be an array of two or more tables", "write metric"),
    "one of many metrics": (MANY | {"metrics": [{"name": "loss"}]}, "metrics must be an array of two or more", ""),
    "metric and metrics": (FINE | {"metrics": MANY["metrics"]}, "has 'metric' or 'metrics', not both", ""),
    "metrics of one name": (MANY | {"metrics": [{"name": "a"}, {"name": "a"}]}, "there are two metrics 'a'", ""),
    "a metric without name": (MANY | {"metrics": [{"name": "a"}, {}]}, "metrics[1] has no 'name'", ""),
    "metrics and early_terminate": (
        MANY | {"early_terminate": {"type": "hyperband", "min_iter": 1}},
        "early_terminate needs a single 'metric'",
        "",
    ),
    "metrics at W&B": (MANY | {"ridgepole": {"executor": "wandb"}}, "W&B's service takes one 'metric'", "executor"),
    "a pruner at W&B": (
        FINE | {"early_terminate": {"type": "MedianPruner"}, "ridgepole": {"executor": "wandb"}},
        "W&B's service has no MedianPruner",
        "hyperband",
    ),
    "a pruner's key": (
        FINE | {"early_terminate": {"type": "MedianPruner", "n_warmup": 3}},
        "early_terminate, a MedianPruner, has no key 'n_warmup'",
        "n_warmup_steps",
    ),
    "a pruner's value": (
        FINE | {"early_terminate": {"type": "MedianPruner", "n_startup_trials": -1}},
        "MedianPruner of Optuna refuses its arguments: Number of startup trials cannot be negative",
        "",
    ),
    "a wrapped pruner": (
        FINE | {"early_terminate": {"type": "PatientPruner", "patience": 1, "wrapped_pruner": {"type": "Median"}}},
        "early_terminate.wrapped_pruner.type must be one of",
        "MedianPruner",
    ),
    "command of text": (FINE | {"command": "python train.py"}, "command must be an array of words", ""),
    "when of nothing": (with_x(min=0.0, max=1.0, when={"y": 1}), "no other parameter is called 'y'", ""),
    "when of itself": (with_x(values=[1, 2], when={"x": 1}), "no other parameter is called 'x'", ""),
    "when no table": (with_x(min=0.0, max=1.0, when=1), "parameters.x.when must be a table, not 1", ""),
    "when of another value": (two(x={"value": 1, "when": {"y": "c"}}), "y never has the value the text 'c'", ""),
    "when of a continuous one": (
        two({"min": 0.0, "max": 1.0}, x={"value": 1, "when": {"y": 1}}),
        "y is continuous",
        "",
    ),
    "when in a circle": (
        two({"values": ["a", "b"], "when": {"x": 1}}, x={"values": [1, 2], "when": {"y": "a"}}),
        "circular conditions: x and y depend on each other",
        "",
    ),
    "unknown method": (FINE | {"method": "bayesian"}, "method must be one of", "did you mean 'bayes'?"),
    "no text": (FINE | {"name": 7}, "name must be text, not 7", ""),
    "run_cap": (FINE | {"run_cap": 0}, "run_cap must be at least 1, not 0", ""),
    "run_cap of a float": (FINE | {"run_cap": 3.5}, "run_cap must be an integer, not 3.5", ""),
    "run_cap of a boolean": (FINE | {"run_cap": True}, "run_cap must be an integer, not true", ""),
    "metric missing": (
        {"method": "bayes", "parameters": FINE["parameters"]},
        "a bayes sweep needs a 'metric'",
        "name and goal",
    ),
    "metric of nothing": (FINE | {"method": "bayes", "metric": None}, "a bayes sweep needs a 'metric'", ""),
    "metric missing for early_terminate": (
        {"method": "random", "parameters": FINE["parameters"], "early_terminate": {"type": "hyperband", "min_iter": 1}},
        "early_terminate needs a 'metric'",
        "name and goal",
    ),
    "metric no table": (FINE | {"metric": "loss"}, "metric must be a table, not the text 'loss'", ""),
    "metric without name": (FINE | {"metric": {"goal": "minimize"}}, "metric has no 'name'", ""),
    "metric's key": (FINE | {"metric": {"name": "l", "gaol": "maximize"}}, "metric has no key 'gaol'", "'goal'"),
    "goal": (
        FINE | {"metric": {"name": "l", "goal": "maximise"}},
        "metric.goal must be one of 'minimize', 'maximize', not the text 'maximise'",
        "did you mean 'maximize'",
    ),
    "target": (FINE | {"metric": {"name": "l", "target": "0.1"}}, "metric.target must be a number", "quotes"),
    "impute": (FINE | {"metric": {"name": "l", "impute": "mean"}}, "metric.impute must be one of 'worst'", ""),
    "parameters no table": (FINE | {"parameters": [1]}, "parameters must be a table, not an array", ""),
    "parameters empty": (FINE | {"parameters": {}}, "parameters is empty", ""),
    "nested empty": (with_x(parameters={}), "parameters.x.parameters is empty", ""),
    "nested and more": (with_x(parameters={"y": {"value": 1}}, min=1), "which nests parameters, has no key 'min'", ""),
    "parameter no table": (FINE | {"parameters": {"x": 3}}, "parameters.x must be a table, not 3", "{ value = … }"),
    "parameter of nothing": (with_x(), "parameters.x gives no value, no values, and no min and max", ""),
    "misspelt": (with_x(valeus=[1]), "parameters.x gives no value", "did you mean 'values'"),
    "nested without parameters": (
        with_x(lr={"min": 1, "max": 2}),
        "parameters.x gives no value",
        "put 'parameters' between: x.parameters.lr; or quote the name: \"x.lr\"",
    ),
    "two of one name": (
        FINE | {"parameters": {"x.y": {"value": 1}, "x": {"parameters": {"y": {"value": 2}}}}},
        "there are two parameters 'x.y'",
        "a dot in its name",
    ),
    "distribution": (with_x(distribution="lognormal"), "must be one of", "did you mean 'log_normal'"),
    "loguniform": (with_x(distribution="loguniform"), "must be one of", "write log_uniform_values; min and max of"),
    "log-uniform": (with_x(distribution="Log-Uniform"), "must be one of", "write log_uniform_values; min and max of"),
    "choice": (with_x(distribution="choice"), "must be one of", "write values alone"),
    "randint": (with_x(distribution="randint"), "must be one of", "write int_uniform, whose max is included"),
    "distribution left out": (with_x(mu=0, sigma=1), "has no distribution, and its keys don't tell", "normal"),
    "q without distribution": (with_x(min=0, max=8, q=2), "has no key 'q'", "write the distribution: q_uniform"),
    "max missing": (with_x(min=0), "parameters.x lacks max, which int_uniform needs", ""),
    "all missing": (with_x(distribution="uniform"), "parameters.x lacks min and max, which uniform needs", ""),
    "superfluous": (
        with_x(distribution="normal", mu=0, min=1),
        "parameters.x, a normal parameter, has no key 'min'",
        "it takes mu, sigma, distribution",
    ),
    "value and values": (with_x(value=1, values=[1]), "a constant parameter, has no key 'values'", ""),
    "min above max": (with_x(min=2.0, max=1.0), "parameters.x.min is 2.0, which is above max, 1.0", "swap"),
    "int above max": (with_x(min=2, max=1), "parameters.x.min is 2, which is above max, 1", "swap"),
    "bound of text": (with_x(min="1e-3", max=1.0), "parameters.x.min must be a number, not the text '1e-3'", "quotes"),
    "bound of a boolean": (with_x(min=True, max=2.0), "parameters.x.min must be a number, not true", ""),
    "bound of inf": (with_x(min=0.0, max=float("inf")), "must be a finite number, not inf", ""),
    "int of floats": (
        with_x(distribution="int_uniform", min=1.0, max=2),
        "parameters.x.min must be an integer, not 1.0",
        "write 1",
    ),
    "int too large": (with_x(min=0, max=2**53 + 1), "parameters.x.max must be at most 9007199254740992", ""),
    "float too large": (with_x(min=0.5, max=2**60), "beyond 2**53", ""),
    "q": (with_x(distribution="q_uniform", min=0, max=1, q=0), "parameters.x.q must be above 0, not 0", ""),
    "q below": (with_x(distribution="q_normal", q=-0.5), "parameters.x.q must be above 0, not -0.5", ""),
    "q too small": (with_x(distribution="q_uniform", min=0, max=1e9, q=1e-9), "q is too small for numbers", ""),
    "log of 0": (
        with_x(distribution="log_uniform_values", min=0, max=1),
        "parameters.x.min must be above 0 for log_uniform_values, not 0",
        "a logarithm needs it",
    ),
    "exponent": (
        with_x(distribution="log_uniform", min=1, max=1000),
        "parameters.x.max is an exponent of e for log_uniform, and 1000 is too far",
        "log_uniform_values takes values",
    ),
    "inverse exponent": (with_x(distribution="inv_log_uniform", min=-1000, max=1), "min is an exponent of e", ""),
    "sigma": (with_x(distribution="normal", sigma=-1), "parameters.x.sigma must be at least 0, not -1", ""),
    "log_normal too wide": (with_x(distribution="log_normal", sigma=100), "sigma is too large", ""),
    "log_normal too far": (with_x(distribution="log_normal", mu=900), "mu is too large", ""),
    "beta": (with_x(distribution="beta", a=-1, b=1), "parameters.x.a must be at least 0, not -1", ""),
    "values empty": (with_x(values=[]), "parameters.x.values is empty", ""),
    "values no array": (with_x(values=3), "parameters.x.values must be an array, not 3", "'value'"),
    "values of no JSON": (with_x(values=[1, object()]), "parameters.x.values[1] is a object, which JSON", ""),
    "values of nan": (with_x(values=[float("nan")]), "parameters.x.values[0] must be a finite number, not nan", ""),
    "sum": (
        with_x(values=[1, 2], probabilities=[0.5, 0.6]),
        "parameters.x.probabilities sums to 1.1, not to 1",
        "",
    ),
    "length": (with_x(values=[1, 2], probabilities=[1.0]), "has 1 entries for 2 values", ""),
    "negative": (with_x(values=[1, 2], probabilities=[1.5, -0.5]), "can't be negative, as -0.5 is", ""),
    "no probability": (with_x(values=[1, 2], probabilities=[True, 0]), "must be a number, not true", ""),
    "probabilities alone": (with_x(probabilities=[1.0]), "gives no value", ""),
    "continuous grid": (FINE | {"method": "grid"}, "parameters.x is continuous (uniform)", "q_uniform"),
    "grid of nothing": (
        with_x(distribution="q_uniform", min=1, max=1) | {"method": "grid"},
        "a grid's q_uniform ends below max",
        "",
    ),
    "no type": (FINE | {"early_terminate": {"min_iter": 3}}, "early_terminate has no 'type'", "hyperband"),
    "type": (FINE | {"early_terminate": {"type": "median", "min_iter": 3}}, "type must be one of 'hyperband'", ""),
    "no bands": (FINE | {"early_terminate": {"type": "hyperband"}}, "needs min_iter, or max_iter and s", ""),
    "max_iter alone": (FINE | {"early_terminate": {"type": "hyperband", "max_iter": 9}}, "max_iter needs s", ""),
    "s alone": (FINE | {"early_terminate": {"type": "hyperband", "s": 2}}, "s goes with max_iter only", "add max_iter"),
    "no band": (
        FINE | {"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 1}},
        "max_iter is 2, which leaves no band: 2/eta is below 1",
        "",
    ),
    "eta": (FINE | {"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "eta must be above 1", ""),
    "strict": (FINE | {"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": 1}}, "true or false", ""),
    "hyperband's key": (
        FINE | {"early_terminate": {"type": "hyperband", "miniter": 1}},
        "no key 'miniter'",
        "min_iter",
    ),
    "ours": (FINE | {"ridgepole": {"executer": "ray"}}, "ridgepole has no key 'executer'", "'executor'"),
    "ours no table": (FINE | {"ridgepole": True}, "ridgepole must be a table, not true", ""),
    "executor": (FINE | {"ridgepole": {"executor": "dask"}}, "ridgepole.executor must be one of 'inline'", ""),
    "workers": (FINE | {"ridgepole": {"workers": 0}}, "ridgepole.workers must be at least 1, not 0", ""),
    "on_trial_error": (FINE | {"ridgepole": {"on_trial_error": "skip"}}, "must be one of 'fail', 'retry'", ""),
    "max_failures": (FINE | {"ridgepole": {"max_failures": -1}}, "must be at least 0, not -1", ""),
    "seed": (FINE | {"ridgepole": {"seed": "x"}}, "ridgepole.seed must be an integer, not the text 'x'", ""),
    "storage": (FINE | {"ridgepole": {"storage": "x.db"}}, "storage is not a URL of a database", "postgresql://"),
    "ray's key": (FINE | {"ridgepole": {"ray": {"num_gpu": 1}}}, "ridgepole.ray has no key 'num_gpu'", "num_gpus"),
}


@pytest.mark.parametrize(("sweep", "message", "hint"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(sweep, message, hint):
    errors = [each for each in problems(sweep) if each[0] == "error"]
    assert len(errors) == 1, f"one mistake, {len(errors)} errors: {errors}"
    assert message in errors[0][1]
    assert hint in errors[0][2]


DOUBTFUL: dict[str, tuple[Any, str, str]] = {
    "program": (
        FINE | {"program": "train.py", "ridgepole": {"pipeline": "p.toml"}},
        "program has no effect beside a pipeline",
        "",
    ),
    "command": (
        FINE | {"command": ["${env}", "python"], "ridgepole": {"pipeline": "p.toml"}},
        "command has no effect beside a pipeline",
        "",
    ),
    "unknown key": (FINE | {"methd": 1}, "methd is not a key of a sweep, and has no effect", "did you mean 'method'?"),
    "limit": (FINE | {"max_trials": 9}, "max_trials is not a key of a sweep, and has no effect", "its run_cap"),
    "our key": (FINE | {"seed": 9}, "seed is not a key of a sweep, and has no effect", "table 'ridgepole'"),
    "controller": (FINE | {"controller": {"type": "local"}}, "controller has no effect here", "W&B's own services"),
    "null": (FINE | {"description": None}, "description is null, and counts as left out", ""),
    "name for W&B": (FINE | {"parameters": {"a b": {"value": 1}}}, "parameters.a b is a name that W&B refuses", ""),
    "min and max": (with_x(min=2, max=2), "parameters.x has the one value 2, and W&B refuses that", "write value"),
    "s without max_iter": (
        FINE | {"early_terminate": {"type": "hyperband", "min_iter": 3, "s": 2}},
        "early_terminate.s has no effect without max_iter",
        "no end",
    ),
    "min_iter and max_iter with s": (
        FINE | {"early_terminate": {"type": "hyperband", "min_iter": 1, "max_iter": 9, "s": 2}},
        "early_terminate.min_iter has no effect beside max_iter and s",
        "",
    ),
    "a target among many": (
        MANY | {"metrics": [{"name": "a", "target": 1}, {"name": "b"}]},
        "metrics[0].target has no effect among several metrics",
        "",
    ),
    "number as text": (with_x(values=["1e-3", "adam"]), "values[0] is the text '1e-3', not a number", "quotes"),
    "text among numbers": (with_x(values=[1, "2"]), "values[1] is the text '2', not a number", "quotes"),
    "boolean among numbers": (with_x(values=[0, 1, True]), "values[2] is the boolean true among numbers", ""),
    "null as text": (with_x(values=["null", "x"]), "values[0] is the text 'null'", "{ null = true }"),
    "true as text": (with_x(value="True"), "parameters.x.value is the text 'True'", "quotes"),
    "repeated": (with_x(values=["a", "b", "a"]), "values[2] is the same as [0]", ""),
    "0 or 1": (with_x(min=0, max=1), "parameters.x is 0 or 1 and nothing between", "write 0.0 and 1.0"),
    "exponents": (
        with_x(distribution="log_uniform", min=1e-5, max=0.1),
        "parameters.x takes exponents of e, so it goes from 1.00001 to 1.10517",
        "log_uniform_values takes the values themselves",
    ),
    "one multiple": (with_x(distribution="q_uniform", min=0, max=0.3), "has only one value, as q is 1", "smaller q"),
    "weights in a grid": (
        with_x(values=[1, 2], probabilities=[0.5, 0.5]) | {"method": "grid"},
        "probabilities have no effect on a grid",
        "",
    ),
    "end of a grid": (
        with_x(distribution="q_uniform", min=0, max=1, q=0.25) | {"method": "grid"},
        "parameters.x goes up to 0.75 in a grid",
        "for 1 too, write max = 1.25",
    ),
    "sampler": (FINE | {"ridgepole": {"sampler": "tpe"}}, "sampler has no effect on a random sweep", ""),
    "retries": (FINE | {"ridgepole": {"retries": 2}}, "retries has no effect unless on_trial_error is 'retry'", ""),
}


@pytest.mark.parametrize(("sweep", "message", "hint"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_is_doubtful_is_only_a_warning(sweep, message, hint):
    found = problems(sweep)
    assert [each[0] for each in found] == ["warning"], found
    assert message in found[0][1]
    assert hint in found[0][2]
    assert [each.message for each in read_sweep(sweep).warnings] == [found[0][1]]


def test_all_mistakes_come_at_once():
    sweep = {
        "method": "grit",
        "metric": {"goal": "up"},
        "parameters": {"a": {"min": 3, "max": 1}, "b": {"values": []}, "c": {"distribution": "gauss"}, "d": {"q": 0}},
        "early_terminate": {"type": "hyperband"},
        "run_cap": "many",
        "ridgepole": {"workers": "all", "executor": 3},
        "kind": "sweep",
    }
    found = problems(sweep)
    assert len([each for each in found if each[0] == "error"]) == 11, found
    with pytest.raises(ConfigError) as caught:
        read_sweep(sweep)
    assert len(caught.value.problems) == 12, "warnings belong to the report"


@pytest.mark.parametrize(
    ("sweep", "path", "key"),
    [
        (with_x(min=2.0, max=1.0), ("parameters", "x", "min"), False),
        (with_x(values=[1, "2"]), ("parameters", "x", "values", 1), False),
        (FINE | {"methd": 1}, ("methd",), True),
        (FINE | {"ridgepole": {"ray": {"num_gpu": 1}}}, ("ridgepole", "ray", "num_gpu"), True),
    ],
)
def test_a_problem_stands_where_the_mistake_is(sweep, path, key):
    """For a table of a pipeline's recipe: the places are asked for by the paths inside it."""
    asked = []

    def place(where: tuple[str | int, ...], at_key: bool) -> Place:
        asked.append((where, at_key))
        return Place("p.toml", len(asked))

    (problem,) = check_sweep(sweep, place)
    assert problem.place is not None
    assert asked[problem.place.line - 1] == (path, key)


def test_a_mapping_is_not_changed_and_not_kept():
    values = {"method": "grid", "parameters": {"x": {"values": [[1]]}}}
    before = copy.deepcopy(values)
    spec = read_sweep(values)
    values["parameters"]["x"]["values"][0].append(2)
    assert spec.config == before
    assert next(iter(spec.grid())) == {"x": [1]}


def test_a_mapping_may_hold_what_numpy_makes():
    spec = read_sweep(
        {
            "method": "grid",
            "parameters": {
                "a": {"values": np.array([0.5, 1.5])},
                "b": {"values": [np.int64(3)]},
                "c": {"min": np.int64(1), "max": np.int64(2)},
                "d": {"values": (1, 2)},
            },
        }
    )
    point = next(iter(spec.grid()))
    assert point == {"a": 0.5, "b": 3, "c": 1, "d": 1}
    assert [type(value) for value in point.values()] == [float, int, int, int]


def test_metric_imputes_worst_unless_told_otherwise():
    spec = read_sweep(FINE)
    assert spec.metric is not None
    assert spec.metric.impute == "worst"
