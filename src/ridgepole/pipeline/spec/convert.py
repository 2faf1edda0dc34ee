"""Convert config values to Python annotations. The only module that knows pydantic."""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import SchemaError

_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_WANTS_TEXT = ("string_type", "path_type")
_OPTION = re.compile(r"'([^']*)'")

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionProblem:
    """One reason why a value does not fit an annotation.

    Attributes:
        path: Where inside the value, as keys and indexes.
        message: The reason, in plain words.
        unknown: Whether the key at the end of `path` is unknown.
        missing: Whether the key at the end of `path` is missing.
        wants_text: Whether the only reason is that the value is not text.
        unusable: Whether the annotation is the reason, not the value.
        options: The keys or values that would fit, where they are few.
    """

    path: Path_
    message: str
    unknown: bool = False
    missing: bool = False
    wants_text: bool = False
    unusable: bool = False
    options: tuple[str, ...] = ()


class ConversionErrors(ValueError):  # noqa: N818 - holds several
    """A value does not fit; `problems` lists every reason."""

    def __init__(self, problems: list[ConversionProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def fresh(value: Any) -> Any:
    """Copy the plain containers of a value, so that a run's changes to them stay in that run.

    Objects of any other class, also of subclasses of the plain ones, are the user's own and are not
    copied.
    """
    if type(value) is dict:
        return {key: fresh(item) for key, item in value.items()}
    if type(value) is list:
        return [fresh(item) for item in value]
    return value


def put(value: Any, path: Path_, new: Any) -> Any:
    """Return a copy of plain containers with one value inside replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)  # type: ignore[index]
    return copy


@functools.lru_cache(maxsize=4096)
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    # In a list, as pydantic refuses a config for a dataclass itself. The classes inside inherit it.
    try:
        return TypeAdapter(list[annotation], config=_CONFIG)
    except (PydanticSchemaGenerationError, SchemaError) as error:
        _raise_interrupt(error)
        if dataclasses.is_dataclass(annotation):  # code that expects an instance can't use a table
            raise
        return None


def _raise_interrupt(error: Exception) -> None:
    """Raise a Ctrl-C that pydantic has made an error of a schema."""
    if "KeyboardInterrupt" in str(error):
        raise KeyboardInterrupt from None


def convert(annotation: Any, value: Any) -> Any:
    """Convert a value as pydantic does in its lax mode, and refuse keys that a table does not have.

    An annotation that pydantic can't handle accepts every value.

    Raises:
        ConversionErrors: With every reason why it does not fit.
    """
    try:
        try:
            adapter = _adapter(annotation)
        except TypeError:  # an annotation that can't be hashed, such as Annotated with a list
            adapter = _adapter.__wrapped__(annotation)
        if adapter is None:
            return value
        converted = adapter.validate_python([value])[0]
    except ValidationError as error:
        raise ConversionErrors(_explain(error, annotation, value)) from None
    except (PydanticUserError, PydanticUndefinedAnnotation, PydanticSchemaGenerationError, SchemaError) as error:
        problem = ConversionProblem(path=(), message=_unusable(annotation, error), unusable=True)
        raise ConversionErrors([problem]) from None
    if ignored := list(_ignored(value, converted, ())):
        raise ConversionErrors(ignored)
    return converted


def _unusable(annotation: Any, error: Exception) -> str:
    """Say why pydantic can't handle an annotation that a value needs."""
    name = getattr(annotation, "__name__", str(annotation))
    if isinstance(error, PydanticUserError) and error.code == "typed-dict-version":
        return f"can't check {name}: import TypedDict from typing_extensions, as Python before 3.12 requires"
    for cls, missing in _undefined(annotation, set()):
        return f"can't evaluate the annotations of {cls}: import {missing!r} outside `if TYPE_CHECKING`"
    return f"can't use the annotations of {name}: {str(error).splitlines()[0]}"


def _undefined(annotation: Any, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Find the names that the classes of an annotation use and do not import."""
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    inner = list(typing.get_args(annotation))
    if _keys_of(annotation):
        try:
            inner += typing.get_type_hints(annotation, include_extras=True).values()
        except NameError as error:
            yield annotation.__name__, str(error.name)
        except Exception:  # noqa: BLE001 - an annotation may hold any expression
            return
    for each in inner:
        yield from _undefined(each, seen)


def _ignored(given: Any, converted: Any, path: Path_) -> Iterator[ConversionProblem]:
    """Find the keys that a pydantic model, or a class inside one, has ignored in silence."""
    if isinstance(given, list | tuple) and isinstance(converted, list | tuple):
        for index, (old, new) in enumerate(zip(given, converted, strict=False)):
            yield from _ignored(old, new, (*path, index))
    if not isinstance(given, Mapping) or converted is given:
        return
    if isinstance(converted, Mapping):
        known = {key: key for key in converted}
        strict = converted.keys() < given.keys()  # a TypedDict
        inner = converted
    else:
        known, strict = _keys_of(type(converted)), _forgets_keys(type(converted))
        inner = {key: getattr(converted, name, None) for key, name in known.items()}
    for key, value in given.items():
        if key in known:
            yield from _ignored(value, inner[key], (*path, key))
        elif strict:
            yield ConversionProblem(path=(*path, key), message="unknown", unknown=True, options=tuple(known))


def _keys_of(cls: Any) -> dict[str, str]:
    """Return the keys that a class takes from a table, and the attribute of each."""
    fields = getattr(cls, "__pydantic_fields__", None) or getattr(cls, "model_fields", None)
    if fields is not None:  # a pydantic model or dataclass
        aliases = {alias: name for name, each in fields.items() if isinstance(alias := each.validation_alias, str)}
        return {name: name for name in fields} | aliases
    names = getattr(cls, "__dataclass_fields__", None)
    if names is None:
        names = cls.__annotations__ if hasattr(cls, "__required_keys__") else ()  # a TypedDict
    return {name: name for name in names}


def _forgets_keys(cls: type) -> bool:
    """Return whether a class ignores keys that its author has not said to allow or to rename."""
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", {})
    fields = getattr(cls, "__pydantic_fields__", {}).values()
    renames = any(not isinstance(each.validation_alias, str | None) for each in fields)
    decorators = getattr(cls, "__pydantic_decorators__", None)
    validators = getattr(decorators, "model_validators", {}).values()
    renames = renames or any(each.info.mode in ("before", "wrap") for each in validators)
    return bool(_keys_of(cls)) and "extra" not in config and not renames


def _keys_at(annotation: Any, path: Path_) -> dict[str, None]:
    """Return the keys that an annotation knows in the table at a path inside its value."""
    args = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        members = args[:1] if origin is typing.Annotated else args
        return {key: None for member in members for key in _keys_at(member, path)}
    if not path:
        return dict.fromkeys(_keys_of(annotation))
    if _keys_of(annotation):
        try:
            hints = typing.get_type_hints(annotation, include_extras=True)
        except Exception:  # noqa: BLE001 - an annotation may hold any expression; only a hint is lost
            return {}
        return _keys_at(hints.get(str(path[0])), path[1:])
    return _keys_at(args[-1], path[1:]) if args else {}


def _explain(error: ValidationError, annotation: Any, value: Any) -> list[ConversionProblem]:
    """Translate pydantic's errors to paths that exist in the value, one problem for each path."""
    found: dict[Path_, list[Any]] = {}
    for item in error.errors(include_url=False):
        unknown_or_missing = item["type"] in ("missing", *_UNKNOWN)
        path = _real_path(item["loc"][1:], value, keep_last=unknown_or_missing)
        found.setdefault(path, []).append(item)
    problems = []
    for path, items in found.items():
        unknown = items[0]["type"] in _UNKNOWN
        expected = [str(item.get("ctx", {}).get("expected", "")) for item in items]
        options = _keys_at(annotation, path[:-1]) if unknown else _OPTION.findall(" ".join(expected))
        problems.append(
            ConversionProblem(
                path=path,
                message=" or ".join(dict.fromkeys(_in_plain_words(item) for item in items)),
                unknown=unknown,
                missing=items[0]["type"] == "missing",
                wants_text=all(item["type"] in _WANTS_TEXT for item in items),
                options=tuple(options),
            )
        )
    return problems


def _in_plain_words(item: Any) -> str:
    """Shorten messages that repeat themselves, such as `not an integer, unable to parse ...`."""
    message: str = item["msg"]
    for prefix in ("Value error, ", "Assertion failed, "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    if message.startswith("Input should be"):
        listed = item["type"] in ("literal_error", "enum")
        return (message if listed else message.partition(", ")[0]).removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _real_path(loc: tuple[str | int, ...], value: Any, *, keep_last: bool) -> tuple[str | int, ...]:
    """Drop the names of union members and the like that pydantic adds to a path."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            path.append(part)
        elif keep_last and index == len(loc) - 1:
            path.append(part)
    return tuple(path)
