"""What one logged float costs the training loop, beside what others charge for it.

Every contender logs a float a call, in batches, all of them in turn in every round and in an order that changes; a
row shows the median over the rounds of a batch's mean, in microseconds of the caller's time, and how many times the
limit that is. The limit is what nobody who writes a line of JSON can do without: the clock, a dictionary,
`orjson.dumps`, `os.write`. Then the same at a pace, as in a training loop: 100 calls a second, one by one, the loop's
wait for each; what a background thread or process does meanwhile is not the loop's.

Targets: BasicLogger 2.0 times the limit, anything else at most 3.5 times; TensorBoardLogger at most 0.2 times
SummaryWriter; WandBLogger under 50 microseconds in the median at a pace; ridgepole.tensorboard at most 0.2 times
SummaryWriter, and ridgepole.wandb at most 0.05 times W&B's run.log.

Contenders that are not installed are left out. Usage: python benchmarks/logging.py [rounds]
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# This file is called as a module of the standard library, which every `import logging` must find instead: also that of
# a script beside this one, which has this directory in front of its path.
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]  # noqa: PTH100
if __name__ == "logging":
    del sys.modules["logging"]
    import logging  # noqa: F401 - the import that is going on takes it from sys.modules

Log = Callable[[int, float], Any]
Contender = Callable[[Path], "contextlib.AbstractContextManager[Log]"]

BATCH_SECONDS = 0.004
PACE, PACED_CALLS, PACED_BLOCKS = 0.01, 20, 8
_FOUND: dict[str, Contender] = {}


def contender(name: str, *needs: str) -> Callable[[Callable[[Path], Iterator[Log]]], None]:
    """Registers a contender; left out where a module that it needs is missing."""

    def register(make: Callable[[Path], Iterator[Log]]) -> None:
        if all(_is_there(module) for module in needs):
            _FOUND[name] = contextlib.contextmanager(make)

    return register


def _is_there(module: str) -> bool:
    with contextlib.suppress(ImportError):
        return importlib.util.find_spec(module) is not None
    return False


@contender("the limit: clock, dict, orjson.dumps, os.write")
def limit(folder: Path) -> Iterator[Log]:
    import orjson

    fd = os.open(folder / "limit.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    now, dumps, write, newline = time.time, orjson.dumps, os.write, orjson.OPT_APPEND_NEWLINE

    def log(step: int, value: float) -> None:
        write(fd, dumps({"time": now(), "step": step, "metrics": {"loss": value}}, None, newline))

    yield log
    os.close(fd)


@contender("BasicLogger", "ridgepole")
def basic(folder: Path) -> Iterator[Log]:
    from ridgepole.permanences import BasicLogger

    with BasicLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics({"loss": value})


@contender("BasicLogger, through a LoggerGroup of one")
def group(folder: Path) -> Iterator[Log]:
    from ridgepole.permanences import BasicLogger, LoggerGroup

    with BasicLogger(folder) as logger:
        one = LoggerGroup([logger])
        yield lambda step, value: one.log_metrics({"loss": value})


@contender("BasicLogger, explicit step")
def explicit(folder: Path) -> Iterator[Log]:
    from ridgepole.permanences import BasicLogger

    with BasicLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics({"loss": value}, step=step)


@contender("BasicLogger, nested mapping")
def nested(folder: Path) -> Iterator[Log]:
    from ridgepole.permanences import BasicLogger

    with BasicLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics({"train": {"loss": value}})


@contender("BasicLogger, NumPy scalar", "numpy")
def scalar(folder: Path) -> Iterator[Log]:
    import numpy as np

    from ridgepole.permanences import BasicLogger

    number = np.float32(0.5)
    with BasicLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics({"loss": number})


@contender("BasicLogger, torch 0-d tensor", "torch")
def tensor(folder: Path) -> Iterator[Log]:
    import torch

    from ridgepole.permanences import BasicLogger

    number = torch.tensor(0.5)
    with BasicLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics({"loss": number})


@contender("BasicLogger, MetricRecord")
def record(folder: Path) -> Iterator[Log]:
    from ridgepole.metrics import batch_loss
    from ridgepole.permanences import BasicLogger

    with BasicLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics(batch_loss(value))


@contender("TensorBoardLogger", "tensorboard", "ridgepole.loggers.tensorboard")
def tensorboard(folder: Path) -> Iterator[Log]:
    from ridgepole.loggers.tensorboard import TensorBoardLogger

    with TensorBoardLogger(folder) as logger:
        yield lambda step, value: logger.log_metrics({"loss": value})


@contender("WandBLogger, off line", "wandb", "ridgepole.loggers.wandb.logger")
def wandb_logger(folder: Path) -> Iterator[Log]:
    from ridgepole.loggers.wandb import WandBLogger

    before = Path.cwd()
    os.chdir(folder)  # where a plain script's logger writes
    try:
        logger = WandBLogger(project="benchmark", mode="offline", log_level="ERROR")
        with logger:
            yield lambda step, value: logger.log_metrics({"loss": value})
    finally:
        os.chdir(before)


@contender("open, json, write a call")
def reopened(folder: Path) -> Iterator[Log]:
    path = folder / "reopened.jsonl"

    def log(step: int, value: float) -> None:
        with path.open("a") as file:
            file.write(json.dumps({"time": time.time(), "step": step, "metrics": {"loss": value}}) + "\n")

    yield log


@contender("torch SummaryWriter.add_scalar", "torch", "tensorboard")
def summary_writer(folder: Path) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    yield lambda step, value: writer.add_scalar("loss", value, step)
    writer.close()


@contender("ridgepole.tensorboard add_scalar", "torch", "tensorboard", "ridgepole.tensorboard")
def our_summary_writer(folder: Path) -> Iterator[Log]:
    from ridgepole.tensorboard import SummaryWriter

    before = Path.cwd()
    os.chdir(folder)  # where its run is
    try:
        writer = SummaryWriter("tb")
        yield lambda step, value: writer.add_scalar("loss", value, step)
        writer.close()
    finally:
        os.chdir(before)


@contender("tensorboardX", "tensorboardX")
def tensorboard_x(folder: Path) -> Iterator[Log]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))
    yield lambda step, value: writer.add_scalar("loss", value, step)
    writer.close()


@contender("Lightning CSVLogger (buffers 100 rows)", "lightning.fabric")
def lightning(folder: Path) -> Iterator[Log]:
    from lightning.fabric.loggers import CSVLogger

    logger = CSVLogger(str(folder))
    yield lambda step, value: logger.log_metrics({"loss": value}, step=step)
    logger.finalize("success")


@contender("Trackio (queue in memory)", "trackio")
def trackio_run(folder: Path) -> Iterator[Log]:
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    import trackio

    run = trackio.init(project="benchmark", embed=False, auto_log_gpu=False)
    yield lambda step, value: run.log({"loss": value}, step=step)
    run.finish()


@contender("MLflow (SQLite)", "mlflow")
def mlflow_run(folder: Path) -> Iterator[Log]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    with mlflow.start_run():
        yield lambda step, value: mlflow.log_metric("loss", value, step=step)


@contender("DVCLive", "dvclive")
def dvclive_run(folder: Path) -> Iterator[Log]:
    from dvclive import Live

    with Live(dir=str(folder / "live"), save_dvc_exp=False, dvcyaml=None, report=None) as live:

        def log(step: int, value: float) -> None:
            live.log_metric("loss", value)
            live.next_step()

        yield log


@contender("wandb run.log, off line", "wandb")
def wandb_run(folder: Path) -> Iterator[Log]:
    import wandb

    run = wandb.init(project="benchmark", mode="offline", dir=str(folder), reinit="create_new")
    yield lambda step, value: run.log({"loss": value})
    run.finish()


@contender("ridgepole.wandb log", "ridgepole.wandb")
def our_wandb_run(folder: Path) -> Iterator[Log]:
    import ridgepole.wandb as wandb

    run = wandb.init(project="benchmark", dir=str(folder), reinit="create_new")
    yield lambda step, value: run.log({"loss": value})
    run.finish()


def timed(log: Log, calls: int, steps: Iterator[int]) -> float:
    """Seconds a call, the mean of a batch."""
    started = time.perf_counter()
    for step in itertools.islice(steps, calls):
        log(step, 0.5)
    return (time.perf_counter() - started) / calls


def at_a_pace(log: Log, steps: Iterator[int]) -> list[float]:
    """Seconds that the loop waits for each of some calls at a pace."""
    waits = []
    for step in itertools.islice(steps, PACED_CALLS):
        time.sleep(PACE)
        waits.append(timed(log, 1, itertools.repeat(step)))
    return waits


def measure(rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Medians in seconds, of batches and at a pace."""
    names = list(_FOUND)
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        logs, steps, sizes = {}, {name: itertools.count() for name in names}, {}
        for index, name in enumerate(names):
            home = Path(folder) / str(index)
            home.mkdir()
            logs[name] = stack.enter_context(_FOUND[name](home))
        for name in names:  # warm, and to know how many calls make a batch
            timed(logs[name], 50, steps[name])
            sizes[name] = min(2000, max(10, int(BATCH_SECONDS / timed(logs[name], 50, steps[name]))))
        gc.freeze()  # torch and the like: a collection between batches need not walk through them each time
        order = random.Random(0)
        for _ in range(rounds):
            order.shuffle(names)
            for name in names:
                gc.collect()
                time.sleep(0.01)  # what the one before left to a thread or a process is not this one's
                times[name].append(timed(logs[name], sizes[name], steps[name]))
        time.sleep(1)
        waits: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(PACED_BLOCKS):
            order.shuffle(names)
            for name in names:
                waits[name] += at_a_pace(logs[name], steps[name])
    return {name: statistics.median(times[name]) for name in _FOUND}, {
        name: statistics.median(waits[name]) for name in _FOUND
    }


def main(rounds: int) -> None:
    os.environ |= {"WANDB_SILENT": "true", "WANDB_MODE": "offline", "WANDB_CONSOLE": "off"}
    medians, paced = measure(rounds)
    floor = next(iter(medians.values()))
    print(f"one float logged, microseconds of the caller's time; medians of {rounds} interleaved rounds")
    print(f"{'':<48} {'us':>8} {'x limit':>8} {'us at 100 a second':>20}")
    for name, seconds in medians.items():
        print(f"{name:<48} {seconds * 1e6:8.1f} {seconds / floor:8.1f} {paced[name] * 1e6:20.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 41)
