"""The use of a device's memory: samples, their history, and errors of running out of it."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ridgepole.devices import host, torch_calls
from ridgepole.devices.gpus import OWN_PROCESS, Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The memory of a device at one moment; None is unknown.

    Attributes:
        time: Seconds since the epoch.
        used_bytes: In use by all processes.
        own_bytes: In use by this process.
        total_bytes: Size of the memory.
    """

    time: float
    used_bytes: int | None
    own_bytes: int | None
    total_bytes: int | None

    @property
    def others_bytes(self) -> int | None:
        """In use by other processes, the driver included; None where the total is unknown."""
        return None if self.used_bytes is None else max(0, self.used_bytes - (self.own_bytes or 0))


def sample_card(card: Card) -> Sample:
    """Sample an accelerator.

    This process's part is what the driver says of its pid, or what torch's allocator holds,
    whichever is more: inside a
    container the driver often knows no pid, and the allocator doesn't know of the context.
    """
    parts = [one.used for one in card.processes or () if one.pid == os.getpid()]
    if card.index is not None:
        parts.append(torch_calls.reserved(card.kind, card.index))
    known = [part for part in parts if part is not None]
    used = None if card.source == OWN_PROCESS and not known else card.used
    return Sample(time=time.time(), used_bytes=used, own_bytes=max(known, default=None), total_bytes=card.total)


def sample_host() -> Sample:
    """Sample the CPU's memory."""
    total, free = host.memory()
    return Sample(time=time.time(), used_bytes=total - free, own_bytes=host.own_memory(), total_bytes=total)


class History:
    """The last samples, and the one with the most memory used."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=256)
        self._count = 0
        self._peak: Sample | None = None

    def add(self, sample: Sample) -> None:
        """Add a sample."""
        self._samples.append(sample)
        self._count += 1
        if self._peak is None or (sample.used_bytes or 0) > (self._peak.used_bytes or 0):
            self._peak = sample

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: `count` of all samples, `peak`, and the last `samples`."""
        return {
            "count": self._count,
            "peak": None if self._peak is None else asdict(self._peak),
            "samples": [asdict(sample) for sample in self._samples],
        }


# The texts of torch's allocators (CUDA, ROCm, XPU, MPS), of the CUDA runtime, and of cuBLAS and
# cuDNN handles, which are made outside torch's allocator and so fail in words of their own.
_OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP|XPU|MPS)( backend| error)?:? out of memory"
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT)_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)"
    r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory|UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> BaseException | None:
    """Find an out-of-memory error of a device: the error itself, one in a group, or a cause."""
    return next((one for one in _related(error) if _is_out_of_memory(one)), None)


def _is_out_of_memory(error: BaseException) -> bool:
    by_name = any(
        kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("torch") for kind in type(error).__mro__
    )
    return by_name or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None)


def _related(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        one = queue.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            queue.extend(one.exceptions)
        queue.extend((one.__cause__, one.__context__))
