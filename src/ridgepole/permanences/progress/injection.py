"""Calling a decorated function with what its signature asks for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

INJECTED = ("total", "task_id", "progress")


def injecting(
    function: Callable[..., Any], call: Callable[[object, Callable[[dict[str, Any]], Any]], Any]
) -> Callable[..., Any]:
    """Wraps a function so that it is called as `f(total, *args, **kwargs)`.

    Args:
        function: A plain function that takes any of `total`, `task_id` and `progress`.
        call: Gets the total and a function that runs the original with values for these names.

    Returns:
        The wrapper.

    Raises:
        TypeError: If it is not a plain function: a coroutine or generator would not have run when the call returns.
    """
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise TypeError(f"progress_task decorates functions, not {function!r}")
    if any(
        test(function)
        for test in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise TypeError(f"progress_task can't follow {name}: a coroutine or generator runs after its call has returned")
    signature = inspect.signature(function)
    free = signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in INJECTED])
    # A method gets its object first and the total behind it.
    bound_first = next(iter(signature.parameters), "") in ("self", "cls") and "." in name

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        first, rest = (args[:1], args[1:]) if bound_first else ((), args)
        if "total" in kwargs:
            total = kwargs.pop("total")
        elif rest:
            total, rest = rest[0], rest[1:]
        else:
            raise TypeError(f"{name}() is a progress task: its first argument is the total number of steps")
        given = free.bind(*first, *rest, **kwargs)

        def run(values: dict[str, Any]) -> Any:
            arguments = {key: value for key, value in values.items() if key in signature.parameters} | given.arguments
            full = inspect.BoundArguments(signature, arguments)
            full.apply_defaults()  # puts the arguments into the order of the signature, too
            return function(*full.args, **full.kwargs)

        return call(total, run)

    return wrapper
