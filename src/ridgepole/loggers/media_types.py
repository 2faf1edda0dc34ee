"""The forms in which figures, images, tables and histograms reach every backend."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RenderedFigure:
    """A drawn figure.

    Attributes:
        data: Content of the file.
        suffix: Suffix of the file, such as `".png"`.
        width: Width in pixels; 0 for HTML.
        height: Height in pixels; 0 for HTML.
        source: The figure that was drawn, for a backend that wants that instead.
    """

    data: bytes
    suffix: str
    width: int
    height: int
    source: Any


PICTURE = "image"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of plain values.

    Attributes:
        columns: Names of the columns, all different.
        rows: One tuple a row, as long as `columns`; values are None, bool, int, float, str, or a
            `RenderedFigure` for an image.
        types: Name of a column to the types of its values that are stored as text; `PICTURE` stands
            for images.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts in bins.

    Attributes:
        counts: Number of finite values in each bin; empty if there are none.
        edges: Borders of the bins in ascending order, one more than there are counts; empty with
            them.
        total: Sum of the finite values.
        squares: Sum of their squares.
        nonfinite: Number of values that are NaN or infinite; they are in no bin.
        nan: Number of values that are NaN.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]
    total: float
    squares: float
    nonfinite: int = 0
    nan: int = 0

    @classmethod
    def of_bins(cls, counts: Iterable[float], edges: Iterable[float]) -> Histogram:
        """Return a histogram of counts and edges; its sums are those of the middles of its bins."""
        numbers, limits = [round(float(count)) for count in counts], [float(edge) for edge in edges]
        middles = [(left + right) / 2 for left, right in itertools.pairwise(limits)]
        total = sum(count * middle for count, middle in zip(numbers, middles, strict=True))
        squares = sum(count * middle**2 for count, middle in zip(numbers, middles, strict=True))
        return cls(counts=tuple(numbers), edges=tuple(limits), total=total, squares=squares)


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
    """A rectangle around an object in an image.

    Attributes:
        corners: Left, top, right, bottom in pixels. A box whose corners are not finite is kept in
            the record, and not drawn.
        label: Class number.
        name: Name of the class, or an empty text.
        score: Confidence of the detector; None for a true box.
    """

    corners: tuple[float, float, float, float]
    _: KW_ONLY
    label: int = 0
    name: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image with its masks and boxes.

    Attributes:
        pixels: Shape (height, width, 3), 8-bit unsigned.
        masks: Name of a layer, such as `"prediction"`, to its mask.
        boxes: Name of a layer to its boxes.
        drawings: The image with its annotations drawn in, for the next backend that asks;
            empty before the first.
    """

    pixels: NDArray[np.uint8]
    masks: Mapping[str, Mask] = field(default_factory=dict)
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    drawings: list[RenderedFigure] = field(default_factory=list, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A sound, a video, a page or any other file.

    Attributes:
        kind: `"audio"`, `"video"`, `"html"` or `"artifact"`.
        suffix: Suffix of the file, such as `".wav"`; may be empty for an artifact.
        data: Its content, or None if it is a file already.
        source: That file.
        link: Whether the local record may keep the file as a hard link.
        kept: The file in the local record, once it is there; empty before.
    """

    kind: str
    suffix: str
    data: bytes | None = None
    source: Path | None = None
    link: bool = False
    kept: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def path(self) -> Path | None:
        """Return the file that has the content: the kept one, which does not change any more."""
        return self.kept[0] if self.kept else self.source

    def read(self) -> bytes:
        """Return the content."""
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()
