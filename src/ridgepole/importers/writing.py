"""Write the runs of another tracker as run directories, once each, and count what was written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from ridgepole import rundir
from ridgepole.config.secrets import looks_secret
from ridgepole.errors import RunDirError
from ridgepole.labels import LABELS, Labels, LabelsChange, checked
from ridgepole.loggers.figures.render import png_size
from ridgepole.loggers.local.logger import BasicLogger
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.rundir import RunDir

PENDING = ".importing"
"""Below the run root: runs that are being imported."""

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
_LABEL_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRun:
    """A run of another tracker.

    Attributes:
        kind: The tracker.
        source: The file or directory that holds it, absolute.
        key: What tells it from the other runs there.
        fingerprint: What changes when the source does.
        size: The units that `feed` reports to `RunWriter.advance`.
        changed: When it was last written to, in seconds since the epoch.
        feed: Writes the rows and media, and may add to the description.
        about: The description as far as it is known before.
    """

    kind: str
    source: Path
    key: str
    fingerprint: str
    size: int
    changed: float = 0.0
    feed: Callable[[RunWriter], None]
    about: About

    def running(self) -> SourceRun:
        """Return it as one that has not ended, unless it says by itself that it has."""
        about = replace(self.about, status="running")
        return replace(self, about=about, fingerprint=f"{self.fingerprint} running")


@dataclass(slots=True, kw_only=True)
class About:
    """The description of a run.

    Attributes:
        pipeline: The experiment or project.
        name: The name of the run.
        tags: Its tags.
        note: Its note.
        status: `finished`, `failed`, `interrupted`, or `running` for one that never ended.
        started: In seconds since the epoch; None if it is not known.
        ended: Likewise.
        params: The parameters.
        fields: Further members of `run.json`, below the tracker's name.
    """

    pipeline: str = "imported"
    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    status: str = "finished"
    started: float | None = None
    ended: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The result of importing one run.

    Attributes:
        path: The run directory.
        key: What tells it from the other runs of its source.
        values: The number of values of metrics.
        media: The number of other things.
        notes: What could not be imported, and why.
        unchanged: Whether it had been imported before, and the source has not changed.
    """

    path: Path
    key: str
    values: int
    media: int
    notes: tuple[str, ...] = ()
    unchanged: bool = False


class RunWriter:
    """Takes the rows and media of one run.

    Args:
        logger: Writes the record.
        about: The description, which `SourceRun.feed` may complete.
        advance: Called with the units that are done.

    Attributes:
        values: The number of values of metrics so far.
        media: The number of other things so far.
        notes: What could not be imported.
    """

    def __init__(self, logger: BasicLogger, about: About, advance: Callable[[int], object]) -> None:
        self.logger, self.about, self.advance = logger, about, advance
        self.values = self.media = 0
        self.notes: list[str] = []
        self._below_zero = False

    def row(self, metrics: Mapping[str, Any], step: int | None, at: float | None) -> None:
        """Write metrics of one step and time; a step below 0 becomes 0, which is noted once."""
        if not metrics:
            return
        if step is not None and step < 0:
            step = 0
            if not self._below_zero:
                self._below_zero = True
                self.notes.append("steps below 0 are at step 0")
        self.logger.set_wall_time(at)
        try:
            self.logger.log_metrics(metrics, step=step)
        except (ValueError, TypeError) as error:
            self.notes.append(f"a row of step {step} was left out: {error}")
            return
        self.values += len(metrics)
        self.saw_time(at)

    def saw_time(self, at: float | None) -> None:
        """Widen the times of the run, where the source does not tell them."""
        if at is not None:
            self.about.started = at if self.about.started is None else min(self.about.started, at)
            self.about.ended = at if self.about.ended is None else max(self.about.ended, at)

    def thing(self, log: Callable[[BasicLogger], object], at: float | None, what: str, count: int = 1) -> None:
        """Write media; what can't be read or is not what it should be is noted.

        Args:
            log: Logs it.
            at: Its time, in seconds since the epoch.
            what: Its name, for a note.
            count: The number of lines in the index that it makes.
        """
        self.logger.set_wall_time(at)
        try:
            log(self.logger)
        except (OSError, ValueError, TypeError, KeyError) as error:
            self.notes.append(f"{what}: {getattr(error, 'strerror', None) or error}")
        else:
            self.media += count

    def file(self, name: str, path: Path, step: int, at: float | None) -> None:
        """Keep a file: a picture as a figure, anything else as an artifact."""
        if path.suffix.lower() in _PICTURES:
            self.thing(lambda logger: logger.log_rendered(name, picture(path), step=step), at, name)
        else:
            self.thing(lambda logger: logger.log_artifact(path, name=name, link=True, step=step), at, name)


