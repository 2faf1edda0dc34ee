"""What is logged, as the W&B client wants it. Runs in the writer's process; the client is imported there."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AXIS = "step"
"""The metric that all others are drawn over."""

MAX_BINS = 512  # of one histogram; the client refuses more

_RESERVED = frozenset((AXIS, "_step", "_timestamp", "_runtime", "_wandb"))
_SAFE = re.compile(r"[^\x00-\x1f\x7f\\]+")
_MAX_KEY = 80  # bytes; the client makes a file name, and an artifact's of 128 characters, from it


def metric_key(name: str) -> str:
    """The name of a metric at W&B: as it is, but for the few that mean something there."""
    return f"logged/{name}" if name in _RESERVED else name


def media_key(name: str) -> str:
    """The name of a picture or table at W&B: as it is where the client can make a file name from it.

    Args:
        name: The name as the user gave it.

    Returns:
        The name, or a readable part of it and a hash.
    """
    fits = _SAFE.fullmatch(name) and len(name.encode()) <= _MAX_KEY
    if fits and not {"", ".", ".."} & set(name.split("/")) and name == name.strip():
        return metric_key(name)
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60]
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def metric_value(value: Any) -> Any:
    """A flat metric's value: numbers, text and short lists as they are, the summary of an array as a histogram."""
    if not isinstance(value, dict):
        return value
    if value.get("counts") and "edges" in value:
        return histogram(value["counts"], value["edges"])
    return {name: plain for name, plain in value.items() if plain is not None and not isinstance(plain, list)}


def histogram(counts: list[int], edges: list[float]) -> Any:
    """A histogram; neighbouring bins are added up where there are more than the client takes.

    Args:
        counts: How many values fell into each bin.
        edges: Borders of the bins, one more than there are counts.
    """
    import numpy as np
    import wandb

    width = -(-len(counts) // MAX_BINS)
    if width > 1:
        last = edges[-1]
        counts = [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
        edges = [*edges[:-1:width][: len(counts)], last]
    return wandb.Histogram(np_histogram=(np.asarray(counts), np.asarray(edges)))


def table(columns: list[str], rows: list[list[Any]]) -> Any:
    """A table of plain values, each column of whatever types it has."""
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)


def text(content: str) -> Any:
    """A text, shown as it is: nothing in it is taken for HTML."""
    import wandb

    return wandb.Html(f'<pre style="white-space: pre-wrap">{html.escape(content)}</pre>', inject=False)


def figure(name: str, data: bytes, suffix: str, scratch: Path) -> Any:
    """A drawn figure, its bytes as they are; the client copies them from a scratch file when it logs the figure."""
    import wandb

    if suffix == ".html":
        return wandb.Html(io.StringIO(data.decode("utf-8", "replace")), inject=False)
    scratch.with_suffix(suffix).write_bytes(data)
    return wandb.Image(str(scratch.with_suffix(suffix)), caption=name)


def image(name: str, pixels: tuple[Any, ...], masks: Mapping[str, Any], boxes: Mapping[str, Any]) -> Any:
    """An image with its masks and boxes in the client's own form.

    Args:
        name: The image's name.
        pixels: Height, width and the bytes of the RGB values.
        masks: Layer to `(dtype, bytes, names)`, as large as the image.
        boxes: Layer to a list of `(corners, label, name, score)`.
    """
    import numpy as np
    import wandb

    height, width, data = pixels
    array = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    layers = {}
    for layer, (dtype, content, names) in masks.items():
        labels, classes = _in_a_byte(np.frombuffer(content, dtype).reshape(height, width), dict(names))
        layers[layer] = {"mask_data": labels, "class_labels": classes}
    frames = {layer: {"box_data": [_box(*box) for box in found], "class_labels": _classes(found)}
              for layer, found in boxes.items() if found}  # fmt: skip
    return wandb.Image(array, caption=name, masks=layers or None, boxes=frames or None)


def _in_a_byte(labels: Any, names: dict[int, str]) -> tuple[Any, dict[int, str]]:
    """Labels that fit the client's masks, from 0 to 255; others are numbered anew and keep their number as a name."""
    import numpy as np

    values = np.unique(labels)
    if values[0] >= 0 and values[-1] <= 255:
        return labels.astype(np.uint8), {int(v): names.get(int(v), str(v)) for v in {*values.tolist(), *names}
                                         if 0 <= v <= 255}  # fmt: skip
    ranks = np.minimum(np.searchsorted(values, labels), 255).astype(np.uint8)
    classes = {rank: names.get(int(v), str(v)) for rank, v in enumerate(values[:255].tolist())}
    return ranks, classes | ({255: "other"} if len(values) > 255 else {})


def _box(corners: tuple[float, ...], label: int, name: str, score: float | None) -> dict[str, Any]:
    left, top, right, bottom = corners
    box: dict[str, Any] = {
        "position": {"minX": left, "maxX": right, "minY": top, "maxY": bottom},
        "domain": "pixel",
        "class_id": label,
        "box_caption": " ".join([name or str(label), *([] if score is None else [f"{score:.2f}"])]),
    }
    if score is not None:
        box["scores"] = {"score": score}
    return box


def _classes(boxes: list[Any]) -> dict[int, str]:
    return {label: name or str(label) for _, label, name, _ in boxes}
