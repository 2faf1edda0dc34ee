"""Notice that the steps of a run became slow, and name what grew."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from ridgepole.watch.policy import Slow

_T = TypeVar("_T")

_LEAST_SAMPLES = 10
_LEAST_PARTS = 3
_MOST_BYTES = 1 << 20
_MUCH = 0.2
"""The share of the growth from which a part is named."""
_HELD_BACK = "limit_cpu_held_back_percent"
_MOST_HELD_BACK = 10.0

_NAMES = {
    "code": "your code",
    "data": "waiting for data",
    "logging": "logging",
    "checkpoints": "checkpoints",
    "ranks": "waiting for other ranks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """A sample of the run about its steps.

    Attributes:
        parts: Seconds a step by the name of the part, such as `data`.
        held_back: The share of the time in which the container's limit held the run back.
        throttled: The reason for each card that is throttled.
    """

    parts: Mapping[str, float]
    held_back: float = 0.0
    throttled: Mapping[str, str]


class SampleReader:
    """Reads the samples that a run appends to a file, from now on.

    Args:
        path: The file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        try:
            self._offset = path.stat().st_size
        except OSError:
            self._offset = 0

    def read(self) -> Iterator[StepSample]:
        """Yield the new samples; nothing where they can't be read."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_MOST_BYTES)
        except OSError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                sample = _sample(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
                continue
            yield sample


def _sample(line: dict[str, Any]) -> StepSample:
    values = line["values"]
    second = 1 / float(values["steps_per_second"])
    parts = {name: float(values[f"{name}_percent"]) / 100 * second for name in _NAMES if f"{name}_percent" in values}
    held_back, throttled = float(values.get(_HELD_BACK, 0.0)), line.get("throttled") or {}
    return StepSample(parts=parts, held_back=held_back, throttled=dict(throttled))


class SlowWatch:
    """Compares the time of a step with that of the first hour.

    Args:
        policy: From when on a run counts as slow.
        samples: The samples that tell what grew; None where there are none.
    """

    def __init__(self, policy: Slow, samples: SampleReader | None = None) -> None:
        self._factor = policy.factor
        self._minutes, self._first_minutes = policy.minutes * 60, policy.first_minutes * 60
        self._samples = samples
        self._first: list[float] = []
        self._recent: deque[tuple[float, float]] = deque()
        self._first_parts: list[StepSample] = []
        self._recent_parts: deque[tuple[float, StepSample]] = deque()
        self._clock = 0.0
        self._told = False

    def look(self, elapsed: float, step_seconds: float | None) -> str:
        """Return once what became slow.

        Args:
            elapsed: Seconds since the look before.
            step_seconds: The time of a step since then; None without one.
        """
        self._clock += elapsed
        self._read_samples()
        if step_seconds is None:
            return ""
        self._recent.append((self._clock, step_seconds))
        _age(self._recent, self._first, self._clock - self._minutes, self._first_minutes)
        if min(len(self._first), len(self._recent)) < _LEAST_SAMPLES or self._clock < 2 * self._minutes:
            return ""
        before, now = median(self._first), median(seconds for _, seconds in self._recent)
        slow = now > self._factor * before
        told, self._told = self._told, slow
        if not slow or told:
            return ""
        recent = [sample for _, sample in self._recent_parts]
        minutes, grown = self._minutes / 60, what_grew(self._first_parts, recent)
        return f"a step took {before:.3g} s, and takes {now:.3g} s for {minutes:g} minutes{grown and f'; {grown}'}"

    def _read_samples(self) -> None:
        if self._samples is not None:
            self._recent_parts.extend((self._clock, sample) for sample in self._samples.read())
            _age(self._recent_parts, self._first_parts, self._clock - self._minutes, self._first_minutes)


def _age(recent: deque[tuple[float, _T]], first: list[_T], until: float, most: float) -> None:
    """Drop what is too old to count as now; what came at the beginning is kept for comparison."""
    while recent and recent[0][0] < until:
        at, value = recent.popleft()
        if at <= most:
            first.append(value)


def what_grew(first: list[StepSample], recent: list[StepSample]) -> str:
    """Say which parts of a step take longer than at the beginning; empty where nothing tells it."""
    if min(len(first), len(recent)) < _LEAST_PARTS:
        return ""
    before, now = _medians(first), _medians(recent)
    growth = {name: now[name] - before.get(name, 0.0) for name in now if now[name] > before.get(name, 0.0)}
    much = _MUCH * sum(growth.values())
    named = sorted((name for name in growth if growth[name] >= much), key=lambda name: -growth[name])
    said = [f"{_NAMES[name]} grew from {before.get(name, 0.0):.3g} to {now[name]:.3g} s a step" for name in named]
    return "; ".join([*said, *_causes(first, recent)] if said else [])


def _medians(samples: list[StepSample]) -> dict[str, float]:
    names = [name for name in _NAMES if any(name in sample.parts for sample in samples)]
    return {name: median(sample.parts.get(name, 0.0) for sample in samples) for name in names}


def _causes(first: list[StepSample], recent: list[StepSample]) -> list[str]:
    """Say what the machine does to the run now, and did not at the beginning."""
    before, now = (Counter(card for sample in samples for card in sample.throttled) for samples in (first, recent))
    reasons = {card: reason for sample in recent for card, reason in sample.throttled.items()}
    found = [
        f"{card} is throttled: {reasons[card]}"
        for card in sorted(now)
        if now[card] >= len(recent) / 2 and before[card] < len(first) / 2
    ]
    held = median(sample.held_back for sample in recent)
    if held > max(_MOST_HELD_BACK, 2 * median(sample.held_back for sample in first)):
        found.append(f"the container's limit of processor time holds the run back for {held:.0f} % of the time")
    return found
