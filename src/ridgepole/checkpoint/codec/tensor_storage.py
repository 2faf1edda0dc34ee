"""The blobs of a state, the path of the value that is being encoded, and how values are refused.

A blob is a block that goes to the tensor file, not the tree: a tensor, an array, or long bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        memory: The owner of the bytes when they are read back.
        read: Returns the bytes, contiguous and on the CPU; called once, when they are written.
        tensor: The tensor itself; None for other memory.
        aliases: The other names of a tensor that the state has at several places (tied weights).
    """

    dtype: str
    shape: tuple[int, ...]
    memory: Literal["torch", "bytes"]
    read: Callable[[], memoryview]
    aliases: tuple[str, ...] = ()
    tensor: Any = None

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * ITEM_SIZE[self.dtype]


@dataclass(frozen=True, slots=True)
class Shard:
    """A rank's part of a tensor that is spread over ranks.

    Attributes:
        dtype: The type of the tensor, in torch's word.
        shape: The shape of the whole.
        offset: Where the part begins in it.
        size: The shape of the part.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    size: tuple[int, ...]


class Attribute(str):
    """A part of a path that is an attribute and not a key."""

    __slots__ = ()


def show_path(keys: Sequence[object]) -> str:
    """Format a path as a user would write it: `permanences.network['optimiser']['state'][0]`."""
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
    """The blobs of a state, and the path at which the encoders are.

    Attributes:
        path: The keys from the root to the value that is being encoded.
        blobs: The blobs so far, by their names in the tensor file.
        reserved: Names of tensors of which this rank has no part.
        shards: The blobs that are parts of tensors which are spread over ranks.
        inside_key: Over 0 while a key or a member of a set is encoded.
    """

    def __init__(self) -> None:
        self.path: list[object] = []
        self.blobs: dict[str, Blob] = {}
        self.reserved: set[str] = set()
        self.shards: dict[str, Shard] = {}
        self.inside_key = 0

    def add(self, blob: Blob, name: str | None = None) -> str:
        """Store a blob; return its name, made from the path."""
        name = self.free_name(name)
        self.blobs[name] = blob
        return name

    def free_name(self, name: str | None = None) -> str:
        """Return a name that is not taken, made from the path unless one is wanted."""
        wanted = (self.name() if name is None else name)[:500]
        name, count = wanted, 1
        while name in self.blobs or name in self.reserved or name in ("", "__metadata__"):
            count += 1
            name = f"{wanted}#{count}"
        return name

    def name(self) -> str:
        """Return the path as a tensor's name in a file: `network.weight`."""
        words = (str(key) if type(key) in (str, Attribute) else _show_key(key) for key in self.path)
        return ".".join(words).encode("utf-8", "backslashreplace").decode()

    def refuse(self, what: str, advice: str) -> StateError:
        """Return the error for the value at the present path."""
        return StateError(show_path(self.path), what, advice)


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module unless it is builtin."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
