"""Values that are still on a GPU: taken without waiting for it, and read once they have arrived."""

from __future__ import annotations

from typing import Any, Protocol

from ridgepole.metrics.steps import Plan, Row
from ridgepole.metrics.values import Pending, Value, plain_value


class Event(Protocol):
    """What tells that a copy has arrived; `torch.cuda.Event` is one."""

    def query(self) -> bool:
        """Whether it has."""
        ...

    def synchronize(self) -> None:
        """Waits until it has."""
        ...


class Landing(Pending):
    """A tensor on its way from a GPU.

    The copy is queued behind what the GPU has been given so far, so it takes the value as of the call, whatever is
    done to the tensor afterwards; nobody waits for it here.
    """

    __slots__ = ("_event", "_host")

    def __init__(self, tensor: Any) -> None:
        if tensor.is_complex():
            raise TypeError(f"a tensor of {tensor.dtype} can't be logged; it must hold real numbers")
        self._host, self._event = copy_to_host(tensor)

    def has_arrived(self) -> bool:
        """Whether `value` would not wait."""
        return self._event.query()

    def value(self, name: str) -> Value:
        """The value, once it is there; errors as in `plain_value`."""
        self._event.synchronize()
        return plain_value(name, self._host)


def copy_to_host(tensor: Any) -> tuple[Any, Event]:
    """Queues a copy into pinned memory, which is the only kind that the GPU writes to without being waited for.

    Args:
        tensor: A tensor on a CUDA device.

    Returns:
        The tensor in host memory, and the event that tells when it may be read.
    """
    import torch

    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    with torch.cuda.device(tensor.device):
        host.copy_(tensor.detach(), non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
    return host, event


def is_pending(plan: Plan) -> bool:
    """Whether a value of the plan is still to arrive."""
    return any(isinstance(value, Pending) for row in plan.rows for value in row.metrics.values())


def has_arrived(plan: Plan) -> bool:
    """Whether `arrived` would not wait."""
    return all(value.has_arrived() for row in plan.rows for value in row.metrics.values() if isinstance(value, Pending))


def arrived(plan: Plan) -> Plan:
    """The same plan with plain values, once all are there; the plan itself stays as it is."""
    rows = []
    for row in plan.rows:
        plain = Row(row.step)
        plain.words, plain.reusing = row.words, row.reusing
        for name, value in row.metrics.items():
            plain.metrics[name] = value.value(name) if isinstance(value, Pending) else value
        rows.append(plain)
    return Plan(rows, plan.global_step, plan.last_step)
