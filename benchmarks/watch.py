"""What watching over a run costs: a pipeline with everything on beside the same with everything off.

Both train the same: steps of a few milliseconds of work in numpy, a loss logged at each. They run in turn, each in a
process of its own that `ridgepole run` starts, with the console kept and the helper process at work. The time is that
of the training loop, by its own clock, so that neither has the start in it; the start is shown apart. The processor
time is that of the whole machine's process trees: the helper's is in it. Target: at most 1.01 times.

Usage: python benchmarks/watch.py [repeats] [steps]
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOML = """
[pipeline]
package = "work"
progress = false
checkpoint = false
console = {on}
guard = {on}
system = {system}

[processes.train]
type = "train"
steps = {steps}
"""

SYSTEM = {True: "{ every_seconds = 10 }", False: "false"}

WORK = """
import json, time
import numpy
from ridgepole import process, track
from ridgepole.permanences import BaseLoggerManager


@process
def train(logger: BaseLoggerManager, steps: int):
    weights = numpy.random.default_rng(1).random((300, 300))
    began, loop = time.process_time(), time.perf_counter()
    for step in track(range(steps), "train", tick=True):
        for _ in range(4):
            weights = weights @ weights
            weights /= numpy.abs(weights).max()
        logger.log_metrics({"loss": float(weights.sum())})
    took = {"loop": time.perf_counter() - loop, "cpu": time.process_time() - began}
    open("took.json", "w").write(json.dumps(took))
"""


def timed(folder: Path, *, on: bool, steps: int) -> dict[str, float]:
    """Seconds of the loop, of its processor time, and of the whole command with its helper."""
    (folder / "work.toml").write_text(TOML.format(on=str(on).lower(), system=SYSTEM[on], steps=steps), encoding="utf-8")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ridgepole", "run", "work.toml"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    whole, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    took: dict[str, float] = json.loads((folder / "took.json").read_text(encoding="utf-8"))
    all_cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took | {"all": all_cpu, "start": whole - took["loop"]}


def main(repeats: int = 7, steps: int = 3000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work.py").write_text(WORK, encoding="utf-8")
        runs: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for on in (True, False):
            timed(folder, on=on, steps=10)
        for repeat in range(repeats):
            for on in (True, False) if repeat % 2 else (False, True):
                runs[on].append(timed(folder, on=on, steps=steps))
        for key, words in (
            ("loop", "the loop"),
            ("cpu", "processor time of the loop"),
            ("all", "processor time of all processes"),
            ("start", "everything but the loop"),
        ):
            off, on = (statistics.median(run[key] for run in runs[which]) for which in (False, True))
            print(f"{words:34} {off:7.3f} s without, {on:7.3f} s with: {on / off:.3f} times")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
