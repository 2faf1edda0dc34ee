"""Limits of a text, and the refusal of texts that would overload tomllib.

tomllib recurses for each bracket, is quadratic in the parts of a dotted key, and raises a plain
`ValueError` for a very long integer. Brackets in strings and comments do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_BYTES = 1 << 20
"""Largest file, in bytes."""
MAX_DEPTH = 32
"""Most levels of brackets, of tables and arrays, and most parts of a dotted key in a file."""
MAX_NAME = 256
"""Longest part of a key, in characters."""
MAX_DIGITS = 400
"""Longest run of digits. Python refuses more than 4300; converting a long float is quadratic."""
INTEGERS = range(-(2**63), 2**64)
"""Integers that fit into 64 bits, signed or unsigned; TOML itself promises the signed ones."""

# Strings and comments. An unclosed string ends with its line or the text, where tomllib stops.
OPAQUE = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*(?:"{3,5}|\\?\Z)'
    r"|'''(?:[^']++|'(?!''))*(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]++|\\[^\n])*"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
_BRACKET = re.compile(r"[\[\]{}]")
_LONG_KEY = re.compile(rf'(?:\.[ \t]*+[\w"-]++[ \t]*+){{{MAX_DEPTH}}}')
_LONG_NUMBER = re.compile(rf"\d[\d_]{{{MAX_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Finding:
    """An error in a text, by offsets."""

    message: str
    start: int
    end: int
    hint: str = ""


def blank(text: str) -> str:
    """Replace every string by quotes and every comment by spaces; offsets stay."""
    return OPAQUE.sub(lambda match: (" " if match[0][0] == "#" else '"') * len(match[0]), text)


def brackets(blanked: str) -> list[tuple[str, int]]:
    """Return the brackets of a blanked text with their offsets."""
    return [(match[0], match.start()) for match in _BRACKET.finditer(blanked)]


def refuse(text: str) -> Finding | None:
    """Return the first reason why a text must not reach the parser, in linear time, or None."""
    if (start := text.find("\r")) >= 0:  # invalid, but tomllib accepts two before a line feed
        hint = "lines end with \\n or \\r\\n, not with \\r alone"
        return Finding("not valid TOML: a carriage return inside a line", start, start + 1, hint)
    blanked = blank(text)
    if match := _LONG_NUMBER.search(blanked):
        return Finding(
            f"a number of more than {MAX_DIGITS} digits",
            match.start(),
            match.end(),
            "write it as text, between quotes",
        )
    if match := _LONG_KEY.search(blanked):
        return Finding(f"a key of more than {MAX_DEPTH} parts", match.start(), match.end(), "nest less deeply")
    depth = 0
    for count, bracket in enumerate(_BRACKET.findall(blanked)):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        if depth > MAX_DEPTH:
            start = brackets(blanked)[count][1]
            return Finding(f"brackets nested more than {MAX_DEPTH} deep", start, start + 1, "nest less deeply")
    return None