def picture(path: Path) -> RenderedFigure:
    """Return a picture of a file as it is."""
    data = path.read_bytes()
    width, height = png_size(data) if data.startswith(b"\x89PNG") else (0, 0)
    return RenderedFigure(data, path.suffix.lower(), width, height, data)


class Importer:
    """Writes runs below a root, and knows those that were imported before.

    Args:
        root: The directory that holds runs.
        advance: Called with the units that are done.
    """

    def __init__(self, root: Path, advance: Callable[[int], object]) -> None:
        self._root, self._advance = root.absolute(), advance
        for left in (self._root / PENDING).glob("*"):  # by an import that was killed
            if not rundir.is_owned(left):
                shutil.rmtree(left, ignore_errors=True)
        self._known: dict[tuple[str, str, str], rundir.RunInfo] = {}
        for run in rundir.list_runs(self._root):
            told = run.fields.get("imported")
            if isinstance(told, dict):
                self._known[str(told.get("from")), str(told.get("source")), str(told.get("key"))] = run

    def add(self, source: SourceRun) -> Imported:
        """Import a run; one whose source has changed since is imported again under the same id.

        Raises:
            RunDirError: If it can't be written, or what was written is not what was read.
        """
        earlier = self._known.get(_identity(source))
        told = {} if earlier is None else dict(earlier.fields["imported"])
        if earlier is not None and told.get("fingerprint") == source.fingerprint:
            self._advance(source.size)
            return Imported(
                path=earlier.path,
                key=source.key,
                values=int(told["values"]),
                media=int(told["media"]),
                notes=tuple(told["notes"]),
                unchanged=True,
            )
        pending = self._root / PENDING
        made = RunDir.create(pending)
        try:
            writer = self._write(source, made)
            made.close()
            path = self._place(made.path, earlier, source.about.started)
        except BaseException:
            made.close()
            shutil.rmtree(made.path, ignore_errors=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                pending.rmdir()
        self._known[_identity(source)] = rundir.read_run(path)
        notes = tuple(writer.notes)
        return Imported(path=path, key=source.key, values=writer.values, media=writer.media, notes=notes)

    def earlier(self, source: SourceRun) -> tuple[Path | None, bool]:
        """Return the run directory of an earlier import, and whether the source is as then."""
        found = self._known.get(_identity(source))
        if found is None:
            return None, False
        return found.path, found.fields["imported"].get("fingerprint") == source.fingerprint

    def remove_others(self, sources: Iterable[SourceRun]) -> bool:
        """Remove the runs whose source is not among these; return whether there were any."""
        kept = {_identity(source) for source in sources}
        gone = [identity for identity in self._known if identity not in kept]
        for identity in gone:
            shutil.rmtree(self._known.pop(identity).path, ignore_errors=True)
        return bool(gone)

    def _write(self, source: SourceRun, made: RunDir) -> RunWriter:
        about = source.about
        with BasicLogger(made.path, log_file=None, log_level="ERROR") as logger:
            writer = RunWriter(logger, about, self._advance)
            source.feed(writer)
            logger.set_wall_time(None)
        self._count(made.path, writer)
        params = {key: _shown(key, value) for key, value in about.params.items()}
        made.write_json(rundir.RESOLVED, {"params": params} if params else {})
        started = about.started if about.started is not None else time.time()
        ended = None if about.status == "running" else about.ended if about.ended is not None else started
        seconds = None if ended is None else round(max(ended - started, 0.0), 3)
        imported: dict[str, Any] = {"from": source.kind, "source": str(source.source), "key": source.key}
        imported |= {"fingerprint": source.fingerprint, "time": time.time()}
        imported |= {"values": writer.values, "media": writer.media, "notes": writer.notes}
        made.write_run(
            pipeline=about.pipeline,
            status=about.status,
            started=started,
            ended=ended,
            seconds=seconds,
            attempt=1,
            attempts=[{"attempt": 1, "status": about.status, "seconds": seconds or 0.0}],
            seed=None,
            host=about.fields.pop("host", socket.gethostname()),
            processes=[],
            imported=imported,
            **({source.kind: about.fields} if about.fields else {}),
        )
        labels = checked(name=_line(about.name), tags=list(filter(None, map(_line, about.tags))), note=about.note)
        if labels != Labels():
            with LabelsChange(made.path) as change:
                change.labels = labels
        return writer

    @staticmethod
    def _count(path: Path, writer: RunWriter) -> None:
        """Read back what was written, and compare the counts."""
        values = media = 0
        for file in path.glob(rundir.METRICS_GLOB):
            with file.open("rb") as lines:
                values += sum(len(orjson.loads(line)["metrics"]) for line in lines)
        if (path / rundir.MEDIA).exists():
            with (path / rundir.MEDIA).open("rb") as lines:
                media = sum(1 for _ in lines)
        if (values, media) != (writer.values, writer.media):
            raise RunDirError(
                f"the import read {writer.values} values and {writer.media} of media, "
                f"but wrote {values} and {media}: nothing of this run was kept"
            )

    def _place(self, made: Path, earlier: rundir.RunInfo | None, started: float | None) -> Path:
        """Move a whole run to where runs are, in the place of an earlier import of it."""
        if earlier is None:
            target = self._root / rundir.new_run_id(started)
        else:
            target = earlier.path
            if (target / LABELS).exists():  # the user may have changed them
                shutil.copyfile(target / LABELS, made / LABELS)
        stored = json.loads((made / rundir.RUN).read_bytes())
        RunDir(made).write_json(rundir.RUN, stored | {"id": target.name})
        old = made.with_name(f"{made.name}-old")
        if earlier is not None:
            target.rename(old)
        made.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return target


def fingerprint(parts: Iterable[object]) -> str:
    """Return a short text that differs if the parts do."""
    return hashlib.sha256(json.dumps(list(map(str, parts))).encode()).hexdigest()[:32]


def of_files(files: Iterable[Path]) -> str:
    """Return the fingerprint of files, by name, size and time of change."""
    found = [(path, path.stat()) for path in files]
    return fingerprint((path.name, stat.st_size, stat.st_mtime_ns) for path, stat in found)


def _identity(source: SourceRun) -> tuple[str, str, str]:
    return source.kind, str(source.source), source.key


def _line(text: str) -> str:
    """Return a text as a label of one line."""
    return "".join(each if each.isprintable() else " " for each in text).strip()[:_LABEL_CHARACTERS].strip()


def _shown(key: str, value: Any) -> Any:
    if value is not None and looks_secret(key):
        return "***"
    if isinstance(value, Mapping):
        return {str(inner): _shown(str(inner), each) for inner, each in value.items()}
    if isinstance(value, float) and not -1.8e308 < value < 1.8e308:
        return repr(value)  # NaN and the infinities, which JSON lacks
    return [_shown("", each) for each in value] if isinstance(value, list) else value
