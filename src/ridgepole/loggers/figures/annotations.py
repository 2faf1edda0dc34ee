"""Draw masks and boxes into the pixels of an image."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, Any

from ridgepole.loggers.figures.render import render_pixels
from ridgepole.loggers.media_types import AnnotatedImage, Box, RenderedFigure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPACITY = 0.5
_GOLDEN = 0.618033988749895  # of the circle of hues: neighbouring classes get distant colours


def drawn(image: AnnotatedImage) -> RenderedFigure:
    """Return an image as a PNG with its masks and boxes; later calls return the same drawing.

    Class 0 of a mask is transparent. A class has one colour in all masks and boxes.
    """
    if not image.drawings:
        image.drawings.append(render_pixels(overlaid(image)))
    return image.drawings[0]


def plain(image: AnnotatedImage) -> RenderedFigure:
    """Return an image as a PNG, without its masks and boxes."""
    return render_pixels(image.pixels) if image.masks or image.boxes else drawn(image)


def colour(label: int) -> tuple[int, int, int]:
    """Return the colour of a class, as red, green and blue from 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb((label * _GOLDEN) % 1.0, 0.9, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlaid(image: AnnotatedImage) -> NDArray[np.uint8]:
    """Return the pixels of an image with its masks and boxes."""
    pixels = image.pixels
    for mask in image.masks.values():
        pixels = _tinted(pixels, mask.labels)
    boxes = [box for layer in image.boxes.values() for box in layer]
    return _framed(pixels, boxes) if boxes else pixels


def _tinted(pixels: NDArray[np.uint8], labels: NDArray[Any]) -> NDArray[np.uint8]:
    import numpy as np

    classes = np.unique(labels)
    palette = np.zeros((int(classes[-1]) + 1 if classes.size else 1, 3), np.float32)
    for label in classes.tolist():
        palette[label] = colour(label)
    mixed = pixels * np.float32(1 - OPACITY) + palette[labels] * np.float32(OPACITY)
    return np.where((labels > 0)[..., None], mixed.round().astype(np.uint8), pixels)


def _framed(pixels: NDArray[np.uint8], boxes: list[Box]) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(pixels)
    pen = ImageDraw.Draw(canvas)
    width = max(1, round(min(canvas.size) / 200))
    limit = 2 * max(canvas.size)  # don't draw a box far outside
    for box in boxes:
        if not all(map(math.isfinite, box.corners)):
            continue  # there is no place to draw it
        left, top, right, bottom = box.corners
        edges = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        corners = [min(max(edge, -limit), limit) for edge in edges]
        pen.rectangle(corners, outline=colour(box.label), width=width)
        text = " ".join(filter(None, (box.name, "" if box.score is None else f"{box.score:.2f}")))
        if text:
            _write(pen, corners[0], corners[1], text, colour(box.label))
    return np.asarray(canvas)


def _write(pen: Any, left: float, top: float, text: str, background: tuple[int, int, int]) -> None:
    """Write above a box, or inside if there is no room above."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[:40])
    frame = pen.textbbox((0, 0), text)
    height = frame[3] - frame[1] + 2
    at = (max(0, left), top - height if top >= height else max(0, top))
    pen.rectangle((at[0], at[1], at[0] + frame[2] - frame[0] + 2, at[1] + height), fill=background)
    pen.text((at[0] + 1 - frame[0], at[1] + 1 - frame[1]), text, fill=(0, 0, 0))
