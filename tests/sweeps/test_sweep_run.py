"""Sweeps in this process: functions and pipelines, what a trial gets, what it comes to."""

import json
import math
import re

import pytest

from ridgepole import ConfigError, Pipeline, PipelineProcess
from ridgepole.errors import SweepError, TrialPruned
from ridgepole.loggers.composite import LoggerGroup
from ridgepole.permanences import BaseLoggerManager, BasicLogger, NullLogger
from ridgepole.rundir import list_runs, read_run
from ridgepole.sweeps import Hyperband, Metric, load_sweep, run_sweep, should_stop, sweep_pipeline

FINE = {
    "method": "random",
    "run_cap": 5,
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "kind": {"values": ["a", None, {"deep": [1, 2]}]}},
    "ridgepole": {"seed": 3},
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sweep(run_once, config=None, **keys):
    return run_sweep(run_once, {**FINE, **(config or {})}, progress=False, **keys)


# --- functions


def test_a_function_that_returns_its_objective():
    seen = []

    def once(trial):
        seen.append((trial.number, trial.params))
        return (trial.params["x"] - 0.5) ** 2

    result = sweep(once)
    assert [number for number, _ in seen] == list(range(5))
    assert result.status == "finished"
    assert result.counts == {"finished": 5}
    assert [trial.params for trial in result.trials] == [params for _, params in seen], "decoded, as the trial saw them"
    best = min(result.trials, key=lambda trial: trial.value)
    assert result.best == best
    assert best.value == (best.params["x"] - 0.5) ** 2


def test_what_is_read_later_is_what_was_returned():
    result = sweep(lambda trial: trial.params["x"])
    again = load_sweep()
    assert again.trials == result.trials
    assert (again.id, again.status, again.metric, again.limit) == (result.id, "finished", result.metric, 5)
    assert json.loads(json.dumps(again.as_dict()))["best"] == result.best.number


def test_a_function_without_an_argument():
    calls = []
    sweep(lambda: calls.append(1) or 1.0)
    assert len(calls) == 5


def test_a_function_that_needs_more_is_refused():
    with pytest.raises(SweepError, match="this one needs trial, data"):
        sweep(lambda trial, data: 0.0)


def test_the_objective_is_the_best_value_not_the_last():
    def once(trial):
        for value in (3.0, 1.0, math.nan, 2.0):
            trial.report(value)

    assert [trial.value for trial in sweep(once).trials] == [1.0] * 5
    result = sweep(once, {"metric": {"name": "loss", "goal": "maximize"}})
    assert [trial.value for trial in result.trials] == [3.0] * 5


def test_numbers_of_numpy_count_and_other_things_fail():
    numpy = pytest.importorskip("numpy")
    given = iter([numpy.float32(2), numpy.array([3.0]), "4", {"loss": 1}, True])
    result = sweep(lambda: next(given))
    assert [trial.status for trial in result.trials] == ["finished", "finished", "failed", "failed", "failed"]
    assert "run_once must return a number, not str" in result.trials[2].error


@pytest.mark.parametrize("make", [BasicLogger, NullLogger, lambda: LoggerGroup([BasicLogger("logs")])])
def test_run_sweep_of_every_logger_hears_what_it_logs(make):
    logger = make()
    assert logger.supports_sweep()
    values = iter([5.0, 2.0, 4.0, 3.0, 6.0])

    def once():
        logger.log_metrics({"loss": next(values), "other": 0})

    result = logger.run_sweep(once, FINE)
    assert [trial.value for trial in result.trials] == [5.0, 2.0, 4.0, 3.0, 6.0]
    assert "log_metrics" not in vars(getattr(logger, "loggers", [logger])[0]), "the logger is left as it was"
    for member in getattr(logger, "loggers", [logger]):
        member.cleanup()


def test_a_failure_is_told_as_the_worst_and_the_sweep_goes_on():
    def once(trial):
        if trial.number == 3:
            raise ValueError("three")
        return float(trial.number)

    result = sweep(once)
    assert result.counts == {"finished": 4, "failed": 1}
    failed = result.trials[3]
    assert failed.error == "ValueError: three"
    assert failed.value is None
    assert failed.imputed == 2.0, "the worst until then"
    assert result.best.number == 0, "what was made up is nobody's value"


