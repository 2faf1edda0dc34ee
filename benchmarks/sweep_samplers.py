"""Which model a bayes sweep should take: Optuna's Gaussian process and TPE beside random draws.

The objective has what tuning a network has: two logarithmic parameters, an integer, a choice and a fraction, with
ripples in one. Each contender searches the same space, read from the same sweep, with the same seeds in turn. Shown are
the medians of how far the best of the trials is from the minimum, and of the time that a proposal takes.

    python benchmarks/sweep_samplers.py [rounds] [trials]
"""

from __future__ import annotations

import math
import statistics
import sys
import warnings
from time import perf_counter
from typing import Any

import optuna

from ridgepole.sweeps import SweepSpec, read_sweep
from ridgepole.sweeps.study.trial_store import make_sampler

PARAMETERS = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "decay": {"distribution": "log_uniform_values", "min": 1e-6, "max": 1e-1},
    "depth": {"min": 1, "max": 8},
    "kind": {"values": ["a", "b", "c"]},
    "dropout": {"min": 0.0, "max": 0.6},
}


def loss(values: dict[str, Any]) -> float:
    lr, decay = math.log10(values["lr"]), math.log10(values["decay"])
    smooth = (lr + 2.7) ** 2 + 0.3 * (decay + 4) ** 2 + 0.05 * (values["depth"] - 5) ** 2
    kind = {"a": 0.4, "b": 0.0, "c": 0.2}[values["kind"]]
    return smooth + kind + 2 * (values["dropout"] - 0.2) ** 2 + 0.3 * math.sin(3 * lr)


def sweep(sampler: str, seed: int) -> SweepSpec:
    ours = {"seed": seed} | ({} if sampler == "random" else {"sampler": sampler})
    method = "random" if sampler == "random" else "bayes"
    return read_sweep({"method": method, "metric": {"name": "loss"}, "parameters": PARAMETERS, "ridgepole": ours})


def search(sampler: str, seed: int, trials: int) -> tuple[float, float]:
    """The best loss, and the milliseconds of a proposal."""
    spec = sweep(sampler, seed)
    study = optuna.create_study(sampler=make_sampler(spec))
    best, spent = math.inf, 0.0
    for _ in range(trials):
        started = perf_counter()
        trial = study.ask()
        values = spec.space.suggest(trial)
        spent += perf_counter() - started
        best = min(best, loss(values))
        study.tell(trial, loss(values))
    return best, 1000 * spent / trials


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    trials = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    goal = min(  # only the learning rate has ripples; of everything else the best value is known
        loss({"lr": 10 ** (-5 + i / 1000), "decay": 1e-4, "depth": 5, "kind": "b", "dropout": 0.2}) for i in range(4001)
    )
    names = ("random", "tpe", "gp")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    search("gp", 0, 12)  # imports torch
    for seed in range(rounds):
        for name in names:
            found[name].append(search(name, seed, trials))
    print(f"after {trials} trials, {rounds} rounds: distance of the best from the minimum, milliseconds a proposal")
    for name in names:
        gaps, times = zip(*found[name], strict=True)
        print(f"    {name:8} {statistics.median(gaps) - goal:8.4f} {statistics.median(times):10.1f}")


if __name__ == "__main__":
    main()
