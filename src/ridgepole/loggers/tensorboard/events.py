"""Encode what loggers are given as TensorBoard's protocol buffers, and read event files back.

Importing this module imports the protocol buffers (100 ms). The messages are those of
`tensorboard.compat.proto`, which need no TensorFlow. Scalars, histograms and images use the older
fields of `Summary.Value`: every TensorBoard and its `EventAccumulator` read them, and they are the
shortest. TensorBoard converts them as it reads them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import re
import struct
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_INT32, DT_INT64, DT_STRING
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MultilineChartContent,
)

from ridgepole.loggers.media_types import Histogram, MediaFile, RenderedFigure, Table
from ridgepole.loggers.tensorboard.event_file import event_files
from ridgepole.loggers.tensorboard.records import SCALARS, read_records, scalars_event
from ridgepole.metrics.patterns import CurveFigurePattern
from ridgepole.metrics.steps import StepCounter
from ridgepole.metrics.values import Value

FILE_VERSION = "brain.Event:2"  # from this version on, a lower step alone hides nothing
LAYOUT_TAG = "custom_scalars__config__"
TEXT = "text"
MAX_TABLE_ROWS = 1000

_FORMATS = {DT_FLOAT: "<f", DT_DOUBLE: "<d", DT_INT32: "<i", DT_INT64: "<q"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|])")


def metrics_event(metrics: Mapping[str, Value], step: int, now: float) -> bytes:
    """Return all metrics of one call at one step as an event."""
    if SCALARS.issuperset(map(type, metrics.values())):
        try:
            return scalars_event(metrics, step, now)
        except OverflowError:  # protocol buffers make it infinite
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
    """Return an event of one `Summary.Value`."""
    data: bytes = Event(wall_time=now, step=step, summary=Summary(value=[value])).SerializeToString()
    return data


def opening_event(writer: str, now: float) -> bytes:
    """Return the first event of a file: its format version and its writer."""
    source = SourceMetadata(writer=writer)
    data: bytes = Event(wall_time=now, file_version=FILE_VERSION, source_metadata=source).SerializeToString()
    return data


def restart_event(step: int, now: float) -> bytes:
    """Return the event that hides everything logged before it at this step or a later one."""
    data: bytes = Event(wall_time=now, step=step, session_log=SessionLog(status=SessionLog.START)).SerializeToString()
    return data


def image_value(name: str, data: bytes, width: int, height: int) -> Any:
    """Return a picture from the bytes of its PNG file."""
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=data)
    return Summary.Value(tag=name, image=image)


def file_value(name: str, file: MediaFile) -> Any:
    """Return a WAV file as a sound, an animated GIF as an image, and a text for all else."""
    if file.kind == "audio" and file.suffix == ".wav":
        data = file.read()
        with contextlib.suppress(wave.Error, EOFError), wave.open(io.BytesIO(data)) as sound:
            audio = Summary.Audio(
                sample_rate=sound.getframerate(),
                num_channels=sound.getnchannels(),
                length_frames=sound.getnframes(),
                encoded_audio_string=data,
                content_type="audio/wav",
            )
            return Summary.Value(tag=name, audio=audio)
    if file.kind == "video" and file.suffix == ".gif":
        data = file.read()
        width, height = struct.unpack_from("<HH", data, 6)
        return image_value(name, data, width, height)
    where = f": `{file.path.name}`" if file.path is not None else ""
    return text_value(name, f"TensorBoard can't show this {file.kind}; the local record has it{where}.")


def text_value(name: str, text: str) -> Any:
    """Return a text; TensorBoard reads it as Markdown."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=name, metadata=plugin_metadata(TEXT), tensor=tensor)


def table_text(table: Table) -> str:
    """Return a table in Markdown, cut after `MAX_TABLE_ROWS` rows for the browser."""
    lines = ["| " + " | ".join(map(_cell, line)) + " |" for line in (table.columns, *table.rows[:MAX_TABLE_ROWS])]
    lines.insert(1, "|" + "---|" * len(table.columns))
    left = len(table.rows) - MAX_TABLE_ROWS
    return "\n".join(lines) + (f"\n\n{left:,} more rows" if left > 0 else "")


