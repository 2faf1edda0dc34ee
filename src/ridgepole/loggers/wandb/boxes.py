"""Boxes of W&B as our loggers take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def box_of(box: Mapping[str, Any], names: Mapping[int, str], size: tuple[int, int]) -> dict[str, Any]:
    """Return a box of W&B's `box_data` as ours.

    Args:
        box: The box; its position is in fractions of the image unless its domain is pixels.
        names: The names of the classes.
        size: Width and height of the image.

    Raises:
        KeyError: If a part of the position is missing.
        ValueError: If the class or the score is not a number.
    """
    place = box["position"]
    if "middle" in place:
        (x, y), w, h = place["middle"], place["width"], place["height"]
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    else:
        corners = (place["minX"], place["minY"], place["maxX"], place["maxY"])
    if box.get("domain") != "pixel":
        corners = tuple(edge * length for edge, length in zip(corners, size * 2, strict=True))
    label = int(box.get("class_id") or 0)
    scores = box.get("scores") or {}
    made = {"corners": corners, "label": label, "name": names.get(label) or str(box.get("box_caption") or "")}
    return made | ({"score": float(next(iter(scores.values())))} if scores else {})


def class_names(labels: Mapping[Any, Any] | None) -> dict[int, str]:
    """Return the names of classes from W&B's `class_labels`."""
    return {int(key): str(value) for key, value in (labels or {}).items()}
