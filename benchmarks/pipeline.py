"""What the framework costs a pipeline beyond the calls that it makes.

A pipeline of 1,000 processes and 100 permanences that do nothing runs with `checkpoint = false`; beside it the same
calls are made by hand. The cost a process is the difference between a run with all processes and a run with none,
divided by their number; what a run costs once (its directory, provenance, git) stands apart. Medians of interleaved
repeats. Targets: under 50 microseconds a process; under 0.3 microseconds for a tick with nothing due (default policy).

Usage: python benchmarks/pipeline.py [repeats]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from ridgepole import Permanence, Pipeline, PipelineProcess

PROCESSES, PERMANENCES = 1000, 100


class Nothing(Permanence):
    def cleanup(self) -> None:
        pass


class Step(PipelineProcess):
    def execute(self) -> None:
        pass


def pipeline(processes: int, permanences: int) -> Pipeline:
    made = Pipeline("nothing", checkpoint=False, seed=1)
    for index in range(permanences):
        made.permanence(f"permanence{index}", Nothing)
    for index in range(processes):
        made.process(f"process{index}", Step)
    return made


def timed_run(processes: int, permanences: int, root: Path) -> tuple[float, float]:
    """Seconds of the check and of the run."""
    made = pipeline(processes, permanences)
    started = time.perf_counter()
    made.plan()
    checked = time.perf_counter()
    made.run(root)
    return checked - started, time.perf_counter() - checked - (checked - started)


TICKS = 200_000


class Ticking(PipelineProcess):
    def execute(self) -> None:
        started = time.perf_counter()
        for _ in range(TICKS):
            pass
        bare = time.perf_counter() - started
        tick = self.controller.tick
        started = time.perf_counter()
        for _ in range(TICKS):
            tick()
        TICKED.append((time.perf_counter() - started - bare) / TICKS)


TICKED: list[float] = []


def by_hand() -> float:
    started = time.perf_counter()
    permanences = [Nothing() for _ in range(PERMANENCES)]
    for permanence in permanences:
        permanence.initialize()
    for permanence in permanences:
        permanence.validate()
    for _ in range(PROCESSES):
        step = Step(None, False)  # type: ignore[arg-type]
        if not step.skip():
            step.execute()
    for permanence in reversed(permanences):
        permanence.cleanup()
    return time.perf_counter() - started


def main(repeats: int) -> None:
    rows: dict[str, list[float]] = {"by hand": [], "check": [], "empty": [], "permanences": [], "all": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        timed_run(10, 2, root)
        for _ in range(repeats):
            rows["by hand"].append(by_hand())
            rows["empty"].append(timed_run(0, 0, root)[1])
            rows["permanences"].append(timed_run(0, PERMANENCES, root)[1])
            Pipeline("ticks", seed=1, progress=False, logger=False).process("ticks", Ticking).run(root)
            check, whole = timed_run(PROCESSES, PERMANENCES, root)
            rows["check"].append(check)
            rows["all"].append(whole)
    median = {name: statistics.median(values) * 1e6 for name, values in rows.items()}
    a_process = (median["all"] - median["permanences"]) / PROCESSES
    a_permanence = (median["permanences"] - median["empty"]) / PERMANENCES
    print(f"medians of {repeats} interleaved repeats, microseconds")
    print(f"  the calls by hand, all of them           {median['by hand']:10.0f}")
    print(f"  a process, run                           {a_process:10.1f}   target: under 50")
    print(f"  a process, checked beforehand            {median['check'] / PROCESSES:10.1f}")
    print(f"  a permanence, run                        {a_permanence:10.1f}")
    print(f"  a run with nothing in it, once           {median['empty']:10.0f}")
    print(f"  a tick with nothing due                  {statistics.median(TICKED) * 1e6:10.3f}   target: under 0.3")
    print(f"  the whole run divided by its processes   {median['all'] / PROCESSES:10.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
