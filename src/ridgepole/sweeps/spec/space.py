"""The search space of a sweep, and the grid over it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

from ridgepole.sweeps.spec.parameter_types import FiniteParameter, Json, Parameter, canonical

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


class Space:
    """All parameters of a sweep.

    Args:
        parameters: The searched parameters.
        constants: The fixed values, by flat name; Optuna does not see them.
        paths: The path of a flat name in the nested configuration; a name that is not here is at
            the top.
        conditions: As the attribute.

    Attributes:
        parameters: The searched parameters by flat name, sorted.
        constants: The fixed values by flat name, sorted.
        names: All flat names, sorted.
        order: The same, but a parameter after those that its condition names.
        conditions: By the name of a parameter that not every trial has: the values that other
            parameters must have for it.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        constants: Mapping[str, Json] | None = None,
        paths: Mapping[str, tuple[str, ...]] | None = None,
        conditions: Mapping[str, Mapping[str, tuple[Json, ...]]] | None = None,
    ) -> None:
        self.parameters = {each.name: each for each in sorted(parameters, key=lambda each: each.name)}
        self.constants: dict[str, Json] = dict(sorted((constants or {}).items()))
        self.names = tuple(sorted([*self.parameters, *self.constants]))
        self.conditions = {name: dict(when) for name, when in (conditions or {}).items()}
        self._paths = dict(paths or {})
        self.order = self._ordered()

    def with_parameters(self, parameters: Iterable[Parameter]) -> Space:
        """Return the same space with other parameters of the same names."""
        return Space(parameters, self.constants, self._paths, self.conditions)

    def _ordered(self) -> tuple[str, ...]:
        """Return all flat names, sorted, but a parameter after those that its condition names."""
        placed: dict[str, None] = {}

        def place(name: str) -> None:
            for parent in sorted(self.conditions.get(name, ())):
                place(parent)
            placed[name] = None

        for name in self.names:
            place(name)
        return tuple(placed)

    def path(self, name: str) -> tuple[str, ...]:
        """Return the path of a flat name in the nested configuration."""
        return self._paths.get(name, (name,))

    def exists(self, name: str, values: Mapping[str, Json]) -> bool:
        """Return whether a trial has a parameter, by the values that its condition names."""
        return all(
            parent in values and canonical(values[parent]) in map(canonical, allowed)
            for parent, allowed in self.conditions.get(name, {}).items()
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Json]:
        """Draw the values for a trial: constants included, by flat name in sorted order."""
        return self._build(lambda each: each.suggest(trial))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the distributions that Optuna draws from, for `study.ask`."""
        return {name: each.optuna_distribution() for name, each in self.parameters.items()}

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Json]:
        """Return the values that stand for a trial's `params`, constants included.

        Raises:
            KeyError: If a parameter is missing.
        """
        return self._build(lambda each: each.decode(stored[each.name]))

    def encode(self, values: Mapping[str, Json]) -> dict[str, Any]:
        """Return what Optuna stores for some values, for `study.enqueue_trial`.

        Constants and other names are ignored.

        Raises:
            KeyError: If a parameter is missing.
            ValueError: If a parameter can't have its value.
        """
        known = self.complete(values)
        return {name: each.encode(known[name]) for name, each in self.parameters.items() if name in known}

    def _build(self, value_of: Callable[[Parameter], Json]) -> dict[str, Json]:
        """Return the values of the parameters that exist, and the constants, sorted by name."""
        values: dict[str, Json] = {}
        for name in self.order:
            if self.exists(name, values):
                each = self.parameters.get(name)
                values[name] = copy.deepcopy(self.constants[name]) if each is None else value_of(each)
        return {name: values[name] for name in self.names if name in values}

    def nest(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return the values as the file nests them, which is how W&B shows them."""
        nested: dict[str, Json] = {}
        for name, value in values.items():
            *tables, last = self._paths.get(name, (name,))
            table = nested
            for key in tables:
                table = table.setdefault(key, {})
            table[last] = value
        return nested

    def flatten(self, nested: Mapping[str, Any]) -> dict[str, Json]:
        """Return nested values by flat name, with the types that the file has.

        Raises:
            KeyError: If a parameter is missing.
        """

        def value_of(each: Parameter) -> Json:
            value: Any = nested
            for key in self._paths.get(each.name, (each.name,)):
                value = value[key]
            return each.restore_type(value)

        return self._build(value_of)

    def complete(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return the given values and the constants, sorted by name."""
        return self._build(lambda each: values[each.name])


class Grid:
    """All combinations of a space whose parameters are finite.

    Names are sorted, and the last name runs fastest; a name with a condition comes after those that
    the condition names. Without conditions a combination is computed from its number.

    Args:
        space: The space; every parameter of it must be a `FiniteParameter`.

    Attributes:
        space: The space.
        size: The number of combinations; 1 for a space of constants.

    Raises:
        ValueError: If a parameter is continuous.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._parameters: dict[str, FiniteParameter] = {}
        for name, each in space.parameters.items():
            if not isinstance(each, FiniteParameter):
                raise ValueError(f"a grid can't search the continuous parameter {name!r}")
            self._parameters[name] = each
        self._parents = {parent for when in space.conditions.values() for parent in when}
        self.size = self._count(space.order, {})

    def _count(self, names: Sequence[str], values: Mapping[str, Json]) -> int:
        """Return the number of combinations of some parameters, beside the values of others."""
        for index, name in enumerate(names):
            if name in self._parents and self.space.exists(name, values):
                rest = names[index + 1 :]
                factor = prod(self._parameters[each].size for each in names[:index] if self._varies(each, values))
                return factor * sum(self._count(rest, {**values, name: value}) for value in self._values(name))
        return prod(self._parameters[each].size for each in names if self._varies(each, values))

    def _varies(self, name: str, values: Mapping[str, Json]) -> bool:
        return name in self._parameters and self.space.exists(name, values)

    def _values(self, name: str) -> Iterator[Json]:
        if name in self.space.constants:
            return iter([copy.deepcopy(self.space.constants[name])])
        each = self._parameters[name]
        return map(each.at, range(each.size))

    def __iter__(self) -> Iterator[dict[str, Json]]:
        return self._walk(self.space.order, {}) if self._parents else map(self.point, range(self.size))

    def _walk(self, names: Sequence[str], values: Mapping[str, Json]) -> Iterator[dict[str, Json]]:
        if not names:
            yield {name: values[name] for name in self.space.names if name in values}
        elif not self.space.exists(names[0], values):
            yield from self._walk(names[1:], values)
        else:
            for value in self._values(names[0]):
                yield from self._walk(names[1:], {**values, names[0]: value})

    def point(self, number: int) -> dict[str, Json]:
        """Return the combination with a number: constants included, by flat name in sorted order.

        Raises:
            IndexError: If the grid does not have this number.
        """
        if not 0 <= number < self.size:
            raise IndexError(f"the grid has {self.size} points, numbered from 0; {number} is out of range")
        if self._parents:
            return next(islice(self, number, None))
        values: dict[str, Json] = {}
        for name, each in reversed(self._parameters.items()):
            number, position = divmod(number, each.size)
            values[name] = each.at(position)
        return self.space.complete(values)

    def index(self, values: Mapping[str, Json]) -> int | None:
        """Return the number of a combination; None for one outside the grid.

        Constants and other names are ignored.
        """
        if self._parents:
            key = self._key(values)
            return next((number for number, point in enumerate(self) if canonical(point) == key), None)
        number = 0
        for name, each in self._parameters.items():
            try:
                number = number * each.size + each.position(values[name])
            except (KeyError, ValueError):
                return None
        return number

    def remaining(self, visited: Iterable[Mapping[str, Json]]) -> Iterator[dict[str, Json]]:
        """Return the combinations that no trial was started with, in order.

        Args:
            visited: The values of every trial that was ever started, failed ones included.
                Combinations outside the grid are ignored.
        """
        if self._parents:
            keys = {self._key(values) for values in visited}
            return (point for point in self if canonical(point) not in keys)
        done = {self.index(values) for values in visited}
        return (self.point(number) for number in range(self.size) if number not in done)

    def _key(self, values: Mapping[str, Json]) -> str:
        """Return a text for a combination; an empty one where a parameter is missing."""
        try:
            return canonical(self.space.complete(values))
        except KeyError:
            return ""
