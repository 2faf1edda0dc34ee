"""Draw a figure to the bytes of a file, without pyplot, a display, or changed settings."""

from __future__ import annotations

import io
import math
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.metrics.convert import shape_of, to_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOLERANCE = 0.01
"""The distance outside 0 to 1 at which a float still counts as a rounding error."""

_CHANNELS = (1, 3, 4)
_GAP = 2  # pixels between the pictures of a grid

ACCEPTED = "a matplotlib or plotly figure, a PIL image, or an array of shape (height, width) or with 1, 3 or 4 channels"


def prepare(figure: Any) -> Callable[[], RenderedFigure]:
    """Check a figure and return a function that draws it; the function raises drawing errors.

    The types are recognised without importing their packages: an instance's module is loaded
    already.

    Args:
        figure: See `ACCEPTED`; an object with a `figure` (Axes, a seaborn grid) stands for that.

    Raises:
        TypeError: If the figure is of another type.
        ValueError: If it is an empty array or has another shape.
        MissingExtraError: If it needs a package that is not installed.
    """
    whole = matplotlib_figure(figure)
    if whole is not None:
        return lambda: _draw_matplotlib(whole, figure)
    if is_instance(figure, "PIL.Image", "Image"):
        return lambda: _draw_pil(figure, figure)
    if is_instance(figure, "plotly.basedatatypes", "BaseFigure"):
        return lambda: _draw_plotly(figure)
    if shape_of(figure) is not None:
        array = as_array(figure, "a figure")
        return lambda: render_pixels(to_pixels(array), figure)
    raise TypeError(f"a {type(figure).__name__} can't be logged as a figure; give {ACCEPTED}")


def matplotlib_figure(figure: Any) -> Any:
    """Return the matplotlib figure that this is or has (Axes, a seaborn grid), or None."""
    for candidate in (figure, getattr(figure, "figure", None)):
        if is_instance(candidate, "matplotlib.figure", "Figure"):
            return candidate
    return None


def close(figure: Any) -> None:
    """Close a matplotlib figure, which pyplot would keep forever; ignore anything else."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    whole = matplotlib_figure(figure)
    if whole is not None:
        pyplot.close(whole)


def is_instance(value: object, module: str, name: str) -> bool:
    """Tell whether a value is an instance of a class, without importing the class."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _draw_matplotlib(figure: Any, source: Any) -> RenderedFigure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    before = figure.canvas
    buffer = io.BytesIO()
    try:
        # Not the canvas of a window system. Savefig follows rcParams["savefig.*"].
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", bbox_inches="tight")
    finally:
        figure.set_canvas(before)
    data = buffer.getvalue()
    return RenderedFigure(data, ".png", *png_size(data), source)


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height from the header of a PNG."""
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _draw_pil(image: Any, source: Any) -> RenderedFigure:
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):  # not in PNG
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return RenderedFigure(buffer.getvalue(), ".png", image.width, image.height, source)


def render_pixels(pixels: NDArray[Any], source: Any = None) -> RenderedFigure:
    """Return pixels as a PNG.

    Args:
        pixels: (height, width) of 8 or 16 bits, or (height, width, 3 or 4) of 8.
        source: The object that they were made from; by default the pixels themselves.
    """
    from PIL import Image

    return _draw_pil(Image.fromarray(pixels), pixels if source is None else source)


def _draw_plotly(figure: Any) -> RenderedFigure:
    try:
        data = figure.to_image(format="png")
    except Exception:  # noqa: BLE001 - without kaleido and its browser: several error types, by version
        return RenderedFigure(figure.to_html(include_plotlyjs=True).encode(), ".html", 0, 0, figure)
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return RenderedFigure(data, ".png", image.width, image.height, figure)


def as_array(array: Any, what: str) -> NDArray[Any]:
    """Return an array or tensor as a picture with its channels last, without a copy if possible.

    Args:
        array: (height, width), (height, width, channels) or (channels, height, width) with 1, 3 or
            4 channels; or a batch of the latter two.
        what: Its name, for the error message.

    Raises:
        ValueError: If it is empty or has another shape.
        TypeError: If it does not hold real numbers.
        MissingExtraError: If numpy or Pillow is not installed.
    """
    try:
        import numpy as np
        import PIL.Image  # noqa: F401 - imported here, so that drawing does not fail later
    except ImportError as error:
        raise MissingExtraError(error.name or "numpy", "plots", "a picture from an array") from error
    pixels = to_array(array)
    if pixels is None:
        raise TypeError(f"{what} is an array of {array.dtype}; it must hold real numbers")
    if pixels.ndim in (3, 4) and pixels.shape[-1] not in _CHANNELS and pixels.shape[-3] in _CHANNELS:
        pixels = np.moveaxis(pixels, -3, -1)
    if not pixels.size or pixels.ndim not in (2, 3, 4) or (pixels.ndim > 2 and pixels.shape[-1] not in _CHANNELS):
        raise ValueError(
            f"{what} is an array of shape {pixels.shape}, which is not a picture; "
            "give (height, width), or 1, 3 or 4 channels"
        )
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def to_pixels(
    array: Any, what: str = "a figure", span: tuple[float, float] | None = None, columns: int | None = None
) -> NDArray[np.uint8]:
    """Return an array or tensor as pixels, a batch of them as a grid.

    Integers from 0 to 255 and floats from 0 to 1 keep their meaning, and rounding errors up to
    `TOLERANCE` are clipped. If any value lies further outside, all are scaled from the smallest to
    the largest. Values that are not finite become 0. Errors are as in `as_array`.

    Args:
        array: As in `as_array`.
        what: As in `as_array`.
        span: The values of black and white; others are clipped.
        columns: Number of columns of a grid; by default it is about as wide as high.
    """
    import numpy as np

    pixels = _to_bytes(as_array(array, what), span)
    return np.ascontiguousarray(tiled(pixels, columns) if pixels.ndim == 4 else pixels)


def tiled(batch: NDArray[np.uint8], columns: int | None = None) -> NDArray[np.uint8]:
    """Arrange pictures of one size, (count, height, width, channels), in rows with black lines."""
    import numpy as np

    count, height, width, channels = batch.shape
    across = min(count, columns or math.ceil(math.sqrt(count)))
    down = -(-count // across)
    gap = _GAP if count > 1 else 0
    sheet = np.zeros((down * (height + gap) - gap, across * (width + gap) - gap, channels), np.uint8)
    for number, picture in enumerate(batch):
        top, left = number // across * (height + gap), number % across * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet[..., 0] if channels == 1 else sheet


def _to_bytes(pixels: NDArray[Any], span: tuple[float, float] | None) -> NDArray[np.uint8]:
    import numpy as np

    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint8 and span is None:
        return pixels
    is_float = pixels.dtype.kind == "f"
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    if span is not None:
        low, high = span
    slack = TOLERANCE if is_float else 0
    if span is not None or low < -slack or high > (1 + slack if is_float else 255):
        scale = high / 2 - low / 2  # halved, so that the range of huge numbers does not overflow
        values = (values / 2 - low / 2) / (scale or 1.0) * 255
    elif is_float:
        values = values * 255
    return np.where(finite, values, 0).round().clip(0, 255).astype(np.uint8)