def test_failures_as_impute_says():
    def once(trial):
        trial.report(10.0 - trial.number)
        if trial.number == 2:
            trial.report(50.0)
            raise ValueError

    assert sweep(once, {"metric": {"name": "loss", "impute": "best"}}).trials[2].imputed == 9.0
    assert sweep(once, {"metric": {"name": "loss", "impute": "latest"}}).trials[2].imputed == 50.0


def test_a_first_failure_has_nothing_to_be_told_as():
    result = sweep(lambda: 1 / 0, {"run_cap": 2})
    assert [(trial.status, trial.imputed) for trial in result.trials] == [("failed", None)] * 2


def test_a_metric_that_is_never_logged_is_said():
    error = "the metric 'loss' was never logged; logged was: los, accuracy; did you mean 'los'?"
    with BasicLogger("logs") as logger:
        result = logger.run_sweep(lambda: logger.log_metrics({"los": 1.0, "accuracy": 0.5}), FINE | {"run_cap": 2})
        assert [trial.error for trial in result.trials] == [error] * 2
        with pytest.raises(SweepError, match="^" + re.escape(f"all of 3 trials failed alike: {error}")):
            logger.run_sweep(lambda: logger.log_metrics({"los": 1.0, "accuracy": 0.5}), FINE)
        result = logger.run_sweep(
            lambda: logger.log_metrics({"los": 1.0, "accuracy": 0.5}), FINE | {"ridgepole": {"max_failures": 9}}
        )
    assert result.counts == {"failed": 5}


def test_a_metric_that_some_trials_never_log_ends_no_sweep():
    def once(trial):
        if trial.number == 1:
            trial.report(1.0)

    assert sweep(once).counts == {"failed": 4, "finished": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_objective(value):
    result = sweep(lambda: value)
    assert result.counts == {"failed": 5}
    assert str(value) in result.trials[0].error
    logged = sweep(lambda trial: trial.report(value))
    assert "logged 1 times, but never as a finite number" in logged.trials[0].error


def test_a_sweep_without_a_metric():
    config = {"method": "grid", "parameters": {"x": {"values": [1, 2]}}}
    result = run_sweep(lambda: None, config, progress=False)
    assert result.counts == {"finished": 2}
    assert result.best is None


def test_the_target_ends_the_sweep():
    config = {"run_cap": 100, "metric": {"name": "loss", "goal": "maximize", "target": 3}}
    result = sweep(lambda trial: float(trial.number), config)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3]
    assert result.status == "finished"
    assert result.reason == "trial 3 reached the target"
    again = sweep(lambda trial: float(trial.number), config, resume="latest")
    assert again.trials == result.trials, "it is over for good"


def test_stop_on_the_first_failure():
    with pytest.raises(SweepError, match="trial 0 failed: ZeroDivisionError") as caught:
        sweep(lambda: 1 / 0, {"ridgepole": {"on_trial_error": "stop"}})
    assert caught.value.result.counts == {"failed": 1}
    assert load_sweep().status == "stopped"


def test_the_failure_budget():
    with pytest.raises(SweepError, match="3 trials have failed, more than max_failures = 2"):
        sweep(lambda: 1 / 0, {"ridgepole": {"max_failures": 2}})
    assert load_sweep().counts == {"failed": 3}


def test_retries_are_attempts_of_the_same_trial():
    tries = []

    def once(trial):
        tries.append((trial.number, trial.attempt))
        if trial.number == 1 or (trial.number == 2 and trial.attempt < 3):
            raise ValueError
        return 1.0

    result = sweep(once, {"run_cap": 3, "ridgepole": {"on_trial_error": "retry", "retries": 2}})
    assert sorted(tries) == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert [trial.status for trial in result.trials] == ["finished", "failed", "finished"]
    assert [trial.attempts for trial in result.trials] == [1, 3, 3]


