"""File names for figures: the user's names are data, and never paths."""

from __future__ import annotations

import hashlib
import re

MAX_SLUG = 80

_OTHER = re.compile(r"[^A-Za-z0-9_]+")


def checked_name(name: object) -> str:
    """A figure's name as text that an index can hold.

    Raises:
        TypeError: If it is no text, or has a lone surrogate in it.
        ValueError: If it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"a figure's name must be a string, not {type(name).__name__}")
    if not name:
        raise ValueError("a figure needs a name; this one is empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"the figure's name {name!r} has a lone surrogate and can't be stored as text") from error
    return str.__str__(name)


def file_stem(name: str, step: int) -> str:
    """The stem of a figure's file: what is readable of the name, a hash of all of it, and the step.

    Two names never share a stem, also on a filesystem that does not tell `Loss` from `loss`.

    Args:
        name: The name as the user gave it.
        step: The step that the figure belongs to.

    Returns:
        Such as `validation-filters-3f2a81c904_1200`, of ASCII letters, digits, `-` and `_` alone.
    """
    slug = _OTHER.sub("-", name)[:MAX_SLUG].strip("-") or "figure"
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return f"{slug}-{digest}_{step}"
