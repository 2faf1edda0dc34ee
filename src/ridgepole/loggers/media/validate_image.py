"""Check images, masks and boxes and bring them into the form that every backend takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean
from ridgepole.loggers.figures.render import is_instance, tiled, to_pixels
from ridgepole.loggers.media.validate import checked_text, real_array
from ridgepole.loggers.media_types import AnnotatedImage, Box, Mask
from ridgepole.metrics.convert import shape_of, simple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LABEL = 65535  # what a PNG of 16 bits holds

_BOX_KEYS = ("corners", "label", "name", "score")
_DETECTION_KEYS = ("boxes", "labels", "scores", "names")


def annotated_images(
    image: Any,
    masks: Mapping[str, Any] | None = None,
    boxes: Mapping[str, Any] | None = None,
    *,
    span: Any = None,
    grid: object = None,
) -> list[AnnotatedImage]:
    """Convert one image or several; arguments and errors are those of `log_image`."""
    if grid is not None and not (isinstance(grid, int) and grid >= 0):
        raise ValueError(f"grid must be True, False or a number of columns, not {grid!r}")
    span = _checked_span(span)
    is_list = isinstance(image, list | tuple)
    shape = shape_of(image)
    if not is_list and (shape is None or len(shape) != 4 or shape[0] == 1):
        return [annotated_image(image if shape is None or len(shape) != 4 else image[0], masks, boxes, span)]
    if masks or boxes:
        raise ValueError("masks and boxes belong to one image; log the images one by one to give them")
    if not len(image):
        raise ValueError("image is an empty batch; give at least one image")
    pictures = [annotated_image(each, None, None, span) for each in image] if is_list or grid is False else []
    columns = None if grid is None or isinstance(grid, bool) else int(grid)
    if not pictures:
        return [annotated_image(to_pixels(image, "image", span, columns))]
    if not grid:
        return pictures
    import numpy as np

    if len({each.pixels.shape for each in pictures}) > 1:
        raise ValueError("image is a list of images of several sizes, which make no grid; leave grid out")
    return [AnnotatedImage(tiled(np.stack([each.pixels for each in pictures]), columns))]


def _checked_span(span: Any) -> tuple[float, float] | None:
    if span is None:
        return None
    try:
        low, high = map(float, span)
    except (TypeError, ValueError) as error:
        raise TypeError(f"range must be the two numbers of black and white, not {span!r:.80}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"range must be two finite numbers in ascending order, not {span!r:.80}")
    return low, high


def annotated_image(
    image: Any,
    masks: Mapping[str, Any] | None = None,
    boxes: Mapping[str, Any] | None = None,
    span: tuple[float, float] | None = None,
) -> AnnotatedImage:
    """Convert an image and its annotations; the result shares no memory with the arguments.

    Arguments and errors are those of `BaseLoggerManager.log_image`.
    """
    pixels = _rgb(image, span)
    layers = {layer: _mask(mask, pixels.shape[:2], f"masks[{layer!r}]") for layer, mask in _layers(masks, "masks")}
    found = {layer: _boxes(given, f"boxes[{layer!r}]") for layer, given in _layers(boxes, "boxes")}
    return AnnotatedImage(pixels, layers, found)


def _layers(layers: object, argument: str) -> list[tuple[str, Any]]:
    if layers is None:
        return []
    if not isinstance(layers, Mapping):
        raise TypeError(
            f"{argument} must be a mapping of layers, such as {{'prediction': …}}, not {type(layers).__name__}"
        )
    return [(checked_text(layer, f"{argument}: the name of a layer"), given) for layer, given in layers.items()]


def _rgb(image: Any, span: tuple[float, float] | None) -> NDArray[np.uint8]:
    is_pil = is_instance(image, "PIL.Image", "Image")
    if is_pil and not image.mode.startswith(("I", "F")):  # their conversion would lose shades
        image = image.convert("RGBA")
    if not is_pil and shape_of(image) is None:
        raise TypeError(f"image is a {type(image).__name__}; give a PIL image, an array or a tensor")
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError("numpy", "plots", "log_image") from error

    pixels = to_pixels(np.asarray(image) if is_pil else image, "image", span)
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        blended = pixels[..., :3] * alpha + 255 * (255 - alpha)
        return ((blended + 127) // 255).astype(np.uint8)
    return np.array(pixels, copy=True)


def _mask(mask: Any, shape: tuple[int, ...], what: str) -> Mask:
    import numpy as np

    names: Any = {}
    if isinstance(mask, Mask):
        mask, names = mask.labels, mask.names
    elif isinstance(mask, Mapping):
        _known_keys(mask, ("labels", "names"), "labels", what)
        mask, names = mask["labels"], mask.get("names") or {}
    labels = real_array(mask, what)
    if labels.shape != shape:
        raise ValueError(f"{what} has the shape {labels.shape}; the image is {shape[0]} high and {shape[1]} wide")
    if labels.dtype.kind == "f":
        raise TypeError(f"{what} holds {labels.dtype}; classes are whole numbers: give mask.argmax(…) or mask > 0.5")
    known = _class_names(names, what)
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= MAX_LABEL:
        labels, known = _renumbered(labels, known, what)
    kind = np.uint8 if not labels.size or int(labels.max()) < 256 else np.uint16
    return Mask(labels.astype(kind, copy=True), known)


def _renumbered(labels: NDArray[Any], names: dict[int, str], what: str) -> tuple[NDArray[Any], dict[int, str]]:
    """Give classes that a PNG can't hold free numbers, from 255 down; their names tell the old."""
    import numpy as np

    classes = np.unique(labels).tolist()
    outside = [number for number in classes if not 0 <= number <= MAX_LABEL]
    taken = {*classes, *names}
    free = [number for number in (*range(255, 0, -1), *range(256, MAX_LABEL)) if number not in taken]
    if len(outside) > len(free):
        raise ValueError(f"{what} holds {len(classes)} classes; there can be {MAX_LABEL}")
    new = dict(zip(outside, free, strict=False))
    labels = labels.astype(np.int64, copy=True)
    for number, place in new.items():
        labels[labels == number] = place
    kept = {number: name for number, name in names.items() if number not in new}
    return labels, kept | {place: names.get(number, str(number)) for number, place in new.items()}


