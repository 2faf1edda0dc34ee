"""The config and the summary of a run, with W&B's ways to read and to set them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any


def as_params(config: Any) -> dict[str, Any]:
    """Return a config as a mapping.

    Raises:
        TypeError: If it is neither a mapping nor a namespace, nor another object with fields.
    """
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return {str(key): value for key, value in config.items()}
    if isinstance(config, argparse.Namespace):
        return dict(vars(config))
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    fields = getattr(config, "__dict__", None)
    if fields:
        return {key: value for key, value in fields.items() if not key.startswith("_")}
    raise TypeError(f"config must be a mapping, such as vars(args), not {type(config).__name__}")


class AttributeMapping(MutableMapping[str, Any]):
    """A mapping whose members are attributes, too.

    Args:
        changed: Called with the members that were set.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], None]) -> None:
        self.__dict__["_changed"] = changed
        self.__dict__["_values"] = {}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({str(key): value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        return repr(dict(self))

    def _set(self, values: dict[str, Any]) -> None:
        self._values.update(values)
        self._changed(values)


class Config(AttributeMapping):
    """The parameters of a run. Those of a sweep can't be changed."""

    def fix(self, values: Mapping[str, Any]) -> None:
        """Set values that count from now on, whatever the script sets."""
        self.__dict__["_fixed"] = dict(values)
        self._set({})

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values | self.__dict__.get("_fixed", {}))

    def update(self, d: Any = None, allow_val_change: bool | None = None, **more: Any) -> None:  # type: ignore[override]  # noqa: ARG002 - W&B's arguments
        """Set several values; takes a mapping, a namespace or a data class."""
        self._set({**as_params(d), **more})

    def setdefaults(self, d: Any) -> None:
        """Set the values that have none yet."""
        self._set({key: value for key, value in as_params(d).items() if key not in self._values})

    def as_dict(self) -> dict[str, Any]:
        """Return a copy."""
        return dict(self._values)


class Summary(AttributeMapping):
    """The results of a run: what was set, else the last value that was logged.

    Args:
        changed: As in `AttributeMapping`.
        logged: Returns the last values that were logged.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], None], logged: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(changed)
        self.__dict__["_logged"] = logged

    def _all(self) -> dict[str, Any]:
        return {**self._logged(), **self._values}

    def __getitem__(self, key: str) -> Any:
        return self._values[key] if key in self._values else self._logged()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def update(self, d: Any = None, **more: Any) -> None:  # type: ignore[override]  # W&B's arguments
        """Set several values."""
        self._set({**as_params(d), **more})

    @property
    def set_values(self) -> dict[str, Any]:
        """The values that were set, without those that were logged alone."""
        return dict(self._values)
