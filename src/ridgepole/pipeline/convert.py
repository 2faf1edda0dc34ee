"""Values of a config file, checked and converted against Python's annotations. The only module that knows pydantic."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

_CONFIG = ConfigDict(coerce_numbers_to_str=True, arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class Misfit:
    """One reason why a value does not fit an annotation.

    Attributes:
        path: Where inside the value, as keys and indexes.
        message: What is wrong there, in plain words.
        unknown: Whether the key at the end of `path` is one that nobody knows.
        missing: Whether the key at the end of `path` is missing.
    """

    path: tuple[str | int, ...]
    message: str
    unknown: bool = False
    missing: bool = False


class Misfits(ValueError):  # noqa: N818 - holds several
    """A value does not fit; `.misfits` says where and why."""

    def __init__(self, misfits: list[Misfit]) -> None:
        super().__init__("; ".join(misfit.message for misfit in misfits))
        self.misfits = misfits


def fresh(value: Any) -> Any:
    """A copy of the plain containers of a value, so that what a run does to them stays in that run.

    Objects of any other class, subclasses of the plain ones too, are the user's own and pass as they are.
    """
    if type(value) is dict:
        return {key: fresh(item) for key, item in value.items()}
    if type(value) is list:
        return [fresh(item) for item in value]
    return value


@functools.lru_cache(maxsize=4096)
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation, config=_CONFIG)
    except (PydanticSchemaGenerationError, SchemaError):
        return None
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":  # a model or dataclass brings its own config
            return None
        return TypeAdapter(annotation)


def convert(annotation: Any, value: Any) -> Any:
    """Checks a value against an annotation and converts it, as pydantic does in its lax mode.

    Args:
        annotation: Any annotation; one that pydantic can't work with lets every value pass.
        value: The value, in plain containers.

    Returns:
        The converted value.

    Raises:
        Misfits: With every reason why it does not fit.
    """
    try:
        adapter = _adapter(annotation)
    except TypeError:  # an annotation that can't be hashed, such as Annotated with a list
        adapter = TypeAdapter(annotation, config=_CONFIG)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise Misfits(_explain(error, value)) from None


def _explain(error: ValidationError, value: Any) -> list[Misfit]:
    """Pydantic's errors with paths that exist in the value, one for each place."""
    found: dict[tuple[str | int, ...], list[str]] = {}
    kinds: dict[tuple[str | int, ...], str] = {}
    for item in error.errors(include_url=False):
        unknown_or_missing = item["type"] in ("extra_forbidden", "missing", "unexpected_keyword_argument")
        path = _real_path(item["loc"], value, keep_last=unknown_or_missing)
        found.setdefault(path, []).append(_in_plain_words(item["msg"]))
        kinds.setdefault(path, item["type"])
    return [
        Misfit(
            path,
            " or ".join(dict.fromkeys(messages)),
            unknown=kinds[path] in ("extra_forbidden", "unexpected_keyword_argument"),
            missing=kinds[path] == "missing",
        )
        for path, messages in found.items()
    ]


def _in_plain_words(message: str) -> str:
    """`Input should be a valid integer, unable to parse string as an integer` says the same thing twice."""
    for prefix in ("Value error, ", "Assertion failed, "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    if message.startswith("Input should be"):
        return message.partition(", ")[0].removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _real_path(loc: tuple[str | int, ...], value: Any, *, keep_last: bool) -> tuple[str | int, ...]:
    """Drops the names of union members and the like that pydantic weaves into a path."""
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
