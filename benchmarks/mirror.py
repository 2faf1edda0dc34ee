"""What a mirror costs a run's loop: a pipeline with a mirror in a directory beside the same without one.

Both train the same: steps of a few milliseconds of work in numpy, a loss logged at each, a checkpoint now and then.
They run in turn, each in a process of its own. The time is that of the training loop, by its own clock; everything
else, with the start of the helper and the drain at the end, is shown apart. Target: at most 1.02 times.

Usage: python benchmarks/mirror.py [repeats] [steps]
"""

from __future__ import annotations

import json
import os
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
console = false
checkpoint = {{ every_steps = 500 }}
{mirror}

[processes.train]
type = "train"
steps = {steps}
"""

WORK = """
import json, time
import numpy
from ridgepole import process, track
from ridgepole.permanences import BaseLoggerManager


@process
def train(logger: BaseLoggerManager, steps: int):
    weights = numpy.random.default_rng(1).random((300, 300))
    loop = time.perf_counter()
    for step in track(range(steps), "train", tick=True):
        for _ in range(4):
            weights = weights @ weights
            weights /= numpy.abs(weights).max()
        logger.log_metrics({"loss": float(weights[0, 0])})
    json.dump(time.perf_counter() - loop, open("took.json", "w"))
"""


def timed(folder: Path, *, on: bool, steps: int) -> tuple[float, float]:
    """Return the seconds of the loop, and of everything else."""
    mirror = f'mirror = "file://{folder}/mirror"' if on else ""
    (folder / "work.toml").write_text(TOML.format(mirror=mirror, steps=steps), encoding="utf-8")
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ridgepole", "run", "work.toml"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    whole = time.perf_counter() - began
    loop: float = json.loads((folder / "took.json").read_text(encoding="utf-8"))
    return loop, whole - loop


def main(repeats: int = 7, steps: int = 3000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work.py").write_text(WORK, encoding="utf-8")
        runs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for repeat in range(repeats):
            for on in (True, False) if repeat % 2 else (False, True):
                runs[on].append(timed(folder, on=on, steps=steps))
        for index, words in enumerate(("the loop", "everything but the loop")):
            off, on = (statistics.median(run[index] for run in runs[which]) for which in (False, True))
            print(f"{words:24} {off:7.3f} s without, {on:7.3f} s with: {on / off:.3f} times")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
