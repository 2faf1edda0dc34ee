"""Tensors of a checkpoint that are spread over ranks: read any box, and lay them out as today's."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ridgepole.checkpoint.codec.dtensors import filled_like, is_dtensor
from ridgepole.checkpoint.codec.tensors import TensorFileError, fill, read_entries
from ridgepole.checkpoint.codec.torch_values import tensor_bytes
from ridgepole.checkpoint.manifest import DamagedError
from ridgepole.checkpoint.safe_open import opened, system_errors
from ridgepole.checkpoint.shards import Box, ShardedTensor
from ridgepole.errors import CheckpointError


class ShardFiles:
    """The tensor files of a checkpoint whose bytes were verified before.

    Args:
        directory: The checkpoint.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._places: dict[str, dict[str, tuple[int, int]]] = {}

    def rows(self, name: str, key: str, size: tuple[int, ...], first: int, last: int, dtype: Any) -> Any:
        """Read some rows of a box, all that lies from `first` to `last` along its dimension 0."""
        import torch

        found = torch.empty((last - first, *size[1:]) if size else (), dtype=dtype)
        data = tensor_bytes(found)
        per_row = len(data) // max(last - first, 1)
        try:
            with (
                system_errors(self.directory / name, "the checkpoint can't be read"),
                opened(self.directory, name) as (
                    file,
                    length,
                ),
            ):
                if name not in self._places:
                    self._places[name] = {each: span for each, *span in read_entries(file, length)}  # type: ignore[misc]
                begin, end = self._places[name][key]
                if end - begin != per_row * (size[0] if size else 1):
                    raise DamagedError(f"{name} holds another {key!r} than the index says")
                file.seek(begin + first * per_row)
                fill(file, data)
        except (DamagedError, TensorFileError, KeyError, struct.error) as error:
            raise CheckpointError(f"checkpoint {self.directory} can't be read: {name}: {error}") from error
        return found


class Sharded:
    """A tensor of a checkpoint that is spread over ranks, and was not read yet.

    Attributes:
        key: Its name.
        dtype: Its torch type.
        shape: Of the whole.
        layout: Describes how it was laid out; equal where two tensors were laid out alike.
    """

    def __init__(
        self, key: str, dtype: Any, shape: tuple[int, ...], layout: str, table: ShardedTensor, files: ShardFiles
    ) -> None:
        self.key, self.dtype, self.shape, self.layout = key, dtype, shape, layout
        self._table, self._files = table, files

    def __repr__(self) -> str:
        return f"<{self.key}: {self.dtype} of the shape {self.shape}, in shards>"

    def read(self, box: Box) -> Any:
        """Read a box of it, on the CPU."""
        import torch

        offset, size = box
        found = torch.empty(size, dtype=self.dtype)
        if not found.numel():
            return found
        for name, begin, count in self._table.boxes:
            low = [max(a, b) for a, b in zip(offset, begin, strict=True)]
            high = [min(a + n, b + m) for a, n, b, m in zip(offset, size, begin, count, strict=True)]
            if any(first >= last for first, last in zip(low, high, strict=True)):
                continue
            first, last = (low[0] - begin[0], high[0] - begin[0]) if size else (0, 1)
            rows = self._files.rows(name, self.key, count, first, last, self.dtype)
            inside = tuple(slice(a - b, z - b) for a, z, b in zip(low, high, begin, strict=True))
            target = tuple(slice(a - b, z - b) for a, z, b in zip(low, high, offset, strict=True))
            found[target] = rows[(slice(None), *inside[1:])] if size else rows
        return found

    def whole(self) -> Any:
        """Read all of it, on the CPU."""
        return self.read(((0,) * len(self.shape), self.shape))


def holds_shards(state: Any) -> bool:
    """Return whether a state has tensors that were not read yet."""
    return any(isinstance(leaf, Sharded) for leaf, _ in _leaves(state, None))


class Layouts:
    """Lays tensors of a checkpoint out as those that the permanences have today.

    Args:
        states: The stored states by name.
        templates: What `state_dict` of the permanences returns now, by name.
    """

    def __init__(self, states: Mapping[str, Any], templates: Mapping[str, Any]) -> None:
        self._templates = templates
        self._alike: dict[tuple[tuple[int, ...], str], Any] = {}
        self._distributed = False
        for name, template in templates.items():
            for leaf, now in _leaves(states.get(name), template):
                if is_dtensor(now):
                    self._distributed = True
                    if isinstance(leaf, Sharded):
                        self._alike.setdefault((leaf.shape, leaf.layout), now)
            self._distributed = self._distributed or any(is_dtensor(leaf) for leaf, _ in _leaves(template, None))

    def place(self, name: str, state: Any) -> Any:
        """Return a state with all of its tensors read; each rank reads the boxes that it needs.

        Raises:
            CheckpointError: If nothing says how a tensor is to be laid out, or it can't be read.
        """
        return self._place(state, self._templates.get(name))

    def _place(self, value: Any, template: Any) -> Any:
        if isinstance(value, Sharded):
            return self._read(value, template)
        if isinstance(value, dict):
            for key in value:
                value[key] = self._place(value[key], _child(template, key))
        elif isinstance(value, list | deque):
            for index in range(len(value)):
                value[index] = self._place(value[index], _child(template, index))
        elif isinstance(value, tuple) and holds_shards(value):
            return tuple(self._place(item, _child(template, index)) for index, item in enumerate(value))
        elif is_dtensor(template) and hasattr(value, "detach") and value.shape == template.shape:

            def part(box: Box) -> Any:
                return value[tuple(slice(a, a + n) for a, n in zip(*box, strict=True))].contiguous()

            return filled_like(template, tuple(value.shape), value.dtype, part)
        return value

    def _read(self, stored: Sharded, template: Any) -> Any:
        if template is None:
            template = self._alike.get((stored.shape, stored.layout))
        if is_dtensor(template):
            return filled_like(template, stored.shape, stored.dtype, stored.read)
        if template is None and self._distributed:
            raise CheckpointError(
                f"{stored.key} is stored in shards, and nothing says how to lay it out now: return it from state_dict "
                "before the first step too, as torch.distributed.checkpoint.state_dict.get_state_dict does"
            )
        return stored.whole()


def _child(template: Any, key: Any) -> Any:
    try:
        return template[key] if isinstance(template, dict | list | tuple) else None
    except (LookupError, TypeError):
        return None


def _leaves(value: Any, template: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every value below a state that is not a container, with that of a template."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, _child(template, key))
    elif isinstance(value, list | tuple | deque):
        for index, item in enumerate(value):
            yield from _leaves(item, _child(template, index))
    else:
        yield value, template
