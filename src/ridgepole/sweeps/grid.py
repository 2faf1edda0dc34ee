"""A grid: every combination of finitely many values, in an order that depends on nothing but the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod

from ridgepole.sweeps.kinds import Axis, Json
from ridgepole.sweeps.space import Space


class Grid:
    """All combinations of a space whose parameters are finite: sorted names, the last name runs fastest.

    Nothing is listed: a combination is reckoned from its number.

    Args:
        space: The space; every parameter of it must be an `Axis`.

    Attributes:
        space: The space.
        size: How many combinations there are; 1 where nothing but constants is declared.

    Raises:
        ValueError: If a parameter is continuous.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        axes: dict[str, Axis] = {}
        for name, each in space.parameters.items():
            if not isinstance(each, Axis):
                raise ValueError(f"a grid can't go through the continuous parameter {name!r}")
            axes[name] = each
        self._axes = axes
        self.size = prod(axis.size for axis in axes.values())

    def __iter__(self) -> Iterator[dict[str, Json]]:
        return map(self.point, range(self.size))

    def point(self, number: int) -> dict[str, Json]:
        """The combination of a number, constants included, by flat name in sorted order.

        Raises:
            IndexError: If there is no such number.
        """
        if not 0 <= number < self.size:
            raise IndexError(f"the grid has {self.size} points, numbered from 0; there is no {number}")
        values: dict[str, Json] = {}
        for name, axis in reversed(self._axes.items()):
            number, position = divmod(number, axis.size)
            values[name] = axis.at(position)
        return self.space.complete(values)

    def index(self, values: Mapping[str, Json]) -> int | None:
        """The number of a combination; None where it is none of this grid. Constants and other names don't matter."""
        number = 0
        for name, axis in self._axes.items():
            position = axis.position(values[name]) if name in values else None
            if position is None:
                return None
            number = number * axis.size + position
        return number

    def remaining(self, visited: Iterable[Mapping[str, Json]]) -> Iterator[dict[str, Json]]:
        """The combinations that were not visited yet, in order.

        Args:
            visited: The values of every trial that was ever started, failed ones included. What is none of this grid
                is passed over.
        """
        done = {self.index(values) for values in visited}
        return (self.point(number) for number in range(self.size) if number not in done)
