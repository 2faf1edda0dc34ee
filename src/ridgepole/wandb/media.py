"""W&B's media classes: each logs what it holds with a Ridgepole logger."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.media_types import Histogram as Bins
from ridgepole.loggers.media_types import MediaFile
from ridgepole.loggers.wandb.boxes import box_of, class_names
from ridgepole.metrics.convert import to_array


class Media:
    """Something that is logged and is not a number."""

    caption: str | None = None

    def log_to(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        """Log it under a name."""
        self._log(logger, name, step)
        if self.caption:
            logger.log_text(f"{name}/caption", str(self.caption), step=step)

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        raise NotImplementedError


class Image(Media):
    """An image, with masks and boxes.

    Args:
        data_or_path: A path, a PIL image, an array, a tensor or a figure.
        mode: Pillow's mode for the pixels, such as `"L"`.
        caption: A text that belongs to it.
        grouping: Taken for W&B's sake; has no effect.
        classes: A list of `{"id": 1, "name": "cat"}`, for masks without names of their own.
        boxes: Name of a layer to W&B's `box_data` and `class_labels`.
        masks: Name of a layer to W&B's `mask_data` or `path`, and `class_labels`.
        file_type: Taken for W&B's sake; images are stored as PNG.
    """

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Sequence[Mapping[str, Any]] | None = None,
        boxes: Mapping[str, Mapping[str, Any]] | None = None,
        masks: Mapping[str, Mapping[str, Any]] | None = None,
        file_type: str | None = None,
    ) -> None:
        del grouping, file_type
        self.caption = caption
        self._masks, self._boxes = masks or {}, boxes or {}
        self._names = {each["id"]: each["name"] for each in classes or ()}
        image: Any = data_or_path.image if isinstance(data_or_path, Image) else data_or_path
        if isinstance(image, str | os.PathLike):
            from PIL import Image as Pillow

            with Pillow.open(image) as opened:
                opened.load()
                image = opened
        if mode is not None and hasattr(image, "convert"):
            image = image.convert(mode)
        self._image: Any = image

    @property
    def image(self) -> Any:
        """The image as it was given, or as it was read."""
        return self._image

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        array = to_array(self._image)
        if array is None and not hasattr(self._image, "getbands"):
            logger.log_figure(name, self._image, step=step)
            return
        size = self._size(array)
        masks = {layer: self._mask(mask) for layer, mask in self._masks.items()}
        boxes = {
            layer: [box_of(box, class_names(found.get("class_labels")), size) for box in found["box_data"]]
            for layer, found in self._boxes.items()
        }
        logger.log_image(name, self._image, masks=masks or None, boxes=boxes or None, range=_span(array), step=step)

    def _mask(self, mask: Mapping[str, Any]) -> dict[str, Any]:
        labels = mask.get("mask_data")
        if labels is None:
            import numpy as np
            from PIL import Image as Pillow

            with Pillow.open(mask["path"]) as opened:
                labels = np.array(opened)
        return {"labels": labels, "names": class_names(mask.get("class_labels") or self._names)}

    def _size(self, array: Any) -> tuple[int, int]:
        if array is None or hasattr(self._image, "getbands"):
            return int(self._image.width), int(self._image.height)
        shape = array.shape
        if len(shape) == 3 and shape[-1] not in (1, 3, 4):
            shape = shape[1:]
        return int(shape[1]), int(shape[0])


def _span(array: Any) -> tuple[float, float] | None:
    """Return the values that are black and white, as W&B takes them."""
    if array is None or array.dtype.kind != "f" or not array.size:
        return None
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return (0.0, 1.0)
    return (-1.0, 1.0) if low >= -1 and high <= 1 else (0.0, 255.0)


class Table(Media):
    """A table.

    Args:
        columns: The names of the columns; `Input`, `Output` and `Expected` when None.
        data: Rows, an array or a pandas frame.
        rows: Rows.
        dataframe: A pandas frame.
        **more: Taken for W&B's sake; has no effect.
    """

    def __init__(
        self,
        columns: Sequence[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        **more: Any,
    ) -> None:
        del more
        frame = dataframe if dataframe is not None else data if hasattr(data, "itertuples") else None
        if frame is not None:
            self.columns = [str(name) for name in frame.columns]
            self.data: list[list[Any]] = [list(row) for row in frame.itertuples(index=False)]
            return
        given = rows if data is None else data
        self.columns = [str(name) for name in (columns or ("Input", "Output", "Expected"))]
        self.data = [list(row) for row in (() if given is None else given)]

    def add_data(self, *row: Any) -> None:
        """Add a row.

        Raises:
            ValueError: If it is not as long as there are columns.
        """
        if len(row) != len(self.columns):
            raise ValueError(f"the table has {len(self.columns)} columns, got a row of {len(row)} values")
        self.data.append(list(row))

    add_row = add_data

    def add_column(self, name: str, data: Any, optional: bool = False) -> None:
        """Add a column.

        Raises:
            ValueError: If it is not as long as there are rows.
        """
        del optional
        values = list(data)
        if self.data and len(values) != len(self.data):
            raise ValueError(f"the table has {len(self.data)} rows, got a column of {len(values)} values")
        self.data = self.data or [[] for _ in values]
        if not any(self.data):
            self.columns = []
        self.columns.append(str(name))
        for row, value in zip(self.data, values, strict=True):
            row.append(value)

    def get_column(self, name: str, convert_to: str | None = None) -> Any:
        """Return the values of a column; `"numpy"` returns an array."""
        at = self.columns.index(name)
        values = [row[at] for row in self.data]
        if convert_to == "numpy":
            import numpy as np

            return np.array(values)
        return values

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the number and the values of each row."""
        return iter(enumerate(self.data))

    def get_dataframe(self) -> Any:
        """Return a pandas frame."""
        import pandas as pd

        return pd.DataFrame(self.data, columns=self.columns)

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        rows = [[_cell(value) for value in row] for row in self.data]
        logger.log_table(name, rows, columns=self.columns, step=step)


