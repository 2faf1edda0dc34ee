"""Several metrics: what a trial counts, which trials no other beats, and what Optuna is told."""

from __future__ import annotations

import json

import optuna
import pytest

from ridgepole.sweeps import load_sweep, read_sweep, run_sweep, sweep_pipeline
from ridgepole.sweeps.study.trial_store import make_sampler
from ridgepole.sweeps.sweepdir import SweepDir

CONFIG = {
    "method": "grid",
    "metrics": [{"name": "loss"}, {"name": "speed", "goal": "maximize"}],
    "parameters": {"x": {"values": [1, 2, 3, 4]}},
}
TABLE = {1: (0.5, 10.0), 2: (0.25, 5.0), 3: (0.5, 9.0), 4: (0.125, 5.0)}
"""Loss and speed: 4 beats 2, 1 beats 3."""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def by_report(trial):
    loss, speed = TABLE[trial.params["x"]]
    trial.report(0.0, "loss")
    trial.report(loss, "loss")
    trial.report(speed, "speed")


def by_return(trial):
    return dict(zip(("loss", "speed"), TABLE[trial.params["x"]], strict=True))


@pytest.mark.parametrize("once", [by_report, by_return])
def test_the_last_value_of_each_metric_counts_and_the_front_has_those_that_none_beats(once, ridgepole):
    result = run_sweep(once, CONFIG, progress=False)
    assert [tuple(trial.values.values()) for trial in result.trials] == list(TABLE.values())
    assert [trial.params["x"] for trial in result.pareto] == [1, 4]
    assert result.best is None
    assert load_sweep().trials == result.trials
    study = optuna.load_study(
        study_name=result.id,
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(SweepDir(result.path).journal))
        ),
    )
    assert study.metric_names == ["loss", "speed"]
    assert [trial.number for trial in study.best_trials] == [trial.number for trial in result.pareto]
    told = json.loads(ridgepole("sweep", "best", "--json").stdout)
    assert [each["trial"]["params"]["x"] for each in told["pareto"]] == [4, 1], "best first by the first metric"
    lines = ridgepole("sweep", "status").stdout.splitlines()
    assert [line.split()[0] for line in lines if " finished " in line] == ["0*", "1", "2", "3*"]
    head = next(line for line in lines if line.startswith("TRIAL"))
    assert head.split() == ["TRIAL", "STATUS", "loss", "speed", "x", "TIME", "RUN"]


def test_a_trial_without_one_of_the_metrics_fails_and_says_which():
    def once(trial):
        trial.report(1.0, "loss")

    result = run_sweep(once, CONFIG, progress=False)
    assert result.counts == {"failed": 4}
    assert result.trials[0].error == "no finite value of the metric 'speed' was logged; logged was: loss"
    result = run_sweep(lambda: 1.0, CONFIG, progress=False)
    assert result.trials[0].error == "run_once must return the values of loss, speed by their names"
    result = run_sweep(lambda trial: trial.report(1.0), CONFIG, progress=False)
    assert "trial.report takes the name of one of the metrics loss, speed, not None" in result.trials[0].error


def test_the_metrics_of_a_pipeline_are_those_that_it_logs(toy, grid, toy_loss):
    root = toy()
    package = next(root.glob("toy_*")) / "__init__.py"
    text = package.read_text()
    more = '{"loss": self.net.weight, "cost": self.epoch * 1.0}'
    package.write_text(text.replace('{"loss": self.net.weight}', more))
    del grid["metric"]
    toy(grid | {"metrics": [{"name": "loss"}, {"name": "cost"}], "early_terminate": None})
    result = sweep_pipeline("sweep.json", progress=False)
    assert result.counts == {"finished": 6}
    assert [trial.values for trial in result.trials] == [
        {"loss": toy_loss(trial.params["lr"], trial.params["train.epochs"]), "cost": trial.params["train.epochs"]}
        for trial in result.trials
    ]
    assert sorted((trial.params["lr"], trial.params["train.epochs"]) for trial in result.pareto) == [(0.9, 2), (0.9, 3)]
    assert result.report(pictures=False)[0].is_file()


@pytest.mark.parametrize(("sampler", "name"), [(None, "TPESampler"), ("nsga2", "NSGAIISampler")])
def test_optuna_s_samplers_of_several_metrics_propose_trials(sampler, name):
    options = {"seed": 1, "startup_trials": 3} | ({"sampler": sampler} if sampler else {})
    config = CONFIG | {
        "method": "bayes",
        "run_cap": 8,
        "parameters": {"x": {"min": 0.0, "max": 1.0}},
        "ridgepole": options,
    }
    assert type(make_sampler(read_sweep(config))).__name__ == name
    result = run_sweep(
        lambda trial: {"loss": trial.params["x"], "speed": trial.params["x"] ** 2}, config, progress=False
    )
    assert result.counts == {"finished": 8}
    assert len({trial.params["x"] for trial in result.trials}) == 8
