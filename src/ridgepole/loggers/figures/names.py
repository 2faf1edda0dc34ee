"""File names for figures. A user's name is data, never a path."""

from __future__ import annotations

import hashlib
import os
import unicodedata

MAX_SLUG = 80  # bytes


def checked_name(name: object, what: str = "a figure") -> str:
    """Check the name of a figure or other media and return it as a plain string.

    Raises:
        TypeError: If it is not a string, or has a lone surrogate in it.
        ValueError: If it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of {what} must be a string, not {type(name).__name__}")
    if not name:
        raise ValueError(f"the name of {what} is empty; give it one")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"the name {name!r} of {what} has a lone surrogate and can't be stored as text") from error
    return str.__str__(name)


def file_stem(name: str, step: int) -> str:
    """Return the stem of a figure's file: a readable part of the name, a hash of it, and the step.

    The stem has only letters and digits of any script, `-` and `_`, as
    `validation-filters-3f2a81c904_1200`. Two names never share a stem, even on a case-insensitive
    filesystem.
    """
    slug = readable(name, MAX_SLUG) or "figure"
    try:
        os.fsencode(slug)
    except UnicodeEncodeError:  # a locale without these letters
        slug = readable(slug.encode("ascii", "ignore").decode(), MAX_SLUG) or "figure"
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return f"{slug}-{digest}_{step}"


def readable(name: str, limit: int) -> str:
    """Return the letters, marks and digits of a name, composed, with `-` for all between them.

    Args:
        name: Any text.
        limit: The greatest length in bytes; a letter is not cut.
    """
    composed = unicodedata.normalize("NFC", name)
    kept = "".join(each if each == "_" or unicodedata.category(each)[0] in "LMN" else " " for each in composed)
    return "-".join(kept.split()).encode()[:limit].decode("utf-8", "ignore").strip("-")