def test_run_cap_and_count():
    assert len(sweep(lambda: 0.0, count=2).trials) == 2
    assert len(sweep(lambda: 0.0, count=9).trials) == 9, "it wins over run_cap"
    with pytest.raises(ConfigError, match="never ends by itself"):
        run_sweep(lambda: 0.0, {key: FINE[key] for key in ("method", "metric", "parameters")})


def test_the_same_seed_draws_the_same_trials():
    first, second = (sweep(lambda trial: trial.params["x"]) for _ in range(2))
    assert [trial.params for trial in first.trials] == [trial.params for trial in second.trials]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_sweep_goes_on_where_it_was_and_repeats_nothing(method):
    config = {"method": method, "run_cap": 20}
    ours = {"seed": 3} | ({"sampler": "tpe", "startup_trials": 30} if method == "bayes" else {})
    seen = []

    def once(trial):
        seen.append(trial.params["x"])
        if len(seen) == 7:
            raise KeyboardInterrupt
        return trial.params["x"]

    with pytest.raises(SweepError):
        sweep(once, config | {"ridgepole": ours | {"on_trial_error": "stop"}})
    before = load_sweep()
    assert before.status == "stopped"
    result = sweep(once, config | {"ridgepole": ours}, resume="latest")
    assert result.id == before.id
    assert [trial.number for trial in result.trials] == list(range(20))
    assert len({trial.params["x"] for trial in result.trials}) == 20


def test_pruning_a_function_stops_it_at_a_report():
    cleaned = []

    def once(trial):
        try:
            for _ in range(10):
                trial.report(float(trial.number))
                assert not trial.should_prune()
        except TrialPruned:
            cleaned.append((trial.number, trial.count))
            raise

    config = {"early_terminate": {"type": "hyperband", "min_iter": 4, "eta": 5}}
    result = sweep(once, config)
    assert cleaned == [(1, 4), (2, 4), (3, 4), (4, 4)], "each is worse than the first, and stops at the first band"
    assert [trial.status for trial in result.trials] == ["finished"] + ["pruned"] * 4
    assert result.trials[2].value == 2.0


def test_the_driver_prunes_by_the_plain_rule():
    """The same table of values, through the driver and through the rule over all histories."""
    table = [[5, 4, 3, 2, 1, 1], [6, 6, 6, 2, 2, 2], [5, 3, 3, 3, 3, 0], [9, 1, 1, 1, 1, 1], [4, 4, 4, 4, 4, 4]]
    config = {**FINE, "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2}}

    def once(trial):
        for value in table[trial.number]:
            trial.report(value)

    ours = [(trial.status == "pruned", trial.latest) for trial in sweep(once, config).trials]
    rule, metric = Hyperband(min_iter=2, eta=2), Metric("loss")
    theirs, histories = [], []
    for row in table:
        history = []
        for value in row:
            history.append(value)
            pruned = should_stop(rule, metric, history, histories)
            if pruned:
                break
        histories.append(history)
        theirs.append((pruned, float(value)))
    assert ours == theirs
    assert any(pruned for pruned, _ in ours)


# --- pipelines


def test_a_pipeline_each_trial_a_run_of_its_own(toy, grid, toy_loss):
    root = toy(grid)
    result = sweep_pipeline("sweep.json", progress=False)
    assert result.counts == {"finished": 6}
    for trial in result.trials:
        assert trial.value == toy_loss(trial.params["lr"], trial.params["train.epochs"])
        run = read_run(root / "runs" / trial.run)
        assert run.status == "finished"
        assert run.fields["sweep"] == {"id": result.id, "trial": trial.number, "attempt": 1, "values": trial.params}
        config = run.json("config.resolved.json")
        assert config["permanences"]["net"]["params"]["lr"] == trial.params["lr"]
        assert config["processes"]["train"]["params"]["epochs"] == trial.params["train.epochs"]
        assert "sweep_listener" not in config["permanences"]
    assert len({trial.run for trial in result.trials}) == 6
    assert len(list(list_runs(root / "runs"))) == 6, "the sweep itself is no run"
    assert (root / "cleaned").read_text().split() == [str(trial.params["lr"]) for trial in result.trials]


def test_best_is_reproduced_by_its_command(toy, grid, ridgepole):
    toy(grid)
    result = sweep_pipeline("sweep.json", progress=False)
    _, *words = result.command().split()
    assert ridgepole(*words).returncode == 0
    newest = next(list_runs(toy(grid) / "runs"))
    assert newest.json("summary.json")["metrics"]["loss"]["min"] == result.best.value
    assert "sweep" not in newest.fields


def test_parameters_lie_above_overrides_and_below_nothing(toy, grid, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.5]}}
    toy(grid)
    result = sweep_pipeline("sweep.json", overrides=["net.lr=0.9", "epochs=2"], progress=False)
    assert result.trials[0].value == toy_loss(0.5, 2)
    assert result.overrides == ("net.lr=0.9", "epochs=2")


