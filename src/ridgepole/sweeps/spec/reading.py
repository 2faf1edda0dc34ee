"""Read a sweep's file: the values of TOML, YAML or JSON, and the place of each."""

from __future__ import annotations

import codecs
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.config import limits, tree
from ridgepole.config import read as read_toml
from ridgepole.config.limits import MAX_DEPTH
from ridgepole.config.scan import Span
from ridgepole.config.source import TomlText, too_large
from ridgepole.errors import ConfigError, Place, Problem
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.spec.checker import KeyPath, PlaceOf

if TYPE_CHECKING:
    import yaml

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
PIPELINE_TABLES = frozenset({"pipeline", "permanences", "processes", "sweep"})
"""A TOML file with one of these is a pipeline's; its sweep is its `sweep` table."""

_MAX_NODES = 100_000


def no_place(_path: KeyPath, _key: bool) -> None:
    """Give no place: the sweep is a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDocument:
    """A sweep as it was written, not checked yet.

    Attributes:
        values: Its tables and values.
        place: Gives the place of a value.
        file: The file; None for a mapping.
        source: The file byte for byte.
        in_pipeline: Whether it was the `sweep` table of a pipeline's file.
        hints: Remarks, by path, on values that the format reads in an unexpected way.
    """

    values: Mapping[str, Any]
    place: PlaceOf = no_place
    file: Path | None = None
    source: bytes = b""
    in_pipeline: bool = False
    hints: Mapping[KeyPath, str] = field(default_factory=dict)


def read(path: Path) -> SweepDocument:
    """Read a file by its suffix.

    Raises:
        ConfigError: If it can't be read, has another format, or is a pipeline's file without a
            `sweep` table.
        MissingExtraError: If it is YAML and PyYAML is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return _read_toml(path)
    if suffix not in SUFFIXES:
        hint = f"it ends in one of {', '.join(SUFFIXES)}"
        raise ConfigError([Problem(f"{str(path)!r} is not a sweep's file", Place(str(path)), hint)])
    source = _text(path, suffix[1:])
    reader = _JsonReader(source) if suffix == ".json" else _YamlReader(source)
    values = reader.read()
    if reader.problems:
        raise ConfigError(reader.problems)

    def place(where: KeyPath, key: bool) -> Place:
        while where:
            if span := reader.spans.get(where):
                return source.place(*(span[:2] if key else span[2:]))
            where, key = where[:-1], False
        return Place(source.name)

    if problems := [Problem(text, place(where[1:], key)) for where, key, text in tree.unfit({"": values})]:
        raise ConfigError(problems[:100])
    if not isinstance(values, dict):
        raise ConfigError([Problem("is not a sweep: it has no table of keys and values", Place(source.name))])
    return SweepDocument(values=values, place=place, file=path, source=source.data, hints=reader.hints)


def _read_toml(path: Path) -> SweepDocument:
    document = read_toml(path)
    in_pipeline = bool(PIPELINE_TABLES & document.values.keys())
    prefix: KeyPath = ("sweep",) if in_pipeline else ()
    values = document.values.get("sweep") if in_pipeline else document.values
    if not isinstance(values, Mapping):
        where = document.place(("sweep",)) if "sweep" in document.values else Place(str(path))
        missing = "this pipeline's file has no [sweep] table"
        message = "'sweep' must be a table" if "sweep" in document.values else missing
        raise ConfigError([Problem(message, where, "add one, or give a sweep's own file")])

    def place(where: KeyPath, key: bool) -> Place:
        return document.place((*prefix, *where), key=key)

    return SweepDocument(values=values, place=place, file=path, source=document.source, in_pipeline=in_pipeline)


def _text(path: Path, kind: str) -> TomlText:
    """Return the text of a file, decoded as UTF-8."""
    name = str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError([Problem(f"{name!r} is not a regular file", Place(name))])
        with path.open("rb") as file:
            data = file.read(limits.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Problem(f"{name!r} can't be read: {reason}", Place(name))]) from None
    if len(data) > limits.MAX_BYTES:
        raise ConfigError([too_large(Place(name))])
    source = TomlText(name, data, path)
    try:
        source.text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        message = f"not valid {kind.upper()}: byte 0x{data[error.start]:02x} is not UTF-8"
        raise ConfigError([Problem(message, Place(name), "save the file as UTF-8")]) from None
    return source


class _Reader:
    """Reads the values of a text.

    Attributes:
        spans: Start and end of each key and value, by path.
        hints: Remarks on values that the format reads in an unexpected way.
        problems: Errors that allow to read on.
    """

    def __init__(self, source: TomlText) -> None:
        self.source = source
        self.spans: dict[KeyPath, Span] = {}
        self.hints: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []

    def fail(self, message: str, start: int = 0, end: int | None = None, hint: str = "") -> ConfigError:
        """Return the error that ends the reading."""
        return ConfigError([Problem(message, self.source.place(start, start + 1 if end is None else end), hint)])


# --- JSON

_SKIP = re.compile(r"[ \t\n\r,:]*")
_DECODER = json.JSONDecoder()


