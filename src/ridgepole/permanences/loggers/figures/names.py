"""File names for figures: the user's names are data, and never paths."""

from __future__ import annotations

import hashlib
import re

MAX_SLUG = 80

_OTHER = re.compile(r"[^A-Za-z0-9_]+")


def checked_name(name: object, what: str = "a figure") -> str:
    """The name of a figure, or of something else that is logged, as text that an index can hold.

    Args:
        name: The name.
        what: What it is the name of, for the error.

    Returns:
        The name.

    Raises:
        TypeError: If it is no text, or has a lone surrogate in it.
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