class EvalTable(Table):
    """A table of an evaluation; a table like any other here."""


def _cell(value: Any) -> Any:
    """Return a value for a table: the image itself, the text of other media."""
    if isinstance(value, Image):
        return value.image
    return (value.caption or type(value).__name__) if isinstance(value, Media) else value


class Histogram(Media):
    """A distribution.

    Args:
        sequence: Values.
        np_histogram: Counts and edges, as `numpy.histogram` returns them, instead of values.
        num_bins: The number of bins.
    """

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        self._values, self._bins, self._given = sequence, min(num_bins, 512), np_histogram
        if np_histogram is not None and len(np_histogram[0]) + 1 != len(np_histogram[1]):
            raise ValueError("np_histogram must be counts and edges, one edge more than there are counts")

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        if self._given is None:
            logger.log_histogram(name, self._values, bins=self._bins, step=step)
            return
        logger._log_histogram(name, Bins.of_bins(*self._given), step)  # noqa: SLF001 - counted already


class _FileOrArray(Media):
    def __init__(self, data_or_path: Any, caption: str | None = None) -> None:
        self._data, self.caption = data_or_path, caption


class Video(_FileOrArray):
    """A video: a file, or an array of frames, channels, height and width; several side by side."""

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: float | None = None,
        format: str | None = None,  # noqa: A002 - W&B's word
    ) -> None:
        super().__init__(data_or_path, caption)
        self._fps, self._format = fps or 4, format or "gif"

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        data = self._data
        if hasattr(data, "read"):
            kept = MediaFile(kind="video", suffix=f".{self._format}", data=data.read())
            logger._log_media_file(name, kept, step)  # noqa: SLF001 - bytes, not a file
            return
        array = None if isinstance(data, str | os.PathLike) else to_array(data)
        if array is not None and array.ndim == 5:
            import numpy as np

            data = np.concatenate(list(array), axis=-1)
        logger.log_video(name, data, fps=self._fps, step=step)


class Audio(_FileOrArray):
    """A sound: a file, or an array with its sample rate."""

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None) -> None:
        super().__init__(data_or_path, caption)
        self._sample_rate = sample_rate

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        data = self._data
        if isinstance(data, list):
            import numpy as np

            data = np.array(data, dtype=np.float32)
        logger.log_audio(name, data, sample_rate=self._sample_rate, step=step)


class Html(Media):
    """A page: text, the path of a file that ends in `.html`, or an open file."""

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:
        del inject
        if hasattr(data, "read"):
            data = data.read()
        is_path = not data_is_not_path and (isinstance(data, os.PathLike) or str(data).endswith(".html"))
        self._html = Path(data) if is_path and Path(data).is_file() else str(data)

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        logger.log_html(name, self._html, step=step)


class _Kept(_FileOrArray):
    """Something that Ridgepole keeps as a file and does not draw."""

    def __init__(self, data_or_path: Any, caption: str | None = None, **more: Any) -> None:
        super().__init__(data_or_path, caption)
        self._suffix = f".{more['file_type']}" if more.get("file_type") else ".txt"

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        if isinstance(self._data, str | os.PathLike) and Path(self._data).is_file():
            logger.log_artifact(self._data, name=name, step=step)
            return
        data, suffix = self._stored()
        logger._log_media_file(name, MediaFile(kind="artifact", suffix=suffix, data=data), step)  # noqa: SLF001 - bytes

    def _stored(self) -> tuple[bytes, str]:
        if isinstance(self._data, Mapping):
            return _json(self._data), ".json"
        array = to_array(self._data)
        if array is not None:
            import numpy as np

            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            return buffer.getvalue(), ".npy"
        text = self._data.read() if hasattr(self._data, "read") else str(self._data)
        return text.encode(), self._suffix


