"""What a figure costs the training loop: drawn in place, by a thread, by a process; and by BasicLogger.

Each contender runs the same loop: steps of about 5 ms (half of it a matrix product outside the interpreter's lock, half
of it Python), a matplotlib figure built every 20 steps and handed over. Contenders are interleaved; medians are shown.

    wait      what handing one figure over takes
    added     how much longer the whole loop takes a figure than one that builds its figures and drops them; for thread
              and process up to the end of the loop, the figures that are still waiting then are drawn outside of it
    drained   the same, with what is still waiting at the end of the loop drawn within it

    python benchmarks/figures.py [rounds]
"""

from __future__ import annotations

import io
import json
import os
import queue
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ridgepole.loggers.figures.render_process import RenderProcess
from ridgepole.loggers.figures.snapshot import RenderSettings, snapshot
from ridgepole.permanences import BasicLogger

STEPS, EVERY, STEP_S = 200, 20, 0.005
X = np.linspace(0, 9, 1000)


class Contender(Protocol):
    def hand(self, figure: Figure) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...


class Nothing:
    """Builds figures and drops them: what the others are measured against."""

    def hand(self, figure: Figure) -> None:
        pass

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


class InPlace(Nothing):
    def __init__(self, directory: Path) -> None:
        self.path = directory / "in-place.png"

    def hand(self, figure: Figure) -> None:
        FigureCanvasAgg(figure).print_png(self.path)


class Savefig(InPlace):
    def hand(self, figure: Figure) -> None:
        figure.savefig(self.path)


class Threaded(Nothing):
    """A thread that draws what it is given; the figure itself, so nobody may touch it any more."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "thread.png"
        self.figures: queue.Queue[Figure | None] = queue.Queue()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        while (figure := self.figures.get()) is not None:
            FigureCanvasAgg(figure).print_png(self.path)
            self.figures.task_done()
        self.figures.task_done()

    def hand(self, figure: Figure) -> None:
        self.figures.put(figure)

    def drain(self) -> None:
        self.figures.join()

    def close(self) -> None:
        self.figures.put(None)
        self.thread.join()


class Spawned(Nothing):
    """A process that draws snapshots, fed by a thread so that its socket never blocks the loop."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "process.png"
        self.process = RenderProcess()
        self.settings = RenderSettings.now()
        self.process.set_up(self.settings)
        self.figures: queue.Queue[bytes | None] = queue.Queue()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        while (figure := self.figures.get()) is not None:
            self.path.write_bytes(self.process.draw(figure, self.settings).data)
            self.figures.task_done()
        self.figures.task_done()

    def hand(self, figure: Figure) -> None:
        data = snapshot(figure)
        assert data is not None
        self.figures.put(data)

    def drain(self) -> None:
        self.figures.join()

    def close(self) -> None:
        self.figures.put(None)
        self.thread.join()
        self.process.close()


class Logged(Nothing):
    """BasicLogger, once its render process is up."""

    def __init__(self, directory: Path) -> None:
        self.logger = BasicLogger(directory / "logs")
        self.logger.initialize()
        self.count = 0
        start = perf_counter()
        while perf_counter() - start < 10:  # the first figures are drawn in place; then the process starts
            self.hand(figure())
            if self.logger._figures is not None and self.logger._figures._up:  # noqa: SLF001
                break
        self.logger.flush()

    def hand(self, figure: Figure) -> None:
        self.count += 1
        self.logger.log_figure("figure", figure, step=self.count)

    def drain(self) -> None:
        self.logger.flush()

    def close(self) -> None:
        self.logger.cleanup()


def figure() -> Figure:
    made = Figure(figsize=(6, 4))
    axes = made.add_subplot()
    axes.plot(X, np.sin(X) + np.random.rand(1000) * 0.1, label="a noisy curve")
    axes.set(title="loss", xlabel="step", ylabel="value")
    axes.legend()
    return made


def make_step() -> Callable[[], None]:
    """A step of about `STEP_S`, half of it outside the interpreter's lock."""
    matrix, numbers = np.random.rand(128, 128), list(map(float, range(200)))

    def step(products: int, passes: int) -> None:
        for _ in range(products):
            matrix @ matrix
        for _ in range(passes):
            total = 0.0
            for number in numbers:
                total += number * 1.0001

    def time_of(products: int, passes: int) -> float:
        times = []
        for _ in range(20):
            start = perf_counter()
            step(products, passes)
            times.append(perf_counter() - start)
        return statistics.median(times)

    products = max(1, round(STEP_S / 2 / (time_of(20, 0) / 20)))
    passes = max(1, round(STEP_S / 2 / (time_of(0, 20) / 20)))
    return lambda: step(products, passes)


def run(contender: Contender, step: Callable[[], None]) -> tuple[float, float, float]:
    waits = []
    begin = perf_counter()
    for number in range(STEPS):
        step()
        if number % EVERY == 0:
            made = figure()
            start = perf_counter()
            contender.hand(made)
            waits.append(perf_counter() - start)
    looped = perf_counter() - begin
    contender.drain()
    return statistics.median(waits), looped, perf_counter() - begin


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    step = make_step()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        makers: dict[str, Callable[[], Contender]] = {
            "nothing": Nothing,
            "savefig in place": lambda: Savefig(directory),
            "Agg in place": lambda: InPlace(directory),
            "thread": lambda: Threaded(directory),
            "process": lambda: Spawned(directory),
            "BasicLogger": lambda: Logged(directory),
        }
        contenders = {label: make() for label, make in makers.items()}
        FigureCanvasAgg(figure()).print_png(io.BytesIO())
        results: dict[str, list[tuple[float, float, float]]] = {label: [] for label in contenders}
        for _ in range(rounds):
            for label, contender in contenders.items():
                results[label].append(run(contender, step))
        for contender in contenders.values():
            contender.close()
    report(results)


def report(results: dict[str, list[tuple[float, float, float]]]) -> None:
    figures = STEPS // EVERY
    base = results["nothing"]
    place = results["savefig in place"]

    def added(rows: list[tuple[float, float, float]], column: int) -> float:
        return statistics.median((row[column] - none[column]) / figures for row, none in zip(rows, base, strict=True))

    rows: dict[str, Any] = {}
    whole = statistics.median(row[0] for row in place)
    print(f"{'':18}{'wait ms':>10}{'x savefig':>11}{'added ms':>10}{'x savefig':>11}{'drained ms':>12}")
    for label, measured in results.items():
        wait = statistics.median(row[0] for row in measured)
        extra, drained = added(measured, 1), added(measured, 2)
        rows[label] = {"wait_ms": wait * 1e3, "added_ms": extra * 1e3, "drained_ms": drained * 1e3}
        print(
            f"{label:18}{wait * 1e3:10.2f}{wait / whole:11.3f}{extra * 1e3:10.2f}{extra / added(place, 1):11.3f}"
            f"{drained * 1e3:12.2f}"
        )
    if "--json" in sys.argv:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
