"""From what loggers are given to TensorBoard's protocol buffers. Importing this module imports them (100 ms).

The messages are those of `tensorboard.compat.proto`, which need no TensorFlow. Scalars, histograms and images stand
in the older fields of `Summary.Value`, which every TensorBoard and its `EventAccumulator` read, and which are the
shortest; TensorBoard converts them as it reads them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_TENSOR,
    HistogramProto,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MultilineChartContent,
)

from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.values import Value
from ridgepole.permanences.loggers.payloads import Histogram, Table
from ridgepole.permanences.loggers.tensorboard.scalars import SCALARS, scalars_event

FILE_VERSION = "brain.Event:2"  # from this version on, a lower step alone hides nothing that was logged before it
LAYOUT_TAG = "custom_scalars__config__"
TEXT = "text"
MAX_TABLE_ROWS = 1000

_MARKDOWN = re.compile(r"([\\`*_{}\[\]|])")


def metrics_event(metrics: Mapping[str, Value], step: int, now: float) -> bytes:
    """All metrics of one call at one step.

    Args:
        metrics: Flat names and plain values. A sequence becomes a curve for each place in it, `name[0]`, `name[1]`.
        step: The step.
        now: Seconds since the epoch.
    """
    if SCALARS.issuperset(map(type, metrics.values())):
        try:
            return scalars_event(metrics, step, now)
        except OverflowError:  # the messages make it infinite
            pass
    values = []
    for name, value in metrics.items():
        kind = type(value)
        if kind is float or kind is int or kind is bool:
            values.append(Summary.Value(tag=name, simple_value=value))
        elif isinstance(value, str):
            values.append(text_value(name, value))
        elif isinstance(value, dict):
            values.append(_summarized_value(name, value))
        else:
            assert isinstance(value, list)
            values += [Summary.Value(tag=f"{name}[{i}]", simple_value=item) for i, item in enumerate(value)]
    data: bytes = Event(wall_time=now, step=step, summary=Summary(value=values)).SerializeToString()
    return data


def value_event(value: Any, step: int, now: float) -> bytes:
    """One `Summary.Value` at a step."""
    data: bytes = Event(wall_time=now, step=step, summary=Summary(value=[value])).SerializeToString()
    return data


def opening_event(writer: str, now: float) -> bytes:
    """What a file begins with: the version of its format, and who writes it."""
    source = SourceMetadata(writer=writer)
    data: bytes = Event(wall_time=now, file_version=FILE_VERSION, source_metadata=source).SerializeToString()
    return data


def restart_event(step: int, now: float) -> bytes:
    """Hides what was logged before it at this step or a later one."""
    data: bytes = Event(wall_time=now, step=step, session_log=SessionLog(status=SessionLog.START)).SerializeToString()
    return data


def image_value(name: str, data: bytes, width: int, height: int) -> Any:
    """A picture, as the bytes of its PNG file."""
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=data)
    return Summary.Value(tag=name, image=image)


def text_value(name: str, text: str) -> Any:
    """A text; TensorBoard reads it as Markdown."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=name, metadata=plugin_metadata(TEXT), tensor=tensor)


def table_text(table: Table) -> str:
    """A table in Markdown, cut after `MAX_TABLE_ROWS` rows, which a browser can still show."""
    lines = ["| " + " | ".join(map(_cell, line)) + " |" for line in (table.columns, *table.rows[:MAX_TABLE_ROWS])]
    lines.insert(1, "|" + "---|" * len(table.columns))
    left = len(table.rows) - MAX_TABLE_ROWS
    return "\n".join(lines) + (f"\n\n{left:,} more rows" if left > 0 else "")


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(_MARKDOWN.sub(r"\\\1", text).splitlines())


def histogram_value(name: str, histogram: Histogram) -> Any:
    """Counts in bins."""
    return _histo(name, histogram.counts, histogram.edges, histogram.total, histogram.squares)


def _summarized_value(name: str, summary: Mapping[str, Any]) -> Any:
    """The summary that stands for a large array among metrics (`ridgepole.metrics.values.histogram`)."""
    count, mean, std = summary["count"], summary["mean"] or 0.0, summary["std"] or 0.0
    return _histo(name, summary["counts"], summary["edges"], mean * count, (std * std + mean * mean) * count)


def _histo(name: str, counts: Sequence[int], edges: Sequence[float], total: float, squares: float) -> Any:
    histo = HistogramProto(num=sum(counts), sum=total, sum_squares=squares)
    if counts:
        histo.min, histo.max = edges[0], edges[-1]
        histo.bucket_limit.extend(edges[1:])
        histo.bucket.extend(counts)
    return Summary.Value(tag=name, histo=histo)


def layout_value(patterns: Sequence[CurveFigurePattern]) -> Any:
    """The charts of the dashboard "Custom Scalars": one for each pattern, with a line for each metric that fits."""
    charts = [
        Chart(
            title=pattern.title or pattern.name,
            multiline=MultilineChartContent(tag=[fnmatch.translate(glob) for glob in pattern.metrics]),
        )
        for pattern in patterns
    ]
    layout = Layout(category=[Category(title="Ridgepole", chart=charts)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[layout.SerializeToString()], tensor_shape=TensorShapeProto())
    return Summary.Value(tag=LAYOUT_TAG, metadata=plugin_metadata("custom_scalars"), tensor=tensor)


def plugin_metadata(plugin: str, content: bytes = b"") -> Any:
    """What tells TensorBoard which of its dashboards a value belongs to."""
    data = SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return SummaryMetadata(plugin_data=data, data_class=DATA_CLASS_TENSOR)


def empty_value(tag: str, plugin: str, content: bytes) -> Any:
    """A value that says all it has to say in the data of its plugin."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)])
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=shape)
    return Summary.Value(tag=tag, metadata=plugin_metadata(plugin, content), tensor=tensor)


def restarts(event: Any) -> bool:
    """Whether an event is one of `restart_event`'s."""
    return bool(event.HasField("session_log") and event.session_log.status == SessionLog.START)


def parsed(data: bytes) -> Any:
    """The `Event` of a record, or None where it is none."""
    from google.protobuf.message import DecodeError

    try:
        return Event.FromString(data)
    except DecodeError:
        return None
