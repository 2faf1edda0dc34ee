"""Masks and boxes of W&B's images, which are files beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import MissingExtraError
from ridgepole.loggers.local.logger import BasicLogger
from ridgepole.loggers.wandb.boxes import box_of, class_names

_BETWEEN = "_wandb_delimeter_"  # as W&B spells it
_MASK_NAMES = "mask/class_labels"


@dataclass(frozen=True, slots=True)
class Layers:
    """The masks and boxes of one image, by the names of their layers.

    Attributes:
        masks: The classes of the pixels and their names.
        boxes: Boxes as `log_image` takes them.
    """

    masks: Mapping[str, Mapping[str, Any]]
    boxes: Mapping[str, list[dict[str, Any]]]


class ImageAnnotations:
    """Reads masks and boxes, with the names of classes that the run's config has.

    Args:
        folder: The directory of the run's files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, dict[int, str]] = {}

    def learn(self, own: Any) -> None:
        """Take the names of classes from W&B's own part of a config."""
        found = own.get(_MASK_NAMES) if isinstance(own, Mapping) else None
        for key, entry in found.items() if isinstance(found, Mapping) else ():
            if isinstance(entry, Mapping) and isinstance(entry.get("value"), Mapping):
                self._names[key] = class_names(entry["value"])

    def of(self, name: str, value: Mapping[str, Any], path: Path) -> Layers:
        """Read the masks and boxes of an image.

        Args:
            name: The name of the image in its row.
            value: What the row has for it.
            path: The image.

        Raises:
            OSError: If one of the files can't be read.
            KeyError: If a part is missing.
            ValueError: If a file is not what it should be.
            MissingExtraError: If Pillow is not installed.
        """
        size = _opened(path).size
        masks = {layer: self._mask(name, layer, each) for layer, each in (value.get("masks") or {}).items()}
        boxes = {}
        for layer, each in (value.get("boxes") or {}).items():
            stored = json.loads(self._path(each).read_bytes())
            names = class_names(stored.get("class_labels"))
            boxes[layer] = [box_of(box, names, size) for box in stored["box_data"]]
        return Layers(masks, boxes)

    def _mask(self, name: str, layer: str, value: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np

        labels = np.array(_opened(self._path(value)))
        return {"labels": labels, "names": self._names.get(f"{name}{_BETWEEN}{layer}", {})}

    def _path(self, value: Mapping[str, Any]) -> Path:
        return self._folder / str(value["path"])


def log_annotated(logger: BasicLogger, name: str, path: Path, layers: Layers, step: int) -> None:
    """Log an image with its masks and boxes."""
    masks, boxes = dict(layers.masks), dict(layers.boxes)
    logger.log_image(name, _opened(path), masks=masks or None, boxes=boxes or None, step=step)


def _opened(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pillow", "plots", "importing images with masks or boxes") from error
    with Image.open(path) as opened:
        opened.load()
        return opened
