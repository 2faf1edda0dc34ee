"""From a line of `media.jsonl`, and the files that it names, back to what a logger is given."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import MissingExtraError
from ridgepole.export.record import Line
from ridgepole.metrics.values import Scalar
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.permanences.loggers.figures.render import Rendered
from ridgepole.permanences.loggers.mediafiles import (
    from_hparams,
    read_histogram,
    read_image,
    read_table,
    read_text,
)

Give = Callable[[BaseLoggerManager], None]


class Unreadable(Exception):  # noqa: N818 - says what it is of; never leaves this layer
    """A line's file is gone or damaged, or the line is of a kind that this version does not know."""


def replay_media(directory: Path, line: Line, logger: BaseLoggerManager) -> None:
    """Gives a logger one line of the index.

    Args:
        directory: Where the index lies.
        line: The line.
        logger: Where to.

    Raises:
        Unreadable: If there is nothing to give.
        Exception: Whatever the logger raises.
    """
    read = _READERS.get(line["kind"])
    if read is None:
        raise Unreadable(f"a newer Ridgepole wrote it, this one knows no media of kind {line['kind']!r}")
    if not isinstance(line.get("name"), str):
        raise Unreadable("its line in the index has no name")
    try:
        give = read(directory, line)
    except OSError as error:
        raise Unreadable(f"its file can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise Unreadable(str(error)) from error
    give(logger)


def weight(line: Line) -> int:
    """About how many bytes a backend has to take for a line."""
    size = line.get("bytes")
    sides = [side for side in (line.get("width"), line.get("height")) if isinstance(side, int)]
    pixels = 3 * sides[0] * sides[1] if line.get("kind") == "image" and len(sides) == 2 else 0
    return (size if isinstance(size, int) else 0) + pixels


def read_hparams(directory: Path) -> tuple[dict[str, Scalar | None], dict[str, float]]:
    """The hyperparameters of a run and what it is compared by, those of forked children included.

    Returns:
        Parameters and metrics under flat names; empty where none were logged.

    Raises:
        Unreadable: If a file of them is damaged.
    """
    params: dict[str, Scalar | None] = {}
    metrics: dict[str, float] = {}
    stem, _, suffix = rundir.HPARAMS.rpartition(".")
    for path in sorted(directory.glob(f"{stem}*.{suffix}"), key=lambda path: (path.name != rundir.HPARAMS, path.name)):
        try:
            found = from_hparams(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Unreadable(f"{path.name} can't be read: {error}") from error
        params |= found[0]
        metrics |= found[1]
    return params, metrics


# The hooks below take what the public methods made of the user's data: it needs no second making.


def _figure(directory: Path, line: Line) -> Give:
    path = _file(directory, line)
    data = path.read_bytes()
    width, height = (line.get(key, 0) for key in ("width", "height"))
    rendered = Rendered(data, path.suffix, width, height, _source(data, path))
    return lambda logger: logger.log_rendered(line["name"], rendered, step=line["step"])


def _image(directory: Path, line: Line) -> Give:
    _needs_pillow()
    image = read_image(directory, line)
    return lambda logger: logger._log_image(line["name"], image, line["step"])  # noqa: SLF001


def _table(directory: Path, line: Line) -> Give:
    table = read_table(directory, line)
    return lambda logger: logger._log_table(line["name"], table, line["step"])  # noqa: SLF001


def _text(directory: Path, line: Line) -> Give:
    text = read_text(directory, line)
    return lambda logger: logger._log_text(line["name"], text, line["step"])  # noqa: SLF001


def _histogram(_: Path, line: Line) -> Give:
    histogram = read_histogram(line)
    return lambda logger: logger._log_histogram(line["name"], histogram, line["step"])  # noqa: SLF001


_READERS: Mapping[str, Callable[[Path, Line], Give]] = {
    "figure": _figure,
    "image": _image,
    "table": _table,
    "text": _text,
    "histogram": _histogram,
}


def _file(directory: Path, line: Line) -> Path:
    file = line.get("file")
    if not isinstance(file, str):
        raise Unreadable("its line in the index names no file")
    path = directory / file
    if directory.resolve() not in path.resolve().parents:  # an index from elsewhere must not publish other files
        raise Unreadable(f"{file} lies outside the directory")
    return path


def _source(data: bytes, path: Path) -> Any:
    """What stands for the figure itself, for a logger that draws on its own: the picture, not yet decoded."""
    if path.suffix != ".png":
        return data.decode("utf-8", "replace")
    _needs_pillow()
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data))
    except OSError as error:
        raise Unreadable(f"{path.name} is damaged") from error


def _needs_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401 - asked for, so that its absence is not taken for a damaged file
    except ImportError as error:
        raise MissingExtraError("Pillow", "plots", "replaying pictures") from error
