"""What ResumableLoader costs beside torch's DataLoader, and how soon it goes on in the middle of an epoch.

Steady: microseconds a batch of 64 images of 3 x 32 x 32, without workers and with two; once with items that cost
nothing but an index, once with an augmentation of some twenty microseconds an item, which is little. Going on:
milliseconds to the first batch after 90% of an epoch of 200,000 items. DataLoader has to fetch and throw away what
comes before; torchdata's StatefulDataLoader restores its own state, which is taken there beforehand. The row "from
the start" says what any first batch costs: with workers, mostly their start.

Contenders take turns in every round; a row shows the median over the rounds, and the median over the rounds of how many
times DataLoader's time of the same round that is. Peers that are not installed are left out, and said.

Usage: python benchmarks/loader.py [rounds]
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader

from ridgepole import ResumableLoader

BATCH = 64
STEADY_BATCHES, WARM_UP = 100, 8
LENGTH, SHARE = 200_000, 0.9

Measure = Callable[[], float]


class Images:
    """A tensor an item, as it lies in memory."""

    def __init__(self, count: int) -> None:
        self.images = torch.rand(count, 3, 32, 32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


class Augmented(Images):
    def __getitem__(self, index: int) -> torch.Tensor:
        image = self.images[index]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return image + 0.1 * torch.randn(3, 1, 1)


class Numbers:
    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> int:
        return index


def stateful() -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader


def has_torchdata() -> bool:
    return importlib.util.find_spec("torchdata") is not None


def per_batch(loader: Iterable[Any]) -> Measure:
    """Seconds a batch once the loop runs."""

    def measure() -> float:
        batches = iter(loader)
        for _ in itertools.islice(batches, WARM_UP):
            pass
        start = perf_counter()
        for _ in itertools.islice(batches, STEADY_BATCHES):
            pass
        return (perf_counter() - start) / STEADY_BATCHES

    return measure


def steady(data: Images, workers: int) -> dict[str, Measure]:
    makers: dict[str, Any] = {
        "DataLoader": lambda: DataLoader(data, BATCH, shuffle=True, num_workers=workers),
        "ResumableLoader": lambda: ResumableLoader(data, BATCH, num_workers=workers),
    }
    if has_torchdata():
        makers["StatefulDataLoader"] = lambda: stateful()(data, BATCH, shuffle=True, num_workers=workers)
    return {name: per_batch(make()) for name, make in makers.items()}


def first_batch(make: Callable[[], Iterable[Any]], skip: int = 0) -> Measure:
    """Seconds from nothing to the first batch that is wanted."""

    def measure() -> float:
        start = perf_counter()
        batches = iter(make())
        next(itertools.islice(batches, skip, None))
        return perf_counter() - start

    return measure


def going_on(workers: int) -> dict[str, Measure]:
    data: Any = Numbers()
    skip = int(LENGTH / BATCH * SHARE)

    def plain() -> Iterable[Any]:
        return DataLoader(data, BATCH, shuffle=True, num_workers=workers)

    def resumed() -> Iterable[Any]:
        loader = ResumableLoader(data, BATCH, num_workers=workers)
        loader.load_state_dict(loader.state_dict() | {"cursor": skip})
        return loader

    measures = {
        "DataLoader, skipping": first_batch(plain, skip),
        "ResumableLoader": first_batch(resumed),
        "from the start": first_batch(plain),
    }
    if has_torchdata():
        cls = stateful()
        donor = cls(data, BATCH, shuffle=True, num_workers=workers)
        batches = iter(donor)
        next(itertools.islice(batches, skip - 1, None))
        state = donor.state_dict()
        del batches

        def restored() -> Iterable[Any]:
            loader = cls(data, BATCH, shuffle=True, num_workers=workers)
            loader.load_state_dict(state)
            return loader

        measures["StatefulDataLoader"] = first_batch(restored)
    return measures


def table(title: str, measures: dict[str, Measure], rounds: int, scale: float, unit: str) -> None:
    found: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(measures[name]())
            gc.collect()
    base = next(iter(found.values()))
    print(f"\n{title:42}{unit:>12}{'ratio':>9}")
    for name, times in found.items():
        ratio = statistics.median(time / plain for time, plain in zip(times, base, strict=True))
        print(f"  {name:40}{statistics.median(times) * scale:12.1f}{ratio:9.3f}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="'set_vital' is deprecated")  # torchdata with a newer torch
    if not has_torchdata():
        print("torchdata is not installed: StatefulDataLoader is left out (pip install torchdata)")
    count = BATCH * (STEADY_BATCHES + WARM_UP + 8)
    for what, data in (("items that cost nothing", Images(count)), ("augmented items", Augmented(count))):
        for workers in (0, 2):
            table(f"{what}, {workers} workers", steady(data, workers), rounds, 1e6, "us a batch")
    for workers in (0, 2):
        table(f"going on at {SHARE:.0%}, {workers} workers", going_on(workers), rounds, 1e3, "ms")


if __name__ == "__main__":
    main()
