"""Keys of directories, the encoding of answers, and sweeps as the page asks for them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS


def key_of(path: Path) -> str:
    """Return the key of a run or a sweep: 12 hex digits of a hash of its resolved directory."""
    return hashlib.blake2s(str(path).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()


def encode(value: Any) -> bytes:
    """Return a value as JSON: numbers that are not finite are null, lone surrogates are `?`."""
    try:
        return orjson.dumps(value, default=str, option=_OPTIONS)
    except TypeError:
        return orjson.dumps(_without_surrogates(value), default=str, option=_OPTIONS)


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
    return value


class Sweeps(Protocol):
    """The sweeps of a page, which the room of sweeps knows."""

    def count(self) -> int:
        """Return how many there are."""

    def listed(self) -> list[dict[str, Any]]:
        """Return a summary of each, the newest first; one that can't be read has an `error`."""

    def data(self, key: str) -> dict[str, Any] | None:
        """Return what the page draws of a sweep; None if there is no such sweep."""

    def importances(self, key: str) -> dict[str, Any] | None:
        """Return the importances of its parameters, which the page asks for later."""


class NoSweeps:
    """The sweeps of a page that shows runs alone."""

    def count(self) -> int:
        """Return 0."""
        return 0

    def listed(self) -> list[dict[str, Any]]:
        """Return an empty list."""
        return []

    def data(self, key: str) -> dict[str, Any] | None:
        """Return None."""
        del key
        return None

    def importances(self, key: str) -> dict[str, Any] | None:
        """Return None."""
        del key
        return None
