"""torch's tensors and small types in a state.

Tensors that are the same view of the same memory (tied weights) are written once and come back as
one tensor. Views that overlap are written once, as one block, and come back as views of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ridgepole.checkpoint.codec.dtensors import is_dtensor, local_shard
from ridgepole.checkpoint.codec.tensor_storage import Blob, Json, Shard, Sink, type_name

WORDS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}
"""Types that the tensor file has a word for."""

CARRIED = {
    "complex128": "F64",
    "complex32": "F16",
    "float8_e8m0fnu": "U8",
    "float4_e2m1fn_x2": "U8",
}
"""Types that are stored as another; the tree names them. A complex number is two reals."""


def tensor_bytes(tensor: Any) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU, without a copy and without numpy."""
    size = tensor.numel() * tensor.element_size()
    if not size:
        return memoryview(b"")
    array = (ctypes.c_char * size).from_address(tensor.data_ptr())
    array.owner = tensor  # keeps the memory alive as long as the view
    return memoryview(array).cast("B")


@dataclass(slots=True)
class _Leaf:
    """One view of some memory, with every node of the tree at which it is, and its other names."""

    tensor: Any
    name: str
    start: int
    end: int
    nodes: list[dict[str, Json]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)


class TorchEncoder:
    """Encode tensors and torch's small types into a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._leaves: dict[object, dict[object, _Leaf]] = {}

    def encode(self, value: Any, torch: ModuleType) -> Json:
        """Return the node of a value of torch's, complete only after `finish`; None for others."""
        kind = type(value)  # isinstance() would ask the value for its __class__
        if is_dtensor(value):
            return {"torch.sharded": self._shard(value, torch)}
        if issubclass(kind, torch.Tensor):
            self._check(value, torch)
            node: dict[str, Json] = {}
            self._leaf(value.detach().resolve_conj().resolve_neg()).nodes.append(node)
            return {"torch": node}
        if kind is torch.Size:
            return {"torch.Size": list(value)}
        if kind is torch.dtype:
            return {"torch.dtype": _word(value)}
        if kind is torch.device:
            return {"torch.device": str(value)}
        return None

    def _shard(self, value: Any, torch: ModuleType) -> Json:
        """Return the node of a DTensor, the same on all ranks, and store this rank's part of it."""
        shard = local_shard(value)
        if shard.problem:
            raise self._sink.refuse(shard.problem, "redistribute it to Shard or Replicate placements first")
        word, shape = _word(value.dtype), tuple(value.shape)
        carrier = WORDS.get(word) or CARRIED.get(word)
        if carrier is None:
            raise self._sink.refuse(f"a DTensor of {value.dtype}", "store it with another dtype")
        key = self._sink.free_name()
        if shard.tensor is not None and shard.tensor.numel():
            self._check(shard.tensor, torch)
            stored = (*shard.box[1], 2) if word.startswith("complex") and word in CARRIED else shard.box[1]
            local = shard.tensor.resolve_conj().resolve_neg()
            self._sink.add(Blob(carrier, stored, "torch", _reader(local), tensor=local), key)
            self._sink.shards[key] = Shard(word, shape, *shard.box)
        else:
            self._sink.reserved.add(key)
        return {
            "key": key,
            "dtype": word,
            "item": value.element_size(),
            "shape": list(shape),
            "layout": shard.layout,
        }

    def _check(self, value: Any, torch: ModuleType) -> None:
        plain = torch.Tensor, torch.nn.Parameter, torch.nn.Buffer
        if self._sink.inside_key:
            raise self._sink.refuse("a tensor as a key", "it is hashed by its identity; use a number or a name")
        if type(value) not in plain:
            raise self._sink.refuse(f"a {type_name(value)}", "store a plain tensor, such as its .to_local() or .data")
        if value.is_nested:
            raise self._sink.refuse("a nested tensor", "store x.unbind()")
        if value.layout != torch.strided:
            raise self._sink.refuse(f"a tensor of the layout {value.layout}", "store x.to_dense()")
        if value.is_quantized:
            raise self._sink.refuse("a quantized tensor", "store x.int_repr(), x.q_scale() and x.q_zero_point()")
        if value.device.type == "meta":
            raise self._sink.refuse("a tensor on the meta device", "it has no values; materialise it before saving")
        if _word(value.dtype) not in WORDS | CARRIED:
            raise self._sink.refuse(f"a tensor of {value.dtype}", "store it with another dtype")

    def _leaf(self, tensor: Any) -> _Leaf:
        """Return the leaf of this view; the same for every tensor that is the same view."""
        size = tensor.element_size()
        start = tensor.storage_offset() * size
        reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        end = start + (reach + 1) * size if tensor.numel() else start
        # what has no memory shares none
        memory = (str(tensor.device), tensor.untyped_storage().data_ptr()) if end > start else object()
        view = (start, tensor.dtype, tuple(tensor.shape), tensor.stride())
        views = self._leaves.setdefault(memory, {})
        if view in views:
            views[view].aliases.append(self._sink.name())
        else:
            views[view] = _Leaf(tensor, self._sink.name(), start, end)
        return views[view]

    def finish(self) -> None:
        """Decide which tensors are stored together, and complete the nodes."""
        for views in self._leaves.values():
            for cluster in _clusters(list(views.values())):
                span = max(leaf.end for leaf in cluster) - cluster[0].start
                held = sum(leaf.tensor.numel() * leaf.tensor.element_size() for leaf in cluster)
                # far apart columns of one matrix are stored each by itself
                if len(cluster) > 1 and span <= held:
                    self._add_block(cluster)
                else:
                    for leaf in cluster:
                        self._add(leaf)

    def _add(self, leaf: _Leaf) -> None:
        tensor, word = leaf.tensor, _word(leaf.tensor.dtype)
        shape = tuple(tensor.shape)
        carrier = WORDS.get(word) or CARRIED[word]
        stored = (*shape, 2) if word.startswith("complex") and word in CARRIED else shape
        name = self._sink.add(Blob(carrier, stored, "torch", _reader(tensor), tuple(leaf.aliases), tensor), leaf.name)
        node = {"at": name, "dtype": word, "shape": list(shape)}
        dense = leaf.end - leaf.start == tensor.numel() * tensor.element_size()
        if dense and not tensor.is_contiguous():  # such as channels_last: kernels are chosen by it
            node["stride"] = list(tensor.stride())
        for place in leaf.nodes:
            place.update(node)

    def _add_block(self, cluster: list[_Leaf]) -> None:
        import torch

        # Every view's offset stays a multiple of its element.
        start = cluster[0].start - cluster[0].start % 16
        end = max(leaf.end for leaf in cluster)
        storage = cluster[0].tensor.untyped_storage()
        block = torch.empty(0, dtype=torch.uint8, device=cluster[0].tensor.device)
        block.set_(storage, start, (end - start,), (1,))
        name = self._sink.add(Blob("U8", (end - start,), "torch", _reader(block), tensor=block), cluster[0].name)
        for leaf in cluster:
            tensor = leaf.tensor
            offset = (leaf.start - start) // tensor.element_size()
            view = {"offset": offset, "stride": list(tensor.stride())}
            for place in leaf.nodes:
                place.update({"at": name, "dtype": _word(tensor.dtype), "shape": list(tensor.shape), "view": view})


def _clusters(leaves: list[_Leaf]) -> list[list[_Leaf]]:
    """Group the overlapping views of one memory, in the order of their start."""
    clusters: list[list[_Leaf]] = []
    end = -1
    for leaf in sorted(leaves, key=lambda leaf: (leaf.start, leaf.end)):
        if leaf.start < end:
            clusters[-1].append(leaf)
        else:
            clusters.append([leaf])
        end = max(end, leaf.end)
    return clusters


def _reader(tensor: Any) -> Callable[[], memoryview]:
    return lambda: tensor_bytes(tensor.cpu().contiguous())


def _word(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
