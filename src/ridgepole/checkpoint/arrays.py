"""numpy's arrays and scalars in a state."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Hashable
from types import ModuleType
from typing import Any

from ridgepole.checkpoint.blobs import Blob, Json, Sink, first_of, type_name

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
"""Types that the tensor file has a word for; the bytes of others are stored as U8, their type in the tree."""


class ArrayEncoder:
    """Encodes arrays and scalars.

    Args:
        sink: Takes the blobs and knows the place.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._seen: dict[Hashable, Json] = {}
        self._alive: list[Any] = []

    def encode(self, value: Any, numpy: ModuleType) -> Json:
        """The node of a value; None where it is none of numpy's."""
        kind = type(value)  # isinstance() would ask the value for its __class__
        if issubclass(kind, numpy.ndarray):
            if kind is not numpy.ndarray:
                raise self._sink.refuse(f"a {type_name(value)}", "store numpy.asarray(x) and what else it holds")
            place = value.__array_interface__["data"][0], value.dtype.str, value.shape, value.strides
            self._alive.append(value)  # so that no later array gets the same address
            return first_of(self._seen, (place, str(value.dtype)), lambda: self._array(value, numpy))
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
        """A type as numpy's own file format describes it, which needs no code to be read back."""
        if dtype.kind == "O":
            raise self._sink.refuse("an array of Python objects", "store x.tolist(), or give it a plain dtype")
        described = None if dtype.hasobject or dtype.metadata else numpy.lib.format.dtype_to_descr(dtype)
        if described is None or numpy.lib.format.descr_to_dtype(described) != dtype:
            raise self._sink.refuse(f"of the numpy dtype {dtype}", "store it with a dtype that numpy.save can describe")
        return described
