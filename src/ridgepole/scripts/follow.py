"""Follow the metrics of a running script, whichever library it logs them with."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from ridgepole import rundir
from ridgepole.errors import MissingExtraError
from ridgepole.metrics.codec import decode
from ridgepole.metrics.steps import MAX_STEP

if TYPE_CHECKING:
    from ridgepole.loggers.wandb.run_file import RunFile

_EVENTS, _WANDB = "tfevents", ".wandb"
_DEEPEST, _MOST = 4, 20_000
"""The depth and number of entries of the search for files that were not seen while open."""
_CLOCK_SECONDS = 2.0  # by how much the clock of a file system may be behind
_LINE_BYTES = 1 << 20  # a longer line is not a line of metrics


class Row(NamedTuple):
    """Metrics that a script logs in one call.

    Attributes:
        values: The values by name.
        step: The step; None if the library has none.
        time: In seconds since the epoch; None if the library does not tell.
    """

    values: Mapping[str, object]
    step: int | None = None
    time: float | None = None

    def numbers(self) -> dict[str, float]:
        """Return the values that a run's record keeps."""
        return {
            name: value
            for name, value in self.values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith("_")
        }


class Source(ABC):
    """One library's metrics."""

    @abstractmethod
    def poll(self) -> Iterator[Row]:
        """Yield the rows that were logged since the last call, in their order."""

    def close(self) -> Iterator[Row]:
        """Yield what is known only when the script has ended."""
        return iter(())


class RecordSource(Source):
    """The metrics of Ridgepole's own loggers in a run directory.

    What earlier attempts have logged counts from the moment that this attempt resumes from a
    checkpoint, and only what the checkpoint knows of. A script that starts over begins anew.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets = {path: path.stat().st_size for path in own_files(directory)}
        self._before = dict(self._offsets)
        self._abandoned = len(rundir.abandoned_segments(directory))
        self._fresh = not self._offsets

    def poll(self) -> Iterator[Row]:
        """Yield what was added to the files."""
        lines = [line for path in own_files(self._directory) for line in self._new_lines(path)]
        if lines and not self._fresh:
            self._fresh = True
            segments = rundir.abandoned_segments(self._directory)
            if len(segments) > self._abandoned:
                kept = (line for path, end in self._before.items() for line in path.read_bytes()[:end].splitlines())
                yield from self._rows(kept, segments)
        yield from self._rows(lines, [])

    def _new_lines(self, path: Path) -> list[bytes]:
        start = self._offsets.get(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[path] = start + len(whole)
        return whole.splitlines()

    @staticmethod
    def _rows(lines: Iterator[bytes] | list[bytes], hidden: list[tuple[int, int]]) -> Iterator[Row]:
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):  # a torn or bad line
                record = decode(line)
                if not any(first <= record["seq"] < end for first, end in hidden):
                    yield Row(record["metrics"], record["step"], record["time"])


def own_files(directory: Path) -> list[Path]:
    """Return the metrics files that a script has written itself, with Ridgepole's loggers."""
    return sorted(path for path in directory.glob(rundir.METRICS_GLOB) if path.name != rundir.COPIED)