def _class_names(names: Any, what: str) -> dict[int, str]:
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        raise TypeError(f"{what}: names must map class numbers to their names, not be a {type(names).__name__}")
    plain: dict[int, str] = {}
    for number, name in names.items():
        key = simple(number)
        if type(key) is not int:
            raise TypeError(f"{what}: the class number {number!r} must be an integer, not {type(number).__name__}")
        plain[key] = checked_text(name, f"{what}: the name of class {key}")
    return plain


def _boxes(given: Any, what: str) -> tuple[Box, ...]:
    if isinstance(given, Mapping):
        given = _detections(given, what)
    if isinstance(getattr(given, "shape", None), tuple):
        array = real_array(given, what)
        if array.ndim != 2 or array.shape[1] != 4:
            raise ValueError(f"{what} has the shape {array.shape}; give (n, 4): left, top, right, bottom in pixels")
        given = [{"corners": row} for row in array.tolist()]
    if not isinstance(given, list | tuple):
        raise TypeError(f"{what} is a {type(given).__name__}; give a list of boxes, or an array of shape (n, 4)")
    return tuple(_box(box, f"{what}[{index}]") for index, box in enumerate(given))


def _detections(given: Mapping[Any, Any], what: str) -> list[dict[str, Any]]:
    """Convert the answer of a torchvision detector to one mapping a box."""
    _known_keys(given, _DETECTION_KEYS, "boxes", what)
    corners = real_array(given["boxes"], f"{what}['boxes']").tolist()
    boxes = [{"corners": box} for box in corners]
    for key, field in (("labels", "label"), ("scores", "score"), ("names", "name")):
        if given.get(key) is None:
            continue
        column = list(given[key]) if key == "names" else real_array(given[key], f"{what}[{key!r}]").tolist()
        if not isinstance(column, list) or len(column) != len(boxes):
            raise ValueError(f"{what}[{key!r}] does not have one entry for each of the {len(boxes)} boxes")
        for box, value in zip(boxes, column, strict=True):
            box[field] = value
    return boxes


def _box(given: Any, what: str) -> Box:
    if isinstance(given, Box):
        given = {"corners": given.corners, "label": given.label, "name": given.name, "score": given.score}
    elif not isinstance(given, Mapping):
        given = {"corners": given}
    _known_keys(given, _BOX_KEYS, "corners", what)
    corners = real_array(given["corners"], f"{what}: corners").tolist()
    if not isinstance(corners, list) or len(corners) != 4 or any(isinstance(edge, list) for edge in corners):
        raise ValueError(f"{what}: corners must be the four numbers left, top, right and bottom, not {corners!r:.80}")
    left, top, right, bottom = map(float, corners)
    label = simple(given.get("label", 0))
    if type(label) is not int:
        raise TypeError(f"{what}: label must be a class number, not {label!r:.80}; give a name as name")
    score = simple(given.get("score"))
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise TypeError(f"{what}: score must be a number, not {score!r:.80}")
    name = checked_text(given.get("name") or "", f"{what}: name")
    return Box((left, top, right, bottom), label=label, name=name, score=None if score is None else float(score))


def _known_keys(given: Mapping[Any, Any], known: tuple[str, ...], needed: str, what: str) -> None:
    for key in given:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise ValueError(f"{what} has the unknown key {key!r}; {hint or 'the keys are ' + ', '.join(known)}")
    if needed not in given:
        raise ValueError(f"{what} lacks {needed!r}; the keys are {', '.join(known)}")
