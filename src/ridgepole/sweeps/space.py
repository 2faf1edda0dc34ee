"""The space that a sweep searches: all its parameters, searched and constant."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.sweeps.kinds import Json, Parameter

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


class Space:
    """All parameters of a sweep.

    Args:
        parameters: Those that are searched.
        constants: The fixed ones, by flat name; they stand outside what Optuna searches.
        paths: Where a flat name stands in the nested configuration; a name that is not here stands at the top.

    Attributes:
        parameters: Those that are searched, by flat name, sorted.
        constants: The fixed values by flat name, sorted.
        names: All flat names, sorted.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        constants: Mapping[str, Json] | None = None,
        paths: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.parameters = {each.name: each for each in sorted(parameters, key=lambda each: each.name)}
        self.constants: dict[str, Json] = dict(sorted((constants or {}).items()))
        self.names = tuple(sorted([*self.parameters, *self.constants]))
        self._paths = dict(paths or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Json]:
        """The values for a trial, constants included, by flat name in sorted order."""
        return self.complete({name: each.suggest(trial) for name, each in self.parameters.items()})

    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from, for `study.ask`."""
        return {name: each.distribution() for name, each in self.parameters.items()}

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Json]:
        """The values that stand for a trial's `params`, constants included.

        Raises:
            KeyError: If a parameter is missing.
        """
        return self.complete({name: each.decode(stored[name]) for name, each in self.parameters.items()})

    def encode(self, values: Mapping[str, Json]) -> dict[str, Any]:
        """What Optuna stores for some values, for `study.enqueue_trial`; constants and other names are passed over.

        Raises:
            KeyError: If a parameter is missing.
            ValueError: If a value is none that its parameter can have.
        """
        return {name: each.encode(values[name]) for name, each in self.parameters.items()}

    def nest(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """The values as the file nests them, which is how W&B shows them."""
        nested: dict[str, Json] = {}
        for name, value in values.items():
            *tables, last = self._paths.get(name, (name,))
            table = nested
            for key in tables:
                table = table.setdefault(key, {})
            table[last] = value
        return nested

    def flatten(self, nested: Mapping[str, Any]) -> dict[str, Json]:
        """What `nest` made, or W&B's server: by flat name, with the types that the file has.

        Raises:
            KeyError: If a parameter is missing.
        """
        flat: dict[str, Json] = {}
        for name in self.names:
            value: Any = nested
            for key in self._paths.get(name, (name,)):
                value = value[key]
            flat[name] = value
        return self.complete({name: each.settle(flat[name]) for name, each in self.parameters.items()})

    def complete(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """The values of the searched parameters and those of the constants, in the order of their names."""
        values = dict(values) | copy.deepcopy(self.constants)
        return {name: values[name] for name in self.names}
