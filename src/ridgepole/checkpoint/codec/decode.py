"""Decode a state from its type-tagged JSON tree and the blocks of its tensor file.

Each tag builds a value from data. No tag looks up a name, imports a module or calls what the file
names, so no checkpoint can run code.
"""

from __future__ import annotations

import importlib
import struct
from array import array
from base64 import b64decode
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ridgepole.checkpoint.codec.tensor_storage import Json
from ridgepole.checkpoint.codec.torch_values import tensor_bytes
from ridgepole.errors import MissingExtraError, RidgepoleError

Buffers = Mapping[str, Any]
"""Blocks by name: a one-dimensional torch tensor of uint8, or a bytearray."""


class TreeError(ValueError):
    """The tree is damaged or forged: no encoder makes it."""


def decode_state(tree: Json, buffers: Buffers, sharded: Callable[[str, Any, tuple[int, ...], str], Any]) -> Any:
    """Build a state with the types it had; tensors are on the CPU and need no gradient.

    Args:
        tree: What `encode_state` returned, through JSON and back.
        buffers: The blocks it refers to; the state's tensors and arrays use their memory.
        sharded: Returns the value of a tensor that is spread over ranks, by its key, type, shape
            and layout.

    Raises:
        TreeError: The tree is not one of `encode_state`'s, or doesn't fit the buffers.
        MissingExtraError: It holds tensors or arrays and their package is not installed.
    """
    try:
        return _Decoder(buffers, sharded).decode(tree)
    except (RidgepoleError, TreeError):
        raise
    except RecursionError:
        raise TreeError("nested too deep") from None
    # what constructors say of values that no encoder writes, numpy's and torch's included
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, struct.error) as error:
        raise TreeError(f"{type(error).__name__}: {error}") from error


class _Decoder:
    def __init__(self, buffers: Buffers, sharded: Callable[[str, Any, tuple[int, ...], str], Any]) -> None:
        self._buffers, self._sharded = buffers, sharded
        self._made: dict[str, Any] = {}
        self._decoders: dict[str, Callable[[Any], Any]] = {
            "map": self._map,
            "dict": lambda x: dict(self._pairs(x)),
            "OrderedDict": lambda x: OrderedDict(self._pairs(x)),
            "Counter": lambda x: Counter(dict(self._pairs(x))),
            "tuple": lambda x: tuple(self._items(x)),
            "set": lambda x: set(self._items(x)),
            "frozenset": lambda x: frozenset(self._items(x)),
            "deque": lambda x: deque(self._items(x[1:]), maxlen=x[0]),
            "int": lambda x: int(_text(x), 16),
            "float": _float,
            "complex": lambda x: complex(_float(x[0]), _float(x[1])),
            "str": lambda x: b64decode(_text(x), validate=True).decode("utf-8", "surrogatepass"),
            "bytes": lambda x: bytes(self._block(x)),
            "bytearray": lambda x: bytearray(self._block(x)),
            "numbers": self._numbers,
            "range": lambda x: range(*self._items(x)),
            "Path": lambda x: Path(_text(self.decode(x))),
            "PurePosixPath": lambda x: PurePosixPath(_text(self.decode(x))),
            "PureWindowsPath": lambda x: PureWindowsPath(_text(self.decode(x))),
            "numpy": lambda x: self._once("numpy", x, self._array),
            "numpy.scalar": self._scalar,
            "numpy.str": lambda x: _numpy().str_(b64decode(_text(x), validate=True).decode("utf-8", "surrogatepass")),
            "numpy.bytes": lambda x: _numpy().bytes_(b64decode(_text(x), validate=True)),
            "numpy.dtype": _dtype,
            "torch": lambda x: self._once("torch", x, self._tensor),
            "torch.sharded": lambda x: self._sharded(
                _text(x["key"]), torch_dtype(x["dtype"]), _sizes(x["shape"]), _text(x["layout"])
            ),
            "torch.Size": lambda x: _torch().Size(_sizes(x)),
            "torch.dtype": torch_dtype,
            "torch.device": lambda x: _torch().device(_text(x)),
        }

    def decode(self, node: Json) -> Any:
        if type(node) is list:
            return [self.decode(item) for item in node]
        if type(node) is not dict:
            return node
        extra = node.pop("_metadata", None) if "OrderedDict" in node else None
        if len(node) != 1:
            raise TreeError(f"a node with {len(node)} tags")
        ((tag, payload),) = node.items()
        if tag not in self._decoders:
            raise TreeError(f"an unknown tag {tag!r}")
        value = self._decoders[tag](payload)
        if extra is not None:
            value._metadata = self.decode(extra)  # noqa: SLF001 - torch's own name for the modules' versions
        return value

    def _items(self, payload: Any) -> list[Any]:
        if type(payload) is not list:
            raise TreeError("a container without a list")
        return [self.decode(item) for item in payload]

    def _pairs(self, payload: Any) -> list[tuple[Any, Any]]:
        flat = self._items(payload)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _map(self, payload: Any) -> dict[str, Any]:
        return {key: self.decode(item) for key, item in payload.items()}

    def _buffer(self, name: Any) -> Any:
        if name not in self._buffers:
            raise TreeError(f"a block {name!r} that is not in the tensor file")
        return self._buffers[name]

    def _block(self, payload: Any) -> bytes | bytearray:
        if type(payload) is str:
            return b64decode(payload, validate=True)
        buffer = self._buffer(payload["at"])
        if not isinstance(buffer, bytearray):
            raise TreeError("bytes in the memory of a tensor")
        return buffer

    def _numbers(self, payload: Any) -> list[Any] | tuple[Any, ...]:
        kind, code, data = payload
        if code not in ("B", "I", "q", "Q", "d") or kind not in ("list", "tuple"):
            raise TreeError(f"numbers of the kind {kind!r}, {code!r}")
        numbers = array(code)
        numbers.frombytes(self._block(data))
        return numbers.tolist() if kind == "list" else tuple(numbers)

    def _once(self, kind: str, node: Any, make: Callable[[Any], Any]) -> Any:
        """Make one object of values that were one object, or the same view of the same memory."""
        key = f"{kind} {sorted(node.items())!r}"
        if key not in self._made:
            self._made[key] = make(node)
        return self._made[key]

    # --- numpy

    def _array(self, node: Any) -> Any:
        numpy, dtype, shape = _numpy(), _dtype(node["dtype"]), _sizes(node["shape"])
        flat = numpy.frombuffer(self._block({"at": node["at"]}), numpy.uint8)
        # frombuffer can't read a dtype of no bytes
        value = numpy.ndarray(shape, dtype, flat) if flat.size else numpy.zeros(shape, dtype)
        if value.nbytes != flat.size:
            raise TreeError("an array that doesn't fill its block")
        return numpy.asfortranarray(value) if node.get("order") == "F" else value

    def _scalar(self, payload: Any) -> Any:
        dtype, data = _dtype(payload[0]), b64decode(payload[1], validate=True)
        return _numpy().ndarray((), dtype, bytearray(data))[()] if data else _numpy().zeros((), dtype)[()]

    # --- torch

    def _tensor(self, node: Any) -> Any:
        torch, buffer, shape = _torch(), self._buffer(node["at"]), _sizes(node["shape"])
        if not isinstance(buffer, torch.Tensor):
            raise TreeError("a tensor in the memory of bytes")
        dtype = torch_dtype(node["dtype"])
        view = node.get("view")
        offset, stride = (view["offset"], _sizes(view["stride"])) if view else (0, _row_major(shape))
        if len(stride) != len(shape) or type(offset) is not int or offset < 0:
            raise TreeError("a tensor with a wrong view")
        reach = sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1 if 0 not in shape else 0
        needed, there = (offset + reach) * dtype.itemsize, buffer.numel()
        if needed > there or (not view and needed != there):
            raise TreeError(f"a tensor of {needed} bytes in a block of {there}")
        value = torch.empty(0, dtype=dtype)
        value.set_(buffer.untyped_storage(), offset, shape, stride)
        if "stride" in node:
            laid_out = torch.empty_strided(shape, _sizes(node["stride"]), dtype=dtype)
            if laid_out.untyped_storage().nbytes() != needed:
                raise TreeError("a tensor with a wrong stride")
            return laid_out.copy_(value)
        return value


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return tuple(reversed(stride))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TreeError("a value that is not a text")
    return value


