"""Draws a figure to the bytes of a file, without pyplot, a display, or a change to anyone's settings."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ACCEPTED = "a matplotlib or plotly figure, a PIL image, or an array of shape (height, width) or with 1, 3 or 4 channels"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A drawn figure.

    Attributes:
        data: The content of the file.
        suffix: Suffix of the file, such as `".png"`.
        width: Width in pixels; 0 where it has none (HTML).
        height: Height in pixels; 0 where it has none.
        source: The figure that it was drawn from, for a backend that wants that instead.
    """

    data: bytes
    suffix: str
    width: int
    height: int
    source: Any


def prepare(figure: Any) -> Callable[[], Rendered]:
    """Checks a figure, and returns what draws it.

    The types are recognised without importing their packages: what is an instance of a class has its module loaded.

    Args:
        figure: See `ACCEPTED`; what has a `figure` (Axes, a seaborn grid) stands for that.

    Returns:
        A function that draws. It raises whatever the drawing raises.

    Raises:
        TypeError: If it is none of them.
        ValueError: If it is an array of another shape, or an empty one.
        MissingExtraError: If it needs a package that is not installed.
    """
    whole = matplotlib_figure(figure)
    if whole is not None:
        return lambda: _draw_matplotlib(whole, figure)
    if is_instance(figure, "PIL.Image", "Image"):
        return lambda: _draw_pil(figure, figure)
    if is_instance(figure, "plotly.basedatatypes", "BaseFigure"):
        return lambda: _draw_plotly(figure)
    if isinstance(getattr(figure, "shape", None), tuple):
        array = as_array(figure, "a figure")
        return lambda: render_pixels(to_pixels(array), figure)
    raise TypeError(f"a {type(figure).__name__} can't be logged as a figure; give {ACCEPTED}")


def matplotlib_figure(figure: Any) -> Any:
    """The matplotlib figure that this is or has (Axes, a seaborn grid); None where there is none."""
    for candidate in (figure, getattr(figure, "figure", None)):
        if is_instance(candidate, "matplotlib.figure", "Figure"):
            return candidate
    return None


def close(figure: Any) -> None:
    """Lets pyplot forget a matplotlib figure, which it would otherwise keep for ever; anything else is left alone."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    whole = matplotlib_figure(figure)
    if whole is not None:
        pyplot.close(whole)


def is_instance(value: object, module: str, name: str) -> bool:
    """Whether a value is of a class, which is not imported for that: what is one has its module loaded."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _draw_matplotlib(figure: Any, source: Any) -> Rendered:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    before = figure.canvas
    buffer = io.BytesIO()
    try:
        # Not savefig: that follows rcParams["savefig.*"], and asks the canvas of whatever window system is set.
        canvas = FigureCanvasAgg(figure)
        canvas.print_png(buffer)  # type: ignore[no-untyped-call]
        width, height = canvas.get_width_height()
    finally:
        figure.set_canvas(before)
    return Rendered(buffer.getvalue(), ".png", width, height, source)


def _draw_pil(image: Any, source: Any) -> Rendered:
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):  # what PNG has no form for
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Rendered(buffer.getvalue(), ".png", image.width, image.height, source)


def render_pixels(pixels: NDArray[Any], source: Any = None) -> Rendered:
    """Pixels as a PNG.

    Args:
        pixels: (height, width) of 8 or 16 bits, or (height, width, 3 or 4) of 8.
        source: What they were made from; the pixels themselves where left out.

    Returns:
        The PNG.
    """
    from PIL import Image

    return _draw_pil(Image.fromarray(pixels), pixels if source is None else source)


def _draw_plotly(figure: Any) -> Rendered:
    try:
        data = figure.to_image(format="png")
    except Exception:  # noqa: BLE001 - without kaleido and its browser: several error types, by version
        return Rendered(figure.to_html(include_plotlyjs=True).encode(), ".html", 0, 0, figure)
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return Rendered(data, ".png", image.width, image.height, figure)


def as_array(array: Any, what: str) -> NDArray[Any]:
    """An array or tensor that is a picture, with its channels last; no copy where none is needed.

    Args:
        array: (height, width), (height, width, channels) or (channels, height, width) with 1, 3 or 4 channels.
        what: What it is called, for the error.

    Returns:
        (height, width), or (height, width, 3 or 4), of real numbers.

    Raises:
        ValueError: If it has another shape or nothing in it.
        TypeError: If it holds no real numbers.
        MissingExtraError: If numpy or Pillow is not installed.
    """
    try:
        import numpy as np
        import PIL.Image  # noqa: F401 - asked for here, so that drawing does not fail later
    except ImportError as error:
        raise MissingExtraError(error.name or "numpy", "plots", "a picture from an array") from error
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() else array
    pixels = np.asarray(array)
    if pixels.dtype.kind not in "fiub":
        raise TypeError(f"{what} is an array of {pixels.dtype}; it must hold real numbers")
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if not pixels.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"{what} is an array of shape {pixels.shape}, which is no picture; "
            "give (height, width), or 1, 3 or 4 channels"
        )
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def to_pixels(array: Any, what: str = "a figure") -> NDArray[np.uint8]:
    """An array or tensor as pixels.

    Whole numbers from 0 to 255 and floats from 0 to 1 keep their meaning; where any value lies outside, all are
    stretched from the smallest to the largest. What is not finite becomes 0.

    Args:
        array: As in `as_array`.
        what: What it is called, for the error.

    Returns:
        (height, width), or (height, width, 3 or 4).

    Raises:
        ValueError: As `as_array`.
        TypeError: As `as_array`.
        MissingExtraError: As `as_array`.
    """
    import numpy as np

    return np.ascontiguousarray(_to_bytes(as_array(array, what)))


def _to_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    import numpy as np

    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint8:
        return pixels
    is_float = pixels.dtype.kind == "f"
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    if low < 0 or high > (1 if is_float else 255):
        scale = high / 2 - low / 2  # halved, so that the range of huge numbers does not overflow
        values = (values / 2 - low / 2) / (scale or 1.0) * 255
    elif is_float:
        values = values * 255
    return np.where(finite, values, 0).round().clip(0, 255).astype(np.uint8)
