"""Which bar a name means."""

from __future__ import annotations

from collections.abc import Iterable


def find_bar(name: str, bars: Iterable[str], *, substring: bool = False) -> str | None:
    """The bar that a task's name means: the exact name, then a part between `-`, then a substring if wished.

    Args:
        name: What the user wrote, such as `"val"`.
        bars: Names of all bars, such as `"train-val-test"`; earlier ones win.
        substring: Whether a bar that only contains the name will do.

    Returns:
        The bar's name, or None.
    """
    known = list(bars)
    if not name:
        return None
    if name in known:
        return name
    parts = (bar for bar in known if name in bar.split("-"))
    contained = (bar for bar in known if substring and name in bar)
    return next(parts, None) or next(contained, None)
