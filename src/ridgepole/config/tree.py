"""Plain trees of `dict` and `list`, and frozen trees of read-only mappings and tuples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ridgepole.config.limits import INTEGERS, MAX_DEPTH, MAX_NAME
from ridgepole.config.scan import KeyPath


def freeze(value: Any) -> Any:
    """Return a read-only copy made of `MappingProxyType` and tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return a copy made of `dict` and `list`, for user code and serialisers."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees: tables merge; all other values of `high`, including arrays, replace.

    A table `{ unset = true }` removes what stands in its place.
    """
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if value == {"unset": True}:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def take_null(value: Any) -> Any:
    """Replace each table `{ null = true }`, for which TOML has no word, by None."""
    if isinstance(value, dict):
        return None if value == {"null": True} else {key: take_null(item) for key, item in value.items()}
    return [take_null(item) for item in value] if isinstance(value, list) else value


def existing(tree: Any, path: KeyPath) -> tuple[KeyPath, Any]:
    """Return the longest existing start of a path, and the value there."""
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
    """Return a copy of a frozen tree with one value set, and missing tables created."""
    head, rest = path[0], path[1:]
    if rest:
        value = put(tree.get(head, {}), rest, value)
    return MappingProxyType({**tree, head: value})


def drop(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """Return a copy of a frozen tree without the value at an existing path."""
    head, rest = path[0], path[1:]
    if rest:
        return MappingProxyType({**tree, head: drop(tree[head], rest)})
    return MappingProxyType({key: value for key, value in tree.items() if key != head})


def unfit(tree: Mapping[str, Any]) -> Iterator[tuple[KeyPath, bool, str]]:
    """Yield path, whether the key is wrong, and message of what TOML allows but we do not."""
    todo: list[tuple[KeyPath, Any]] = [((), tree)]
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
