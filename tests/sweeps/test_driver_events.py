"""How the driver answers the events of an executor, as a table. No trial runs."""

import pytest
from scripted_executor import ScriptedExecutor

from ridgepole.sweeps import executor_registry, run_sweep
from ridgepole.sweeps.run.executor import Completed, Preempted, Reported, WorkerLost
from ridgepole.sweeps.study.outcome import TrialOutcome

FINISHED = Completed(0, TrialOutcome("finished", 3.0, count=1, best=3.0, latest=3.0))
FAILED = Completed(0, TrialOutcome("failed", error="ValueError: no"))
TAKEN = Preempted(0, TrialOutcome("interrupted", seconds=1.0), "the node was drained")
TAKEN_LATE = Preempted(0, TrialOutcome("interrupted", seconds=600.0), "the node was drained")

CASES = {
    "finished": ([[Reported(0, (3.0,), 0), FINISHED]], {}, ("finished", 3.0, 1, "")),
    "pruned": ([[Completed(0, TrialOutcome("pruned", 7.0))]], {}, ("pruned", 7.0, 1, "")),
    "lost": ([[WorkerLost(0, "killed by SIGKILL")]], {}, ("failed", None, 1, "killed by SIGKILL")),
    "interrupted from outside": (
        [[Completed(0, TrialOutcome("interrupted"))]],
        {},
        ("failed", None, 1, "it was interrupted from outside"),
    ),
    "retried": ([[FAILED], [FINISHED]], {"on_trial_error": "retry"}, ("finished", 3.0, 2, "")),
    "retried in vain": ([[FAILED]], {"on_trial_error": "retry", "retries": 3}, ("failed", None, 4, "ValueError: no")),
    "preempted once": ([[TAKEN], [FINISHED]], {}, ("finished", 3.0, 2, "")),
    "preempted for ever": (
        [[TAKEN]],
        {},
        ("failed", None, 20, "it was preempted 20 times within a minute of its start: the node was drained"),
    ),
    "preempted often, and late": ([*[[TAKEN_LATE]] * 30, [FINISHED]], {}, ("finished", 3.0, 31, "")),
}


@pytest.mark.parametrize("case", CASES)
def test_events_of_one_trial_lead_to_its_result(case, tmp_path, monkeypatch, capsys):
    script, options, expected = CASES[case]
    monkeypatch.setitem(executor_registry._BUILT_IN, "scripted", "scripted_executor:ScriptedExecutor")
    monkeypatch.setattr(ScriptedExecutor, "script", script)
    config = {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"x": {"values": [1]}},
        "ridgepole": {"executor": "scripted", **options},
    }
    result = run_sweep(lambda: 0.0, config, root=tmp_path / "runs", progress=False)
    (trial,) = result.trials
    assert (trial.status, trial.value, trial.attempts, trial.error) == expected
    assert trial.run == f"run-{trial.attempts}", "the last attempt's"
    assert capsys.readouterr().err.count("trial 0 will resume elsewhere") == (
        trial.attempts - 1 if "preempted" in case else 0
    )
