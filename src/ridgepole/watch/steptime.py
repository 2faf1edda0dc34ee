"""The step times of a run: the record, rates and the verdict on what it waited for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.files import read_json, write_atomically
from ridgepole.steptimes import LoopSource, Snapshot
from ridgepole.watch.cgroup import cores

LEAST_SECONDS = 1.0
"""Step times of less than this are not recorded."""

_MUCH = {"data": 0.15, "checkpoints": 0.10, "logging": 0.10, "ranks": 0.10}
"""The share of the time from which a part is worth a word."""

# Peak of dense matrix products in bfloat16 (float16 before Ampere) in TFLOP/s, from the makers'
# data sheets. The first name that a card's contains counts.
_PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H20": 148.0,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 6000 Ada": 364.0,
    "RTX A6000": 154.8,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "V100": 125.0,
    "T4": 65.0,
    "MI355X": 2516.0,
    "MI325X": 1307.4,
    "MI300X": 1307.4,
    "MI250X": 383.0,
    "MI210": 181.0,
    "MI100": 184.6,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """The step times of one rank in one attempt. It is plain JSON in `steptime.json`.

    Attributes:
        rank: The rank.
        attempt: The attempt.
        seconds: Time inside of steps.
        steps: Number of steps.
        items: Number of items.
        data: Seconds of waiting for data.
        logging: Seconds in the loggers.
        checkpoints: Seconds in checkpoints.
        ranks: Seconds of waiting for other ranks.
        source: The type of the loop's source, such as `"DataLoader"`.
        num_workers: Its number of worker processes; None where it does not say.
        cores: The processor cores that this process may use.
        units: How many of a unit one item has.
        flops_per_item: Floating-point operations of an item; 0 if unknown.
        card: The model of the card; empty without one.
    """

    rank: int = 0
    attempt: int = 1
    seconds: float
    steps: int
    items: int
    data: float = 0.0
    logging: float = 0.0
    checkpoints: float = 0.0
    ranks: float = 0.0
    source: str = ""
    num_workers: int | None = None
    cores: float = 1.0
    units: Mapping[str, float] = field(default_factory=dict)
    flops_per_item: float = 0.0
    card: str = ""

    @property
    def code(self) -> float:
        """Seconds in the user's own code."""
        return max(0.0, self.seconds - self.data - self.logging - self.checkpoints - self.ranks)

    def share(self, part: str) -> float:
        """Return the share of the time of a part, from 0 to 1."""
        return min(1.0, float(getattr(self, part)) / self.seconds) if self.seconds else 0.0

    @property
    def items_per_second(self) -> float:
        """Items per second, waiting included."""
        return self.items / self.seconds if self.seconds else 0.0

    @property
    def mfu(self) -> float | None:
        """The share of the card's peak that the items take; None where one is unknown."""
        peak = peak_flops(self.card)
        return self.items_per_second * self.flops_per_item / peak if peak and self.flops_per_item else None

    def described(self) -> dict[str, Any]:
        """Return all of it as plain JSON values."""
        return {name: getattr(self, name) for name in StepTime.__slots__} | {"code": self.code, "rates": self.rates()}

    def rates(self) -> dict[str, float]:
        """Return the rates by name: steps, items, units, and the share of the card's peak."""
        if not self.seconds:
            return {}
        found = {"steps_per_second": self.steps / self.seconds, "items_per_second": self.items_per_second}
        found |= {f"{unit}_per_second": self.items_per_second * count for unit, count in self.units.items()}
        if self.flops_per_item:
            found["flops_per_second"] = self.items_per_second * self.flops_per_item
        return found if self.mfu is None else found | {"mfu": self.mfu}


def peak_flops(card: str) -> float | None:
    """Return the peak of a card in operations per second, for dense products in bfloat16."""
    found = (peak * 1e12 for name, peak in _PEAK_TFLOPS.items() if re.search(rf"\b{name}\b", card))
    return next(found, None)


def measured(
    spent: Snapshot, source: LoopSource | None, *, rank: int = 0, attempt: int = 1, card: str = ""
) -> StepTime:
    """Return the step times of what was spent."""
    known = source or LoopSource(kind="")
    return StepTime(
        rank=rank,
        attempt=attempt,
        seconds=spent.seconds,
        steps=spent.steps,
        items=spent.items,
        **{str(part): took for part, took in spent.parts.items()},
        source=known.kind,
        num_workers=known.num_workers,
        cores=cores(),
        units=known.units,
        flops_per_item=known.flops_per_item,
        card=card,
    )


