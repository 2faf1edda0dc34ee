"""Fewer points for a drawing of the same look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_DRAWN = 2_000
"""A figure is some hundred pixels wide: more points of a line than this can't be seen."""


def thin_line(values: NDArray[np.floating], limit: int = MAX_DRAWN) -> NDArray[np.intp]:
    """Chooses the points of a line that a drawing needs: first, last, and the extremes of equal stretches.

    Min-max downsampling keeps every spike that the full line would show at this width.

    Args:
        values: Heights of the points, in the order in which they are joined.
        limit: How many points to keep, at least 4.

    Returns:
        Indexes into `values`, rising.
    """
    import numpy as np

    count = len(values)
    if count <= limit:
        return np.arange(count)
    stretches = (limit - 2) // 2
    width = count // stretches
    whole = values[: stretches * width].reshape(stretches, width)
    starts = np.arange(stretches) * width
    low = starts + np.where(np.isnan(whole), np.inf, whole).argmin(1)
    high = starts + np.where(np.isnan(whole), -np.inf, whole).argmax(1)
    chosen = [low, high, [0, count - 1]]
    rest = values[stretches * width :]
    if len(rest) and not np.isnan(rest).all():
        chosen.append([stretches * width + int(np.nanargmin(rest)), stretches * width + int(np.nanargmax(rest))])
    return np.unique(np.concatenate(chosen)).astype(np.intp)
