"""Files of media: written whole or not at all, never under a name that is taken, and read back."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ridgepole.loggers.figures.annotations import drawn, plain
from ridgepole.loggers.figures.render import png_size, render_pixels
from ridgepole.loggers.media_types import (
    PICTURE,
    AnnotatedImage,
    Box,
    Histogram,
    Mask,
    MediaFile,
    RenderedFigure,
    Table,
)
from ridgepole.metrics.convert import JsonText, Scalar

T = TypeVar("T")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Files:
    """The files of one logged object, with one stem; a `with` block that fails removes them all.

    Args:
        directory: The log directory.
        folder: Name of the folder in it.
        stem: Stem of the file names; `-2`, `-3` are added if the same name was logged at this step.
        used: The latest number of each stem, so that the search for a free one begins behind it.
    """

    def __init__(self, directory: Path, folder: str, stem: str, used: dict[str, int] | None = None) -> None:
        self._used = {} if used is None else used
        self._directory = directory / folder
        self._folder = folder
        self._stem = stem
        self._made: list[Path] = []

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
        """Write a file, beside the first one if there is one; return its relative name."""
        # Exclusive: follows no link and overwrites nothing.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd, path = self._first_free(suffix, lambda path: os.open(path, flags, 0o644))
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        return f"{self._folder}/{path.name}"

    def keep(self, file: MediaFile) -> str:
        """Keep an existing file, as a hard link if it may be one, else as a copy."""
        assert file.source is not None
        source = file.source.resolve()
        if file.link:
            with contextlib.suppress(OSError):  # another filesystem, or one without hard links
                _, path = self._first_free(file.suffix, lambda path: path.hardlink_to(source))
                return f"{self._folder}/{path.name}"
        name = self.write(file.suffix, b"")
        shutil.copyfile(source, self._directory / Path(name).name)
        return name

    def _first_free(self, suffix: str, create: Callable[[Path], T]) -> tuple[T, Path]:
        """Create a file under the first free name; return the result of `create` and the path."""
        stem, number = (self._made[0].stem, 1) if self._made else (self._stem, self._used.get(self._stem, 0) + 1)
        while True:
            path = self._directory / f"{stem}{suffix if number == 1 else f'-{number}{suffix}'}"
            try:
                made = create(path)
                break
            except FileExistsError:
                if self._made:
                    raise
                number += 1
        if not self._made:
            self._used[self._stem] = number
        self._made.append(path)
        return made, path

    def rewrite(self, data: bytes) -> None:
        """Replace the content of the first file."""
        self._made[0].write_bytes(data)

    def beside(self, suffix: str, write: Callable[[Path], bool]) -> str | None:
        """Have `write` write a further file; return its name, or None if it kept nothing."""
        path = self._made[0].with_name(self._made[0].stem + suffix)
        self._made.append(path)
        if write(path):
            return f"{self._folder}/{path.name}"
        self._made.pop()
        with contextlib.suppress(OSError):
            path.unlink()
        return None


# -- tables ----------------------------------------------------------------------------------------


def to_csv(table: Table) -> bytes:
    """Convert a table to CSV (RFC 4180, UTF-8) that keeps its types: only text is quoted.

    None is an empty field, bools are `true` and `false`; floats have a point, an exponent, or are
    `nan` or `inf`. In a table of one column None is `null`, as readers skip empty lines.
    """
    buffer = io.StringIO()
    buffer.write(",".join(map(_field, table.columns)) + "\r\n")
    for row in table.rows:
        buffer.write((",".join(map(_field, row)) if row != (None,) else "null") + "\r\n")
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
    """Parse the result of `to_csv`; raise a `ValueError` for anything else."""
    rows = list(_records(data.decode()))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("not a table that was logged: its rows differ in length")
    return Table(tuple(map(str, rows[0])), tuple(tuple(row) for row in rows[1:]))


_CELL = re.compile(r'"([^"]*(?:""[^"]*)*)"(,|\r\n)|([^",\r\n]*)(,|\r\n)')


def _records(text: str) -> Iterator[list[Scalar | None]]:
    row: list[Scalar | None] = []
    at = 0
    while at < len(text):
        cell = _CELL.match(text, at)
        if cell is None:
            raise ValueError(f"not a table that was logged: malformed cell at character {at}")
        quoted, _, plain, _ = cell.groups()
        row.append(_value(plain) if quoted is None else quoted.replace('""', '"'))
        at = cell.end()
        if cell[0].endswith("\n"):
            yield row
            row = []
    if row:
        raise ValueError("not a table that was logged: its last row is not complete")


_WORDS: Mapping[str, Scalar | None] = {"": None, "null": None, "true": True, "false": False}


def _value(field: str) -> Scalar | None:
    if field in _WORDS:
        return _WORDS[field]
    try:
        return int(field)
    except ValueError:
        return float(field)


def write_table(files: Files, table: Table) -> dict[str, Any]:
    """Write a table as CSV, and each of its images as a PNG whose name stands in the cell.

    Returns:
        Fields of its line in the index: `file`, `rows`, `columns`, and `types` of the columns that
        have other values than numbers, bools and text.
    """
    line: dict[str, Any] = {"file": files.write(".csv", b"")}
    rows = [tuple(_picture_name(files, cell, at, column) for column, cell in enumerate(row))
            for at, row in enumerate(table.rows)]  # fmt: skip
    files.rewrite(to_csv(Table(table.columns, tuple(rows))))
    line |= {"rows": len(table.rows), "columns": table.columns}
    return line | ({"types": dict(table.types)} if table.types else {})


def _picture_name(files: Files, cell: Any, row: int, column: int) -> Any:
    if not isinstance(cell, RenderedFigure):
        return cell
    return files.write(_picture_suffix(row, column), cell.data)


def _picture_suffix(row: int, column: int) -> str:
    return f".{row}-{column}.png"


# -- images ----------------------------------------------------------------------------------------


def write_image(files: Files, image: AnnotatedImage) -> dict[str, Any]:
    """Write an image as PNG with masks and boxes drawn in; an annotated one also in its parts.

    Returns:
        Fields of its line in the index: `file`, `bytes`, `width`, `height`. An annotated image also
        has `plain` (the image alone), `masks` (layer to `file`, a PNG of 8 or 16 bits whose values
        are the classes, and `names`), and `boxes` (layer to a list of `corners`, `label`, and if
        known `name` and `score`).
    """
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
    fields: dict[str, Any] = {"corners": [_json_number(edge) for edge in box.corners], "label": box.label}
    if box.name:
        fields["name"] = box.name
    if box.score is not None:
        fields["score"] = _json_number(box.score)
    return fields


def _json_number(number: float) -> float | str:
    """Return a number, or the word of one that is not finite: JSON has none."""
    return number if math.isfinite(number) else repr(number)


def read_image(directory: Path, line: Mapping[str, Any]) -> AnnotatedImage:
    """Read the image, masks and boxes of an index line of kind `image`.

    Raises:
        ValueError: If the line, or a file that it names, was not logged.
        OSError: If a file is missing.
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
                Box(
                    _corners(*map(float, box["corners"])),
                    label=box["label"],
                    name=box.get("name", ""),
                    score=None if box.get("score") is None else float(box["score"]),
                )
                for box in found
            )
            for layer, found in line.get("boxes", {}).items()
        }
        return AnnotatedImage(array(line.get("plain", line["file"])), masks, boxes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the line of an image that was logged: {error!r}") from error


def _corners(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return left, top, right, bottom


def read_table(directory: Path, line: Mapping[str, Any]) -> Table:
    """Read the table of an index line, with its images; errors as in `read_image`."""
    path = _inside(directory, line.get("file"))
    table = from_csv(path.read_bytes())
    types = line.get("types", {})
    if not isinstance(types, dict):
        raise ValueError(f"not the line of a table that was logged: its types are {types!r}")
    pictured = [place for place, name in enumerate(table.columns) if PICTURE in str(types.get(name))]
    rows = [list(row) for row in table.rows]
    for place, (at, row) in itertools.product(pictured, enumerate(rows)):
        name = f"{path.parent.name}/{path.stem}{_picture_suffix(at, place)}"
        if row[place] == name:
            data = _inside(directory, name).read_bytes()
            row[place] = RenderedFigure(data, ".png", *png_size(data), data)
    return Table(table.columns, tuple(map(tuple, rows)), types)


def read_file(directory: Path, line: Mapping[str, Any]) -> MediaFile:
    """Return the file of an index line of kind `audio`, `video`, `html` or `artifact`.

    Raises:
        ValueError: If the line, or a file that it names, was not logged, or the file has changed.
        OSError: If the file is missing.
    """
    path = _inside(directory, line.get("file"))
    if hash_file(path) != line.get("sha256"):
        raise ValueError(f"{line.get('file')} has changed since it was logged")
    return MediaFile(kind=line["kind"], suffix=path.suffix, source=path)


def read_text(directory: Path, line: Mapping[str, Any]) -> str:
    """Read the text of an index line; errors as in `read_image`."""
    if isinstance(line.get("text"), str):
        return str(line["text"])
    return _inside(directory, line.get("file")).read_bytes().decode()


def read_histogram(line: Mapping[str, Any]) -> Histogram:
    """Read the histogram of an index line; errors as in `read_image`."""
    try:
        total, squares = (math.nan if line[key] is None else float(line[key]) for key in ("total", "squares"))
        edges = tuple(float(edge) for edge in line["edges"])
        return Histogram(
            counts=tuple(map(int, line["counts"])),
            edges=edges,
            total=total,
            squares=squares,
            nonfinite=int(line["nonfinite"]),
            nan=int(line.get("nan", 0)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the line of a histogram that was logged: {error!r}") from error


def _inside(directory: Path, name: object) -> Path:
    """Return the path of a file that a line names; refuse one outside the directory."""
    if not isinstance(name, str) or "\0" in name or name.count("/") != 1 or ".." in name.split("/"):
        raise ValueError(f"{name!r} is not a file that was logged")
    path = directory / name
    if path.is_symlink() or path.parent.is_symlink():
        raise ValueError(f"{name!r} is a link, not a file that was logged")
    return path


# -- hyperparameters -------------------------------------------------------------------------------


def to_hparams(params: Mapping[str, Scalar | None], metrics: Mapping[str, float]) -> bytes:
    """Return the content of `hparams.json`: strict JSON, with NaN and infinities in `special`.

    `json` lists the names of the parameters whose text is the JSON of a sequence.
    """
    content: dict[str, Any] = {}
    special: dict[str, dict[str, str]] = {}
    for part, values in (("params", params), ("metrics", metrics)):
        special[part] = {name: repr(value) for name, value in values.items() if _is_nonfinite(value)}
        content[part] = {name: None if name in special[part] else value for name, value in values.items()}
    if any(special.values()):
        content["special"] = special
    if structured := [name for name, value in params.items() if isinstance(value, JsonText)]:
        content["json"] = structured
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def from_hparams(data: bytes) -> tuple[dict[str, Scalar | None], dict[str, float]]:
    """Parse the result of `to_hparams`; raise a `ValueError` for anything else."""
    content = json.loads(data)
    try:
        parts = [dict(content[part]) for part in ("params", "metrics")]
        for part, values in zip(("params", "metrics"), parts, strict=True):
            values |= {name: float(word) for name, word in content.get("special", {}).get(part, {}).items()}
        parts[0] |= {name: JsonText(parts[0][name]) for name in content.get("json", ())}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not hyperparameters that were logged: {error!r}") from error
    return parts[0], parts[1]


def _is_nonfinite(value: Scalar | None) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