def file_of(rank: int) -> str:
    """Return the name of the record of a rank."""
    return f"steptime-rank-{rank}.json" if rank else rundir.STEPTIME


def write(run: Path, times: StepTime) -> None:
    """Write the record of a rank into the run directory.

    Raises:
        OSError: If it can't be written.
    """
    numbers = {name: getattr(times, name) for name in StepTime.__slots__}
    write_atomically(run / file_of(times.rank), orjson.dumps(numbers) + b"\n")


def read(run: Path) -> list[StepTime]:
    """Return the step times of each rank; those of earlier attempts are left out."""
    found = [_read(path) for path in (run / rundir.STEPTIME, *run.glob("steptime-rank-*.json"))]
    known = sorted((times for times in found if times is not None), key=lambda times: times.rank)
    newest = max((times.attempt for times in known), default=0)
    return [times for times in known if times.attempt == newest]


def _read(path: Path) -> StepTime | None:
    fields = read_json(path)
    if not all(isinstance(fields.get(name), int | float) for name in ("seconds", "steps", "items")):
        return None
    return StepTime(**{name: value for name, value in fields.items() if name in StepTime.__slots__})


def verdict(ranks: Sequence[StepTime]) -> str:
    """Say in a sentence where the time of a run's steps went, and what to try; empty if unknown.

    Args:
        ranks: The times of each rank.
    """
    if not ranks:
        return ""
    slowest = max(ranks, key=lambda times: times.data)
    of = f" on rank {slowest.rank}" if len(ranks) > 1 else ""
    found = sorted(
        (part for part, much in _MUCH.items() if slowest.share(part) >= much), key=slowest.share, reverse=True
    )
    if not found:
        waited = slowest.share("data")
        return f"{_percent(slowest.share('code'))} of the time ran your code, {_percent(waited)} waited for data{of}"
    words = [f"{_percent(slowest.share(part))} of the time {_SAID[part]}{of}" for part in found]
    advice = _advice(found[0], slowest)
    return "; ".join(words) + (f": {advice}" if advice else "")


_SAID = {
    "data": "waited for data",
    "checkpoints": "took checkpoints",
    "logging": "was spent logging",
    "ranks": "waited for other ranks",
}


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _advice(part: str, times: StepTime) -> str:
    if part == "data":
        return _more_workers(times)
    if part == "checkpoints":
        return "take them less often (every_steps, every_seconds)"
    if part == "logging":
        return "log less often, or fewer figures"
    return "the ranks don't have the same work"


def _more_workers(times: StepTime) -> str:
    workers = times.num_workers
    if workers is None:
        return f"{times.source or 'the source'} loads in the training process; a loader with num_workers loads ahead"
    most = max(1, math.floor(times.cores))
    # Enough workers to load as fast as the rest of a step takes
    rest = max(times.seconds - times.data, times.seconds * 0.02)
    loading = times.data if workers == 0 else times.seconds * workers
    wanted = max(workers + 1, math.ceil(loading / rest))
    if workers >= most:
        return f"num_workers = {workers} on {most} cores can't load faster: make an item cheaper to load"
    return f"num_workers = {workers} → try {min(wanted, most)}"


def lines(ranks: Sequence[StepTime]) -> list[tuple[str, str]]:
    """Return the table of step times for people: a name and a value in each row."""
    if not ranks:
        return []
    first = ranks[0]
    parts = ("code", "data", "logging", "checkpoints", "ranks")
    shares = ", ".join(f"{part} {_percent(first.share(part))}" for part in parts if first.share(part) >= 0.005)
    rates = first.rates()
    said = [f"{rates[f'{name}_per_second']:,.4g} {name}/s" for name in ("items", *first.units)] if rates else []
    if first.mfu is not None:
        said.append(f"MFU {_percent(first.mfu)}")
    mean = f"{first.seconds / max(1, first.steps) * 1000:,.4g} ms a step"
    return [("steps", f"{mean}, {', '.join(said)}: {shares}"), ("verdict", verdict(ranks))]
