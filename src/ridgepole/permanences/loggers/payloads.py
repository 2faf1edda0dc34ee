"""What loggers are given besides numbers and figures, in the one form in which it reaches every backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ridgepole.permanences.loggers.figures.render import Rendered


@dataclass(frozen=True, slots=True)
class Table:
    """A table of plain values.

    Attributes:
        columns: Names of the columns, all different.
        rows: One tuple a row, as long as `columns`; values are None, bool, int, float or str.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in bins.

    Attributes:
        counts: How many finite values fell into each bin.
        edges: Borders of the bins in ascending order, one more than there are counts.
        total: Sum of the finite values.
        squares: Sum of their squares.
        nonfinite: How many values were NaN or infinite and are in no bin.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]
    total: float
    squares: float
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class Mask:
    """A class for each pixel of an image.

    Attributes:
        labels: Shape (height, width), integers.
        names: Class number to its name, for those that have one.
    """

    labels: NDArray[np.integer[Any]]
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around something in an image.

    Attributes:
        corners: Left, top, right, bottom in pixels.
        label: Class number.
        name: The class's name, or an empty text.
        score: How sure the detector is, from 0 to 1; None for a true box.
    """

    corners: tuple[float, float, float, float]
    label: int = 0
    name: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image with what was found in it.

    Attributes:
        pixels: Shape (height, width, 3), 8-bit unsigned.
        masks: Name of a layer, such as `"prediction"`, to its mask.
        boxes: Name of a layer to its boxes.
        drawings: The image as `figures.overlay.drawn` drew it, for the next backend that asks; empty before the first.
    """

    pixels: NDArray[np.uint8]
    masks: Mapping[str, Mask] = field(default_factory=dict)
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    drawings: list[Rendered] = field(default_factory=list, init=False, repr=False, compare=False)
