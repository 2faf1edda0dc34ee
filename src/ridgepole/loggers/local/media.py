"""Figures, images, tables, histograms and texts on the disk, and the index that lists them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.files import write_atomically
from ridgepole.loggers.append_file import AppendFile, write_error
from ridgepole.loggers.figures.names import file_stem
from ridgepole.loggers.local.jsonl_writer import JsonlWriter
from ridgepole.loggers.local.media_files import Files, from_hparams, hash_file, to_hparams, write_image, write_table
from ridgepole.loggers.media_types import AnnotatedImage, Histogram, MediaFile, RenderedFigure, Table
from ridgepole.metrics.convert import Scalar

MAX_STEMS = 4096  # whose latest number is known
MAX_INLINE_TEXT = 64 << 10  # bytes; a longer text gets a file of its own


class MediaStore:
    """Writes figures, images and tables to files, and a line for each to `media.jsonl`.

    ```
    {"seq": 9, "time": 1764000000.5, "step": 7, "kind": "figure", "name": "filters",
     "file": "figures/filters-….png", "bytes": 5120, "width": 640, "height": 480}
    ```

    `kind` is `figure`, `image`, `table`, `histogram`, `text`, `audio`, `video`, `html` or
    `artifact`. `seq` is counted together with the metrics. A line is written after its files, so a
    file in the index is whole. After a failure neither the line nor a file is left. All `save`
    methods raise `LogWriteError`.
    """

    def __init__(self, directory: Path, writer: JsonlWriter) -> None:
        self._directory = directory
        self._writer = writer
        self._index: AppendFile | None = None
        self._used: dict[str, int] = {}
        self.count = 0

    def save(
        self,
        name: str,
        rendered: RenderedFigure,
        step: int,
        *,
        data: Callable[[Path], bool] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Write a figure and its line.

        Args:
            name: The name as the user gave it.
            rendered: The drawn figure.
            step: The step that it belongs to.
            data: Writes the figure's data to the path of a parquet file, and returns whether it
                did.
            extra: Further fields of the line.
        """
        with self._files("figure", rundir.FIGURES, name, step) as files:
            line: dict[str, Any] = {"file": files.write(rendered.suffix, rendered.data), "bytes": len(rendered.data)}
            line |= {"width": rendered.width, "height": rendered.height}
            if data is not None and (beside := files.beside(".parquet", data)):
                line["data"] = beside
            self._append("figure", name, step, line | (extra or {}))

    def save_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        """Write an image and its line."""
        with self._files("image", rundir.FIGURES, name, step) as files:
            self._append("image", name, step, write_image(files, image))

    def save_table(self, name: str, table: Table, step: int) -> None:
        """Write a table and its line."""
        with self._files("table", rundir.TABLES, name, step) as files:
            self._append("table", name, step, write_table(files, table))

    def save_text(self, name: str, text: str, step: int) -> None:
        """Write a text in its line, a long one to a file of its own."""
        data = text.encode()
        if len(data) <= MAX_INLINE_TEXT:
            self._append("text", name, step, {"text": text})
            return
        with self._files("text", rundir.TEXTS, name, step) as files:
            self._append("text", name, step, {"file": files.write(".txt", data), "bytes": len(data)})

    def save_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        """Write a histogram's line with the fields of `Histogram`; a sum that overflows is null."""
        line: dict[str, Any] = {"counts": histogram.counts, "edges": histogram.edges}
        line |= {"total": histogram.total, "squares": histogram.squares, "nonfinite": histogram.nonfinite}
        line |= {"nan": histogram.nan}
        self._append("histogram", name, step, line)

    def save_file(self, name: str, file: MediaFile, step: int) -> None:
        """Write a sound, video, page or artifact, and its line with the SHA-256 of the file."""
        with self._files(file.kind, rundir.MEDIA_FOLDERS[file.kind], name, step) as files:
            kept = files.write(file.suffix, file.data) if file.data is not None else files.keep(file)
            path = self._directory / kept
            line = {"file": kept, "bytes": path.stat().st_size, "sha256": hash_file(path)}
            self._append(file.kind, name, step, line)
            file.kept.append(path)

    def save_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float]) -> None:
        """Add to `hparams.json`, which is replaced atomically; after a failure it is unchanged."""
        path = self._writer.own_path(self._directory / rundir.HPARAMS)
        known: tuple[dict[str, Scalar | None], dict[str, float]] = ({}, {})
        with self._writer.lock:
            with contextlib.suppress(OSError, ValueError):
                known = from_hparams(path.read_bytes())
            try:
                write_atomically(path, to_hparams(known[0] | params, known[1] | metrics))
            except OSError as error:
                raise write_error(error, path) from error

    @contextlib.contextmanager
    def _files(self, kind: str, folder: str, name: str, step: int) -> Iterator[Files]:
        """Make files that are removed again if the body fails."""
        try:
            if len(self._used) > MAX_STEMS:
                self._used.clear()  # only the time of the search depends on it
            with Files(self._directory, folder, file_stem(name, step), self._used) as files:
                yield files
        except OSError as error:
            raise write_error(error, self._directory / folder, f"the {kind} {name!r} was not logged") from error

    def _append(self, kind: str, name: str, step: int, fields: dict[str, Any]) -> None:
        with self._writer.numbered() as seq:
            try:
                index = self._opened()
            except OSError as error:
                path = self._directory / rundir.MEDIA
                raise write_error(error, path, f"the {kind} {name!r} was not logged") from error
            line = {"seq": seq, "time": self._writer.clock(), "step": step, "kind": kind, "name": name} | fields
            index.append(orjson.dumps(line, None, orjson.OPT_APPEND_NEWLINE))
            self.count += 1

    def _opened(self) -> AppendFile:
        """Return the index; open a forked child's own, or a new one for one that was removed."""
        path = self._writer.own_path(self._directory / rundir.MEDIA)
        if self._index is None or self._index.path != path or self._index.is_deleted():
            self.close()
            self._index = AppendFile(path)
            self._index.repair()
        return self._index

    def sync(self) -> None:
        """Wait until the index is on the disk; figures could be drawn again and are not synced."""
        if self._index is not None:
            self._index.sync()

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close()
            self._index = None


class SilentStore(MediaStore):
    """Drops the media of a rank that writes nothing."""

    def _drop(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    save = save_image = save_table = save_text = save_histogram = save_hparams = save_file = _drop
