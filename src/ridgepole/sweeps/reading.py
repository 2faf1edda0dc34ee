"""A sweep's file as it was written: values of TOML, YAML or JSON, and where each stands."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ridgepole.config import limits, tree
from ridgepole.config import read as read_toml
from ridgepole.config.scan import Span
from ridgepole.config.source import Source, too_large
from ridgepole.errors import ConfigError, Place, Problem

Path_: TypeAlias = tuple[str | int, ...]
PlaceOf: TypeAlias = Callable[[Path_, bool], Place | None]
"""Where a value stands, by its path; with True, where its key stands."""

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
PIPELINE_TABLES = frozenset({"pipeline", "permanences", "processes", "sweep"})
"""A TOML file with one of these is a pipeline's; its sweep is its `sweep` table."""


@dataclass(frozen=True, slots=True)
class Written:
    """A sweep as it was written, not yet understood.

    Attributes:
        values: Its tables and values.
        place: Where each stands.
        file: The file; None for a mapping.
        source: The file byte for byte.
        in_pipeline: Whether it was the `sweep` table of a pipeline's file.
        odd: By path, what is to be known of a value that its format may read in another way than it was meant.
    """

    values: Mapping[str, Any]
    place: PlaceOf
    file: Path | None = None
    source: bytes = b""
    in_pipeline: bool = False
    odd: Mapping[Path_, str] = field(default_factory=dict)


def read(path: Path) -> Written:
    """Reads a file by its suffix.

    Raises:
        ConfigError: If it can't be read, is none of the formats, or a pipeline's file has no `sweep` table.
    """
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return _toml(path)
    if suffix not in SUFFIXES:
        hint = f"it ends in one of {', '.join(SUFFIXES)}"
        raise ConfigError([Problem(f"{str(path)!r} is no sweep's file", Place(str(path)), hint)])
    source = _text(path, suffix[1:])
    if suffix == ".json":
        from ridgepole.sweeps import jsontext as reader
    else:
        from ridgepole.sweeps import yamltext as reader  # type: ignore[no-redef]
    values, spans, odd = reader.parse(source)
    place = _placer(source, spans)
    if problems := [Problem(text, place(where[1:], key)) for where, key, text in tree.unfit({"": values})]:
        raise ConfigError(problems[:100])
    if not isinstance(values, dict):
        raise ConfigError([Problem("is no sweep: it holds no table of keys and values", Place(source.name))])
    return Written(values, place, path, source.data, odd=odd)


def _toml(path: Path) -> Written:
    document = read_toml(path)
    values = document.values
    if not PIPELINE_TABLES & values.keys():
        return Written(values, lambda where, key: document.place(where, key=key), path, document.source)
    sweep = values.get("sweep")
    if not isinstance(sweep, Mapping):
        where = document.place(("sweep",)) if "sweep" in values else Place(str(path))
        message = "'sweep' must be a table" if "sweep" in values else "this pipeline's file has no [sweep] table"
        raise ConfigError([Problem(message, where, "add one, or give a sweep's own file")])

    def place(where: Path_, key: bool) -> Place:
        return document.place(("sweep", *where), key=key)

    return Written(sweep, place, path, document.source, in_pipeline=True)


def _text(path: Path, kind: str) -> Source:
    """The text of a file, decoded as UTF-8."""
    name = str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError([Problem(f"{name!r} is no regular file", Place(name))])
        with path.open("rb") as file:
            data = file.read(limits.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Problem(f"{name!r} can't be read: {reason}", Place(name))]) from None
    if len(data) > limits.MAX_BYTES:
        raise ConfigError([too_large(Place(name))])
    source = Source(name, data, path)
    try:
        source.text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        message = f"not valid {kind.upper()}: byte 0x{data[error.start]:02x} is not UTF-8"
        raise ConfigError([Problem(message, Place(name), "save the file as UTF-8")]) from None
    return source


def _placer(source: Source, spans: Mapping[Path_, Span]) -> PlaceOf:
    def place(path: Path_, key: bool) -> Place:
        while path:
            if span := spans.get(path):
                return source.place(*(span[:2] if key else span[2:]))
            path, key = path[:-1], False
        return Place(source.name)

    return place
