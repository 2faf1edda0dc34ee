"""Read from a signature what a constructor or a process function asks for."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgepole.permanence import Permanence

RESERVED = ("controller", "force")
"""Parameters that the framework fills itself."""

EMPTY = inspect.Parameter.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a constructor or function.

    Attributes:
        annotation: Its annotation, evaluated; `EMPTY` without one.
        default: Its default; `EMPTY` without one.
        wanted: The permanence classes that its annotation names; empty for an ordinary value.
        optional: Whether the annotation allows None.
        unresolved: Why its annotation could not be evaluated, or an empty text.
    """

    name: str
    annotation: Any
    default: Any
    wanted: tuple[type[Permanence], ...]
    optional: bool
    unresolved: str = ""

    @property
    def required(self) -> bool:
        """Return whether it has no default."""
        return self.default is EMPTY

    @property
    def stated_default(self) -> Any:
        """Return the default; `EMPTY` without one, or if a dataclass makes it at each call."""
        factory = type(self.default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS"
        return EMPTY if factory else self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The parameters of a class or function.

    Attributes:
        parameters: By name, without `self`, the reserved ones, `*args` and `**kwargs`.
        reserved: The reserved ones that it takes.
        open: Whether it takes any keyword (`**kwargs`).
        positional: Names and defaults of positional-only parameters, reserved ones included, in
            order.
    """

    parameters: dict[str, Parameter]
    reserved: frozenset[str]
    open: bool
    positional: tuple[tuple[str, Any], ...] = ()


@functools.lru_cache(maxsize=1024)
def signature_of(target: Callable[..., Any]) -> Signature:
    """Read the signature of a class or function. None of the user's code is called."""
    function: Any = target
    skip_self = isinstance(target, type)
    if skip_self:
        function = getattr(target, "__init__")  # noqa: B009 - mypy objects to reading __init__ of an instance
        if function is object.__init__:
            return Signature(parameters={}, reserved=frozenset(), open=False)
    listed = list(inspect.signature(function).parameters.values())[1 if skip_self else 0 :]
    hints = _hints(function, [parameter.name for parameter in listed])
    found: dict[str, Parameter] = {}
    for parameter in listed:
        if parameter.name in RESERVED or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation: Any = hints.get(parameter.name, EMPTY)
        unresolved = ""
        if isinstance(annotation, _Unresolved):
            annotation, unresolved = EMPTY, annotation.reason
        wanted, optional = _wanted(annotation)
        found[parameter.name] = Parameter(
            name=parameter.name,
            annotation=annotation,
            default=parameter.default,
            wanted=wanted,
            optional=optional,
            unresolved=unresolved,
        )
    return Signature(
        parameters=found,
        reserved=frozenset(parameter.name for parameter in listed if parameter.name in RESERVED),
        open=any(p.kind is p.VAR_KEYWORD for p in listed),
        positional=tuple((p.name, p.default) for p in listed if p.kind is p.POSITIONAL_ONLY),
    )


@dataclass(frozen=True, slots=True)
class _Unresolved:
    reason: str


def _hints(function: Callable[..., Any], names: list[str]) -> dict[str, Any]:
    """Evaluate annotations; one that can't be evaluated does not affect the others."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation may hold any expression; each is tried alone below
        plain = inspect.unwrap(function)
        raw = getattr(plain, "__annotations__", {})
        hints: dict[str, Any] = {}
        for name in names:
            if name not in raw:
                continue
            alone = types.SimpleNamespace(__annotations__={name: raw[name]})
            try:
                hints |= typing.get_type_hints(alone, getattr(plain, "__globals__", {}), include_extras=True)
            except Exception as error:  # noqa: BLE001
                hints[name] = _Unresolved(f"{raw[name]!r}: {type(error).__name__}: {error}")
        return hints


def _wanted(annotation: Any) -> tuple[tuple[type[Permanence], ...], bool]:
    """Return the permanence classes of `X`, `X | None`, `X[int]` etc., and if None is allowed."""
    annotation = _bare(annotation)
    members: tuple[Any, ...] = (annotation,)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = tuple(_bare(member) for member in typing.get_args(annotation))
    optional = type(None) in members
    classes = [member for member in members if member is not type(None)]
    if classes and all(isinstance(c, type) and issubclass(c, Permanence) for c in classes):
        return tuple(classes), optional
    return (), optional


def _bare(annotation: Any) -> Any:
    """Return `X` of `Annotated[X, ...]`, and the class of a generic one such as `Data[int]`."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    origin = typing.get_origin(annotation)
    return origin if isinstance(origin, type) and issubclass(origin, Permanence) else annotation
