"""The run that `ridgepole.wandb.init` returns."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from ridgepole.errors import LifecycleError, TrackerError
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.composite import NullLogger
from ridgepole.loggers.figures.render import matplotlib_figure
from ridgepole.loggers.media_types import MediaFile
from ridgepole.permanence import construct
from ridgepole.scripts.begun import BegunRun
from ridgepole.scripts.record import runs_root
from ridgepole.sweeps.run.trial import current_trial
from ridgepole.wandb.artifact import MANIFEST, Artifact, find_artifact, kept_versions
from ridgepole.wandb.gradients import Watch
from ridgepole.wandb.mappings import Config, Summary, as_params
from ridgepole.wandb.media import Histogram, Media

KEY = "wandb"
"""The member of `run.json` with what W&B's client would have been told."""
FILES = "files"
"""The directory of a run where a script puts files by `run.dir`."""

_PLAIN = frozenset((float, int, bool, str))
_NUMBERS = frozenset((float, int, bool))
_LEVELS = {"INFO": "info", "WARN": "warning", "WARNING": "warning", "ERROR": "error"}


class Run:
    """A run, with the methods of W&B's.

    Args:
        begun: The run to log into; None keeps nothing.
        fields: What W&B's client would have been told: `id`, `project`, `group` and so on.
        closed: Called when the run has ended.
    """

    def __init__(self, begun: BegunRun | None, fields: Mapping[str, Any], closed: Callable[[Run], object]) -> None:
        self._begun, self._fields, self._closed = begun, dict(fields), closed
        self._logger: BaseLoggerManager = construct(NullLogger) if begun is None else begun.logger
        self._noted: dict[str, Any] = {}
        self._started = time.time()
        self._step = self.starting_step = 0
        if begun is not None and begun.has_record and begun.continues:
            self._step = self.starting_step = self._logger.global_step
        self.config = Config(self._keep_params)
        self.summary = Summary(self._keep_results, self._last_values)
        self._saved: list[tuple[Path, Path]] = []
        self._alerted: dict[str, float] = {}
        self._watches: list[tuple[Any, Watch]] = []
        self._axes: dict[str, str] = {}  # patterns of names to the metric that is their axis
        self._axis_steps: dict[str, int] = {}
        self._finished = False
        self._note({})

    # --- what it is

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"Run has no {name!r}: Ridgepole's drop-in for W&B does not know it")

    @property
    def dir(self) -> str:
        """The directory where the script may put files that belong to the run."""
        own = self.ridgepole_dir
        folder = Path("wandb", FILES) if own is None else own / FILES
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    @property
    def ridgepole_dir(self) -> Path | None:
        """The run directory."""
        return self._begun.dir if self._begun is not None and self._begun.has_record else None

    @property
    def step(self) -> int:
        """The step of the next row."""
        return self._step

    @property
    def name(self) -> str:
        """The name of the run, else its id."""
        return str(self._fields.get("name") or self._fields["id"])

    @name.setter
    def name(self, value: str) -> None:
        self._fields["name"] = value
        self._relabel()

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags."""
        return tuple(self._fields.get("tags") or ())

    @tags.setter
    def tags(self, value: Sequence[str]) -> None:
        self._fields["tags"] = tuple(value)
        self._relabel()

    @property
    def notes(self) -> str:
        """The note."""
        return str(self._fields.get("notes") or "")

    @notes.setter
    def notes(self, value: str) -> None:
        self._fields["notes"] = value
        self._relabel()

    def _relabel(self) -> None:
        from ridgepole.labels import LabelsChange, checked

        if self._begun is not None and self._begun.has_record:
            labels = checked(name=str(self._fields.get("name") or ""), tags=self.tags, note=self.notes)
            with LabelsChange(self._begun.dir) as change:
                change.labels = labels

    @property
    def path(self) -> str:
        """Project and id."""
        return f"{self._fields.get('project') or ''}/{self._fields['id']}"

    @property
    def url(self) -> None:
        """None: the run is at no server."""

    project_url = sweep_url = url

    def get_url(self) -> None:
        """Return None: the run is at no server."""

    get_project_url = get_sweep_url = get_url

    @property
    def offline(self) -> bool:
        """True: nothing is sent."""
        return True

    @property
    def disabled(self) -> bool:
        """True if nothing is kept, as with `mode="disabled"`."""
        return self._begun is None

    @property
    def start_time(self) -> float:
        """The start, in seconds since the epoch."""
        return self._started

    @property
    def sync_dir(self) -> str:
        """The run directory, or the parent of `dir` if nothing is kept."""
        return str(self.ridgepole_dir or Path(self.dir).parent)

    @property
    def settings(self) -> Settings:
        """The arguments of `init`; any other name is None."""
        return Settings(**self._fields, run_id=self._fields.get("id"), run_name=self.name)

    def status(self) -> Settings:
        """Return that nothing waits to be sent."""
        return Settings(sync_items_total=0, sync_items_pending=0, sync_time=None)

    def pin_config_keys(self, keys: Sequence[str]) -> None:
        """Do nothing: `ridgepole view` shows the values that differ between runs."""

    # --- logging

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **more: Any) -> None:
        """Log a row of metrics and media.

        Args:
            data: Names to numbers, texts, media, figures, or nested mappings of these.
            step: The step of the row; a lower one than before is kept, too.
            commit: Whether the row is complete: the next call takes the next step. True unless a
                step is given.
            **more: Taken for W&B's sake; has no effect.

        Raises:
            TypeError: If the data is not a mapping, or a name in it is not text.
            LifecycleError: If the run has finished.
        """
        del more
        if self._finished:
            raise LifecycleError("the run has finished: call wandb.init() before wandb.log()")
        if not isinstance(data, Mapping):
            raise TypeError(f"wandb.log takes a mapping of names to values, not {type(data).__name__}")
        if step is None:
            at = self._step
        else:
            at = int(step)
            if at > self._step:
                self._step = at
        begun = self._begun
        if begun is not None and data:
            if self._axes:
                data = self._with_axes(data, at)
            if _PLAIN.issuperset(map(type, data.values())):
                begun.log(data, step=at)
            else:
                self._log_mixed(data, at)
            if begun.in_trial:
                self._obey_trial()
        if commit or (commit is None and step is None):
            self._step = max(self._step, at) + 1

    def _with_axes(self, data: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Add the latest value of the metrics that others are drawn over, once a step."""
        latest = getattr(self._logger, "latest", None)
        wanted = {axis for pattern, axis in self._axes.items() if any(fnmatchcase(name, pattern) for name in data)}
        more = {}
        for axis in wanted - data.keys():
            count, value = (0, None) if latest is None else latest(axis)
            if count and self._axis_steps.get(axis) != step:
                more[axis] = value
        self._axis_steps |= dict.fromkeys([*more, *(axis for axis in self._axes.values() if axis in data)], step)
        return {**data, **more}

    def _log_mixed(self, data: Mapping[str, Any], step: int) -> None:
        assert self._begun is not None
        media: list[tuple[str, Any]] = []
        metrics = _without_media(data, "", media)
        if metrics:
            self._begun.log(metrics, step=step)
        for name, value in media:
            if isinstance(value, Media):
                value.log_to(self._logger, name, step)
            else:
                self._logger.log_figure(name, value, step=step)

    def _obey_trial(self) -> None:
        trial = current_trial.get()
        if trial is not None:
            trial.obey_stop()

    def define_metric(
        self,
        name: str,
        step_metric: Any = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        overwrite: bool | None = None,
        **more: Any,
    ) -> Metric:
        """Note how a metric is to be shown; a run keeps last, least, greatest and best anyway."""
        del overwrite
        metric = Metric(name, str(getattr(step_metric, "name", step_metric) or ""), hidden, summary, more.get("goal"))
        known = [each for each in self._noted.get("metrics", ()) if each["name"] != name]
        self._note({"metrics": [*known, metric.described()]})
        if metric.step_metric and step_sync is not False:
            self._axes[name] = metric.step_metric
        return metric

    def alert(self, title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
        """Keep an alert with the run; the same title again within `wait_duration` is left out."""
        wait = wait_duration.total_seconds() if isinstance(wait_duration, timedelta) else float(wait_duration or 60)
        now, last = time.monotonic(), self._alerted.get(title)
        if last is not None and now - last < wait:
            return
        self._alerted[title] = now
        word = str(getattr(level, "value", level) or "INFO").upper()
        if self._begun is not None:
            self._logger.alert(title, text, _LEVELS.get(word, "info"))  # type: ignore[arg-type]  # one of the three

    def watch(
        self,
        models: Any,
        criterion: Any = None,
        log: str | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        log_graph: bool = False,
    ) -> None:
        """Log histograms of a network's gradients or parameters, or of both with `log="all"`."""
        del criterion
        if log_graph:
            warnings.warn("watch: the graph of the network is not kept", UserWarning, stacklevel=2)
        several = list(models) if isinstance(models, list | tuple) else [models]
        if log is not None and self._begun is not None:
            emit = lambda name, values: self._log_mixed({name: Histogram(values)}, self._step)  # noqa: E731 - for the hooks
            self._watches.append((several, Watch(several, log, log_freq, emit, idx or 0)))

    def unwatch(self, models: Any = None) -> None:
        """Stop what `watch` has begun."""
        several = list(models) if isinstance(models, list | tuple) else [models]
        for watched, watch in list(self._watches):
            if models is None or any(each is model for each in watched for model in several):
                watch.close()
                self._watches.remove((watched, watch))

    # --- files

    def save(self, glob_str: Any = None, base_path: Any = None, policy: str = "live", **more: Any) -> Any:
        """Keep files in the run; with the policy `live` they are copied again at its end.

        Returns:
            The paths of the copies.
        """
        del more
        if glob_str is None:
            return True
        pattern = Path(os.fspath(glob_str))
        base = Path(base_path) if base_path is not None else pattern.parent
        found = sorted(pattern.parent.glob(pattern.name))
        if self._begun is None or not self._begun.has_record:
            return [str(path) for path in found]
        copies = []
        for path in (each for each in found if each.is_file()):
            inside = path.absolute().is_relative_to(base.absolute())
            name = path.absolute().relative_to(base.absolute()) if inside else Path(path.name)
            target = Path(self.dir) / name
            _copy(path, target)
            copies.append(str(target))
            if policy != "now":
                self._saved.append((path.absolute(), target))
        return copies

    def restore(self, name: str, run_path: str | None = None, replace: bool = False, root: str | None = None) -> Any:
        """Open a file that this run has kept.

        Raises:
            ValueError: If it has not.
            TrackerError: If it is of another run.
        """
        del replace, root
        if run_path is not None:
            raise TrackerError("restore of another run is not possible here: copy the file from its directory")
        path = Path(self.dir) / name
        if not path.is_file():
            raise ValueError(f"the run has kept no file {name!r}")
        return path.open(encoding="utf-8", errors="replace")

    def log_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - W&B's word
        aliases: Sequence[str] | None = None,
        **more: Any,
    ) -> Artifact:
        """Keep an artifact, a file or a directory in the run, as the next version of its name."""
        del more
        artifact = artifact_or_path
        if not isinstance(artifact, Artifact):
            path = Path(artifact_or_path)
            artifact = Artifact(name or f"run-{self._fields['id']}-{path.name}", type or "unspecified")
            (artifact.add_dir if path.is_dir() else artifact.add_file)(path)
        if self._begun is None or not self._begun.has_record:
            return artifact
        number = sum(1 for _ in kept_versions(self._begun.dir.parent, artifact.name))
        artifact.version = f"v{number}"
        prefix = f"{artifact.name}:{artifact.version}/"
        for label, path in artifact.entries.items():
            self._logger.log_artifact(path, name=prefix + label, step=self._step)
        import orjson

        artifact.aliases = list(aliases or ())
        data = orjson.dumps(artifact.manifest(artifact.aliases), default=str, option=orjson.OPT_INDENT_2)
        kept = MediaFile(kind="artifact", suffix=".json", data=data)
        self._logger._log_media_file(prefix + MANIFEST, kept, self._step)  # noqa: SLF001 - bytes, not a file
        return artifact

    upsert_artifact = finish_artifact = log_artifact

    def use_artifact(self, artifact_or_name: Any, type: str | None = None, **more: Any) -> Artifact:  # noqa: A002
        """Return an artifact that a run here has kept, and note that this run uses it.

        Raises:
            TrackerError: If there is none.
        """
        del type, more
        artifact = artifact_or_name
        if not isinstance(artifact, Artifact):
            root = runs_root() if self._begun is None or not self._begun.has_record else self._begun.dir.parent
            artifact = find_artifact(root, str(artifact_or_name))
        self._note({"used": [*self._noted.get("used", ()), f"{artifact.name}:{artifact.version}"]})
        return artifact

    def log_model(self, path: Any, name: str | None = None, aliases: Sequence[str] | None = None) -> None:
        """Keep a model's file or directory as an artifact."""
        self.log_artifact(path, name or f"run-{self._fields['id']}-{Path(path).name}", "model", aliases)

    def use_model(self, name: str) -> str:
        """Copy a model's files; return the path of the only one, or the directory."""
        artifact = self.use_artifact(name)
        return artifact.file() if len(artifact.entries) == 1 else artifact.download()

    def log_code(
        self, root: str | None = ".", name: str | None = None, include_fn: Any = None, exclude_fn: Any = None
    ) -> Artifact:
        """Keep the Python files of a directory as an artifact."""
        folder = Path(root or ".")
        artifact = Artifact(name or f"source-{self._fields.get('project') or 'code'}", "code")
        for path in sorted(folder.rglob("*")):
            wanted = include_fn(str(path)) if include_fn is not None else path.suffix == ".py"
            own = any(part.startswith(".") or part in ("runs", "wandb") for part in path.relative_to(folder).parts)
            if path.is_file() and wanted and not own and not (exclude_fn is not None and exclude_fn(str(path))):
                artifact.add_file(path, path.relative_to(folder).as_posix())
        return self.log_artifact(artifact)

    def link_artifact(self, *args: Any, **more: Any) -> None:
        """Warn: there is no registry to link to."""
        del args, more
        warnings.warn("there is no registry to link an artifact to; it stays in its run", UserWarning, stacklevel=2)

    link_model = link_artifact

    def mark_preempting(self) -> None:
        """Do nothing: nothing waits for it."""

    def write_logs(self, text: str) -> None:
        """Write a line to the log of the run."""
        self._logger.info("%s", text)

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """Return an empty text; `ridgepole.Runs` shows runs in a notebook."""
        del height, hidden
        return ""

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Return False: `ridgepole.Runs` shows runs in a notebook."""
        del height, hidden
        return False

    # --- the end

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run.

        Args:
            exit_code: 0 or None for success.
            quiet: Taken for W&B's sake; has no effect.
        """
        del quiet
        if self._finished:
            return
        self.close_at_exit()
        if self._begun is not None:
            self._begun.leave(self, exit_code=exit_code or 0)

    def close_at_exit(self) -> None:
        """Keep what is due at the end; the run itself ends elsewhere."""
        if self._finished:
            return
        self._finished = True
        for _, watch in self._watches:
            watch.close()
        for source, target in self._saved:
            with contextlib.suppress(OSError):
                _copy(source, target)
        if self._begun is not None and self._begun.has_record:
            logged = self._last_values()
            missing = {key: value for key, value in self.summary.set_values.items()
                       if key not in logged and type(value) in _NUMBERS}  # fmt: skip
            if missing:
                self._begun.log(missing, step=max(self._step - 1, 0))
        self._closed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._finished and self._begun is not None:
            self.close_at_exit()
            self._begun.end(error)
        self.finish()

    # --- its record

    def _keep_params(self, _: Mapping[str, Any]) -> None:
        if self._begun is not None:
            self._begun.record_params(self.config.as_dict())

    def _keep_results(self, values: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in values.items() if _is_number(value)}
        if numbers and self._begun is not None:
            self._logger.log_hparams({}, numbers)
        others = {key: value for key, value in values.items() if key not in numbers}
        if others:
            self._note({"summary": {**self._noted.get("summary", {}), **others}})

    def _last_values(self) -> dict[str, Any]:
        latest, names = getattr(self._logger, "latest", None), getattr(self._logger, "metric_names", None)
        return {} if latest is None or names is None else {name: latest(name)[1] for name in names()}

    def _note(self, more: Mapping[str, Any]) -> None:
        self._noted |= more
        if self._begun is not None and self._begun.has_record:
            self._begun.note(KEY, {key: value for key, value in (self._fields | self._noted).items() if value})


