"""Call a decorated function with the arguments that its signature names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from numbers import Number
from typing import Any

INJECTED = ("total", "task_id", "progress")


def injecting(
    function: Callable[..., Any],
    call: Callable[[object, Callable[[dict[str, Any]], Any]], Any],
    follow: Callable[[object, Iterable[Any]], Iterable[Any]],
) -> Callable[..., Any]:
    """Wrap a function so that it is called as `f(total, *args, **kwargs)`.

    Without a total, the length of its first argument that has one is the total.

    Args:
        function: The function.
        call: Called with the total and a function that runs the decorated one.
        follow: Called with the total and the iterator of a generator function; tracks it.

    Raises:
        TypeError: If it is not a plain function or a generator function.
    """
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise TypeError(f"progress_task decorates functions, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"progress_task can't follow the coroutine {name}: write track(...) around its loop")
    signature = inspect.signature(function)
    generates = inspect.isgeneratorfunction(function)
    if generates and (taken := {"task_id", "progress"} & signature.parameters.keys()):
        wanted = " and ".join(sorted(taken))
        raise TypeError(f"progress_task counts what the generator {name} yields; it can't pass {wanted}: use track")
    free = signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in INJECTED])
    # A method takes its object first, then the total.
    bound_first = next(iter(signature.parameters), "") in ("self", "cls") and "." in name

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        first, rest = (args[:1], args[1:]) if bound_first else ((), args)
        if "total" in kwargs:
            total = kwargs.pop("total")
        elif rest and (rest[0] is None or isinstance(rest[0], Number) or hasattr(rest[0], "__index__")):
            total, rest = rest[0], rest[1:]
        else:
            total = _size((*rest, *kwargs.values()), name, needed=not generates)
        given = free.bind(*first, *rest, **kwargs)

        def run(values: dict[str, Any]) -> Any:
            arguments = {key: value for key, value in values.items() if key in signature.parameters} | given.arguments
            full = inspect.BoundArguments(signature, arguments)
            full.apply_defaults()  # puts the arguments into the order of the signature, too
            return function(*full.args, **full.kwargs)

        return iter(follow(total, run({"total": total}))) if generates else call(total, run)

    return wrapper


def _size(arguments: Iterable[object], name: str, *, needed: bool) -> int | None:
    """Return the length of the first argument that has one, or None if it is not needed."""
    for each in arguments:
        if hasattr(each, "__len__") and not isinstance(each, str | bytes):
            return len(each)
    if not needed:
        return None
    message = f"{name}() is a progress task: its first argument is the total number of steps"
    raise TypeError(f"{message}, unless an argument has a length; to follow a loop, write track(...) around it")
