"""Plain and frozen trees of configuration values: `dict` and `list`, against read-only mappings and tuples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ridgepole.config.limits import INTEGERS, MAX_DEPTH, MAX_NAME
from ridgepole.config.scan import Path


def freeze(value: Any) -> Any:
    """A read-only copy: mappings become `MappingProxyType`, lists and tuples become tuples, the rest stays."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """A copy of one's own of a frozen value, made of `dict` and `list`, as user code and serialisers expect it."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Lays one tree over another: tables merge, everything else, arrays included, replaces."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def existing(tree: Any, path: Path) -> tuple[Path, Any]:
    """The longest part of a path that exists, and the value there."""
    for depth, part in enumerate(path):
        if isinstance(tree, Mapping):
            inside = part in tree
        else:
            inside = isinstance(tree, list | tuple) and type(part) is int and 0 <= part < len(tree)
        if not inside:
            return path[:depth], tree
        tree = tree[part]
    return path, tree


def put(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> Mapping[str, Any]:
    """A copy of a frozen tree with one value set; tables on the way are made where they are missing."""
    head, rest = path[0], path[1:]
    if rest:
        value = put(tree.get(head, {}), rest, value)
    return MappingProxyType({**tree, head: value})


def unfit(tree: Mapping[str, Any]) -> Iterator[tuple[Path, bool, str]]:
    """What TOML's grammar allows and a configuration can't carry.

    Yields:
        The path, whether it is the key that is wrong, and the message.
    """
    todo: list[tuple[Path, Any]] = [((), tree)]
    while todo:
        path, value = todo.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            kind = type(item)
            if kind is int and item not in INTEGERS:
                yield (*path, key), False, "an integer that does not fit into 64 bits"
            elif kind is dict or kind is list:
                if len(path) + 1 < MAX_DEPTH:
                    todo.append(((*path, key), item))
                else:
                    yield (*path, key), True, f"tables and arrays nested more than {MAX_DEPTH} deep"
            if type(key) is str and len(key) > MAX_NAME:
                yield (*path, key), True, f"a key of more than {MAX_NAME} characters"
