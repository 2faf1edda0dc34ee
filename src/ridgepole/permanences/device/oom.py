"""Knows an out-of-memory error of a device when it sees one, whichever library raised it."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The texts of torch's allocators (CUDA, ROCm, XPU, MPS), of the CUDA runtime, and of cuBLAS and cuDNN handles, which
# are made outside torch's allocator and so fail in words of their own.
_TEXT = re.compile(
    r"(CUDA|HIP|XPU|MPS)( backend| error)?:? out of memory"
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT)_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)"
    r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory|UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> BaseException | None:
    """Finds an out-of-memory error of a device: the error itself, one inside a group, or a cause.

    Args:
        error: Any error.

    Returns:
        The one found, or None.
    """
    return next((one for one in _related(error) if _is_one(one)), None)


def _is_one(error: BaseException) -> bool:
    by_name = any(
        kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("torch") for kind in type(error).__mro__
    )
    return by_name or (isinstance(error, RuntimeError) and _TEXT.search(str(error)) is not None)


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