def _cell(value: object) -> str:
    if isinstance(value, RenderedFigure):
        return f"(image, {value.width} x {value.height})"
    text = "" if value is None else str(value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(_MARKDOWN.sub(r"\\\1", text).splitlines())


def histogram_value(name: str, histogram: Histogram) -> Any:
    """Return a histogram."""
    return _histo(name, histogram.counts, histogram.edges, histogram.total, histogram.squares)


def _summarized_value(name: str, summary: Mapping[str, Any]) -> Any:
    """Return the histogram of a large array (`ridgepole.metrics.values.histogram`)."""
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
    """Return the charts of the dashboard "Custom Scalars", one per pattern."""
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
    """Return the metadata that assigns a value to a dashboard of TensorBoard."""
    data = SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return SummaryMetadata(plugin_data=data, data_class=DATA_CLASS_TENSOR)


def empty_value(tag: str, plugin: str, content: bytes) -> Any:
    """Return a value whose whole content is the data of its plugin."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)])
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=shape)
    return Summary.Value(tag=tag, metadata=plugin_metadata(plugin, content), tensor=tensor)


def restarts(event: Any) -> bool:
    """Tell whether an event comes from `restart_event`."""
    return bool(event.HasField("session_log") and event.session_log.status == SessionLog.START)


def parsed(data: bytes) -> Any:
    """Return the `Event` of a record, or None if it can't be parsed."""
    from google.protobuf.message import DecodeError

    try:
        return Event.FromString(data)
    except DecodeError:
        return None


def read_events(directory: Path) -> Iterator[Any]:
    """Yield every whole `Event` of the directory's files, in TensorBoard's order."""
    for path in event_files(directory):
        for data in read_records(path):
            event = parsed(data)
            if event is not None:
                yield event


def writer_of(path: Path) -> str | None:
    """Return the writer that an event file names; None if the file is empty."""
    data = next(read_records(path), None)
    if data is None:
        return None
    first = parsed(data)
    return (first.source_metadata.writer if first is not None else "") or "an unknown writer"


def recover_steps(directory: Path, steps: StepCounter) -> None:
    """Set a counter behind the last step of a directory's metrics; pictures don't count."""
    for event in read_events(directory):
        if restarts(event):
            steps.global_step = min(steps.global_step, event.step)
            steps.last_step = min(steps.last_step, max(event.step - 1, 0))
        elif any(map(_counts, event.summary.value)):
            steps.global_step = max(steps.global_step, event.step + 1)
            steps.last_step = event.step


def curves(directory: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return the steps and values of all scalars, in the order of logging."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in read_events(directory):
        if restarts(event):
            found = {name: [point for point in points if point[0] < event.step] for name, points in found.items()}
            continue
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return {
        name: ([step for step, _ in points], [value for _, value in points]) for name, points in found.items() if points
    }


def scalars_of(data: bytes) -> tuple[dict[str, float], int, float | None]:
    """Return the scalars of a record, kept as floats or as tensors, their step and time."""
    event, found = parsed(data), {}
    for value in event.summary.value if event is not None else ():
        if value.HasField("simple_value"):
            found[value.tag] = value.simple_value
        elif value.HasField("tensor") and not value.tensor.tensor_shape.dim:
            tensor = value.tensor
            numbers = tensor.float_val or tensor.double_val or tensor.int_val or tensor.int64_val
            if numbers:
                found[value.tag] = float(numbers[0])
            elif tensor.tensor_content and tensor.dtype in _FORMATS:
                found[value.tag] = float(struct.unpack(_FORMATS[tensor.dtype], tensor.tensor_content)[0])
    return found, 0 if event is None else event.step, None if event is None else event.wall_time


def _counts(value: Any) -> bool:
    return value.WhichOneof("value") in ("simple_value", "histo") or value.metadata.plugin_data.plugin_name in (
        "scalars",
        "text",
    )
