"""What a trial of a sweep costs beyond its objective.

In this process: a random search over two floats, with an objective that costs nothing (absolute microseconds a trial)
and with one of 50 ms (times of all trials, as a multiple of a bare Optuna study's). Peers: Optuna's `study.optimize` in
memory, which survives nothing, and with its own journal file, which survives what ours does; Hydra's Optuna sweeper
(whose own Optuna is in memory) and Ray Tune, where the interpreter that PEERS_PYTHON names has them: Hydra's wants an
Optuna of 2022, so it can't live beside ours. Their starts are not counted.

In worker processes, two at a time: milliseconds a trial that costs nothing, with a fresh process for each and with
workers reused, beside the start of a process that does nothing but import what a worker needs.

Contenders take turns in every round; rows show medians over the rounds, and medians of each round's ratio to the first
row of the table. Peers that are not installed are left out, and said.

Usage: python benchmarks/sweep.py [rounds]
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from ridgepole.sweeps import run_sweep

PEERS = os.environ.get("PEERS_PYTHON", sys.executable)
CHEAP, DEAR, SLOW = 200, 20, 0.050
FRESH, REUSED = 12, 200

CONFIG: dict[str, Any] = {
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": -5.0, "max": 5.0}, "y": {"min": -5.0, "max": 5.0}},
}

HYDRA = """
import sys, time
began = None
import hydra
from omegaconf import DictConfig
@hydra.main(version_base=None, config_path=None, config_name=None)
def main(config: DictConfig) -> float:
    global began
    began = began or time.perf_counter()
    time.sleep({pause}) if {pause} else None
    return float(config.x) ** 2 + float(config.y) ** 2
main()
print("took", time.perf_counter() - began)
"""

RAY = """
import time, ray
from ray import tune
def once(config):
    time.sleep({pause}) if {pause} else None
    return dict(loss=config["x"] ** 2 + config["y"] ** 2)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
space = dict(x=tune.uniform(-5, 5), y=tune.uniform(-5, 5))
def fit(count):
    config = tune.TuneConfig(num_samples=count, max_concurrent_trials={at_once})
    tuner = tune.Tuner(once, param_space=space, tune_config=config, run_config=tune.RunConfig(verbose=0))
    began = time.perf_counter()
    results = tuner.fit()
    assert not results.errors
    return time.perf_counter() - began
fit(2)
print("took", fit({trials}))
"""


def value(x: float, y: float, pause: float) -> float:
    if pause:
        time.sleep(pause)
    return x * x + y * y


def cheap(trial: Any) -> float:
    return value(trial.params["x"], trial.params["y"], 0.0)


def ours(trials: int, pause: float, **ours: Any) -> float:
    def once(trial: Any) -> float:
        return value(trial.params["x"], trial.params["y"], pause)

    config = {**CONFIG, "run_cap": trials, "ridgepole": ours}
    began = perf_counter()
    result = run_sweep(cheap if ours else once, config, progress=False)
    took = perf_counter() - began
    assert result.counts == {"finished": trials}, result.counts
    return took


def bare(trials: int, pause: float, *, journal: bool) -> float:
    began = perf_counter()
    storage = JournalStorage(JournalFileBackend(str(Path(f"bare{began}.log")))) if journal else None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(), storage=storage)
    study.optimize(
        lambda trial: value(trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5), pause), n_trials=trials
    )
    return perf_counter() - began


def hydra_sweeper(trials: int, pause: float) -> float:
    """From the first trial on: its start is not counted."""
    arguments = ["-m", "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.n_jobs=1"]
    return peer(HYDRA.format(pause=pause), *arguments, "+x=interval(-5,5)", "+y=interval(-5,5)")


def ray_tune(trials: int, pause: float, at_once: int) -> float:
    """`Tuner.fit` alone, in a cluster that stands and has run something."""
    return peer(RAY.format(pause=pause, trials=trials, at_once=at_once))


def peer(script: str, *arguments: str) -> float:
    Path("peer_main.py").write_text(script)
    done = subprocess.run([PEERS, "peer_main.py", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script.strip().splitlines()[0]} ... failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.rpartition("took ")[2])


def imports() -> None:
    import ridgepole.sweeps.executors.worker  # noqa: F401


def starts(count: int) -> float:
    """Two processes at a time that only import what a worker needs."""
    context = multiprocessing.get_context("spawn")
    began = perf_counter()
    running: list[Any] = []
    for _ in range(count):
        if len(running) == 2:
            running.pop(0).join()
        running.append(context.Process(target=imports))
        running[-1].start()
    for process in running:
        process.join()
    return perf_counter() - began


def table(title: str, unit: float, rounds: int, contenders: Mapping[str, tuple[int, Callable[[], float]]]) -> None:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (trials, measure) in contenders.items():
            times[name].append(measure() / trials * unit)
    first = next(iter(times.values()))
    print(f"\n{title}")
    for name, each in times.items():
        ratio = statistics.median(a / b for a, b in zip(each, first, strict=True))
        print(f"  {name:<42} {statistics.median(each):>10.1f}   {ratio:>7.2f}x")


def installed(name: str, module: str) -> bool:
    there = subprocess.run([PEERS, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    if not there:
        print(f"{name} is not installed, and left out")
    return there


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    hydra = installed("Hydra's Optuna sweeper", "hydra_plugins.hydra_optuna_sweeper")
    ray = installed("Ray Tune", "ray.tune")
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        ours(3, 0.0), bare(3, 0.0, journal=True)  # imports
        for title, trials, pause, unit in (
            ("an objective that costs nothing, microseconds a trial", CHEAP, 0.0, 1e6),
            ("an objective of 50 ms, milliseconds a trial", DEAR, SLOW, 1e3),
        ):
            contenders: dict[str, tuple[int, Callable[[], float]]] = {
                "bare Optuna, in memory": (trials, lambda n=trials, p=pause: bare(n, p, journal=False)),
                "bare Optuna, its journal file": (trials, lambda n=trials, p=pause: bare(n, p, journal=True)),
                "Ridgepole, inline": (trials, lambda n=trials, p=pause: ours(n, p)),
            }
            if hydra:
                contenders["Hydra's Optuna sweeper"] = (DEAR, lambda p=pause: hydra_sweeper(DEAR, p))
            if ray:
                contenders["Ray Tune, one at a time"] = (DEAR, lambda p=pause: ray_tune(DEAR, p, 1))
            table(title, unit, rounds, contenders)
        workers: dict[str, tuple[int, Callable[[], float]]] = {
            "starts of a process alone": (FRESH, lambda: starts(FRESH)),
            "Ridgepole, a fresh process each": (FRESH, lambda: ours(FRESH, 0.0, executor="process", workers=2)),
            "Ridgepole, workers reused": (
                REUSED,
                lambda: ours(REUSED, 0.0, executor="process", workers=2, reuse_workers=True),
            ),
        }
        if ray:
            workers["Ray Tune, two at a time"] = (DEAR, lambda: ray_tune(DEAR, 0.0, 2))
        table("worker processes, two at a time, milliseconds a trial that costs nothing", 1e3, rounds, workers)
        os.chdir("/")


if __name__ == "__main__":
    main()
