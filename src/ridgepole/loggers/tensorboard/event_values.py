"""Log what an event of TensorBoard holds into another logger.

Values have two forms: fields of their own, as torch writes them, and tensors with the name of a
plugin, as TensorFlow does. A writer may give the plugin with the first value of a tag only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.figures.render import png_size
from ridgepole.loggers.media_types import Histogram, MediaFile, RenderedFigure

_PNG, _GIF, _JPEG, _WAV = b"\x89PNG", b"GIF8", b"\xff\xd8", b"RIFF"
_CURVE = ("true_positives", "false_positives", "true_negatives", "false_negatives", "precision", "recall")
_LAYOUT = "custom_scalars"
_TEXT_SUFFIX = "/text_summary"  # torch's
_SESSION_PREFIX = "_hparams_/"


class EventValues:
    """Logs the values of events, in their order.

    Args:
        logger: Takes them.
        prefix: Stands before every name.

    Attributes:
        scalars: The number of scalars so far.
        media: The number of other values so far.
        hparams: The hyperparameters so far.
    """

    def __init__(self, logger: BaseLoggerManager, prefix: str = "") -> None:
        self.scalars = self.media = 0
        self.hparams: dict[str, Any] = {}
        self._logger, self._prefix = logger, prefix
        self._plugins: dict[str, str] = {}

    def log(self, event: Any, *, timed: bool = True) -> None:
        """Log the values of an `Event`; those below step 0 are at step 0.

        Args:
            event: The event.
            timed: Whether they are logged at the event's time, and not at that of the call.

        Raises:
            LogWriteError: If they can't be written.
        """
        set_time = getattr(self._logger, "set_wall_time", None) if timed else None
        if set_time is None:
            self._log(event)
            return
        set_time(event.wall_time)
        try:
            self._log(event)
        finally:
            set_time(None)

    def _log(self, event: Any) -> None:
        step = max(int(event.step), 0)
        metrics: dict[str, Any] = {}
        for value in event.summary.value:
            name = self._prefix + value.tag
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                metrics[name] = value.simple_value
            elif kind == "tensor":
                metrics |= self._tensor(name, value, step)
            elif kind is not None:
                self._media(name, kind, value, step)
        if metrics:
            self._logger.log_metrics(metrics, step=step)
            self.scalars += len(metrics)
        if event.graph_def:
            self._keep(f"{self._prefix}graph", "artifact", ".pb", event.graph_def, step)

    def _media(self, name: str, kind: str, value: Any, step: int) -> None:
        if kind == "histo":
            self._log_histogram(name, histogram_of(value.histo), step)
        elif kind == "image":
            image = value.image
            self._picture(name, image.encoded_image_string, step, image.width, image.height)
        elif kind == "audio":
            self._keep(name, "audio", ".wav", value.audio.encoded_audio_string, step)

    def _tensor(self, name: str, value: Any, step: int) -> dict[str, Any]:
        """Log a tensor; return what is a metric."""
        plugin = value.metadata.plugin_data.plugin_name or self._plugins.get(value.tag, "")
        self._plugins[value.tag] = plugin
        if plugin == _LAYOUT:
            return {}
        if plugin == "hparams":
            self._session(value)
            return {}
        if value.tensor.dtype == DT_STRING:
            self._strings(name, plugin, list(make_ndarray(value.tensor).reshape(-1)), step)
            return {}
        array = make_ndarray(value.tensor)
        if plugin == "scalars" and array.size == 1:
            return {name: float(array.reshape(-1)[0])}
        if plugin == "histograms" and array.ndim == 2 and array.shape[1] == 3:
            self._log_histogram(name, _histogram_of_rows(array), step)
        elif plugin == "pr_curves" and array.ndim == 2 and array.shape[0] == len(_CURVE):
            self._logger.log_table(name, array.T, columns=_CURVE, step=step)
            self.media += 1
        elif plugin == "mesh":
            self._array(name, array, step)
        else:
            return {name: array}
        return {}

    def _strings(self, name: str, plugin: str, items: list[bytes], step: int) -> None:
        if plugin == "images" and len(items) > 2:
            for data in items[2:]:
                self._picture(name, data, step, int(items[0]), int(items[1]))
        elif plugin == "audio":
            for data in items:
                if data.startswith(_WAV):  # a label may stand behind each
                    self._keep(name, "audio", ".wav", data, step)
        else:
            for data in items:
                self._logger.log_text(name.removesuffix(_TEXT_SUFFIX), data.decode(errors="replace"), step=step)
                self.media += 1

    def _picture(self, name: str, data: bytes, step: int, width: int, height: int) -> None:
        if data.startswith(_GIF):
            self._keep(name, "video", ".gif", data, step)
            return
        if data.startswith(_PNG):
            width, height = png_size(data)
        suffix = ".png" if data.startswith(_PNG) else ".jpg" if data.startswith(_JPEG) else ".img"
        self._logger.log_rendered(name, RenderedFigure(data, suffix, width, height, data), step=step)
        self.media += 1

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        self._logger._log_histogram(name, histogram, step)  # noqa: SLF001 - its values are counted already
        self.media += 1

    def _array(self, name: str, array: Any, step: int) -> None:
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        self._keep(name, "artifact", ".npy", buffer.getvalue(), step)

    def _keep(self, name: str, kind: str, suffix: str, data: bytes, step: int) -> None:
        self._logger._log_media_file(name, MediaFile(kind=kind, suffix=suffix, data=data), step)  # noqa: SLF001 - bytes, not a file
        self.media += 1

    def _session(self, value: Any) -> None:
        params = dict(hparams_of(value))
        if params:
            self.hparams |= params
            self._logger.log_hparams(params)


def hparams_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the hyperparameters of a session's start."""
    if not value.tag.startswith(_SESSION_PREFIX):
        return
    info = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info
    for name, each in info.hparams.items():
        kind = each.WhichOneof("kind")
        if kind is not None:
            number = getattr(each, kind)
            yield name, int(number) if kind == "number_value" and float(number).is_integer() else number


def histogram_of(histo: Any) -> Histogram:
    """Return a `HistogramProto` with finite edges in ascending order, without empty outer bins."""
    counts, limits = list(histo.bucket), list(histo.bucket_limit)
    filled = [at for at, count in enumerate(counts) if count]
    if not filled:
        return Histogram(counts=(), edges=(), total=histo.sum, squares=histo.sum_squares)
    first, last = filled[0], filled[-1]
    inner = [min(max(limit, histo.min), histo.max) for limit in limits[first:last]]
    return Histogram(
        counts=tuple(round(count) for count in counts[first : last + 1]),
        edges=(histo.min, *inner, histo.max),
        total=histo.sum,
        squares=histo.sum_squares,
    )


def _histogram_of_rows(rows: Any) -> Histogram:
    """Return a histogram of rows of left edge, right edge and count."""
    if not len(rows):
        return Histogram(counts=(), edges=(), total=0.0, squares=0.0)
    return Histogram.of_bins(rows[:, 2], (rows[0][0], *rows[:, 1]))