class OpenFiles:
    """Finds the files of logging libraries that a process and its children write.

    Args:
        pid: The process.
        directory: Its working directory.
        run_dir: Its run directory.
    """

    def __init__(self, pid: int, directory: Path, run_dir: Path) -> None:
        self._pid, self._folders = pid, (run_dir, directory)
        self._started = time.time() - _CLOCK_SECONDS
        self._known = set(self._search(run_dir))  # of earlier attempts
        self.found: dict[Path, None] = {}

    @property
    def wandb(self) -> list[Path]:
        """The files of W&B's client among those that were found."""
        return [path for path in self.found if path.suffix == _WANDB]

    @property
    def events(self) -> list[Path]:
        """TensorBoard's event files among those that were found."""
        return [path for path in self.found if _EVENTS in path.name]

    def look(self) -> None:
        """Look at the files that are open now."""
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(self._pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError):
                    self._add(Path(file.path) for file in each.open_files() if getattr(file, "mode", "") != "r")

    def search(self) -> None:
        """Look for files that were opened and closed between two looks; those of others are left.

        An event file has the number of its process in its name. A W&B file is in the run directory,
        or W&B's log beside it has the number of its process.
        """
        run_dir, directory = self._folders
        self._add(self._search(run_dir))
        runs = Path(os.environ.get("WANDB_DIR") or directory, "wandb")
        self._add(path for path in sorted(runs.glob(f"*/*{_WANDB}")) if self._is_logged(path))
        self._add(path for path in self._search(directory) if f".{self._pid}." in path.name)

    def _add(self, paths: Iterator[Path]) -> None:
        for path in paths:
            if (_EVENTS in path.name or path.suffix == _WANDB) and path not in self._known:
                self.found[path] = None

    def _is_logged(self, path: Path) -> bool:
        """Return whether the process has written a W&B file; `latest-run` is a link to one."""
        with contextlib.suppress(OSError):
            if path.parent.is_symlink() or path.stat().st_mtime < self._started:
                return False
            with (path.parent / "logs" / "debug.log").open("rb") as log:
                return f":{self._pid} [".encode() in log.readline(_LINE_BYTES)
        return False

    @staticmethod
    def _search(top: Path) -> Iterator[Path]:
        left = _MOST
        for folder, names, files in os.walk(top):
            left -= len(names) + len(files)
            if left < 0:
                return
            if len(Path(folder).relative_to(top).parts) >= _DEEPEST:
                names.clear()
            yield from (Path(folder, name) for name in files if _EVENTS in name or name.endswith(_WANDB))


class WandbSource(Source):
    """The history of W&B's client; at the end, numbers that only the summary has."""

    def __init__(self, files: OpenFiles) -> None:
        self._files = files
        self._readers: dict[Path, RunFile] = {}
        self._names: set[str] = set()

    def poll(self) -> Iterator[Row]:
        """Yield the rows that were added."""
        for path in self._files.wandb:
            reader = self._readers.setdefault(path, _run_file(path))
            for row in reader.rows():
                self._names |= row.keys()
                step, at = row.get("_step"), row.get("_timestamp")
                yield Row(
                    {name: value for name, value in row.items() if not name.startswith("_")},
                    _step(step),
                    at if isinstance(at, float | int) else None,
                )

    def close(self) -> Iterator[Row]:
        """Yield what the history does not have."""
        for reader in self._readers.values():
            rest = {name: value for name, value in reader.summary.items() if name not in self._names}
            yield Row({name: value for name, value in rest.items() if not name.startswith("_")})


def _step(value: object) -> int | None:
    """Return a step as a record can have it."""
    if not isinstance(value, int | float) or not 0 <= value <= MAX_STEP or not float(value).is_integer():
        return None
    return int(value)


def _run_file(path: Path) -> RunFile:
    from ridgepole.loggers.wandb.run_file import RunFile  # only where there is one: this imports the loggers

    return RunFile(path)


class EventSource(Source):
    """The scalars of TensorBoard's event files."""

    def __init__(self, files: OpenFiles) -> None:
        self._files = files
        self._offsets: dict[Path, int] = {}

    def poll(self) -> Iterator[Row]:
        """Yield the scalars that were added, one row for each event."""
        for path in self._files.events:
            from ridgepole.loggers.tensorboard.records import read_new_records

            records, self._offsets[path] = read_new_records(path, self._offsets.get(path, 0))
            yield from map(_scalars, records)


def _scalars(data: bytes) -> Row:
    try:
        from ridgepole.loggers.tensorboard.events import scalars_of
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard", "reading event files") from error
    values, step, at = scalars_of(data)
    return Row(values, _step(step), at)


class LineSource(Source):
    """Lines of JSON among what a script prints, such as `{"loss": 0.5}`."""

    def __init__(self) -> None:
        self._data = b""
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def feed(self, data: bytes) -> None:
        """Take a piece of the output; called on another thread."""
        *lines, self._data = (self._data + data).split(b"\n")
        self._data = self._data[-_LINE_BYTES:]
        for line in lines:
            if line.lstrip().startswith(b"{"):
                self._lines.put(line)

    def poll(self) -> Iterator[Row]:
        """Yield each line's members; a `step` among them is the row's step."""
        for _ in range(self._lines.qsize()):
            line = self._lines.get()
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield Row(value, _step(value.get("step")))

    def close(self) -> Iterator[Row]:
        """Yield those of a last line without an end."""
        self.feed(b"\n")
        return self.poll()
