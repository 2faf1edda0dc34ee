"""What progress bars cost a loop, beside what other bars charge for it.

Everything is drawn on a real pseudo-terminal of 100 x 30, all contenders in turn in every round and in an order that
changes; a row shows medians over the rounds and, for the first tables, how many times tqdm (of a refresh: rich) that
is. What a bar costs is the time of a loop with it less that of the bare loop.

Tables: iterating; advancing by hand; advancing with a status text; one refresh of 1, 5 and 20 bars that all moved;
the distribution of a step of one millisecond with five bars; bytes written into a file by ten seconds of 100
iterations a second with a value behind the bar.

Targets: track at most 0.15 times tqdm, 0.5 times with ticks; advance at most 1.0 times tqdm.update; a refresh of
5 bars at most 0.5 times rich; under 1 kB in the file; tracked steps of a microsecond take at most 2 % longer.

Contenders that are not installed are left out. Usage: python benchmarks/progress.py [rounds]
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import pty
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROWS, COLUMNS = 30, 100
FILE_SECONDS = 10.0
OURS = "ridgepole"
Loop = Callable[[int], float]
"""Runs so many steps; returns seconds."""

TABLES: dict[str, dict[str, Callable[[], contextlib.AbstractContextManager[Any]]]] = {}


Maker = Callable[..., Iterator[Any]]


def contender(table: str, name: str, needs: str = OURS) -> Callable[[Maker], Maker]:
    """Registers a contender of a table; left out where the module that it needs is missing."""

    def register(make: Maker) -> Maker:
        if importlib.util.find_spec(needs) is not None:
            TABLES.setdefault(table, {})[name] = contextlib.contextmanager(make)
        return make

    return register


def looped(wrap: Callable[[range], Iterable[int]]) -> Loop:
    def loop(steps: int) -> float:
        started = time.perf_counter()
        for _ in wrap(range(steps)):
            pass
        return time.perf_counter() - started

    return loop


def called(call: Callable[[], object]) -> Loop:
    def loop(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            call()
        return time.perf_counter() - started

    return loop


# -- iterating ----------------------------------------------------------------------------------------------------


@contender("iterate", "bare loop")
def iterate_bare() -> Iterator[Loop]:
    yield looped(lambda items: items)


@contender("iterate", "tqdm", "tqdm")
def iterate_tqdm() -> Iterator[Loop]:
    from tqdm import tqdm

    yield looped(lambda items: tqdm(items, leave=False))


@contender("iterate", "rich.progress.track", "rich")
def iterate_rich() -> Iterator[Loop]:
    from rich.progress import track

    yield looped(lambda items: track(items, transient=True))


@contender("iterate", "alive_progress.alive_it", "alive_progress")
def iterate_alive() -> Iterator[Loop]:
    from alive_progress import alive_it

    yield looped(lambda items: alive_it(items, receipt=False))


@contender("iterate", "progressbar2", "progressbar")
def iterate_progressbar() -> Iterator[Loop]:
    import progressbar

    yield looped(progressbar.progressbar)


@contender("iterate", "ridgepole.track")
def iterate_ours() -> Iterator[Loop]:
    from ridgepole import track

    yield looped(lambda items: track(items, "train"))


@contender("iterate", "ridgepole.track(tick=True), in a run")
def iterate_ticking() -> Iterator[Loop]:
    from ridgepole import Pipeline, process, track

    times: list[float] = []

    @process
    def train(steps: int) -> None:
        started = time.perf_counter()
        for _ in track(range(steps), "train", tick=True):
            pass
        times.append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as folder:

        def loop(steps: int) -> float:
            Pipeline("ticking", logger=False, seed=1).process("train", train, steps=steps).run(folder)
            return times[-1]

        yield loop


# -- advancing by hand, and with a status ---------------------------------------------------------------------------


@contender("advance", "bare loop")
@contender("status", "bare loop")
def advance_bare() -> Iterator[Loop]:
    yield called(lambda: None)


def tqdm_calls(call: Callable[[Any], Callable[[], object]]) -> Callable[[], Iterator[Loop]]:
    def make() -> Iterator[Loop]:
        from tqdm import tqdm

        with tqdm(total=10**9, leave=False) as bar:
            yield called(call(bar))

    return make


contender("advance", "tqdm.update", "tqdm")(tqdm_calls(lambda bar: bar.update))
contender("status", "tqdm.set_postfix_str + update", "tqdm")(
    tqdm_calls(lambda bar: lambda: (bar.set_postfix_str("loss 0.1", refresh=False), bar.update()))
)


def rich_calls(call: Callable[[Any, Any], Callable[[], object]]) -> Callable[[], Iterator[Loop]]:
    def make() -> Iterator[Loop]:
        from rich.progress import Progress

        with Progress(transient=True) as progress:
            yield called(call(progress, progress.add_task("train", total=10**9, status="")))

    return make


contender("advance", "rich Progress.advance", "rich")(rich_calls(lambda bars, task: lambda: bars.advance(task)))
contender("status", "rich Progress.update(status=...)", "rich")(
    rich_calls(lambda bars, task: lambda: bars.update(task, advance=1, status="loss 0.1"))
)


@contender("advance", "alive_progress", "alive_progress")
def advance_alive() -> Iterator[Loop]:
    from alive_progress import alive_bar

    with alive_bar(10**9, receipt=False) as bar:
        yield called(bar)


@contender("advance", "progressbar2 increment", "progressbar")
def advance_progressbar() -> Iterator[Loop]:
    import progressbar

    bar = progressbar.ProgressBar(max_value=10**9)
    yield called(bar.increment)
    bar.finish(dirty=True)


@contender("status", "progressbar2 increment(status=...)", "progressbar")
def status_progressbar() -> Iterator[Loop]:
    import progressbar

    bar = progressbar.ProgressBar(max_value=10**9, widgets=[progressbar.Bar(), progressbar.Variable("status")])
    yield called(lambda: bar.increment(status="loss 0.1"))
    bar.finish(dirty=True)


def our_calls(call: Callable[[Any, int], Callable[[], object]]) -> Callable[[], Iterator[Loop]]:
    def make() -> Iterator[Loop]:
        from ridgepole.permanences import ProgressManager

        with ProgressManager() as manager:
            manager.add_progress("train", with_status=True)
            yield called(call(manager, manager.add_task_to_progress("train", 10**9)))

    return make


contender("advance", "ridgepole manager.advance")(our_calls(lambda bars, task: lambda: bars.advance("train", task)))
contender("advance", "ridgepole progress.advance")(
    our_calls(lambda bars, task: lambda advance=bars.progress_dict["train"].advance: advance(task))
)
contender("status", "ridgepole manager.advance(status=...)")(
    our_calls(lambda bars, task: lambda: bars.advance("train", task, status="loss 0.1"))
)
contender("status", "ridgepole manager.update(advance=True)")(
    our_calls(lambda bars, task: lambda: bars.update("train", task, "loss 0.1", advance=True))
)


@contender("status", "ridgepole track + set(loss=...)")
def status_set() -> Iterator[Loop]:
    from ridgepole import track

    def loop(steps: int) -> float:
        bar = track(range(steps), "train")
        started = time.perf_counter()
        for _ in bar:
            bar.set(loss=0.1)
        return time.perf_counter() - started

    yield loop


# -- refreshing, and the step of a millisecond: move() advances all bars, draw() draws them ---------------------------


@contender("bars", "bare loop")
def bars_bare(_count: int) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    yield (lambda: None), (lambda: None)


@contender("bars", "tqdm", "tqdm")
def bars_tqdm(count: int) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    from tqdm import tqdm

    bars = [tqdm(total=10**6, position=n, desc=f"bar {n}", leave=False) for n in range(count)]
    yield (lambda: [bar.update() for bar in bars]), (lambda: [bar.refresh() for bar in bars])
    for bar in bars:
        bar.close()


@contender("bars", "rich Progress", "rich")
def bars_rich(count: int) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        tasks = [progress.add_task(f"bar {n}", total=10**6) for n in range(count)]
        yield (lambda: [progress.advance(task) for task in tasks]), progress.refresh


@contender("bars", "ridgepole")
def bars_ours(count: int) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    from ridgepole.permanences import ProgressManager

    with ProgressManager() as manager:
        names = [f"bar{n:02}" for n in range(count)]
        manager.add_progresses([{"name": name} for name in names])
        tasks = [(name, manager.add_task_to_progress(name, 10**6)) for name in names]
        yield (lambda: [manager.advance(name, task) for name, task in tasks]), manager.live.refresh


# -- measuring, on the terminal -------------------------------------------------------------------------------------


def per_step(table: str, rounds: int) -> dict[str, float]:
    """Seconds a step beyond the bare loop's: median over the rounds."""
    made = TABLES[table]
    sizes: dict[str, int] = {}
    for name, make in made.items():
        with make() as loop:
            sizes[name] = max(200, min(2_000_000, int(0.15 / (loop(2000) / 2000))))
    costs: dict[str, list[float]] = {name: [] for name in made}
    names, order = list(made), random.Random(0)
    for _ in range(rounds):
        order.shuffle(names)
        with made["bare loop"]() as loop:
            bare = loop(sizes["bare loop"]) / sizes["bare loop"]
        for name in names:
            gc.collect()
            with made[name]() as loop:
                costs[name].append(loop(sizes[name]) / sizes[name] - bare)
    return {name: statistics.median(costs[name]) for name in made if name != "bare loop"}


