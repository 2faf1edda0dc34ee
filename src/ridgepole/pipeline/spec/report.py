"""The list of problems to which every check of a pipeline adds."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ridgepole.config import ProblemReport, looks_secret
from ridgepole.errors import did_you_mean
from ridgepole.pipeline.spec.convert import ConversionErrors, ConversionProblem, convert, fresh, put
from ridgepole.pipeline.spec.injection import EMPTY, Parameter
from ridgepole.pipeline.spec.spec import Path_, PipelineSpec


class Report(ProblemReport):
    """Problems of one pipeline, each with its place.

    Attributes:
        spec: The pipeline that is checked.
    """

    def __init__(self, spec: PipelineSpec) -> None:
        super().__init__(spec.place)
        self.spec = spec

    def convert(self, annotation: Any, value: Any, path: Path_, what: str) -> Any:
        """Convert a value; where it does not fit, add the reasons and return None.

        Args:
            annotation: The annotation to fit.
            value: The value.
            path: Where it is.
            what: Its name in messages.
        """
        try:
            return convert(annotation, fresh(self.fit(annotation, value, path, what)))
        except ConversionErrors:  # reported
            return None

    def fit_parameter(self, parameter: Parameter, value: Any, path: Path_, what: str) -> Any:
        """Return the value for a parameter as `fit` does.

        Without an annotation, a default that is true, false or text says what the parameter takes.
        """
        if parameter.annotation not in (EMPTY, Any, object):
            return self.fit(parameter.annotation, value, path, what)
        default = parameter.default
        if isinstance(default, bool) and isinstance(value, str):
            converted = self.convert(bool, value, path, what)
            return value if converted is None else converted
        if isinstance(default, str) and path in self.spec.typed:
            return self.spec.typed[path]
        return self.fit(Any, value, path, what)

    def fit(self, annotation: Any, value: Any, path: Path_, what: str) -> Any:
        """Return a value so that it can be converted; where it does not fit, add the reasons.

        What was typed on the command line without quotes becomes text where only text fits, and so
        does an integer of a file that is written in the usual way.
        """
        try:
            convert(annotation, fresh(value))
            found: list[ConversionProblem] = []
        except ConversionErrors as error:
            found = error.problems
        texts = {each.path: text for each in found if (text := self._text_of((*path, *each.path), each)) is not None}
        if texts:
            first, plain = {each.path: each for each in found}, value
            for below, text in texts.items():
                plain = put(plain, below, text)
            try:
                convert(annotation, fresh(plain))
                found, value = [], plain
            except ConversionErrors as error:
                found = [first.get(each.path, each) for each in error.problems]
        found += self._brackets(annotation, value, path, {each.path for each in found})
        for problem in found:
            self._add(problem, path, what)
        return value

    def _text_of(self, path: Path_, problem: ConversionProblem) -> str | None:
        """Return the text that a value has as it was typed, or as a whole number; None without."""
        if path in self.spec.typed:
            return self.spec.typed[path]
        value = self.spec.at(path)
        if problem.wants_text and isinstance(value, int) and not isinstance(value, bool):
            return str(value) if self._written(path, value) == str(value) else None
        return None

    def _written(self, path: Path_, value: Any) -> str:
        """Return a value as it is written in the file; in the usual way if it is not there."""
        place = self.spec.place(path, False)
        token = place.text[place.column - 1 : place.column - 1 + place.width] if place else ""
        try:
            same = tomllib.loads(f"v = {token}") == {"v": value}
        except ValueError:
            same = False
        return token if same else shown(value)

    def _brackets(
        self, annotation: Any, value: Any, path: Path_, bad: Collection[Path_]
    ) -> Iterator[ConversionProblem]:
        """Find typed texts in brackets where an array or a table is allowed, too."""
        for where, text in self.spec.typed.items():
            below = where[len(path) :]
            if where[: len(path)] != path or text[:1] not in ("[", "{") or below in bad:
                continue
            try:
                convert(annotation, put(fresh(value), below, [] if text[0] == "[" else {}))
            except ConversionErrors:
                continue
            yield ConversionProblem(path=below, message="should be valid TOML")

    def _add(self, problem: ConversionProblem, path: Path_, what: str) -> None:
        where, last = (*path, *problem.path), str(problem.path[-1]) if problem.path else ""
        name = ".".join(str(each) for each in (what, *problem.path))
        owner = name.removesuffix(f".{last}")
        value = self.spec.at(where)
        if problem.unknown:
            known = ", ".join(problem.options)
            hint = did_you_mean(last, problem.options) or (f"known keys: {known}" if known else "")
            self.add(where, f"{owner} has no key {last!r}", hint, key=True)
        elif problem.missing:
            self.add(where[:-1], f"{owner} lacks the key {last!r}")
        elif problem.wants_text and isinstance(value, int | float | dt.date | dt.time):
            written = self._written(where, value)
            self.add(where, f"{name}: expected text, not {written}", f'write "{written}" in quotes')
        elif problem.unusable:
            self.add(where, f"{name}: {problem.message}")
        else:
            hidden = where in self.spec.secrets or any(looks_secret(str(key)) for key in where[2:])
            hint = did_you_mean(str(value), problem.options) or _instead(self.spec.typed.get(where, ""))
            if isinstance(value, Mapping) and value and all(key.isdecimal() for key in value):
                hint = f"write the whole array: {name}=[…]"
            colon = "" if problem.message.startswith("should be") else ":"
            self.add(where, f"{name}{colon} {problem.message}, not {'***' if hidden else shown(value)}", hint)


def _instead(typed: str) -> str:
    """Return what to write instead of a value of the command line that does not fit."""
    if typed[:1] in ("[", "{") and typed:
        quoted = re.sub(r"(?<![\w\"'.-])(?!true\b|false\b)([A-Za-z_][\w./-]*)", r'"\1"', typed)
        form = quoted if typed[0] == "[" else re.sub(r'"(\w+)"\s*:\s*', r"\1 = ", quoted)
        return f"texts go between quotes: '{form}'" if typed[0] == "[" else f"a table is written so: '{form}'"
    if "," in typed:
        return "one run takes one value; several values make a sweep"
    return ""


def shown(value: Any) -> str:
    """Show a value in a message: short, and in the words of a config file."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, tuple | list):
        return "an array"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = value.__qualname__ if hasattr(value, "__qualname__") else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
