"""Figures, images, tables, histograms and texts on the disk, and the index that says what each file is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.errors import LogWriteError
from ridgepole.files import write_atomically
from ridgepole.metrics.values import Scalar
from ridgepole.permanences.loggers.appendfile import AppendFile
from ridgepole.permanences.loggers.figures.names import file_stem
from ridgepole.permanences.loggers.figures.render import Rendered
from ridgepole.permanences.loggers.journal import Journal
from ridgepole.permanences.loggers.mediafiles import Files, from_hparams, to_csv, to_hparams, write_image
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Histogram, Table

MAX_INLINE_TEXT = 64 << 10  # bytes; a longer text gets a file of its own


class MediaStore:
    """Writes figures, images and tables to files, and a line for each thing to `media.jsonl`.

    ```
    {"seq": 9, "time": 1764000000.5, "step": 7, "kind": "figure", "name": "filters", "file": "figures/filters-….png",
     "bytes": 5120, "width": 640, "height": 480}
    ```

    `kind` is `figure`, `image`, `table`, `histogram` or `text`. `seq` is counted together with the metrics. A line is
    written after its files, so a file named here is whole; where something fails, neither line nor file is left.
    """

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._directory = directory
        self._journal = journal
        self._index: AppendFile | None = None
        self._suffix = ""
        self.count = 0

    def save(
        self,
        name: str,
        rendered: Rendered,
        step: int,
        *,
        data: Callable[[Path], bool] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Path:
        """Writes a figure and its line.

        Args:
            name: The name as the user gave it.
            rendered: The drawn figure.
            step: The step that it belongs to.
            data: Writes what was drawn to the path that it is given (a parquet file beside the figure), and says
                whether it did.
            extra: Further fields of the line.

        Returns:
            The figure's file.

        Raises:
            LogWriteError: If the figure or its line can't be written; the part of it is removed.
        """
        with self._files("figure", rundir.FIGURES, name, step) as files:
            line: dict[str, Any] = {"kind": "figure", "name": name, "file": files.write(rendered.suffix, rendered.data)}
            line |= {"bytes": len(rendered.data), "width": rendered.width, "height": rendered.height}
            if data is not None and (beside := files.beside(".parquet", data)):
                line["data"] = beside
            self._append(line | (extra or {}), step)
            return files.main

    def save_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        """Writes an image and its line; errors as in `save`."""
        with self._files("image", rundir.FIGURES, name, step) as files:
            self._append({"kind": "image", "name": name, **write_image(files, image)}, step)

    def save_table(self, name: str, table: Table, step: int) -> None:
        """Writes a table as CSV and its line, with `rows` and the names of the `columns`; errors as in `save`."""
        with self._files("table", rundir.TABLES, name, step) as files:
            line = {"kind": "table", "name": name, "file": files.write(".csv", to_csv(table))}
            self._append(line | {"rows": len(table.rows), "columns": table.columns}, step)

    def save_text(self, name: str, text: str, step: int) -> None:
        """Writes a text in its line, a long one to a file of its own; errors as in `save`."""
        data = text.encode()
        if len(data) <= MAX_INLINE_TEXT:
            self._append({"kind": "text", "name": name, "text": text}, step)
            return
        with self._files("text", rundir.TEXTS, name, step) as files:
            line = {"kind": "text", "name": name, "file": files.write(".txt", data), "bytes": len(data)}
            self._append(line, step)

    def save_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        """Writes a histogram's line, with the fields of `Histogram`; a sum that overflows is null; errors as `save`."""
        line: dict[str, Any] = {"kind": "histogram", "name": name, "counts": histogram.counts, "edges": histogram.edges}
        line |= {"total": histogram.total, "squares": histogram.squares, "nonfinite": histogram.nonfinite}
        self._append(line, step)

    def save_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float]) -> None:
        """Adds to `hparams.json`, which is replaced at once.

        Raises:
            LogWriteError: If it can't be written; the file stays as it was.
        """
        path = self._journal.own_path(self._directory / rundir.HPARAMS)
        known: tuple[dict[str, Scalar | None], dict[str, float]] = ({}, {})
        with self._journal.locked():
            with contextlib.suppress(OSError, ValueError):
                known = from_hparams(path.read_bytes())
            try:
                write_atomically(path, to_hparams(known[0] | params, known[1] | metrics))
            except OSError as error:
                raise LogWriteError(error.errno, error.strerror or str(error), str(path)) from error

    @contextlib.contextmanager
    def _files(self, kind: str, folder: str, name: str, step: int) -> Iterator[Files]:
        """Files that are removed again, and whatever the system reports as `LogWriteError`, where the body fails."""
        try:
            with Files(self._directory, folder, file_stem(name, step)) as files:
                yield files
        except LogWriteError:
            raise
        except OSError as error:
            reason = f"{error.strerror or error}: the {kind} {name!r} was not logged"
            raise LogWriteError(error.errno, reason, str(self._directory / folder)) from error

    def _append(self, fields: dict[str, Any], step: int) -> None:
        with self._journal.numbered() as seq:
            try:
                index = self._open()
            except LogWriteError:
                raise
            except OSError as error:
                reason = f"{error.strerror or error}: the {fields['kind']} {fields['name']!r} was not logged"
                raise LogWriteError(error.errno, reason, str(self._directory / rundir.MEDIA)) from error
            line = {"seq": seq, "time": time(), "step": step} | fields
            index.append(orjson.dumps(line, None, orjson.OPT_APPEND_NEWLINE))
            self.count += 1

    def _open(self) -> AppendFile:
        if self._index is None or self._suffix != self._journal.suffix or self._index.is_gone():
            self.close()  # a forked child's first figure has an index of its own; a removed one is made again
            self._index = AppendFile(self._journal.own_path(self._directory / rundir.MEDIA))
            self._suffix = self._journal.suffix
            self._index.repair()
        return self._index

    def sync(self) -> None:
        """Returns once the index is on the disk; the figures themselves can be drawn again and are not waited for."""
        if self._index is not None:
            self._index.sync()

    def close(self) -> None:
        """Closes the index."""
        if self._index is not None:
            self._index.close()
            self._index = None
