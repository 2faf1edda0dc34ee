"""YAML with the place of every value, read by PyYAML's safe loader: YAML 1.1, as W&B's own client reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ridgepole.config.limits import MAX_DEPTH
from ridgepole.config.scan import Path, Span
from ridgepole.config.source import Source
from ridgepole.errors import ConfigError, Problem
from ridgepole.sweeps.extras import need

if TYPE_CHECKING:
    import yaml

_MAX_NODES = 100_000
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?")
_INT, _BOOL, _STR, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "bool", "str", "null"))


def parse(source: Source) -> tuple[Any, dict[Path, Span], dict[Path, str]]:
    """Parses a text of YAML.

    Returns:
        The value, the spans of all keys and values by path, and by path what YAML has read otherwise than one may
        have meant it, such as `1e-3`, which is text.

    Raises:
        ConfigError: If it is no YAML, nests too deeply, gives a key twice, or holds what JSON has no word for.
        MissingExtraError: If PyYAML is not installed.
    """
    need("yaml", "a sweep in YAML")
    import yaml

    loader = None
    try:
        loader = yaml.SafeLoader(source.text)
        node = loader.get_single_node()
        reader = _Reader(source, loader)
        values = reader.value(node, ()) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = source.place(mark.index, mark.index + 1) if mark else source.place(0, 1)
        hint = "indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise ConfigError([Problem(f"not valid YAML: {error.problem or error.context}", place, hint)]) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        at = getattr(error, "position", 0)
        message = f"not valid YAML: {str(error).splitlines()[0]}"
        raise ConfigError([Problem(message, source.place(at, at + 1))]) from None
    except RecursionError:
        raise ConfigError([Problem(f"nested more than {MAX_DEPTH} deep", source.place(0, 1))]) from None
    finally:
        if loader is not None:
            loader.dispose()
    if reader.problems:
        raise ConfigError(reader.problems)
    return values, reader.spans, reader.odd


class _Reader:
    """Makes values of PyYAML's nodes, which know where they stand."""

    def __init__(self, source: Source, loader: yaml.SafeLoader) -> None:
        self.source = source
        self.loader = loader
        self.spans: dict[Path, Span] = {}
        self.odd: dict[Path, str] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path, key: yaml.Node | None = None) -> Any:
        """The value of a node, with those inside it."""
        import yaml

        self._nodes += 1
        start, end = node.start_mark.index, node.end_mark.index
        keyed = (key.start_mark.index, key.end_mark.index) if key is not None else (start, end)
        flow = not isinstance(node, yaml.CollectionNode) or node.flow_style
        self.spans[path] = (*keyed, start, end) if flow else (*keyed, *keyed)  # a block begins on another line
        if len(path) > MAX_DEPTH or self._nodes > _MAX_NODES:  # an alias may lead into itself, or double itself
            what = f"nested more than {MAX_DEPTH} deep" if len(path) > MAX_DEPTH else f"more than {_MAX_NODES} values"
            raise ConfigError([Problem(what, self.source.place(start, end))])
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        written = {id(key) for key, _ in node.value}
        self.loader.flatten_mapping(node)  # `<<` brings the keys of another mapping, below its own
        values: dict[str, Any] = {}
        seen: dict[str, bool] = {}
        for key, item in node.value:
            name, own = key.value, id(key) in written
            if key.tag != _STR:
                what = "yes, no, on and off are booleans in YAML; write it" if key.tag == _BOOL else "write it"
                self._report(key, f"the key {name!r} is no text" if isinstance(name, str) else "a key is no text", what)
                continue
            if own and seen.get(name):
                self._report(key, f"the key {name!r} is written twice", "")
            seen[name] = seen.get(name, False) or own
            values[name] = self.value(item, (*path, name), key)
        return values

    def _report(self, node: yaml.Node, message: str, quote: str) -> None:
        place = self.source.place(node.start_mark.index, node.end_mark.index)
        self.problems.append(Problem(message, place, f"{quote} between quotes" if quote else ""))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        try:
            value = self.loader.construct_object(node)
        except ValueError:  # such as a date of a 13th month
            value = NotImplemented
        if value is not None and not isinstance(value, bool | int | float | str):
            self._report(node, f"{text!r} is no value that JSON has", "write it as text,")
            return None
        if node.style is None and (remark := _remark(node.tag, text, value)):
            self.odd[path] = remark
        return value


def _remark(tag: str, text: str, value: object) -> str:
    """What is to be said of a scalar without quotes that YAML 1.1 reads in a way of its own."""
    if tag == _STR and _NUMBER.fullmatch(text):
        mantissa, _, exponent = text.lower().partition("e")
        better = f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent if exponent[:1] in '+-' else '+' + exponent}"
        return f"YAML reads {text} as text, not as a number: write {better}"
    if tag == _BOOL and text.lower() not in {"true", "false"}:
        return f"YAML reads {text} as {str(value).lower()}: write that, or the word between quotes"
    if tag == _INT and (":" in text or re.match(r"[-+]?0\d", text)):
        return f"YAML reads {text} as {value}: write that, or the text between quotes"
    if tag == _NULL and not text:
        return "nothing stands here, which YAML reads as null: write null"
    return ""