class Settings:
    """W&B's settings. Those that `init` knows count; the others have no effect."""

    def __init__(self, **data: Any) -> None:
        self.__dict__.update(data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class Metric:
    """The description of a metric that `define_metric` was given."""

    def __init__(self, name: str, step_metric: str, hidden: bool | None, summary: str | None, goal: str | None) -> None:
        self.name, self.step_metric, self.hidden, self.summary, self.goal = name, step_metric, hidden, summary, goal

    def described(self) -> dict[str, Any]:
        """Return the members that were set."""
        return {key: value for key, value in vars(self).items() if value}


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, str) and getattr(value, "size", 1) == 1


def _without_media(data: Mapping[str, Any], prefix: str, media: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the plain values by flat name, and collect media and figures apart."""
    plain: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            plain |= _without_media(value, f"{name}/", media)
        elif isinstance(value, Media) or _is_figure(value):
            media.append((name, _figure(value)))
        elif isinstance(value, list | tuple) and value and all(isinstance(each, Media) for each in value):
            media += [(name, each) for each in value]
        else:
            plain[name] = value
    return plain


def _is_figure(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ == "matplotlib.pyplot"
    origin = type(value).__module__.partition(".")[0]
    return origin in ("matplotlib", "plotly", "PIL", "seaborn") and (
        matplotlib_figure(value) is not None or origin in ("plotly", "PIL")
    )


def _figure(value: Any) -> Any:
    return value.gcf() if isinstance(value, ModuleType) else value


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def read_config(path: Path) -> dict[str, Any]:
    """Read a config file of W&B's: names to values, or to `{value: ...}`.

    Raises:
        TrackerError: If it can't be read.
    """
    try:
        import yaml

        content = yaml.safe_load(io.StringIO(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ImportError) as error:
        raise TrackerError(f"can't read the config {path}: {error}") from error
    return {
        key: value["value"] if isinstance(value, dict) and "value" in value else value
        for key, value in as_params(content).items()
        if key != "wandb_version"
    }
