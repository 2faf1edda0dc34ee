"""What a sweep's report costs: the page, the pictures, and PED-ANOVA beside fANOVA for the importances.

Each round writes the page of a sweep, writes it with pictures, and has Optuna's two evaluators tell the importances of
a fifth of its trials; shown are medians. Imports happened before, except where they are what is shown.

    python benchmarks/sweep_report.py [rounds] [trials]
"""

from __future__ import annotations

import math
import random
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import optuna
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from ridgepole.sweeps import Metric, SweepResult, TrialResult

PARAMETERS = 10
IMPORT = "import time, optuna; t = time.perf_counter(); import optuna.importance; print(time.perf_counter() - t)"


def made(count: int) -> SweepResult:
    """A sweep of so many trials over ten parameters, two of which matter."""
    rng = random.Random(0)
    trials = []
    for number in range(count):
        params = {f"x{index}": rng.random() for index in range(PARAMETERS)}
        loss = (params["x0"] - 0.3) ** 2 + 0.2 * abs(math.sin(3 * params["x1"]))
        trials.append(TrialResult(number, "finished", loss, params, seconds=1.0))
    return SweepResult("id", Path("/nowhere/.sweeps/id"), metric=Metric("loss"), trials=trials, limit=count)


def study_of(result: SweepResult) -> optuna.Study:
    laws = {f"x{index}": FloatDistribution(0.0, 1.0) for index in range(PARAMETERS)}
    study = optuna.create_study()
    for trial in result.trials:
        params = dict(trial.params)
        study.add_trial(optuna.trial.create_trial(params=params, distributions=laws, value=trial.value))
    return study


def seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    trials = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    result, study = made(trials), study_of(made(trials // 5))
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        result.report(folder)  # imports what there is to import
        contenders: dict[str, Callable[[], object]] = {
            f"the page of {trials} trials": lambda: result.report(folder, pictures=False),
            "the page and the pictures": lambda: result.report(folder, pictures=True),
            f"PED-ANOVA of {trials // 5} trials": lambda: PedAnovaImportanceEvaluator().evaluate(study),
            f"fANOVA of {trials // 5} trials": lambda: FanovaImportanceEvaluator(seed=0).evaluate(study),
        }
        for _ in range(rounds):
            for name, call in contenders.items():
                spent.setdefault(name, []).append(seconds(call))
            done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
            spent.setdefault("importing optuna.importance", []).append(float(done.stdout))
    medians = {name: statistics.median(values) for name, values in spent.items()}
    page = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:32} {value:8.3f} s   {value / page:6.1f} times the page")
    ped, fanova = (medians[name] for name in medians if "ANOVA" in name)
    print(f"fANOVA takes {fanova / ped:.0f} times as long as PED-ANOVA")


if __name__ == "__main__":
    main()
