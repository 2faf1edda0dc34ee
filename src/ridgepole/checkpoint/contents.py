"""What is in a checkpoint, told from its files: nothing is decoded, so no package that it needs must be there."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ridgepole.checkpoint.files import opened, read_recorded
from ridgepole.checkpoint.layout import part_names
from ridgepole.checkpoint.manifest import CheckpointInfo, DamagedError
from ridgepole.checkpoint.saving import system_errors
from ridgepole.checkpoint.tensors import MAX_HEADER
from ridgepole.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Content:
    """How much a checkpoint holds of one thing.

    Attributes:
        tensors: Number of tensors and arrays; those that share memory count each.
        bytes: Of their data, once where it is shared, and of the text of everything else.
    """

    tensors: int
    bytes: int


def contents(info: CheckpointInfo, section: str) -> dict[str, Content]:
    """What a checkpoint holds under each name of a section.

    Args:
        info: Which checkpoint.
        section: A key of its state whose value is a mapping with text for keys, such as `permanences`.

    Returns:
        By name; empty where there is no such section.

    Raises:
        CheckpointError: If it is damaged, was written by a newer Ridgepole, or can't be read.
    """
    tree_name, tensors_name = part_names(0)
    try:
        if info.problem:
            raise DamagedError(info.problem)
        with system_errors(info.path, "the checkpoint can't be read"):
            document = orjson.loads(read_recorded(info.path, tree_name, (info.files or {})[tree_name]))
            sizes = _sizes(info, tensors_name) if tensors_name in (info.files or {}) else {}
        found = _section(document["state"], section)
        return {name: _measure(node, sizes) for name, node in found.items()}
    except DamagedError as error:
        raise CheckpointError(f"checkpoint {info.path} can't be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"checkpoint {info.path} is malformed ({type(error).__name__}: {error})") from None


def _section(state: Any, section: str) -> Mapping[str, Any]:
    node = state["map"].get(section, {"map": {}})
    if "map" in node:
        return dict(node["map"])
    pairs = node["dict"]  # a mapping with keys that are no ASCII text: keys and values by turns
    return {key: value for key, value in zip(pairs[::2], pairs[1::2], strict=True) if isinstance(key, str)}


def _sizes(info: CheckpointInfo, name: str) -> dict[str, int]:
    """Bytes by name, from the head of the tensor file alone: its data may be many gigabytes."""
    with opened(info.path, name) as (file, size):
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, MAX_HEADER):
            raise DamagedError(f"{name} has a header of {length} bytes")
        header = orjson.loads(file.read(length))
    header.pop("__metadata__", None)
    return {key: entry["data_offsets"][1] - entry["data_offsets"][0] for key, entry in header.items()}


def _measure(node: Any, sizes: Mapping[str, int]) -> Content:
    blocks: set[str] = set()
    tensors = 0
    for tag, name in _walk(node):
        tensors += tag in ("torch", "numpy")
        if name:
            blocks.add(name)
    return Content(tensors, sum(sizes[name] for name in blocks) + len(orjson.dumps(node)))


def _walk(node: Any) -> Iterator[tuple[str, str]]:
    """Every tag below a node, and the name of every block of the tensor file."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item)
    elif isinstance(node, dict):
        if isinstance(node.get("at"), str):
            yield "", node["at"]
        for tag, payload in node.items():
            yield tag, ""
            yield from _walk(list(payload.values()) if tag == "map" else payload)  # a map's keys are the user's