def refreshes(count: int, rounds: int) -> dict[str, float]:
    """Seconds for one refresh of so many bars that all moved."""
    times: dict[str, list[float]] = {name: [] for name in TABLES["bars"] if name != "bare loop"}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(times), len(times)):
            with TABLES["bars"][name](count) as (move, draw):
                spent = 0.0
                for _ in range(20):
                    move()
                    started = time.perf_counter()
                    draw()
                    spent += time.perf_counter() - started
            times[name].append(spent / 20)
    return {name: statistics.median(found) for name, found in times.items()}


def jitter(rounds: int) -> dict[str, list[float]]:
    """50th, 99th and 99.9th percentile of a step of a millisecond with five bars, in seconds."""
    started = time.perf_counter()
    for _ in range(1_000_000):
        pass
    work = range(int(1_000_000 * 0.001 / (time.perf_counter() - started)))
    steps: dict[str, list[float]] = {name: [] for name in TABLES["bars"]}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(steps), len(steps)):
            with TABLES["bars"][name](5) as (move, _draw):
                for _ in range(400):
                    began = time.perf_counter()
                    for _ in work:
                        pass
                    move()
                    steps[name].append(time.perf_counter() - began)
    return {name: [sorted(found)[int(len(found) * q)] for q in (0.5, 0.99, 0.999)] for name, found in steps.items()}


