"""Refuses texts that would keep the TOML parser busy for seconds or exhaust its stack, before it sees them.

tomllib recurses once a bracket, is quadratic in the parts of a dotted key, and lets the `ValueError` of a very long
integer through. Strings and comments are blanked out first, so that brackets inside them don't count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_BYTES = 1 << 20
"""Largest file, in bytes."""
MAX_DEPTH = 32
"""Most levels of nested brackets, most parts of a dotted key, and most levels of tables and arrays in one file."""
MAX_NAME = 256
"""Longest part of a key, in characters."""
MAX_DIGITS = 400
"""Longest run of digits. Python refuses integers above 4300; the conversion of a longer float is quadratic."""
INTEGERS = range(-(2**63), 2**64)
"""Integers that fit into 64 bits, signed or unsigned; TOML itself promises the signed ones."""

# Strings and comments. An unclosed string runs to the end of its line or of the text: tomllib stops there, and so
# nothing is scanned twice.
OPAQUE = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5}|\\?\Z)'
    r"|'''(?:[^']++|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
_BRACKET = re.compile(r"[\[\]{}]")
_LONG_KEY = re.compile(rf'(?:\.[ \t]*+[\w"-]++[ \t]*+){{{MAX_DEPTH}}}')
_LONG_NUMBER = re.compile(rf"\d[\d_]{{{MAX_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a text, by offsets into it."""

    message: str
    start: int
    end: int
    hint: str = ""


def blank(text: str) -> str:
    """The text with every string replaced by quotes and every comment by spaces, offsets unchanged."""
    return OPAQUE.sub(lambda match: (" " if match[0][0] == "#" else '"') * len(match[0]), text)


def brackets(blanked: str) -> list[tuple[str, int]]:
    """The brackets of a blanked text with their offsets."""
    return [(match[0], match.start()) for match in _BRACKET.finditer(blanked)]


def refuse(text: str) -> Finding | None:
    """The first reason why a text must not reach the parser, in time linear in its length.

    Args:
        text: TOML, or what is meant to be, with line feeds as line breaks.

    Returns:
        What is wrong and where; None where the parser may have it.
    """
    if (start := text.find("\r")) >= 0:  # TOML has no place for one, but tomllib would take two and a line feed
        hint = "lines end with \\n or \\r\\n, not with \\r alone"
        return Finding("not valid TOML: a carriage return that ends no line", start, start + 1, hint)
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
