"""The dotted keys of a config, and their short names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten a nested description to dotted keys and plain values; empty tables have none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def names_of(key: str) -> list[str]:
    """Return the names that may stand for a key of the config, the shortest first.

    `processes.train.params.epochs` may be called `epochs`, `train.epochs` and so on.
    """
    parts = key.split(".")
    if len(parts) > 3 and parts[0] in ("processes", "permanences") and parts[2] == "params":
        parts = [*parts[:2], *parts[3:]]
    names = [".".join(parts[index:]) for index in range(len(parts) - 1, -1, -1)]
    return names if names[-1] == key else [*names, key]