def _float(value: Any) -> float:
    return float(struct.unpack(">d", bytes.fromhex(_text(value)))[0])


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) is not list or len(value) > 64 or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise TreeError("a malformed shape")
    return tuple(value)


def _dtype(described: Any) -> Any:
    dtype = _numpy().lib.format.descr_to_dtype(_descr(described))
    if dtype.hasobject:
        raise TreeError("an array of Python objects")
    return dtype


def _descr(described: Any) -> Any:
    """Return a structured type's description with the tuples that JSON has as lists."""
    if isinstance(described, str):
        return described
    if described and all(isinstance(field, list) for field in described):  # a structure
        return [(_field_name(f[0]), _descr(f[1]), *(tuple(shape) for shape in f[2:])) for f in described]
    base, shape = described  # a type with a shape of its own
    return _descr(base), tuple(shape)


def _field_name(name: Any) -> Any:
    return tuple(name) if isinstance(name, list) else name


def torch_dtype(word: Any) -> Any:
    """Return the torch type of a word such as `float32`.

    Raises:
        TreeError: This torch has no such type.
    """
    torch = _torch()
    dtype = vars(torch).get(_text(word))  # not getattr: that may import
    if not isinstance(dtype, torch.dtype):
        raise TreeError(f"an unknown torch dtype {word!r}; this torch may be too old")
    return dtype


def _numpy() -> Any:
    return _imported("numpy")


def _torch() -> Any:
    return _imported("torch")


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, "torch", "this checkpoint") from None


def buffer_for(memory: str, size: int) -> tuple[Any, memoryview]:
    """Allocate a block with the owner that `Blob.memory` names; return it and a view to fill it."""
    if memory == "torch":
        tensor = _torch().empty(size, dtype=_torch().uint8)
        return tensor, tensor_bytes(tensor)
    block = bytearray(size)
    return block, memoryview(block)
