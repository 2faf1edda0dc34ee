"""A state as a type-tagged JSON tree and blobs.

What JSON has (null, booleans, integers of 64 bits, finite numbers, text, lists) stands as itself. Every JSON object is
a tag with one payload, such as `{"tuple": [1, 2]}` or `{"dict": [0, "a", 1, "b"]}` (keys and values by turns);
`untree` has the other direction and with it the list of tags. Types are matched exactly: a subclass may hold more than
its base, and only its own code could bring that back, which loading must never run.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from base64 import b64encode
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ridgepole.checkpoint.advice import advice_for
from ridgepole.checkpoint.arrays import ArrayEncoder
from ridgepole.checkpoint.blobs import Attribute, Blob, Json, Sink, one_view, type_name
from ridgepole.checkpoint.torchvalues import TorchEncoder

MAX_DEPTH = 100
"""How deep containers may be nested; the JSON parser's own limit is about 250 levels, of which one takes two."""

MAX_VALUES = 10_000_000
"""How many values a tree may have; a few lists that hold each other over and over would make it endless."""

INLINE = 4096
"""Bytes from which a block goes to the tensor file and not into the tree."""

PACKED = 32
"""Length from which a list or tuple of nothing but integers, or nothing but floats, is stored as one block."""


def encode_state(state: Mapping[str, Any]) -> tuple[Json, dict[str, Blob]]:
    """Turns a state into a JSON tree and the blobs that it refers to.

    Args:
        state: Names and values; values as `docs/checkpoints.md` lists them.

    Returns:
        The tree, and the blobs by name. Tensors that share memory are in there once.

    Raises:
        StateError: If it holds what can't be stored; names the path.
    """
    encoder = _Encoder()
    tree = encoder.encode(dict(state))
    encoder.torch.finish()
    return tree, encoder.sink.blobs


