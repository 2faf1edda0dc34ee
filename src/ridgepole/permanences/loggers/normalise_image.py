"""Images, masks and boxes as users hand them in, brought into the form that every backend takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, did_you_mean
from ridgepole.permanences.loggers.figures.render import is_instance, to_pixels
from ridgepole.permanences.loggers.normalise import checked_text, plain_cell, real_array
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Box, Mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LABEL = 65535  # what a PNG of 16 bits holds

_BOX_KEYS = ("corners", "label", "name", "score")
_DETECTION_KEYS = ("boxes", "labels", "scores", "names")


def annotated_image(
    image: Any, masks: Mapping[str, Any] | None = None, boxes: Mapping[str, Any] | None = None
) -> AnnotatedImage:
    """Brings an image and what was found in it into one form; see `BaseLoggerManager.log_image` for the arguments.

    Returns:
        The image, which shares no memory with what was given.

    Raises:
        TypeError: If something is of another type; it names the argument.
        ValueError: If it has a shape or a value that it can't have.
        MissingExtraError: If numpy or Pillow is not installed.
    """
    pixels = _rgb(image)
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


def _rgb(image: Any) -> NDArray[np.uint8]:
    is_pil = is_instance(image, "PIL.Image", "Image")
    if is_pil and not image.mode.startswith(("I", "F")):  # those have no conversion that keeps their shades
        image = image.convert("RGBA")
    if not is_pil and not isinstance(getattr(image, "shape", None), tuple):
        raise TypeError(f"image is a {type(image).__name__}; give a PIL image, an array or a tensor")
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError("numpy", "plots", "log_image") from error

    pixels = to_pixels(np.asarray(image) if is_pil else image, "image")
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
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= MAX_LABEL:
        raise ValueError(
            f"{what} holds classes from {labels.min()} to {labels.max()}; they must be from 0 to {MAX_LABEL}: "
            "give pixels without a class a number of their own, such as 255"
        )
    kind = np.uint8 if not labels.size or int(labels.max()) < 256 else np.uint16
    return Mask(labels.astype(kind, copy=True), _class_names(names, what))


def _class_names(names: Any, what: str) -> dict[int, str]:
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        raise TypeError(f"{what}: names must map class numbers to their names, not be a {type(names).__name__}")
    plain: dict[int, str] = {}
    for number, name in names.items():
        key = plain_cell(number, f"{what}: the class number {number!r}")
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
    """The form in which torchvision's detectors answer, as one mapping a box."""
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
    if not (all(map(math.isfinite, (left, top, right, bottom))) and left <= right and top <= bottom):
        raise ValueError(
            f"{what}: corners must be finite, with left <= right and top <= bottom, in pixels; not {corners!r:.80} "
            "(left, top, width, height is another form: add the first two to the others)"
        )
    label = plain_cell(given.get("label", 0), f"{what}: label")
    if type(label) is not int:
        raise TypeError(f"{what}: label must be a class number, not {label!r:.80}; give a name as name")
    score = plain_cell(given.get("score"), f"{what}: score")
    if score is not None and (isinstance(score, str | bool) or not 0 <= score <= 1):
        raise ValueError(f"{what}: score must be a number from 0 to 1, not {score!r:.80}")
    name = checked_text(given.get("name") or "", f"{what}: name")
    return Box((left, top, right, bottom), label, name, None if score is None else float(score))


def _known_keys(given: Mapping[Any, Any], known: tuple[str, ...], needed: str, what: str) -> None:
    for key in given:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise ValueError(f"{what} has the unknown key {key!r}; {hint or 'the keys are ' + ', '.join(known)}")
    if needed not in given:
        raise ValueError(f"{what} lacks {needed!r}; the keys are {', '.join(known)}")
