"""torch's DTensor: the only module that knows how torch lays one out over ranks.

One function of torch that is imported here is not public: it computes the box of a rank, also for
the strided placements of FSDP2 over tensor parallelism.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offset and size of a part of a tensor."""


@dataclass(frozen=True, slots=True)
class LocalShard:
    """This rank's part of a DTensor.

    Attributes:
        tensor: Its values, a plain tensor; None on a rank that is not in the mesh.
        box: Where the part lies in the whole.
        layout: Describes mesh and placements; equal where two tensors are laid out alike.
        problem: Why the part can't be stored, or "".
    """

    tensor: Any
    box: Box
    layout: str
    problem: str = ""


def is_dtensor(value: object) -> bool:
    """Return whether a value is a DTensor; what was never imported has no values."""
    module = sys.modules.get("torch.distributed.tensor")
    # type(), because isinstance() would ask the value for its __class__
    return module is not None and issubclass(type(value), module.DTensor)


def local_shard(value: Any) -> LocalShard:
    """Return this rank's part of a DTensor. No rank communicates."""
    import torch

    mesh, placements = value.device_mesh, value.placements
    layout = f"{tuple(map(str, placements))} on {tuple(mesh.shape)} {mesh.mesh_dim_names}"
    if any(placement.is_partial() for placement in placements):
        problem = "a DTensor with a Partial placement, whose values are not summed yet"
        return LocalShard(None, ((), ()), layout, problem)
    box = _box(tuple(value.shape), mesh, placements)
    if mesh.get_coordinate() is None:
        return LocalShard(None, box, layout)
    local = value.detach().to_local()
    if hasattr(local, "wait"):  # the result of a collective that may still run
        local = local.wait()
    if type(local) not in (torch.Tensor, torch.nn.Parameter):
        return LocalShard(None, box, layout, f"a DTensor of {type(local).__name__}")
    if tuple(local.shape) != box[1]:
        problem = f"a DTensor whose part has the shape {tuple(local.shape)} where torch expects {box[1]}"
        return LocalShard(None, box, layout, problem)
    return LocalShard(local.detach(), box, layout)


def filled_like(template: Any, shape: tuple[int, ...], dtype: Any, fill: Callable[[Box], Any]) -> Any:
    """Make a DTensor that is laid out as another one.

    Args:
        template: The other one.
        shape: The shape of the whole.
        dtype: Its type.
        fill: Returns the values of a box, on the CPU.
    """
    import torch
    from torch.distributed.tensor import DTensor

    mesh, placements = template.device_mesh, template.placements
    box = _box(shape, mesh, placements)
    device = template.to_local().device
    inside = mesh.get_coordinate() is not None
    local = fill(box).to(device) if inside else torch.empty(0, dtype=dtype, device=device)
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=torch.Size(shape), stride=stride)


def _box(shape: tuple[int, ...], mesh: Any, placements: Any) -> Box:
    import torch
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    size, offset = compute_local_shape_and_global_offset(torch.Size(shape), mesh, placements)
    return tuple(map(int, offset)), tuple(map(int, size))