class _Encoder:
    def __init__(self) -> None:
        self.sink = Sink()
        self.arrays = ArrayEncoder(self.sink)
        self.torch = TorchEncoder(self.sink)
        self._around: set[int] = set()
        self._count = 0
        self._encoders: dict[type, Callable[[Any], Json]] = {
            str: self._str,
            int: self._int,
            float: self._float,
            complex: lambda x: {"complex": [_bits(x.real), _bits(x.imag)]},
            bytes: lambda x: {"bytes": self._block(memoryview(x))},
            bytearray: lambda x: {"bytearray": self._block(memoryview(bytes(x)))},
            range: lambda x: {"range": [self._int(x.start), self._int(x.stop), self._int(x.step)]},
            list: lambda x: self._packed(x, "list") or self._items(x),
            tuple: lambda x: self._packed(x, "tuple") or {"tuple": self._items(x)},
            dict: self._dict,
            OrderedDict: self._ordered,
            Counter: lambda x: {"Counter": self._pairs(x)},
            set: lambda x: {"set": self._members(x)},
            frozenset: lambda x: {"frozenset": self._members(x)},
            deque: lambda x: {"deque": [x.maxlen, *self._items(x)]},
            type(Path()): lambda x: {"Path": self._str(str(x))},
            PurePosixPath: lambda x: {"PurePosixPath": self._str(str(x))},
            PureWindowsPath: lambda x: {"PureWindowsPath": self._str(str(x))},
        }

    def encode(self, value: Any) -> Json:
        if value is None or value is True or value is False:
            return value
        encoder = self._encoders.get(type(value))
        if encoder is not None:
            return encoder(value)
        for module, other in (("numpy", self.arrays.encode), ("torch", self.torch.encode)):
            # what was never imported has no values
            node = other(value, sys.modules[module]) if module in sys.modules else None
            if node is not None:
                return node
        raise self.sink.refuse(f"a {type_name(value)}", advice_for(value))

    # --- numbers and text

    def _str(self, value: str) -> Json:
        try:
            value.encode()
        except UnicodeEncodeError:  # lone surrogates, as in file names that are no UTF-8
            return {"str": b64encode(value.encode("utf-8", "surrogatepass")).decode()}
        return value

    def _int(self, value: int) -> Json:
        return value if -(2**63) <= value < 2**63 else {"int": hex(value)}

    def _float(self, value: float) -> Json:
        return value if math.isfinite(value) else {"float": _bits(value)}

    def _block(self, data: memoryview) -> Json:
        if len(data) < INLINE or self.sink.inside_key:
            return b64encode(data).decode()
        return {"at": self.sink.add(Blob("U8", (len(data),), "bytes", one_view(data)))}

    def _packed(self, value: list[Any] | tuple[Any, ...], kind: str) -> Json:
        """Long runs of numbers as one block: `random.getstate()` has 625, the order of an epoch millions."""
        if len(value) < PACKED:
            return None
        types = set(map(type, value))
        if types == {float}:
            code = "d"
        elif types == {int}:
            low, high = min(value), max(value)
            ranges = {"B": (0, 2**8), "I": (0, 2**32), "q": (-(2**63), 2**63), "Q": (0, 2**64)}
            code = next((code for code, (first, end) in ranges.items() if first <= low and high < end), "")
        else:
            return None
        return {"numbers": [kind, code, self._block(memoryview(array(code, value).tobytes()))]} if code else None

    # --- containers

    def _inside(self, container: object) -> _Inside:
        self._count += 1
        if id(container) in self._around:
            raise self.sink.refuse(f"a {type_name(container)} that contains itself", "store it without the cycle")
        if len(self._around) >= MAX_DEPTH:
            raise self.sink.refuse(f"nested over {MAX_DEPTH} levels deep", "store it flatter")
        return _Inside(self._around, id(container))

    def _at(self, key: object, value: Any) -> Json:
        self._count += 1
        self.sink.path.append(key)
        if self._count > MAX_VALUES:
            raise self.sink.refuse(f"beyond the first {MAX_VALUES:,} values", "store long data as arrays or tensors")
        node = self.encode(value)
        self.sink.path.pop()
        return node

    def _items(self, items: Iterable[Any]) -> Json:
        with self._inside(items):
            return [self._at(index, item) for index, item in enumerate(items)]

    def _members(self, items: Iterable[Any]) -> Json:
        with self._inside(items):
            return [self._key(item) for item in items]

    def _key(self, key: Any) -> Json:
        self.sink.inside_key += 1
        node = self._at(key, key)
        self.sink.inside_key -= 1
        return node

    def _dict(self, value: dict[Any, Any]) -> Json:
        if all(type(key) is str and key.isascii() for key in value):
            with self._inside(value):
                return {"map": {key: self._at(key, item) for key, item in value.items()}}
        return {"dict": self._pairs(value)}

    def _pairs(self, value: Mapping[Any, Any]) -> Json:
        with self._inside(value):
            return [node for key, item in value.items() for node in (self._key(key), self._at(key, item))]

    def _ordered(self, value: OrderedDict[Any, Any]) -> Json:
        # `Module.state_dict()` keeps the versions of its modules in an attribute
        extra = vars(value)
        if extra.keys() - {"_metadata"}:
            raise self.sink.refuse("an OrderedDict with attributes", "store dict(x) and the attributes beside it")
        node = {"OrderedDict": self._pairs(value)}
        return node | {"_metadata": self._at(Attribute("_metadata"), extra["_metadata"])} if extra else node


class _Inside:
    """Marks a container as being encoded."""

    __slots__ = ("around", "mark")

    def __init__(self, around: set[int], mark: int) -> None:
        self.around, self.mark = around, mark

    def __enter__(self) -> None:
        self.around.add(self.mark)

    def __exit__(self, *_: object) -> None:
        self.around.discard(self.mark)


def _bits(value: float) -> str:
    return struct.pack(">d", value).hex()
