"""Convert logged values for the W&B client; runs in the writer's process, which imports it."""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole.loggers.figures.names import readable

AXIS = "step"
"""The metric on the x axis of all others."""

MAX_BINS = 512  # per histogram; the client refuses more

_RESERVED = frozenset((AXIS, "_step", "_timestamp", "_runtime", "_wandb"))
_SAFE = re.compile(r"[^\x00-\x1f\x7f\\]+")
_MAX_SLUG = 60  # bytes
_MAX_KEY = 80  # bytes; the client makes a file name, and an artifact's of 128 characters, from it


def metric_key(name: str) -> str:
    """Return the name of a metric at W&B: unchanged, except for reserved names."""
    return f"logged/{name}" if name in _RESERVED else name


def media_key(name: str) -> str:
    """Return the name of a picture or table at W&B.

    It is unchanged if the client can make a file name from it, else a readable part and a hash.
    """
    fits = _SAFE.fullmatch(name) and len(name.encode()) <= _MAX_KEY
    if fits and not {"", ".", ".."} & set(name.split("/")) and name == name.strip():
        return metric_key(name)
    slug = readable(name, _MAX_SLUG)
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def metric_value(value: Any) -> Any:
    """Return a metric's value: the summary of an array as a histogram, all else unchanged."""
    if not isinstance(value, dict):
        return value
    if value.get("counts") and "edges" in value:
        return histogram(value["counts"], value["edges"])
    return {name: plain for name, plain in value.items() if plain is not None and not isinstance(plain, list)}


def histogram(counts: list[int], edges: list[float]) -> Any:
    """Return a histogram; merge neighbouring bins if there are more than `MAX_BINS`."""
    import numpy as np
    import wandb

    width = -(-len(counts) // MAX_BINS)
    if width > 1:
        last = edges[-1]
        counts = [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
        edges = [*edges[:-1:width][: len(counts)], last]
    return wandb.Histogram(np_histogram=(np.asarray(counts), np.asarray(edges)))


def table(columns: list[str], rows: list[list[Any]]) -> Any:
    """Return a table; the columns may have mixed types, and bytes are the PNG of an image."""
    import wandb

    kinds = [set(map(type, cells)) - {type(None)} for cells in zip(*rows, strict=True)]
    if not any(bytes in each for each in kinds):
        return wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
    from wandb.sdk.data_types._dtypes import AnyType

    # A column of any type would store the word for an image
    any_type = AnyType()  # type: ignore[no-untyped-call]
    types = [wandb.Image if each == {bytes} else any_type for each in kinds]
    data = [[_cell(cell, kind is wandb.Image) for cell, kind in zip(row, types, strict=True)] for row in rows]
    return wandb.Table(columns=list(columns), data=data, dtype=types)


def _cell(cell: Any, as_image: bool) -> Any:
    if not isinstance(cell, bytes):
        return cell
    import wandb
    from PIL import Image

    return wandb.Image(Image.open(io.BytesIO(cell))) if as_image else "(image)"


def text(content: str) -> Any:
    """Return a text, escaped as HTML."""
    import wandb

    return wandb.Html(f'<pre style="white-space: pre-wrap">{html.escape(content)}</pre>', inject=False)


def figure(name: str, data: bytes, suffix: str, scratch: Path) -> Any:
    """Return a drawn figure with unchanged bytes, which the client copies from a scratch file."""
    import wandb

    if suffix == ".html":
        return wandb.Html(io.StringIO(data.decode("utf-8", "replace")), inject=False)
    scratch.with_suffix(suffix).write_bytes(data)
    return wandb.Image(str(scratch.with_suffix(suffix)), caption=name)


def file(name: str, kind: str, path: str) -> Any:
    """Return a sound, video or page for the client; None for what W&B has no panel for."""
    import wandb

    if kind == "audio":
        return wandb.Audio(path, caption=name)
    if kind == "video" and Path(path).suffix[1:] in wandb.Video.EXTS:
        return wandb.Video(path, caption=name)
    if kind == "html":
        return wandb.Html(io.StringIO(Path(path).read_text("utf-8", "replace")), inject=False)
    return None


def artifact(name: str, path: str) -> Any:
    """Return an artifact with one file."""
    import wandb

    made = wandb.Artifact(re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:_MAX_KEY] or "file", "file", description=name)
    made.add_file(path, name=re.sub(r"[/\\\x00]", "-", name)[:_MAX_KEY])
    return made


def image(name: str, pixels: tuple[Any, ...], masks: Mapping[str, Any], boxes: Mapping[str, Any]) -> Any:
    """Return an image with its masks and boxes for the client.

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
              for layer, all_boxes in boxes.items() if (found := _placed(all_boxes))}  # fmt: skip
    return wandb.Image(array, caption=name, masks=layers or None, boxes=frames or None)


def _in_a_byte(labels: Any, names: dict[int, str]) -> tuple[Any, dict[int, str]]:
    """Return labels from 0 to 255 for the client's masks, and their names.

    Other labels are renumbered; their old number becomes their name.
    """
    import numpy as np

    values = np.unique(labels)
    if values[0] >= 0 and values[-1] <= 255:
        return labels.astype(np.uint8), {int(v): names.get(int(v), str(v)) for v in {*values.tolist(), *names}
                                         if 0 <= v <= 255}  # fmt: skip
    ranks = np.minimum(np.searchsorted(values, labels), 255).astype(np.uint8)
    classes = {rank: names.get(int(v), str(v)) for rank, v in enumerate(values[:255].tolist())}
    return ranks, classes | ({255: "other"} if len(values) > 255 else {})


def _placed(boxes: list[Any]) -> list[Any]:
    """Return the boxes whose corners are finite: the client's JSON has no NaN."""
    return [box for box in boxes if all(map(math.isfinite, box[0]))]


def _box(corners: tuple[float, ...], label: int, name: str, score: float | None) -> dict[str, Any]:
    left, top, right, bottom = corners
    box: dict[str, Any] = {
        "position": {"minX": left, "maxX": right, "minY": top, "maxY": bottom},
        "domain": "pixel",
        "class_id": label,
        "box_caption": " ".join([name or str(label), *([] if score is None else [f"{score:.2f}"])]),
    }
    if score is not None and math.isfinite(score):
        box["scores"] = {"score": score}
    return box


def _classes(boxes: list[Any]) -> dict[int, str]:
    return {label: name or str(label) for _, label, name, _ in boxes}
