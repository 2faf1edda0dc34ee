"""W&B's run files: `run-<id>.wandb` with the media beside it in `files/`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import MissingExtraError
from ridgepole.importers.annotations import ImageAnnotations, log_annotated
from ridgepole.importers.writing import About, RunWriter, SourceRun, of_files, picture
from ridgepole.loggers.local.logger import BasicLogger
from ridgepole.loggers.media_types import Histogram
from ridgepole.loggers.wandb.run_file import RunFile

KIND = "wandb"
SUFFIX = ".wandb"
_TYPE = "_type"
_OWN = "_wandb"
_FILE_KINDS = {"video-file": "log_video", "audio-file": "log_audio", "html-file": "log_html"}
_LISTS = {"images/separated": "image-file", "videos": "video-file", "audio": "audio-file", "html": "html-file"}
_PARALLEL = {"caption": "captions", "masks": "all_masks", "boxes": "all_boxes"}
"""Keys of lists of media with one value for each file, beside the file names."""
_NANOSECONDS = 1e-9
_NUMBERS = (bool, int, float)


def find_runs(path: Path) -> Iterator[SourceRun]:
    """Yield the runs below a directory, or that of one file; `latest-run` is a link to another."""
    files = [path] if path.is_file() else sorted(path.rglob(f"*{SUFFIX}"))
    yield from runs_of(path.parent if path.is_file() else path, files)


def runs_of(top: Path, files: Iterable[Path]) -> Iterator[SourceRun]:
    """Yield the runs of `.wandb` files below a directory."""
    top = top.absolute()
    for file in files:
        if file.parent.is_symlink():
            continue
        yield SourceRun(
            kind=KIND,
            source=top,
            key=str(file.absolute().relative_to(top)),
            fingerprint=of_files([file]),
            size=file.stat().st_size,
            changed=file.stat().st_mtime,
            feed=lambda writer, file=file: _Reader(writer, file).read(),  # type: ignore[misc]
            about=About(pipeline="wandb", status="running"),
        )


class _Reader:
    """Reads one file."""

    def __init__(self, writer: RunWriter, file: Path) -> None:
        self._writer, self._file = writer, file
        self._names: set[str] = set()
        self._results: dict[str, Any] = {}
        self._last: float | None = None
        self._annotations = ImageAnnotations(file.parent / "files")

    def read(self) -> None:
        """Write everything that the file holds."""
        writer, reader, before = self._writer, RunFile(self._file), 0
        console = writer.logger.log_dir / rundir.CONSOLE
        with console.open("w", encoding="utf-8", newline="") as printed:
            for record in reader.records():
                writer.advance(reader.bytes_read - before)
                before = reader.bytes_read
                kind = record.WhichOneof("record_type")
                if kind == "output_raw":
                    printed.write(record.output_raw.line)
                elif kind is not None:
                    getattr(self, f"_{kind}", lambda _: None)(getattr(record, kind))
        if not console.stat().st_size:
            console.unlink()
        size = self._file.stat().st_size
        if before < size:
            writer.notes.append(f"{self._file.name}: the last {size - before:,} bytes are not whole records")
            writer.advance(size - before)
        if writer.about.status == "running":
            writer.notes.append(f"{self._file.name}: the run never ended, as one that was killed")
        elif self._last is not None:
            writer.about.ended = self._last
        self._keep_results()

    def _run(self, run: Any) -> None:
        about = self._writer.about
        about.pipeline, about.name = run.project or about.pipeline, run.display_name or run.run_id
        about.tags, about.note = tuple(run.tags), run.notes
        if run.HasField("start_time"):
            about.started = run.start_time.seconds + run.start_time.nanos * _NANOSECONDS
        told = {"id": run.run_id, "entity": run.entity, "project": run.project, "group": run.run_group}
        told |= {"job_type": run.job_type, "sweep_id": run.sweep_id, "host": run.host}
        about.fields |= {key: value for key, value in told.items() if value}
        self._config(run.config)

    def _config(self, config: Any) -> None:
        params = self._writer.about.params
        for item in config.update:
            names = tuple(item.nested_key) or (item.key,)
            if names == (_OWN,):
                self._annotations.learn(_value(item))
            if not names[0].startswith(_OWN):
                _put(params, names, _value(item))
        for item in config.remove:
            params.pop(item.key, None)

    def _history(self, history: Any) -> None:
        row: dict[str, Any] = {}
        for item in history.item:
            _put(row, tuple(item.nested_key) or (item.key,), _value(item))
        step, at = row.pop("_step", None), row.pop("_timestamp", None)
        at = float(at) if isinstance(at, int | float) else None
        self._last = at or self._last
        metrics: dict[str, Any] = {}
        for name, value in row.items():
            if not name.startswith("_"):
                self._cell(name, value, step if isinstance(step, int) else 0, at, metrics)
        self._names |= metrics.keys()
        self._writer.row(metrics, step if isinstance(step, int) else None, at)

    def _cell(self, name: str, value: Any, step: int, at: float | None, metrics: dict[str, Any]) -> None:
        """Sort a value of a row: a metric, or media that are logged at once."""
        if isinstance(value, dict) and _TYPE in value:
            self._media(name, value, step, at)
        elif isinstance(value, dict):
            for key, inner in value.items():
                self._cell(f"{name}/{key}", inner, step, at, metrics)
        else:
            metrics[name] = value

    def _media(self, name: str, value: Mapping[str, Any], step: int, at: float | None) -> None:
        kind, writer = value[_TYPE], self._writer
        if kind == "histogram":
            writer.thing(lambda logger: _log_histogram(logger, name, value, step), at, name)
        elif kind in _LISTS:
            for number, file in enumerate(value.get("filenames") or ()):
                one = {_TYPE: _LISTS[kind], "path": file}
                for key, several in _PARALLEL.items():
                    found = value.get(several)
                    if isinstance(found, list) and number < len(found) and found[number]:
                        one[key] = found[number]
                self._media(name, one, step, at)
            return
        elif kind == "table-file":
            writer.thing(lambda logger: _log_table(logger, name, self._path(value), step), at, name)
        elif kind == "image-file":
            self._image(name, value, step, at)
        elif kind in _FILE_KINDS:
            log = _FILE_KINDS[kind]
            writer.thing(lambda logger: getattr(logger, log)(name, self._path(value), step=step), at, name)
        elif "path" in value:
            writer.thing(lambda logger: logger.log_artifact(self._path(value), name=name, step=step), at, name)
        else:
            writer.notes.append(f"{name}: values of the kind {kind!r} are not imported")
        if isinstance(value.get("caption"), str) and value["caption"]:
            writer.thing(lambda logger: logger.log_text(f"{name}/caption", value["caption"], step=step), at, name)

    def _image(self, name: str, value: Mapping[str, Any], step: int, at: float | None) -> None:
        """Log an image; one whose masks or boxes can't be read is logged without them."""
        writer, path = self._writer, self._path(value)
        if value.get("masks") or value.get("boxes"):
            try:
                layers = self._annotations.of(name, value, path)
            except (OSError, ValueError, TypeError, KeyError, MissingExtraError) as error:
                writer.notes.append(f"{name}: its masks and boxes: {getattr(error, 'strerror', None) or error}")
            else:
                writer.thing(lambda logger: log_annotated(logger, name, path, layers, step), at, name)
                return
        writer.thing(lambda logger: logger.log_rendered(name, picture(path), step=step), at, name)

    def _path(self, value: Mapping[str, Any]) -> Path:
        return self._file.parent / "files" / str(value["path"])

    def _summary(self, summary: Any) -> None:
        for item in summary.update:
            name = ".".join(item.nested_key) or item.key
            if not name.startswith("_"):
                self._results[name] = _value(item)

    def _exit(self, end: Any) -> None:
        self._writer.about.status = "finished" if end.exit_code == 0 else "failed"

    def _keep_results(self) -> None:
        """Keep results that no row has: those that the script has set itself."""
        own = {name: value for name, value in self._results.items()
               if name not in self._names and not self._is_part(name)}  # fmt: skip
        self._writer.row({name: value for name, value in own.items() if isinstance(value, _NUMBERS)}, None, self._last)
        texts = {name: value for name, value in own.items() if isinstance(value, str)}
        if texts:
            self._writer.about.fields["summary"] = texts

    def _is_part(self, name: str) -> bool:
        """Tell whether a result is a part of media or of a nested value."""
        first = name.partition(".")[0]
        return "." in name and (f"{first}.{_TYPE}" in self._results or name.replace(".", "/") in self._names)


def _put(target: dict[str, Any], names: tuple[str, ...], value: Any) -> None:
    for name in names[:-1]:
        inner = target.setdefault(name, {})
        target = inner if isinstance(inner, dict) else target.setdefault(f"{name}/", {})
    target[names[-1]] = value


def _value(item: Any) -> Any:
    found = item.WhichOneof("value") if "value" in item.DESCRIPTOR.oneofs_by_name else None
    if found in ("integer", "number", "boolean", "text"):
        return getattr(item, found)
    text = (item.json if found == "json" else item.value_json) or "null"
    try:
        return json.loads(text)
    except ValueError:
        return text


def _log_histogram(logger: BasicLogger, name: str, value: Mapping[str, Any], step: int) -> None:
    edges = value.get("bins")
    if edges is None:
        packed = value["packedBins"]
        edges = [packed["min"] + packed["size"] * at for at in range(int(packed["count"]) + 1)]
    logger._log_histogram(name, Histogram.of_bins(value["values"], edges), step)  # noqa: SLF001 - counted already


def _log_table(logger: BasicLogger, name: str, path: Path, step: int) -> None:
    table = json.loads(path.read_bytes())
    logger.log_table(name, table["data"], columns=[str(each) for each in table["columns"]], step=step)
