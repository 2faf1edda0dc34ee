"""What the encoders share: where they stand in the state, the blocks of bytes they found, and how they refuse.

A blob is a block that goes to the tensor file instead of the tree: a tensor, an array, or long bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from ridgepole.errors import StateError

Json = Any
"""A value that JSON can hold: mypy has no finite name for the recursive type."""

ITEM_SIZE = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "C64": 8,
    "F8_E4M3": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2": 1,
    "F8_E5M2FNUZ": 1,
}
"""Bytes of an element, by the type words of the safetensors format."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One entry of a tensor file.

    Attributes:
        dtype: A key of `ITEM_SIZE`.
        shape: As the file's header gives it.
        memory: Who allocates the bytes when they are read back.
        read: Gives the bytes, contiguous and on the CPU; called once, when they are written.
    """

    dtype: str
    shape: tuple[int, ...]
    memory: Literal["torch", "bytes"]
    read: Callable[[], memoryview]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * ITEM_SIZE[self.dtype]


class Attribute(str):
    """A step of a path that is an attribute and not a key."""

    __slots__ = ()


def show_path(keys: Sequence[object]) -> str:
    """A path as a user would write it: `permanences.network['optimiser']['state'][0]`."""
    text = ""
    for depth, key in enumerate(keys):
        kind = type(key)  # isinstance() would ask the key for its __class__
        if kind is Attribute or (depth == 1 and kind is str and str(key).isidentifier()):
            text += f".{key}"
        elif depth == 0 and kind is str:
            text += str(key)
        else:
            text += f"[{_show_key(key)}]"
    return text or "the state"


def _show_key(key: object) -> str:
    if type(key) is int and key.bit_length() > 200:  # repr() refuses over 4300 digits
        return f"{hex(key)[:57]}..."
    # repr() of anything else might run the user's code
    shown = repr(key) if type(key) in (str, int, float, bool, bytes, type(None)) else f"<{type(key).__name__}>"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


class Sink:
    """Where the encoders put blobs, and what knows the place in the state at which they are.

    Attributes:
        path: The keys from the root to the value that is being encoded.
        blobs: What was found, by the names of the tensor file.
        inside_key: Over 0 while a key or a member of a set is encoded.
    """

    def __init__(self) -> None:
        self.path: list[object] = []
        self.blobs: dict[str, Blob] = {}
        self.inside_key = 0

    def add(self, blob: Blob, name: str | None = None) -> str:
        """Takes a blob and gives the name under which it is stored, made from the path."""
        wanted = (self.name() if name is None else name)[:500]
        name, count = wanted, 1
        while name in self.blobs or name in ("", "__metadata__"):
            count += 1
            name = f"{wanted}#{count}"
        self.blobs[name] = blob
        return name

    def name(self) -> str:
        """The path in the form that tensors have in a file: `network.weight`."""
        words = (str(key) if type(key) in (str, Attribute) else _show_key(key) for key in self.path)
        return ".".join(words).encode("utf-8", "backslashreplace").decode()

    def refuse(self, what: str, advice: str) -> StateError:
        """The error for the value at the present path."""
        return StateError(show_path(self.path), what, advice)


def one_view(memory: memoryview) -> Callable[[], memoryview]:
    """A `Blob.read` for bytes that are in memory already."""
    return lambda: memory


def type_name(value: object) -> str:
    """The name of a value's type, with its module unless that is a builtin's."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def first_of(seen: dict[Hashable, Json], key: Hashable, node: Callable[[], Json]) -> Json:
    """The node of what was encoded before under this key, or a new one."""
    if key not in seen:
        seen[key] = node()
    return seen[key]
