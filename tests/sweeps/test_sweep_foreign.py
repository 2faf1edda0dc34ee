"""What other programs see in a sweep's storage, and what becomes of what they write there."""

from __future__ import annotations

import json

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ridgepole.sweeps import load_sweep, run_sweep
from ridgepole.sweeps.sweepdir import SweepDir

CONFIG = {
    "method": "random",
    "run_cap": 4,
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "kind": {"values": ["a", "b"]}},
    "ridgepole": {"seed": 1},
}
GRID = CONFIG | {"method": "grid", "parameters": {"x": {"values": [1.0, 2.0, 3.0, 4.0]}}}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def from_outside(path) -> optuna.Study:
    """The study as any program opens it."""
    directory = SweepDir(path)
    return optuna.load_study(
        study_name=directory.id, storage=JournalStorage(JournalFileBackend(str(directory.journal)))
    )


@pytest.mark.parametrize("config", [CONFIG, GRID], ids=["random", "grid"])
def test_enqueued_trials_are_tried_while_the_sweep_runs_or_refused(config, capsys):
    outside = 0.25 if config is CONFIG else 4.0

    def once(trial):
        if trial.number == 0:
            study = from_outside(load_sweep().path)
            study.ask()
            study.enqueue_trial({"x": outside})
            study.enqueue_trial({"x": 99.0})
            study.enqueue_trial({"y": 1.0})
        return trial.params["x"]

    result = run_sweep(once, config, progress=False)
    asked, tried, big, unknown = result.trials[1:5]
    assert (tried.status, tried.value, tried.params["x"]) == ("finished", outside, outside)
    assert big.error == "refused: the sweep has no parameter 'x' with the value 99.0"
    assert unknown.error == "refused: the sweep has no parameter 'y' with the value 1.0"
    assert asked.error == "refused: another program runs it; use enqueue_trial to have it tried"
    assert [trial.status for trial in result.trials].count("finished") == 4, "what is refused counts to no limit"
    assert capsys.readouterr().err.count("which came from outside, is refused") == 3
    assert load_sweep().trials == result.trials
    states = [trial.state.name for trial in from_outside(result.path).trials]
    assert states == [{"finished": "COMPLETE", "failed": "FAIL"}[trial.status] for trial in result.trials]


def test_a_trial_that_is_enqueued_after_the_end_is_tried_by_a_resume(capsys):
    def once(trial):
        return trial.params["x"]

    first = run_sweep(once, CONFIG, progress=False)
    from_outside(first.path).enqueue_trial({"x": 0.5, "kind": "b"})
    assert load_sweep().counts == {"finished": 4, "waiting": 1}
    result = run_sweep(once, CONFIG, progress=False, resume="latest")
    assert result.counts == {"finished": 5}
    assert result.trials[4].params == {"kind": "b", "x": 0.5}
    assert result.trials[:4] == first.trials


def test_a_trial_that_is_enqueued_beyond_the_limit_is_named_at_the_end(capsys):
    def once(trial):
        if trial.number == 3:
            from_outside(load_sweep().path).enqueue_trial({"x": 0.5})
        return trial.params["x"]

    result = run_sweep(once, CONFIG, progress=False)
    assert "enqueued from outside, and beyond the limit: trial 4; ridgepole sweep resume" in capsys.readouterr().err
    assert (result.counts, result.trials[4].params["x"]) == ({"finished": 4, "waiting": 1}, 0.5)
    assert run_sweep(once, CONFIG, progress=False, resume="latest").counts == {"finished": 5}


def test_an_end_that_another_program_tells_is_kept_and_named(capsys):
    def once(trial):
        if trial.number == 1:
            from_outside(load_sweep().path).tell(1, 0.125)
        return trial.params["x"]

    result = run_sweep(once, CONFIG, progress=False)
    assert "another program has told Optuna the end of trial 1" in capsys.readouterr().err
    assert len(result.trials) == 4
    assert load_sweep().trials[1].value == 0.125


def test_a_finished_trial_that_another_program_adds_is_shown_and_counts_to_no_limit(capsys):
    def once(trial):
        if trial.number == 0:
            study = from_outside(load_sweep().path)
            study.add_trial(
                optuna.create_trial(
                    params={"x": 0.5}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}, value=-1.0
                )
            )
        return trial.params["x"]

    result = run_sweep(once, CONFIG, progress=False)
    assert "trial 1 was run by another program; it counts to no limit" in capsys.readouterr().err
    assert result.counts == {"finished": 5}
    assert (result.best.number, result.best.value) == (1, -1.0)


# --- Optuna's own tools

LAWS = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
    "width": {"distribution": "q_uniform", "min": 16, "max": 64, "q": 16},
    "noise": {"distribution": "normal", "mu": 3, "sigma": 0.5},
    "batch": {"distribution": "q_log_uniform_values", "min": 8, "max": 128, "q": 8},
    "share": {"distribution": "beta", "a": 2, "b": 5},
    "optimizer": {"values": ["adam", "sgd"], "probabilities": [0.3, 0.7]},
    "schedule": {"values": ["cosine", None, True]},
    "depth": {"min": 2, "max": 5},
}


def test_load_study_has_the_true_names_and_values_of_every_distribution():
    def once(trial):
        for value in (3.0, 2.0, 1.0):
            trial.report(value + trial.params["lr"])

    result = run_sweep(once, CONFIG | {"parameters": LAWS, "run_cap": 8}, progress=False)
    study = from_outside(result.path)
    assert study.metric_names == ["loss"]
    assert [trial.params for trial in study.trials] == [dict(trial.params) for trial in result.trials]
    frame = study.trials_dataframe()
    assert list(frame["value_loss" if "value_loss" in frame else "values_loss"]) == [
        trial.value for trial in result.trials
    ]
    assert study.best_params == dict(result.best.params)


def test_optuna_visualization_draws_a_sweep_with_its_names():
    pytest.importorskip("matplotlib")
    from optuna.visualization import matplotlib as pictures

    config = CONFIG | {"run_cap": 8}
    result = run_sweep(lambda trial: trial.params["x"], config, progress=False)
    study = from_outside(result.path)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        axes = pictures.plot_slice(study, params=["x"])
    offsets = axes.collections[0].get_offsets()
    assert sorted(map(tuple, offsets.tolist())) == sorted((trial.value, trial.value) for trial in result.trials)
    assert axes.get_xlabel() == "x"


def test_optuna_dashboard_shows_a_sweep_with_its_names_and_values():
    dashboard = pytest.importorskip("optuna_dashboard")
    from wsgiref.util import setup_testing_defaults

    result = run_sweep(lambda trial: trial.params["x"], CONFIG, progress=False)
    directory = SweepDir(result.path)
    app = dashboard.wsgi(JournalStorage(JournalFileBackend(str(directory.journal))))

    def get(path: str):
        environ = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        status = []
        body = b"".join(app(environ, lambda line, *_: status.append(line)))
        assert status[0].startswith("200"), body
        return json.loads(body)

    (study,) = get("/api/studies")["study_summaries"]
    shown = get(f"/api/studies/{study['study_id']}")
    assert shown["objective_names"] == ["loss"]
    trials = {
        trial["number"]: {each["name"]: each["param_external_value"] for each in trial["params"]}
        for trial in shown["trials"]
    }
    assert trials[0]["kind"] == result.trials[0].params["kind"]
    assert float(trials[0]["x"]) == result.trials[0].params["x"]
