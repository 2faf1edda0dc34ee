"""Who proposes trials, and that a sweep which goes on neither repeats nor changes them."""

from __future__ import annotations

import importlib.util
from typing import Any

import optuna
import pytest

from ridgepole.errors import MissingExtraError
from ridgepole.sweeps import SweepSpec, load_sweep, read_sweep, run_sweep, sampler_name
from ridgepole.sweeps.study.trial_store import make_sampler

PARAMETERS = {"a": {"min": 0.0, "max": 1.0}, "b": {"min": 1, "max": 1000}, "c": {"distribution": "normal"}}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def sweep(method: str, **options: Any) -> SweepSpec:
    metric = {"name": "loss"}
    return read_sweep({"method": method, "metric": metric, "parameters": PARAMETERS, "ridgepole": options})


def draw(spec: SweepSpec, study: optuna.Study, count: int) -> list[dict[str, Any]]:
    values = []
    for _ in range(count):
        trial = study.ask()
        values.append(spec.space.suggest(trial))
        study.tell(trial, values[-1]["a"])
    return values


def test_a_random_sweep_that_goes_on_continues_its_sequence():
    spec = sweep("random", seed=3)
    whole = draw(spec, optuna.create_study(sampler=make_sampler(spec)), 12)
    study = optuna.create_study(sampler=make_sampler(spec))
    first = draw(spec, study, 5)
    study.sampler = make_sampler(spec)  # the driver was killed, and starts again
    assert first + draw(spec, study, 7) == whole
    assert len({values["a"] for values in whole}) == 12, "a trial was drawn twice"


def test_a_random_trial_does_not_depend_on_the_order_of_its_parameters():
    spec = sweep("random", seed=3)
    study = optuna.create_study(sampler=make_sampler(spec))
    forward = spec.space.suggest(study.ask())
    study = optuna.create_study(sampler=make_sampler(spec))
    trial = study.ask()
    backward = {name: each.suggest(trial) for name, each in reversed(spec.space.parameters.items())}
    assert backward == forward


def test_seeds_differ_and_no_seed_is_a_fresh_one():
    def first(seed: int | None) -> Any:
        spec = sweep("random")
        return draw(spec, optuna.create_study(sampler=make_sampler(spec, seed)), 1)

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert first(None) != first(None)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_bayes_sweep_that_goes_on_does_not_start_its_random_numbers_again(sampler):
    spec = sweep("bayes", seed=3, sampler=sampler)
    study = optuna.create_study(sampler=make_sampler(spec))
    before = draw(spec, study, 4)
    study.sampler = make_sampler(spec, first=len(study.trials))
    after = draw(spec, study, 4)
    assert not {values["b"] for values in before} & {values["b"] for values in after}


def test_a_bayes_sweep_finds_more_than_a_random_one():
    """Forty trials with the same seeds: the model must come nearer to the minimum at a = 0 in most of them."""

    def best(method: str, seed: int) -> float:
        options = {"sampler": "tpe"} if method == "bayes" else {}
        spec = sweep(method, seed=seed, **options)
        return min(values["a"] for values in draw(spec, optuna.create_study(sampler=make_sampler(spec)), 40))

    wins = sum(best("bayes", seed) < best("random", seed) for seed in range(5))
    assert wins >= 3, f"the model won {wins} times of 5"


def test_a_bayes_sweep_takes_the_gaussian_process_where_it_can(monkeypatch):
    assert sampler_name(sweep("bayes")) == "gp"
    assert sampler_name(sweep("bayes", sampler="tpe")) == "tpe"
    assert (sampler_name(sweep("random")), make_sampler(sweep("bayes"), name="tpe").__class__) == (
        "random",
        optuna.samplers.TPESampler,
    )
    hide(monkeypatch, "torch")
    assert sampler_name(sweep("bayes")) == "tpe"
    with pytest.raises(MissingExtraError, match=r"the sampler 'gp' needs torch.*pip install .*'torch>="):
        make_sampler(sweep("bayes", sampler="gp"))


@pytest.mark.parametrize("call", [lambda: run_sweep(lambda: 0.0, {}), load_sweep], ids=["run", "load"])
def test_without_optuna_the_extra_is_named(call, monkeypatch):
    hide(monkeypatch, "optuna")
    with pytest.raises(MissingExtraError, match=r"sweep needs optuna.*pip install 'optuna>="):
        call()


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))


def test_the_samplers_by_name():
    assert isinstance(make_sampler(sweep("bayes", sampler="tpe")), optuna.samplers.TPESampler)
    assert isinstance(make_sampler(sweep("bayes", sampler="gp")), optuna.samplers.GPSampler)
