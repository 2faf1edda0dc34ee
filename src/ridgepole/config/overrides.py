"""Reads `-s key=value`."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from ridgepole.config import limits, scan, tree
from ridgepole.config.document import Override
from ridgepole.config.secrets import mask
from ridgepole.config.source import too_large, visible
from ridgepole.errors import ConfigError, Place, Problem

_NAME = "-s"
_MAX_LENGTH = 1 << 16
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*")


def parse_override(text: str) -> Override:
    """Reads one `key=value` of the command line.

    Args:
        text: A dotted TOML key, `=`, and a value. A value that is TOML is taken as such, everything else as text:
            `epochs=3` is an integer, `name=adam`, `name="adam"` and `flag=True` are texts, `flag=true` is a boolean.

    Returns:
        The override; its place is the key in `text`, in a file called `-s`.

    Raises:
        ConfigError: If there is no `=`, the key is empty or no TOML key, or the value is beyond what a file may hold.
    """
    if len(text) > _MAX_LENGTH:
        raise ConfigError([too_large(Place(_NAME))])
    line = visible(mask(text, whole=True))
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ConfigError([Problem("what is to be set is not UTF-8", Place(_NAME, 1, 1, line))])
    match = _KEY.match(text)
    end = match.end() if match else 0
    if match is None or not text.startswith("=", end):
        raise ConfigError([_no_key(text, line, end)])
    place = Place(_NAME, 1, match.start(1) + 1, line, match.end(1) - match.start(1))
    value_text = text[end + 1 :].strip().replace("\r\n", "\n")
    if finding := limits.refuse(text[:end]) or limits.refuse(value_text):
        raise ConfigError([Problem(finding.message, place, finding.hint)])
    try:
        path = tuple(part.name for part in scan.read_key(text[:end] + "=", 0)[0])
    except ValueError as error:  # a bad escape between double quotes
        raise ConfigError([Problem(f"not a key: {error}", place)]) from None
    value = _value(value_text)
    for _, _, message in tree.unfit(dict.fromkeys(path, value)):
        raise ConfigError([Problem(message, place)])
    return Override(path, value, place)


def _value(text: str) -> Any:
    """The value as TOML where the text is one TOML value and nothing else, else the text."""
    if not text:
        return text
    line = f"v = {text}"
    try:
        values = tomllib.loads(line)
    except ValueError:
        return text
    # "1 # one" and "1\nw = 2" parse too, but are more than one value.
    spans = scan.scan(line)
    whole = len(values) == 1 and spans["v",][3] == len(line)
    return values["v"] if whole else text


def _no_key(text: str, line: str, end: int) -> Problem:
    """Why a text does not begin with a key and `=`."""
    equals = text.find("=")
    if equals < 0:
        return Problem("no '=' in what is to be set", Place(_NAME, 1, 1, line, max(1, len(text))), "write key=value")
    if not text[:equals].strip():
        return Problem("no key before '='", Place(_NAME, 1, equals + 1, line), "write key=value")
    return Problem(
        "not a key",
        Place(_NAME, 1, end + 1, line),
        'write table.key=value; other characters go between quotes: "a b"=1',
    )