def long_loop(rounds: int) -> float:
    """How many times longer steps of about a microsecond take with a bar."""
    from ridgepole import track

    def run(items: Iterable[int]) -> float:
        started = time.perf_counter()
        for _ in items:
            for _ in small:
                pass
        return time.perf_counter() - started

    small = range(40)
    steps = range(200_000)
    ratios = []
    for number in range(5 * max(3, rounds // 3)):  # in short turns and in both orders: the machine's pace changes
        first = run(steps) if number % 2 else run(track(steps, "long"))
        second = run(track(steps, "long")) if number % 2 else run(steps)
        ratios.append(second / first if number % 2 else first / second)
    return statistics.median(ratios)


def measure(rounds: int, out: Path) -> None:
    """Everything that is measured on the terminal, as JSON."""
    found: dict[str, Any] = {table: per_step(table, rounds) for table in ("iterate", "advance", "status")}
    found["refresh"] = {str(count): refreshes(count, rounds) for count in (1, 5, 20)}
    found["jitter"] = jitter(max(3, rounds // 3))
    found["long"] = long_loop(rounds)
    out.write_text(json.dumps(found))


def on_terminal(rounds: int) -> dict[str, Any]:
    """Measures in a child on a pseudo-terminal, whose output is read and thrown away."""
    import fcntl
    import termios

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        child = subprocess.Popen(
            [sys.executable, __file__, "--measure", str(rounds), str(out)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )
        os.close(follower)
        last: list[bytes] = []

        def drain() -> None:
            with contextlib.suppress(OSError):
                while data := os.read(leader, 65536):
                    last[:] = [*last[-20:], data]

        reader = threading.Thread(target=drain)
        reader.start()
        code = child.wait()
        reader.join()
        os.close(leader)
        if code:
            sys.exit(f"the measuring process failed:\n{b''.join(last).decode(errors='replace')}")
        return json.loads(out.read_text())  # type: ignore[no-any-return]


# -- in a file ------------------------------------------------------------------------------------------------------

INTO_A_FILE = {
    "tqdm, set_postfix": (
        "tqdm",
        "from tqdm import tqdm\nbar = tqdm(range(n))\nfor i in bar:\n    pause()\n    bar.set_postfix(loss=0.1)",
    ),
    "rich.progress.track": ("rich", "from rich.progress import track\nfor i in track(range(n)):\n    pause()"),
    "alive_progress.alive_it": (
        "alive_progress",
        "from alive_progress import alive_it\nfor i in alive_it(range(n)):\n    pause()",
    ),
    "progressbar2": ("progressbar", "import progressbar\nfor i in progressbar.progressbar(range(n)):\n    pause()"),
    "ridgepole.track, set": (
        OURS,
        "from ridgepole import track\nbar = track(range(n), 'a')\nfor i in bar:\n    pause()\n    bar.set(loss=0.1)",
    ),
}


def bytes_in_a_file() -> dict[str, int]:
    """Bytes that each writes; all run side by side, as they only sleep."""
    head = f"import time\nn = {int(FILE_SECONDS * 100)}\ndef pause():\n    time.sleep(0.01)\n"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        running = {}
        for number, (name, (needs, source)) in enumerate(INTO_A_FILE.items()):
            if importlib.util.find_spec(needs) is not None:
                file = stack.enter_context((Path(folder) / str(number)).open("wb"))
                command = [sys.executable, "-c", head + source]
                running[name] = (file, subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL))
        sizes = {}
        for name, (file, child) in running.items():
            if child.wait():
                sys.exit(f"{name} failed")
            sizes[name] = os.fstat(file.fileno()).st_size
        return sizes


# -- the tables -----------------------------------------------------------------------------------------------------


def show(title: str, costs: dict[str, float], limit: str, scale: float, unit: str) -> None:
    print(f"\n{title:<48} {unit:>10} {'x ' + limit[:4]:>8}")
    base = costs.get(limit)
    for name, seconds in costs.items():
        ratio = f"{seconds / base:8.2f}" if base else f"{'-':>8}"
        print(f"{name:<48} {seconds * scale:10.1f} {ratio}")


def main(rounds: int) -> None:
    found = on_terminal(rounds)
    print(f"on a terminal of {COLUMNS} x {ROWS}; medians of {rounds} interleaved rounds")
    show("iterating", found["iterate"], "tqdm", 1e9, "ns a step")
    show("advancing by hand", found["advance"], "tqdm.update", 1e9, "ns a call")
    show("advancing with a status", found["status"], "tqdm.set_postfix_str + update", 1e9, "ns a call")
    for count, costs in found["refresh"].items():
        show(f"one refresh of {count} bar{'s' * (count != '1')}", costs, "rich Progress", 1e6, "us")
    print(f"\n{'a step of a millisecond, five bars':<48} {'median ms':>10} {'99 %':>8} {'99.9 %':>8}")
    for name, points in found["jitter"].items():
        print(f"{name:<48} {points[0] * 1e3:10.2f} {points[1] * 1e3:8.2f} {points[2] * 1e3:8.2f}")
    print(f"\nsteps of about a microsecond take {found['long']:.3f} times as long with ridgepole.track")
    print(f"\n{f'a file, {FILE_SECONDS:.0f} s of 100 it/s':<48} {'bytes':>10}")
    for name, size in bytes_in_a_file().items():
        print(f"{name:<48} {size:10d}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
