"""The parameters of a sweep as axes, with a position of each trial on them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from ridgepole.config.secrets import looks_secret
from ridgepole.sweeps.report.scale import Tick, around
from ridgepole.sweeps.spec.distributions import LogNormal
from ridgepole.sweeps.spec.parameter_types import (
    Choice,
    FloatRange,
    Quantile,
    Steps,
    WeightedChoice,
    canonical,
)
from ridgepole.sweeps.spec.space import Space

_GOLDEN = 0.618034
_ASIDE, _MOST_ASIDE = 0.3, 0.06
"""Width of the band of a value: as a share of the distance of two values, and at most."""

HIDDEN = "***"  # the text in place of a secret value


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A parameter and the position of each trial on it."""

    name: str  # flat
    kind: Literal["linear", "log", "choice"]  # the values of a choice have no distance
    ticks: tuple[Tick, ...]
    places: tuple[float | None, ...]  # for each trial, from 0 to 1; None if it lacks the parameter
    # For each trial, the number, or of a choice the index in `ticks`
    values: tuple[float | None, ...]
    step: float = 0.0  # the distance of two neighbours of a choice
    shared: frozenset[float] = frozenset()  # the places of a choice that several trials have

    def labels(self, length: int) -> list[str]:
        """Return the labels of the ticks, each of at most `length` characters.

        A beginning or end that all share is cut first.
        """
        labels = [printable(label) for _, label in self.ticks]
        if len(labels) > 1 and max(map(len, labels)) > length:
            start = _shared(labels)
            end = _shared([label[start:][::-1] for label in labels])
            labels = [_without(label, start, end) for label in labels]
        return [short(label, length) for label in labels]

    def drawn(self, row: int, most: float = _MOST_ASIDE) -> float | None:
        """Return where to draw a trial; several with the same choice are spread over a band."""
        place = self.places[row]
        if place is None or place not in self.shared:
            return place
        return place + ((row * _GOLDEN) % 1 - 0.5) * min(self.step * _ASIDE, most)


def make_axes(params: Sequence[Mapping[str, Any]], space: Space | None) -> tuple[list[Axis], dict[str, str]]:
    """Return the axes of the parameters that are searched, and the constants as texts.

    Args:
        params: The parameters of each trial.
        space: The search space; when None, each parameter that varies is an axis.
    """
    names = dict.fromkeys([*(space.names if space else ()), *(name for each in params for name in each)])
    axes: list[Axis] = []
    constants: dict[str, str] = {}
    for name in names:
        column = [each.get(name, _MISSING) for each in params]
        seen = {canonical(value): value for value in column if value is not _MISSING}
        law = space.parameters.get(name) if space else None
        if law is None and space is not None and name in space.constants:
            constants[name] = as_text(name, space.constants[name])
        elif law is None and len(seen) < 2:
            constants[name] = as_text(name, next(iter(seen.values())))
        else:
            axes.append(_axis(name, column, law, list(seen.values())))
    return axes, constants


_MISSING = object()


def as_text(name: str, value: Any) -> str:
    """Return a parameter's value as text, with secrets masked."""
    value = masked(name, value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def masked(name: str, value: Any) -> Any:
    """Return a parameter's value with secrets masked by their names, also inside a table."""
    if is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: masked(str(key), item) for key, item in value.items()}
    return [masked(name, item) for item in value] if isinstance(value, list | tuple) else value


def is_secret(name: str) -> bool:
    """Return whether a parameter's name marks its values as secret."""
    return looks_secret(name.rpartition(".")[2])


def printable(text: str) -> str:
    """Return a text with line breaks and other invisible characters as spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def short(text: str, length: int) -> str:
    """Return a text with its middle cut to `length` printable characters."""
    text = printable(text)
    if len(text) <= length:
        return text
    start = length // 2
    return f"{text[:start]}…{text[len(text) - length + start + 1 :]}"


def _shared(texts: Sequence[str]) -> int:
    """Return the length of the texts' common beginning."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False)))


def _without(label: str, start: int, end: int) -> str:
    """Return a label without a long beginning or end that it shares with others."""
    start, end = (start if start > 3 else 0), (end if end > 3 else 0)
    return f"{'…' * (start > 0)}{label[start : len(label) - end]}{'…' * (end > 0)}"


def _axis(name: str, column: Sequence[Any], law: object, seen: list[Any]) -> Axis:
    if isinstance(law, Choice | WeightedChoice):
        return _choice(name, column, [*law.values, *seen])
    if not all(_is_number(value) for value in seen) or is_secret(name):
        return _choice(name, column, seen)
    numbers = [float(value) for value in seen]
    match law:
        case FloatRange():
            numbers += [law.low, law.high]
        case Steps():
            numbers += [float(law.at(0)), float(law.at(law.size - 1))]
    log = (isinstance(law, FloatRange) and law.log) or (
        isinstance(law, Quantile) and isinstance(law.distribution, LogNormal)
    )
    # Rounding may take a logarithmic one down to 0
    above = [number for number in numbers if number > 0]
    scale = around(above if log else numbers, log=log, whole=all(isinstance(value, int) for value in seen))
    values = tuple(None if value is _MISSING else float(value) for value in column)
    places = tuple(None if value is None else scale.place(value) for value in values)
    kind: Literal["linear", "log"] = "log" if scale.log else "linear"
    return Axis(name=name, kind=kind, ticks=tuple(scale.ticks()), places=places, values=values)


def _choice(name: str, column: Sequence[Any], values: Sequence[Any]) -> Axis:
    distinct = list({canonical(value): value for value in values}.values())
    if all(_is_number(value) for value in distinct):
        distinct.sort()
    labels = [as_text(name, value) for value in distinct]
    if len(set(labels)) < len(labels) and not is_secret(name):  # such as "1" and 1
        labels = [json.dumps(masked(name, value), ensure_ascii=False) for value in distinct]
    step = 1 / (len(distinct) - 1) if len(distinct) > 1 else 1.0
    at = [index * step if len(distinct) > 1 else 0.5 for index in range(len(distinct))]
    position = {canonical(value): index for index, value in enumerate(distinct)}
    found = [None if value is _MISSING else position[canonical(value)] for value in column]
    places = tuple(None if index is None else at[index] for index in found)
    ticks = tuple(zip(at, labels, strict=True))
    counts = Counter(place for place in places if place is not None)
    shared = frozenset(place for place, count in counts.items() if count > 1)
    return Axis(name=name, kind="choice", ticks=ticks, places=places, values=tuple(found), step=step, shared=shared)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an int beyond the largest float
        return False
