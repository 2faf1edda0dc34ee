"""One TOML text with a name: from bytes to values, and from paths and offsets to places."""

from __future__ import annotations

import codecs
import dataclasses
import itertools
import pathlib
import tomllib
from bisect import bisect_right
from functools import cached_property
from typing import Any

from ridgepole.config import limits, scan, syntax, tree
from ridgepole.config.limits import Finding
from ridgepole.config.scan import Path, Span
from ridgepole.config.secrets import mask
from ridgepole.errors import Place, Problem

# A control character that reaches a terminal could rewrite what is on it; each gets a visible stand-in of one column.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if code != 0x09}
_VISIBLE |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD)
_MAX_PROBLEMS = 100


def visible(text: str) -> str:
    """The text with control characters, tabs apart, and halves of surrogate pairs replaced by visible ones."""
    return text.translate(_VISIBLE)


class Source:
    """One text, its line structure and, where it parses, its values.

    Attributes:
        name: What places call it.
        path: Where it was read from, or None.
        data: The bytes as they were read.
        text: The decoded text, without a byte order mark and with line feeds as line breaks.
        values: What tomllib made of it; empty while `parse` has not succeeded.
    """

    def __init__(self, name: str, data: bytes, path: pathlib.Path | None = None) -> None:
        self.name = name
        self.path = path
        self.data = data
        self.text = ""
        self.values: dict[str, Any] = {}
        self._shown = (0, "")

    def parse(self) -> list[Problem]:
        """Decodes and parses the bytes.

        Returns:
            Everything that is wrong with them; empty where `values` is now the whole truth.
        """
        if len(self.data) > limits.MAX_BYTES:
            return [too_large(Place(self.name))]
        finding = self._decode() or limits.refuse(self.text)
        if finding is None:
            try:
                self.values = tomllib.loads(self.text)
            except (ValueError, RecursionError) as error:
                finding = syntax.explain(str(error), self.text)
        if finding is not None:
            place = self.place(finding.start, finding.end)
            marked, shown = self.text[finding.start : finding.end], place.text[place.column - 1 :][: place.width]
            # What the line hides, the hint hides too.
            hint = finding.hint.replace(marked, shown) if len(marked) == len(shown) else finding.hint
            return [Problem(finding.message, place, hint)]
        return [
            Problem(message, self.where(path, key=key), "write it as text, between quotes" if not key else "")
            for path, key, message in itertools.islice(tree.unfit(self.values), _MAX_PROBLEMS)
        ]

    def _decode(self) -> Finding | None:
        data = self.data.removeprefix(codecs.BOM_UTF8)
        try:
            text, failure = data.decode("utf-8"), None
        except UnicodeDecodeError as error:
            start = len(data[: error.start].decode("utf-8").replace("\r\n", "\n"))
            text = data.decode("utf-8", "replace")
            utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            kind = "the file looks like UTF-16" if utf16 else f"byte 0x{data[error.start]:02x} is not UTF-8"
            failure = Finding(f"not valid TOML: {kind}", start, start + 1, "save the file as UTF-8")
        self.text = text.replace("\r\n", "\n")
        return failure

    @cached_property
    def spans(self) -> dict[Path, Span]:
        """Where each key and value stands; found out when first asked, as a good configuration never needs it."""
        return scan.scan(self.text)

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        while (found := self.text.find("\n", starts[-1])) >= 0:
            starts.append(found + 1)
        return starts

    def place(self, start: int, end: int) -> Place:
        """The place of a stretch of the text; the caret line marks the part of it that is on its first line."""
        line = bisect_right(self._starts, start)
        first = self._starts[line - 1]
        last = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        if self._shown[0] != line:  # thousands of problems may stand on one line of a megabyte
            self._shown = line, visible(mask(self.text[first:last]))
        return Place(self.name, line, start - first + 1, self._shown[1], max(1, min(end, last) - start))

    def where(self, path: Path, *, key: bool = False) -> Place | None:
        """The place of a value or its key, or None where this text has no such path."""
        span = self.spans.get(path)
        if span is None:
            return None
        return self.place(*(span[:2] if key else span[2:]))


def too_large(place: Place) -> Problem:
    """The problem of a text beyond the size limit."""
    return Problem(
        f"larger than {limits.MAX_BYTES // 1024} KiB, which no configuration needs",
        place,
        "keep data in files of their own and name them here",
    )


def narrow(place: Place, token: str) -> Place:
    """The same place with the caret under a token further on in its line, where the token stands there as it is."""
    column = place.text.find(visible(token), place.column - 1)
    return dataclasses.replace(place, column=column + 1, width=len(token)) if column >= 0 else place
