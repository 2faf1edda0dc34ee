"""Figures on the disk, and the index that says what each file is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.errors import LogWriteError
from ridgepole.permanences.loggers.appendfile import AppendFile
from ridgepole.permanences.loggers.figures.names import file_stem
from ridgepole.permanences.loggers.figures.render import Rendered
from ridgepole.permanences.loggers.journal import Journal


class MediaStore:
    """Writes figures below `figures/` and a line for each to `media.jsonl`.

    ```
    {"seq": 9, "time": 1764000000.5, "step": 7, "kind": "figure", "name": "filters", "file": "figures/filters-….png",
     "bytes": 5120, "width": 640, "height": 480}
    ```

    `seq` is counted together with the metrics. A line is written after its file, so a file named here is whole.
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
        folder = self._directory / rundir.FIGURES
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = _create(folder, file_stem(name, step), rendered)
            line: dict[str, Any] = {"kind": "figure", "name": name, "file": f"{rundir.FIGURES}/{path.name}"}
            line |= {"bytes": len(rendered.data), "width": rendered.width, "height": rendered.height}
            if data is not None:
                beside = path.with_suffix(".parquet")
                if data(beside):
                    line["data"] = f"{rundir.FIGURES}/{beside.name}"
            self._append(line | (extra or {}), step)
        except LogWriteError:
            raise
        except OSError as error:
            reason = f"{error.strerror or error}: the figure {name!r} was not logged"
            raise LogWriteError(error.errno, reason, str(folder)) from error
        self.count += 1
        return path

    def _append(self, fields: dict[str, Any], step: int) -> None:
        with self._journal.numbered() as seq:
            if self._index is None or self._suffix != self._journal.suffix or self._index.is_gone():
                self.close()  # a forked child's first figure has an index of its own; a removed one is made again
                self._index = AppendFile(self._journal.own_path(self._directory / rundir.MEDIA))
                self._suffix = self._journal.suffix
                self._index.repair()
            line = {"seq": seq, "time": time(), "step": step} | fields
            self._index.append(orjson.dumps(line, None, orjson.OPT_APPEND_NEWLINE))

    def sync(self) -> None:
        """Returns once the index is on the disk; the figures themselves can be drawn again and are not waited for."""
        if self._index is not None:
            self._index.sync()

    def close(self) -> None:
        """Closes the index."""
        if self._index is not None:
            self._index.close()
            self._index = None


def _create(folder: Path, stem: str, rendered: Rendered) -> Path:
    """Writes a file under the first free name: `-2`, `-3` where the same name was logged at the same step."""
    number = 1
    while True:
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}{rendered.suffix}"
        try:
            # O_EXCL follows no link and overwrites nothing, whoever else writes here.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            number += 1
            continue
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(rendered.data)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return path
