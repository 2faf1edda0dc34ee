"""Replays the local record of a run into a logger."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import MissingExtraError, add_note_once
from ridgepole.export.local_record import Line, LocalRecord
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.composite import LoggerGroup
from ridgepole.loggers.local.media_files import (
    from_hparams,
    read_file,
    read_histogram,
    read_image,
    read_table,
    read_text,
)
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.metrics.convert import Scalar
from ridgepole.metrics.steps import Plan, Resolved, StepRow

_Call = Callable[[BaseLoggerManager], None]
"""Logs one item."""


class UnreadableError(Exception):
    """A media file is missing or damaged, or of a kind that only a newer Ridgepole knows."""


def _read_media(directory: Path, line: Line) -> _Call:
    """Read the file of a line of the media index, or raise `UnreadableError`."""
    read = _READERS.get(line["kind"])
    if read is None:
        raise UnreadableError(f"a newer Ridgepole wrote it, this one knows no media of kind {line['kind']!r}")
    if not isinstance(line.get("name"), str):
        raise UnreadableError("its line in the index has no name")
    try:
        return read(directory, line)
    except OSError as error:
        raise UnreadableError(f"its file can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _size(line: Line) -> int:
    """Estimate the bytes that a backend receives for a line."""
    size = line.get("bytes")
    sides = [side for side in (line.get("width"), line.get("height")) if isinstance(side, int)]
    pixels = 3 * sides[0] * sides[1] if line.get("kind") == "image" and len(sides) == 2 else 0
    return (size if isinstance(size, int) else 0) + pixels


def _read_hparams(directory: Path) -> tuple[dict[str, Scalar | None], dict[str, float]]:
    """Return the flat hyperparameters and their metrics, including those of forked children."""
    params: dict[str, Scalar | None] = {}
    metrics: dict[str, float] = {}
    stem, _, suffix = rundir.HPARAMS.rpartition(".")
    for path in sorted(directory.glob(f"{stem}*.{suffix}"), key=lambda path: (path.name != rundir.HPARAMS, path.name)):
        try:
            found = from_hparams(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UnreadableError(f"{path.name} can't be read: {error}") from error
        params |= found[0]
        metrics |= found[1]
    return params, metrics


# The hooks below take what the public methods made of the user's data, without a second conversion.


def _figure(directory: Path, line: Line) -> _Call:
    path = _file(directory, line)
    data = path.read_bytes()
    width, height = (line.get(key, 0) for key in ("width", "height"))
    rendered = RenderedFigure(data, path.suffix, width, height, _source(data, path))
    return lambda logger: logger.log_rendered(line["name"], rendered, step=line["step"])


def _image(directory: Path, line: Line) -> _Call:
    _needs_pillow()
    image = read_image(directory, line)
    return lambda logger: logger._log_image(line["name"], image, line["step"])  # noqa: SLF001


def _table(directory: Path, line: Line) -> _Call:
    table = read_table(directory, line)
    return lambda logger: logger._log_table(line["name"], table, line["step"])  # noqa: SLF001


def _text(directory: Path, line: Line) -> _Call:
    text = read_text(directory, line)
    return lambda logger: logger._log_text(line["name"], text, line["step"])  # noqa: SLF001


def _histogram(_: Path, line: Line) -> _Call:
    histogram = read_histogram(line)
    return lambda logger: logger._log_histogram(line["name"], histogram, line["step"])  # noqa: SLF001


def _media_file(directory: Path, line: Line) -> _Call:
    file = read_file(directory, line)
    return lambda logger: logger._log_media_file(line["name"], file, line["step"])  # noqa: SLF001


_READERS: Mapping[str, Callable[[Path, Line], _Call]] = {
    "figure": _figure,
    "image": _image,
    "table": _table,
    "text": _text,
    "histogram": _histogram,
    **dict.fromkeys(rundir.MEDIA_FOLDERS, _media_file),
}


def _file(directory: Path, line: Line) -> Path:
    file = line.get("file")
    if not isinstance(file, str):
        raise UnreadableError("its line in the index names no file")
    path = directory / file
    if directory.resolve() not in path.resolve().parents:  # must not publish other files
        raise UnreadableError(f"{file} is outside the directory")
    return path


def _source(data: bytes, path: Path) -> Any:
    """Return the undecoded picture in place of the figure, for loggers that draw it."""
    if path.suffix != ".png":
        return data.decode("utf-8", "replace")
    _needs_pillow()
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data))
    except OSError as error:
        raise UnreadableError(f"{path.name} is damaged") from error


def _needs_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401 - without it a picture would look damaged
    except ImportError as error:
        raise MissingExtraError("Pillow", "plots", "replaying pictures") from error


FLUSH_LINES, FLUSH_BYTES = 1000, 8 << 20
"""Flush a logger after this much, so that one with a queue drops nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilled:
    """The result of a replay.

    Attributes:
        records: Number of records of metrics; a call of `log_metrics` is one for each distinct
            step.
        media: Number of figures, tables, texts, histograms and hyperparameters.
        skipped: A sentence for each item that could not be replayed.
        bad: Number of unreadable or torn lines, which were skipped.
        hidden: Number of lines of abandoned segments, which were left out.
        next_seq: The sequence number after the last line; pass it as `first_seq` to continue.
    """

    records: int
    media: int
    skipped: tuple[str, ...]
    bad: int
    hidden: int
    next_seq: int