class _JsonReader(_Reader):
    """`json` reads the values; this finds their places, and repeated keys, in the accepted text."""

    def read(self) -> Any:
        """Return the value of the text; errors as `read` of the module."""
        text = self.source.text
        try:
            values = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise self.fail(f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}", error.pos) from None
        except RecursionError:
            raise self.fail(f"brackets nested more than {MAX_DEPTH} deep") from None
        except ValueError as error:  # NaN, or a number of thousands of digits
            raise self.fail(f"not valid JSON: {error}") from None
        self._value(self._skip(0), ())
        return values

    def _value(self, at: int, path: KeyPath, key: tuple[int, int] | None = None) -> int:
        """Note the places in the value at an offset; return the offset behind it."""
        text, opening, end, index = self.source.text, self.source.text[at], at + 1, 0
        if opening not in "[{":
            end = _DECODER.raw_decode(text, at)[1]
        elif len(path) >= MAX_DEPTH:
            raise self.fail(f"brackets nested more than {MAX_DEPTH} deep", at)
        else:
            while text[end := self._skip(end)] not in "]}":
                end = self._item(end, path) if opening == "{" else self._value(end, (*path, index))
                index += 1
            end += 1
        self.spans[path] = (*(key or (at, end)), at, end)
        return end

    def _item(self, at: int, path: KeyPath) -> int:
        name, end = _DECODER.raw_decode(self.source.text, at)
        here = (*path, name)
        if here in self.spans:
            self.problems.append(Problem(f"the key {name!r} is written twice", self.source.place(at, end)))
        return self._value(self._skip(end), here, (at, end))

    def _skip(self, at: int) -> int:
        return _SKIP.match(self.source.text, at).end()  # type: ignore[union-attr]


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number in JSON")


# --- YAML

_YAML_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?")
_INT, _BOOL, _STR, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "bool", "str", "null"))


class _YamlReader(_Reader):
    """PyYAML's nodes know their places. It reads YAML 1.1, as W&B's own client does."""

    _loader: yaml.SafeLoader
    _nodes = 0

    def read(self) -> Any:
        """Return the value of the text; errors as `read` of the module."""
        need("yaml", "a sweep in YAML")
        import yaml

        try:
            self._loader = yaml.SafeLoader(self.source.text)
            try:
                node = self._loader.get_single_node()
                return self._value(node, ()) if node is not None else None
            finally:
                self._loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            hint = "indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
            message = f"not valid YAML: {error.problem or error.context}"
            raise self.fail(message, mark.index if mark else 0, hint=hint) from None
        except yaml.YAMLError as error:  # a character that YAML forbids
            message = f"not valid YAML: {str(error).splitlines()[0]}"
            raise self.fail(message, getattr(error, "position", 0)) from None
        except RecursionError:
            raise self.fail(f"nested more than {MAX_DEPTH} deep") from None

    def _value(self, node: yaml.Node, path: KeyPath, key: yaml.Node | None = None) -> Any:
        import yaml

        self._nodes += 1
        start, end = node.start_mark.index, node.end_mark.index
        keyed = (key.start_mark.index, key.end_mark.index) if key is not None else (start, end)
        flow = not isinstance(node, yaml.CollectionNode) or node.flow_style
        self.spans[path] = (*keyed, start, end) if flow else (*keyed, *keyed)  # a block
        if len(path) > MAX_DEPTH:  # an alias may lead into itself
            raise self.fail(f"nested more than {MAX_DEPTH} deep", start, end)
        if self._nodes > _MAX_NODES:  # aliases may double each other
            raise self.fail(f"more than {_MAX_NODES} values", start, end)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        written = {id(key) for key, _ in node.value}
        self._loader.flatten_mapping(node)  # `<<` brings the keys of another mapping, below its own
        values: dict[str, Any] = {}
        seen: dict[str, bool] = {}
        for key, item in node.value:
            name, own = key.value, id(key) in written
            if key.tag != _STR:
                hint = "yes, no, on and off are booleans in YAML; write it" if key.tag == _BOOL else "write it"
                subject = f"the key {name!r}" if isinstance(name, str) else "a key"
                self._report(key, f"{subject} is not text", f"{hint} between quotes")
                continue
            if own and seen.get(name):
                self._report(key, f"the key {name!r} is written twice")
            seen[name] = seen.get(name, False) or own
            values[name] = self._value(item, (*path, name), key)
        return values

    def _report(self, node: yaml.Node, message: str, hint: str = "") -> None:
        place = self.source.place(node.start_mark.index, node.end_mark.index)
        self.problems.append(Problem(message, place, hint))

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            value = self._loader.construct_object(node)
        except ValueError:  # such as a date of a 13th month
            value = NotImplemented
        if value is not None and not isinstance(value, bool | int | float | str):
            self._report(node, f"{node.value!r} is not a value that JSON has", "write it as text, between quotes")
            return None
        if node.style is None and (hint := _yaml_hint(node.tag, node.value, value)):
            self.hints[path] = hint
        return value


def _yaml_hint(tag: str, text: str, value: object) -> str:
    """Return a remark on a scalar without quotes that YAML 1.1 reads in a way of its own."""
    if tag == _STR and _YAML_NUMBER.fullmatch(text):
        mantissa, _, exponent = text.lower().partition("e")
        better = f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent if exponent[:1] in '+-' else '+' + exponent}"
        return f"YAML reads {text} as text, not as a number: write {better}"
    if tag == _BOOL and text.lower() not in {"true", "false"}:
        return f"YAML reads {text} as {str(value).lower()}: write that, or the word between quotes"
    if tag == _INT and (":" in text or re.match(r"[-+]?0\d", text)):
        return f"YAML reads {text} as {value}: write that, or the text between quotes"
    if tag == _NULL and not text:
        return "the value is missing, which YAML reads as null: write null"
    return ""
