"""Files of media: made whole or not at all, under names that never collide, and read back as they were given."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ridgepole.metrics.values import Scalar
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Box, Histogram, Mask, Table


class Files:
    """The files of one thing that is logged, with one stem; inside a `with`, all are removed where it fails.

    Args:
        directory: The log directory.
        folder: Name of the folder in it.
        stem: What the names begin with; `-2`, `-3` where the same name was logged at the same step.

    Attributes:
        main: The first file.
    """

    def __init__(self, directory: Path, folder: str, stem: str) -> None:
        self._directory = directory / folder
        self._folder = folder
        self._stem = stem
        self._made: list[Path] = []

    @property
    def main(self) -> Path:
        """The file that was written first."""
        return self._made[0]

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for path in self._made:
                with contextlib.suppress(OSError):
                    path.unlink()

    def write(self, suffix: str, data: bytes) -> str:
        """Writes a file: the first under the first free name, the others beside it.

        Args:
            suffix: What the name ends in, such as `".png"`.
            data: The content.

        Returns:
            The name, relative to the log directory.

        Raises:
            OSError: If it can't be written.
        """
        with os.fdopen(self._claim(suffix), "wb") as file:
            file.write(data)
        return f"{self._folder}/{self._made[-1].name}"

    def beside(self, suffix: str, write: Callable[[Path], bool]) -> str | None:
        """Has a further file written by somebody else; None where they say that there is nothing to keep."""
        path = self.main.with_name(self.main.stem + suffix)
        self._made.append(path)
        if write(path):
            return f"{self._folder}/{path.name}"
        self._made.pop()
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def _claim(self, suffix: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # follows no link and overwrites nothing
        if self._made:
            path = self.main.with_name(self.main.stem + suffix)
            fd = os.open(path, flags, 0o644)
            self._made.append(path)
            return fd
        number = 1
        while True:
            path = self._directory / f"{self._stem}{'' if number == 1 else f'-{number}'}{suffix}"
            try:
                fd = os.open(path, flags, 0o644)
            except FileExistsError:
                number += 1
                continue
            self._made.append(path)
            return fd


# -- tables ----------------------------------------------------------------------------------------------------------


def to_csv(table: Table) -> bytes:
    """A table as CSV (RFC 4180, UTF-8) that keeps its types: text is quoted, whatever is not quoted is none.

    None is an empty field, bools are `true` and `false`, floats always have a point, an exponent, or are `nan`, `inf`.
    """
    buffer = io.StringIO()
    buffer.write(",".join(map(_field, table.columns)) + "\r\n")
    for row in table.rows:
        buffer.write(",".join(map(_field, row)) + "\r\n")
    return buffer.getvalue().encode()


def _field(value: Scalar | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def from_csv(data: bytes) -> Table:
    """Reads back what `to_csv` wrote.

    Raises:
        ValueError: If it is something else.
    """
    rows = list(_records(data.decode()))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("not a table that was logged: its rows differ in length")
    return Table(tuple(map(str, rows[0])), tuple(tuple(row) for row in rows[1:]))


def _records(text: str) -> Iterator[list[Scalar | None]]:
    row: list[Scalar | None] = []
    at, end = 0, len(text)
    while at < end:
        if text[at] == '"':
            stop = at + 1
            while True:
                stop = text.index('"', stop)  # a ValueError where the text ends in the middle of a field
                if not text.startswith('""', stop):
                    break
                stop += 2
            row.append(text[at + 1 : stop].replace('""', '"'))
            at = stop + 1
        else:
            stop = min(place for place in (text.find(",", at), text.index("\r\n", at)) if place >= 0)
            row.append(_value(text[at:stop]))
            at = stop
        if text.startswith("\r\n", at):
            yield row
            row = []
            at += 2
        elif text.startswith(",", at):
            at += 1
        else:
            raise ValueError("not a table that was logged: text goes on behind its quotes")


_WORDS: Mapping[str, Scalar | None] = {"": None, "true": True, "false": False}


def _value(field: str) -> Scalar | None:
    if field in _WORDS:
        return _WORDS[field]
    try:
        return int(field)
    except ValueError:
        return float(field)


# -- images ----------------------------------------------------------------------------------------------------------


def write_image(files: Files, image: AnnotatedImage) -> dict[str, Any]:
    """Writes an image as PNG with masks and boxes drawn in; where there are some, also without, and each mask.

    Returns:
        Fields of its line in the index: `file`, `bytes`, `width`, `height`; and where it is annotated `plain` (the
        image alone), `masks` (layer to `file`, a PNG of 8 or 16 bits whose values are the classes, and `names`), and
        `boxes` (layer to a list of `corners`, `label`, and where known `name` and `score`).
    """
    from ridgepole.permanences.loggers.figures.overlay import drawn, plain
    from ridgepole.permanences.loggers.figures.render import render_pixels

    picture = drawn(image)
    line: dict[str, Any] = {"file": files.write(picture.suffix, picture.data), "bytes": len(picture.data)}
    line |= {"width": picture.width, "height": picture.height}
    if image.masks or image.boxes:
        line["plain"] = files.write(".plain.png", plain(image).data)
    if image.masks:
        line["masks"] = {
            layer: {
                "file": files.write(f".mask{number}.png", render_pixels(mask.labels).data),
                "names": {str(label): name for label, name in mask.names.items()},
            }
            for number, (layer, mask) in enumerate(image.masks.items())
        }
    if image.boxes:
        line["boxes"] = {layer: [_box_fields(box) for box in boxes] for layer, boxes in image.boxes.items()}
    return line


def _box_fields(box: Box) -> dict[str, Any]:
    fields: dict[str, Any] = {"corners": list(box.corners), "label": box.label}
    if box.name:
        fields["name"] = box.name
    if box.score is not None:
        fields["score"] = box.score
    return fields


def read_image(directory: Path, line: Mapping[str, Any]) -> AnnotatedImage:
    """The image behind a line of kind `image`, as it was given.

    Args:
        directory: The log directory.
        line: A line of `media.jsonl`.

    Returns:
        The image with its masks and boxes.

    Raises:
        ValueError: If the line, or a file that it names, is not one that was logged.
        OSError: If a file is gone.
    """
    import numpy as np
    from PIL import Image

    def array(name: str) -> Any:
        with Image.open(_inside(directory, name)) as picture:
            return np.array(picture)

    try:
        masks = {
            layer: Mask(array(mask["file"]), {int(label): name for label, name in mask["names"].items()})
            for layer, mask in line.get("masks", {}).items()
        }
        boxes = {
            layer: tuple(
                Box(tuple(box["corners"]), box["label"], box.get("name", ""), box.get("score")) for box in found
            )
            for layer, found in line.get("boxes", {}).items()
        }
        return AnnotatedImage(array(line.get("plain", line["file"])), masks, boxes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the line of an image that was logged: {error!r}") from error


def read_table(directory: Path, line: Mapping[str, Any]) -> Table:
    """The table behind a line of kind `table`; errors as in `read_image`."""
    return from_csv(_inside(directory, line.get("file")).read_bytes())


def read_text(directory: Path, line: Mapping[str, Any]) -> str:
    """The text behind a line of kind `text`; errors as in `read_image`."""
    if isinstance(line.get("text"), str):
        return str(line["text"])
    return _inside(directory, line.get("file")).read_bytes().decode()


def read_histogram(line: Mapping[str, Any]) -> Histogram:
    """The histogram in a line of kind `histogram`; a `ValueError` where it is none."""
    try:
        total, squares = (math.nan if line[key] is None else float(line[key]) for key in ("total", "squares"))
        edges = tuple(float(edge) for edge in line["edges"])
        return Histogram(tuple(map(int, line["counts"])), edges, total, squares, int(line["nonfinite"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the line of a histogram that was logged: {error!r}") from error


def _inside(directory: Path, name: object) -> Path:
    """A file that a line names, which must be one of the directory's own."""
    if not isinstance(name, str) or "\0" in name or name.count("/") != 1 or ".." in name.split("/"):
        raise ValueError(f"{name!r} is not a file that was logged")
    path = directory / name
    if path.is_symlink() or path.parent.is_symlink():
        raise ValueError(f"{name!r} is a link, not a file that was logged")
    return path


# -- hyperparameters -------------------------------------------------------------------------------------------------


def to_hparams(params: Mapping[str, Scalar | None], metrics: Mapping[str, float]) -> bytes:
    """The content of `hparams.json`: strict JSON, with the numbers that are not finite named in `special`."""
    strange = {
        part: {name: repr(value) for name, value in values.items() if _is_strange(value)}
        for part, values in (("params", params), ("metrics", metrics))
    }
    content: dict[str, Any] = {
        part: {name: None if _is_strange(value) else value for name, value in values.items()}
        for part, values in (("params", params), ("metrics", metrics))
    }
    if any(strange.values()):
        content["special"] = strange
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def from_hparams(data: bytes) -> tuple[dict[str, Scalar | None], dict[str, float]]:
    """Reads back what `to_hparams` wrote; a `ValueError` where it is something else."""
    content = json.loads(data)
    try:
        parts = [dict(content[part]) for part in ("params", "metrics")]
        for part, values in zip(("params", "metrics"), parts, strict=True):
            values |= {name: float(word) for name, word in content.get("special", {}).get(part, {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not hyperparameters that were logged: {error!r}") from error
    return parts[0], parts[1]


def _is_strange(value: Scalar | None) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
