"""TensorBoard's event files: each directory of them is a run, as TensorBoard itself sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ridgepole.errors import MissingExtraError
from ridgepole.importers.writing import About, RunWriter, SourceRun, of_files
from ridgepole.loggers.tensorboard.records import records_with_ends

KIND = "tensorboard"
MARK = "tfevents"
"""Is in the name of every event file."""

_FRAME_BYTES = 16  # of a record, around its data


def find_runs(path: Path) -> Iterator[SourceRun]:
    """Yield the runs below a directory, or that of one file."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob(f"*{MARK}*") if each.is_file())
    yield from runs_of(path.parent if path.is_file() else path, files)


def runs_of(top: Path, files: Iterable[Path]) -> Iterator[SourceRun]:
    """Yield the runs of event files below a directory."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    for folder, found in folders.items():
        name = folder.relative_to(top).as_posix()
        yield _source(top.absolute(), folder, found, name if name != "." else folder.absolute().name)


def _source(top: Path, folder: Path, files: list[Path], name: str) -> SourceRun:
    return SourceRun(
        kind=KIND,
        source=top,
        key=str(folder.absolute().relative_to(top)),
        fingerprint=of_files(files),
        size=sum(file.stat().st_size for file in files),
        changed=max(file.stat().st_mtime for file in files),
        feed=lambda writer: _feed(writer, files),
        about=About(pipeline=top.name or "tensorboard", name=name),
    )


def _feed(writer: RunWriter, files: list[Path]) -> None:
    try:
        from ridgepole.loggers.tensorboard.event_values import EventValues
        from ridgepole.loggers.tensorboard.events import parsed, restarts
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard", "reading event files") from error
    values = EventValues(writer.logger)
    for file in files:
        end = damaged = 0
        for data, behind in records_with_ends(file):
            writer.advance(behind - end)
            event = parsed(data)
            damaged += (event is None) + (behind - end != len(data) + _FRAME_BYTES)
            end = behind
            if event is None:
                continue
            if restarts(event):
                writer.logger.hide_from(max(int(event.step), 0))
                continue
            if event.summary.value or event.graph_def:
                writer.saw_time(event.wall_time)
                try:
                    values.log(event)
                except (ValueError, TypeError, KeyError) as error:
                    writer.notes.append(f"{file.name}: an event of step {event.step} was left out: {error}")
        size = file.stat().st_size
        if damaged:
            writer.notes.append(f"{file.name}: {damaged} damaged records were skipped")
        if end < size:
            writer.notes.append(f"{file.name}: the last {size - end:,} bytes are not whole records")
            writer.advance(size - end)
    writer.about.params |= values.hparams
    writer.values, writer.media = writer.values + values.scalars, writer.media + values.media
