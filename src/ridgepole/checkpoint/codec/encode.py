"""Encode a state as a type-tagged JSON tree and blobs.

Values that JSON has (null, booleans, integers of 64 bits, finite numbers, text, lists) stand as
themselves. Every JSON object is a tag with one payload, such as `{"tuple": [1, 2]}` or
`{"dict": [0, "a", 1, "b"]}` (keys and values by turns); `decode` has the list of tags. Types are
matched exactly: a subclass may hold more than its base, and only its own code could restore that,
which loading must never run.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from base64 import b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from random import Random
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ridgepole.checkpoint.codec.tensor_storage import Attribute, Blob, Json, Shard, Sink, type_name
from ridgepole.checkpoint.codec.torch_values import TorchEncoder

_SUGGESTIONS: tuple[tuple[type, str], ...] = (
    (Enum, "store its .value and look the member up when loading"),
    (defaultdict, "store dict(x) and make the defaultdict again when loading"),
    (Random, "store its .getstate()"),
    (FunctionType, "code is not stored; store the numbers or names that it works with"),
    (MethodType, "code is not stored; store the numbers or names that it works with"),
    (type, "code is not stored; store a name and look it up when loading"),
    *(
        (base, f"it is a subclass, which only its own code could make again; store {base.__name__}(x)")
        for base in (dict, list, tuple, set, str, bytes, int, float)
    ),
)

_ATTRIBUTES = {
    "state_dict": "store its .state_dict()",
    "bit_generator": "store its .bit_generator.state",
    "get_state": "store its .get_state()",
    "isoformat": "store its .isoformat()",
}


def _suggestion(value: Any) -> str:
    """Suggest what to store instead of a value, without running any code of its own."""
    kind = type(value)  # isinstance() would ask the value for its __class__
    if hasattr(kind, "__dataclass_fields__"):
        return "store dataclasses.asdict(x)"
    for base, text in _SUGGESTIONS:
        if issubclass(kind, base):
            return text
    for name, text in _ATTRIBUTES.items():
        if any(name in vars(base) for base in kind.__mro__):
            return text
    return "store what it is made of: numbers, text, lists, dicts, arrays, tensors"


MAX_DEPTH = 100
"""Levels of nested containers; each takes two of the about 250 levels of the JSON parser."""

MAX_VALUES = 10_000_000
"""Number of values in a tree; lists that hold each other repeatedly multiply them."""

INLINE = 4096
"""Bytes from which a block goes to the tensor file and not into the tree."""

PACKED = 32
"""Length from which a list or tuple of only integers, or only floats, is stored as one block."""

CARRIERS = {
    "<f8": "F64",
    "<f4": "F32",
    "<f2": "F16",
    "<i8": "I64",
    "<i4": "I32",
    "<i2": "I16",
    "|i1": "I8",
    "<u8": "U64",
    "<u4": "U32",
    "<u2": "U16",
    "|u1": "U8",
    "|b1": "BOOL",
    "<c8": "C64",
}
"""numpy's types that the tensor file has a word for; the bytes of others are stored as U8."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A state as it is stored.

    Attributes:
        tree: Its JSON tree.
        blobs: The blobs that the tree refers to, by name.
        shards: Those of them that are parts of tensors which are spread over ranks.
    """

    tree: Json
    blobs: dict[str, Blob]
    shards: dict[str, Shard]


def encode_state(state: Mapping[str, Any]) -> Encoded:
    """Encode a state as a JSON tree and the blobs that it refers to.

    Tensors that share memory are stored once.

    Args:
        state: Names and values; values as `docs/checkpoints.md` lists them.

    Raises:
        StateError: The state holds a value that can't be stored; the error names its path.
    """
    encoder = _Encoder()
    tree = encoder.encode(dict(state))
    encoder.torch.finish()
    return Encoded(tree, encoder.sink.blobs, encoder.sink.shards)


class _Encoder:
    def __init__(self) -> None:
        self.sink = Sink()
        self.arrays = _ArrayEncoder(self.sink)
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
        raise self.sink.refuse(f"a {type_name(value)}", _suggestion(value))

    # --- numbers and text

    def _str(self, value: str) -> Json:
        try:
            value.encode()
        except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
            return {"str": b64encode(value.encode("utf-8", "surrogatepass")).decode()}
        return value

    def _int(self, value: int) -> Json:
        return value if -(2**63) <= value < 2**63 else {"int": hex(value)}

    def _float(self, value: float) -> Json:
        return value if math.isfinite(value) else {"float": _bits(value)}

    def _block(self, data: memoryview) -> Json:
        if len(data) < INLINE or self.sink.inside_key:
            return b64encode(data).decode()
        return {"at": self.sink.add(Blob("U8", (len(data),), "bytes", lambda: data))}

    def _packed(self, value: list[Any] | tuple[Any, ...], kind: str) -> Json:
        """Encode long runs of numbers as one block: the order of an epoch has millions."""
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

    def _enter(self, container: object) -> None:
        """Mark a container as being encoded. A refusal leaves the mark, as it ends the save."""
        self._count += 1
        if id(container) in self._around:
            raise self.sink.refuse(f"a {type_name(container)} that contains itself", "store it without the cycle")
        if len(self._around) >= MAX_DEPTH:
            raise self.sink.refuse(f"nested over {MAX_DEPTH} levels deep", "store it flatter")
        self._around.add(id(container))

    def _leave(self, container: object, node: Json) -> Json:
        self._around.discard(id(container))
        return node

    def _at(self, key: object, value: Any) -> Json:
        self._count += 1
        self.sink.path.append(key)
        if self._count > MAX_VALUES:
            raise self.sink.refuse(f"beyond the first {MAX_VALUES:,} values", "store long data as arrays or tensors")
        node = self.encode(value)
        self.sink.path.pop()
        return node

    def _items(self, items: Iterable[Any]) -> Json:
        self._enter(items)
        return self._leave(items, [self._at(index, item) for index, item in enumerate(items)])

    def _members(self, items: Iterable[Any]) -> Json:
        self._enter(items)
        return self._leave(items, [self._key(item) for item in items])

    def _key(self, key: Any) -> Json:
        self.sink.inside_key += 1
        node = self._at(key, key)
        self.sink.inside_key -= 1
        return node

    def _dict(self, value: dict[Any, Any]) -> Json:
        if all(type(key) is str and key.isascii() for key in value):
            self._enter(value)
            return self._leave(value, {"map": {key: self._at(key, item) for key, item in value.items()}})
        return {"dict": self._pairs(value)}

    def _pairs(self, value: Mapping[Any, Any]) -> Json:
        self._enter(value)
        pairs = [node for key, item in value.items() for node in (self._key(key), self._at(key, item))]
        return self._leave(value, pairs)

    def _ordered(self, value: OrderedDict[Any, Any]) -> Json:
        # `Module.state_dict()` keeps the versions of its modules in an attribute
        extra = vars(value)
        if extra.keys() - {"_metadata"}:
            raise self.sink.refuse("an OrderedDict with attributes", "store dict(x) and the attributes beside it")
        node = {"OrderedDict": self._pairs(value)}
        return node | {"_metadata": self._at(Attribute("_metadata"), extra["_metadata"])} if extra else node


class _ArrayEncoder:
    """Encode numpy's arrays and scalars into a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._seen: dict[Hashable, Json] = {}
        self._alive: list[Any] = []

    def encode(self, value: Any, numpy: ModuleType) -> Json:
        """Return the node of a value of numpy's; None for others."""
        kind = type(value)  # isinstance() would ask the value for its __class__
        if issubclass(kind, numpy.ndarray):
            if kind is not numpy.ndarray:
                raise self._sink.refuse(f"a {type_name(value)}", "store numpy.asarray(x) and what else it holds")
            place = value.__array_interface__["data"][0], value.dtype.str, value.shape, value.strides
            self._alive.append(value)  # so that no later array gets the same address
            key = place, str(value.dtype)
            if key not in self._seen:
                self._seen[key] = self._array(value, numpy)
            return self._seen[key]
        if issubclass(kind, numpy.str_):  # str() of one cuts zeros off its end, a slice doesn't
            return {"numpy.str": b64encode(value[:].encode("utf-8", "surrogatepass")).decode()}
        if issubclass(kind, numpy.bytes_):
            return {"numpy.bytes": b64encode(bytes(value)).decode()}
        if issubclass(kind, numpy.generic):
            return {"numpy.scalar": [self._dtype(value.dtype, numpy), b64encode(value.tobytes()).decode()]}
        if issubclass(kind, numpy.dtype):
            return {"numpy.dtype": self._dtype(value, numpy)}
        return None

    def _array(self, value: Any, numpy: ModuleType) -> Json:
        dtype = self._dtype(value.dtype, numpy)
        word = CARRIERS.get(dtype) if isinstance(dtype, str) else None
        carrier, shape = (word, value.shape) if word else ("U8", (value.nbytes,))

        def read() -> memoryview:
            # tobytes() where there is no buffer, as for dates, or no contiguous one
            plain = value.flags.c_contiguous and value.size and value.dtype.kind in "biufc"
            return memoryview(value).cast("B") if plain and value.ndim else memoryview(value.tobytes())

        node = {"at": self._sink.add(Blob(carrier, shape, "bytes", read)), "dtype": dtype, "shape": list(value.shape)}
        if value.flags.f_contiguous and not value.flags.c_contiguous:
            node["order"] = "F"
        return {"numpy": node}

    def _dtype(self, dtype: Any, numpy: ModuleType) -> Json:
        """Describe a type as numpy's own file format does, which needs no code to be read back."""
        if dtype.kind == "O":
            raise self._sink.refuse("an array of Python objects", "store x.tolist(), or give it a plain dtype")
        described = None if dtype.hasobject or dtype.metadata else numpy.lib.format.dtype_to_descr(dtype)
        if described is None or numpy.lib.format.descr_to_dtype(described) != dtype:
            raise self._sink.refuse(f"of the numpy dtype {dtype}", "store it with a dtype that numpy.save can describe")
        return described


def _bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def children(node: Json) -> dict[str, Json]:
    """Return the nodes of a mapping by their keys, as far as these are text."""
    if "map" in node:
        return dict(node["map"])
    pairs = node["dict"]  # a mapping with keys that are not ASCII text: keys and values by turns
    return {key: value for key, value in zip(pairs[::2], pairs[1::2], strict=True) if isinstance(key, str)}


def walk(node: Json) -> Iterator[tuple[str, Any]]:
    """Yield every tag below a node with its payload, and `at` with the name of each block."""
    if isinstance(node, list):
        for item in node:
            yield from walk(item)
    elif isinstance(node, dict):
        for tag, payload in node.items():
            yield tag, payload
            # The keys of a map are the user's, not tags.
            yield from walk(list(payload.values()) if tag == "map" else payload)