def refill(directory: str | Path, logger: BaseLoggerManager, *, first_seq: int = 0) -> Refilled:
    """Replay the local record of a run into a logger: metrics and media, in the order of logging.

    Steps are those of the record. If the logger has a method `set_wall_time(seconds)`, it receives
    the time of each record in seconds since the epoch, and None at the end.
    Segments that a resume abandoned are left out. The run is only read, and may still be running.

    Args:
        directory: A run directory, or the `log_dir` of a BasicLogger.
        logger: An initialised logger. It keeps what it has, so give a new one, or pass the first
            missing sequence number as `first_seq`.
        first_seq: The first sequence number to replay.

    Returns:
        The numbers of replayed and skipped records.

    Raises:
        RunDirError: If the directory holds no record.
        ValueError: If the logger writes to this directory itself.
        Exception: The error of the logger, with a note of the record that was replayed.
    """
    directory = Path(directory)
    _refuse_itself(directory, logger)
    record = LocalRecord(directory, first_seq)
    replay = _Replay(directory, logger)
    seq = first_seq - 1
    try:
        for line in record:
            seq = line["seq"]
            replay.log(line)
        replay.log_hparams()
        logger.flush()
    except Exception as error:
        add_note_once(error, f"while seq {seq} of {directory} was replayed into {type(logger).__name__}")
        raise
    finally:
        replay.end()
    bad = record.bad + record.torn
    return Refilled(
        records=replay.records,
        media=replay.media,
        skipped=tuple(replay.skipped),
        bad=bad,
        hidden=record.hidden,
        next_seq=seq + 1,
    )


class _Replay:
    """A running replay."""

    def __init__(self, directory: Path, logger: BaseLoggerManager) -> None:
        self.records = self.media = 0
        self.skipped: list[str] = []
        self._directory = directory
        self._logger = logger
        self._set_time: Callable[[float | None], None] | None = getattr(logger, "set_wall_time", None)
        self._has_set_time = False
        self._lines = self._bytes = 0

    def log(self, line: Line) -> None:
        """Log one line of the record."""
        if self._set_time is not None:
            self._set_time(line["time"])
            self._has_set_time = True
        if "metrics" in line:
            self._logger.log_metrics(_resolved(line))
            self.records += 1
        else:
            with self._skipping(f"{line['kind']} {line.get('name', '')!r} of step {line['step']}"):
                _read_media(self._directory, line)(self._logger)
                self.media += 1
        self._lines += 1
        self._bytes += _size(line)
        if self._lines >= FLUSH_LINES or self._bytes >= FLUSH_BYTES:
            self._logger.flush()
            self._lines = self._bytes = 0

    def log_hparams(self) -> None:
        """Log the hyperparameters; last, so that their metrics follow the curves."""
        with self._skipping("hyperparameters"):
            params, metrics = _read_hparams(self._directory)
            if params or metrics:
                self._logger._log_hparams(params, metrics, self._logger.last_step)  # noqa: SLF001 - they have the form of the hooks
                self.media += 1

    def end(self) -> None:
        """Restore the logger's own clock, unless it was never set."""
        if self._set_time is not None and self._has_set_time:
            self._set_time(None)

    @contextlib.contextmanager
    def _skipping(self, what: str) -> Iterator[None]:
        try:
            yield
        except UnreadableError as reason:
            self.skipped.append(f"{what}: {reason}")


def _resolved(line: Line) -> Resolved:
    """Convert a line of a metrics file to the argument of `log_metrics`."""
    row = StepRow(line["step"])
    row.metrics = line["metrics"]
    row.words = {kind: line[kind] for kind in ("pattern", "stage", "split") if kind in line}
    return Resolved(Plan([row], row.step + 1, row.step))


def _refuse_itself(directory: Path, logger: BaseLoggerManager) -> None:
    for member in logger.loggers if isinstance(logger, LoggerGroup) else (logger,):
        own = getattr(member, "log_dir", None)
        if own is not None and Path(own).resolve() == directory.resolve():
            raise ValueError(f"{type(member).__name__} writes to {directory} itself: it would read what it writes")