def test_references_see_what_the_sweep_has_set(toy, grid, toy_loss):
    grid["parameters"] = {"net.width": {"values": [8]}}
    toy(grid, 'params = { epochs = "${permanences.net.width}" }')
    text = (toy(grid, 'params = { epochs = "${permanences.net.width}" }') / "toy.toml").read_text()
    (toy() / "toy.toml").write_text(text.replace('type = "Net"', 'type = "Net"\nwidth = 2'))
    assert sweep_pipeline("sweep.json", progress=False).trials[0].value == toy_loss(0.1, 8, 8)


WRONG = [
    ("lrr", "no parameter is called 'lrr'"),
    ("trian.epochs", "nothing is called 'trian'"),
    ("train.epoch", "Train has no parameter 'epoch'"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_a_parameter_that_matches_nothing_is_located_before_the_first_trial(toy, name, message):
    root = toy()
    head = '{\n "method": "grid",\n "metric": {"name": "loss"},\n "parameters": {\n'
    text = f'{head}  "{name}": {{"values": [1]}}\n }}\n}}'
    (root / "sweep.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        sweep_pipeline("sweep.json", "toy.toml", progress=False)
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert (problem.place.file, problem.place.line) == ("sweep.json", 5)
    assert not (root / "runs").exists()


def test_a_parameter_that_matches_two_things(toy, grid):
    grid["parameters"] = {"width": {"values": [1]}}
    root = toy(grid, '[permanences.other]\ntype = "Net"')
    with pytest.raises(ConfigError, match=r"'width' could be permanences\.net\.width or permanences\.other\.width"):
        sweep_pipeline("sweep.json", progress=False)
    assert not (root / "runs").exists()


def test_a_value_that_does_not_fit_is_found_before_the_first_trial(toy, grid):
    grid["parameters"] = {"train.epochs": {"values": [1, 2, "three"]}, "lr": {"values": [0.1, "fast"]}}
    root = toy(grid)
    with pytest.raises(ConfigError) as caught:
        sweep_pipeline("sweep.json", progress=False)
    assert len(caught.value.problems) == 2
    assert "not 'three'" in str(caught.value)
    assert "not 'fast'" in str(caught.value)
    assert not (root / "runs").exists()


def test_the_sweep_table_of_a_pipelines_own_file(toy):
    root = toy()
    table = '[sweep]\nmethod = "grid"\nmetric = { name = "loss" }\nparameters = { lr = { values = [0.5] } }\n'
    with (root / "toy.toml").open("a") as file:
        file.write(table)
    result = sweep_pipeline("toy.toml", progress=False)
    assert result.counts == {"finished": 1}
    assert result.pipeline == str(root / "toy.toml")


def test_a_sweep_that_names_no_pipeline(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(FINE))
    with pytest.raises(ConfigError, match=r"sweep\.json:1:\d+: error: the sweep names no pipeline"):
        sweep_pipeline("sweep.json")


def test_a_pipeline_that_is_pruned_stops_at_a_tick_with_its_cleanup(toy, grid):
    grid |= {"early_terminate": {"type": "hyperband", "min_iter": 2}}
    grid["parameters"] = {"lr": {"values": [0.9, 0.5, 0.1]}, "train.epochs": {"value": 6}}
    root = toy(grid)
    result = sweep_pipeline("sweep.json", progress=False)
    assert [trial.status for trial in result.trials] == ["finished", "pruned", "pruned"]
    steps = [line.split() for line in (root / "steps").read_text().splitlines()]
    assert [sum(lr == which for lr, _ in steps) for which in ("0.9", "0.5", "0.1")] == [6, 2, 2]
    assert (root / "cleaned").read_text().split() == ["0.9", "0.5", "0.1"]
    run = read_run(root / "runs" / result.trials[1].run)
    assert run.status == "pruned"
    assert "error" not in run.fields
    assert not list((run.path / "checkpoints").glob("*signal*")), "nobody goes on with it"


def test_a_retry_goes_on_with_the_run_from_its_checkpoint(toy, grid, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 5}, "fail_at": {"value": 3}}
    grid["ridgepole"] = {"on_trial_error": "retry"}
    root = toy(grid)
    (root / "mends").touch()
    result = sweep_pipeline("sweep.json", progress=False)
    (trial,) = result.trials
    assert (trial.status, trial.attempts, trial.value) == ("finished", 2, toy_loss(0.5, 5))
    assert len(trial.runs) == 1, "the same run"
    assert [line.split()[1] for line in (root / "steps").read_text().splitlines()] == ["1", "2", "3", "4", "5"]
    assert read_run(root / "runs" / trial.run).fields["attempt"] == 2


def test_a_trials_run_can_be_resumed_by_itself(toy, grid, ridgepole, toy_loss):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.epochs": {"value": 5}, "fail_at": {"value": 3}}
    root = toy(grid)
    result = sweep_pipeline("sweep.json", progress=False)
    (root / "mended").touch()
    done = ridgepole("resume", result.trials[0].run)
    assert done.returncode == 0, done.stderr
    run = read_run(root / "runs" / result.trials[0].run)
    assert run.status == "finished"
    assert run.json("summary.json")["metrics"]["loss"]["min"] == toy_loss(0.5, 5)
    assert run.fields["sweep"]["id"] == result.id, "it stays a trial of the sweep"
    assert "sweep_listener" not in done.stderr


# --- pipelines inside run_once


class Work(PipelineProcess):
    def __init__(self, logger: BaseLoggerManager, lr: float = 1.0, steps: int = 2):
        self.logger, self.lr, self.steps = logger, lr, steps

    def execute(self):
        for step in range(self.steps):
            self.logger.log_metrics({"loss": self.lr / (step + 1)})
            self.controller.tick()


def test_parameters_reach_a_pipeline_that_the_function_builds():
    def once():
        Pipeline("built").process("work", Work).run()

    config = {"method": "grid", "parameters": {"lr": {"values": [4.0, 2.0]}, "work.steps": {"values": [4]}}}
    result = sweep(once, config)
    assert [trial.value for trial in result.trials] == [1.0, 0.5]
    assert all(trial.run for trial in result.trials)


def test_a_bound_run_is_enough_and_its_logger_may_be_off():
    pipeline = Pipeline("quiet", logger=False).process("work", Work)
    config = {"method": "grid", "parameters": {"lr": {"values": [4.0, 2.0]}}}
    assert [trial.value for trial in sweep(pipeline.run, config).trials] == [2.0, 1.0]
    assert pipeline.plan().processes[0].values == {}, "nothing of the sweep is left in the pipeline"


def test_a_parameter_that_matches_nothing_ends_the_sweep_at_its_first_trial():
    config = {"method": "grid", "parameters": {"lrr": {"values": [4.0, 2.0]}}}
    with pytest.raises(ConfigError, match="no parameter is called 'lrr'"):
        sweep(Pipeline("built").process("work", Work).run, config)
    assert load_sweep().counts == {"waiting": 1}


def test_runs_lie_beside_those_of_the_run_that_sweeps():
    class Search(PipelineProcess):
        def __init__(self, logger: BaseLoggerManager):
            self.logger = logger

        def execute(self):
            config = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"lr": {"values": [4.0, 2.0]}}}
            result = self.logger.run_sweep(Pipeline("inner").process("work", Work).run, config)
            assert result.counts == {"finished": 2}

    outer = Pipeline("outer").process("search", Search).run("elsewhere")
    runs = list(list_runs(outer.path.parent))
    assert sorted(run.fields["pipeline"] for run in runs) == ["inner", "inner", "outer"]