def _json(data: Any) -> bytes:
    return json.dumps(data, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value)).encode()


class Object3D(_Kept):
    """A cloud of points or a scene; kept as a file, and not drawn."""

    @classmethod
    def from_file(cls, data_or_path: Any, file_type: str | None = None) -> Object3D:
        """Return the object in a file, or in an open one of a type such as `"obj"`."""
        return cls(data_or_path, file_type=file_type)

    @classmethod
    def from_numpy(cls, data: Any) -> Object3D:
        """Return a cloud of points: an array with a row of 3, 4 or 6 values a point."""
        return cls(data)

    @classmethod
    def from_point_cloud(
        cls,
        points: Any,
        boxes: Sequence[Any],
        vectors: Sequence[Any] | None = None,
        point_cloud_type: str = "lidar/beta",
    ) -> Object3D:
        """Return a scene of points, boxes as `box3d` returns them, and arrows."""
        return cls({"type": point_cloud_type, "points": points, "boxes": boxes, "vectors": vectors or []})


def box3d(
    *, center: Any, size: Any, orientation: Any, color: Any, label: str | None = None, score: float | None = None
) -> dict[str, Any]:
    """Return a box for `Object3D.from_point_cloud`.

    Args:
        center: Its middle.
        size: Its three edges.
        orientation: A quaternion `[r, x, y, z]` that isn't zero; the box is turned by it.
        color: Red, green and blue, from 0 to 255.
        label: A text for it.
        score: A number for it.

    Raises:
        ValueError: If a shape is wrong, or the quaternion is zero.
    """
    import numpy as np

    middle, edges, turn = (np.asarray(each, dtype=float) for each in (center, size, orientation))
    if (middle.shape, edges.shape, turn.shape) != ((3,), (3,), (4,)) or not np.any(turn):
        raise ValueError("box3d takes a center and a size of 3 numbers, and an orientation of 4 that are not all zero")
    r, x, y, z = turn / np.linalg.norm(turn)
    # https://en.wikipedia.org/wiki/Quaternions_and_spatial_rotation
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * r), 2 * (x * z + y * r)],
            [2 * (x * y + z * r), 1 - 2 * (x * x + z * z), 2 * (y * z - x * r)],
            [2 * (x * z - y * r), 2 * (y * z + x * r), 1 - 2 * (x * x + y * y)],
        ]
    )
    signs = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)])
    box: dict[str, Any] = {"corners": (middle + signs * edges @ rotation.T).tolist(), "color": list(color)}
    return box | {key: value for key, value in (("label", label), ("score", score)) if value is not None}


class Molecule(_Kept):
    """A molecule; kept as a file, and not drawn."""


class Plotly(Media):
    """A figure of plotly or matplotlib."""

    def __init__(self, val: Any) -> None:
        self._figure = val

    def _log(self, logger: BaseLoggerManager, name: str, step: int) -> None:
        logger.log_figure(name, self._figure, step=step)


class Graph(_Kept):
    """The layers of a network and how they are joined; kept as JSON, and not drawn."""

    def __init__(self, format: str = "keras") -> None:  # noqa: A002 - W&B's word
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[tuple[Any, Any]] = []
        super().__init__({"format": format, "nodes": self.nodes, "edges": self.edges})

    def add_node(self, node: Any = None, **fields: Any) -> dict[str, Any]:
        """Add a node, by a mapping or by its fields, such as `name` and `class_name`; return it."""
        made = {**(node or {}), **fields}
        self.nodes.append(made)
        return made

    def add_edge(self, from_node: Any, to_node: Any) -> tuple[Any, Any]:
        """Join two nodes; return the edge."""
        names = tuple(node.get("name", node) if isinstance(node, Mapping) else node for node in (from_node, to_node))
        self.edges.append((names[0], names[1]))
        return self.edges[-1]

    @classmethod
    def from_keras(cls, model: Any) -> Graph:
        """Return the layers of a Keras model, each joined to the one before it."""
        graph = cls()
        for layer in model.layers:
            graph.add_node(
                name=layer.name,
                class_name=type(layer).__name__,
                num_parameters=layer.count_params() if getattr(layer, "built", False) else None,
            )
        for before, after in zip(graph.nodes, graph.nodes[1:], strict=False):
            graph.add_edge(before, after)
        return graph
