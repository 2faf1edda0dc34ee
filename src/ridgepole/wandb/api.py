"""The functions of W&B's client, for the run that is open in this process."""

from __future__ import annotations

import enum
import functools
import json
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.errors import LifecycleError, TrackerError
from ridgepole.labels import checked
from ridgepole.pipeline.trial_hook import current_hook
from ridgepole.scripts.begun import BegunRun, join_run
from ridgepole.scripts.record import runs_root
from ridgepole.wandb.artifact import Artifact
from ridgepole.wandb.logged_run import KEY, Metric, Run, Settings, read_config
from ridgepole.wandb.mappings import Config, Summary, as_params

Error = UsageError = CommError = TrackerError
_ID_LETTERS = 4
_OFF = ("disabled", "dryrun-disabled")
_VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "id": "WANDB_RUN_ID",
    "mode": "WANDB_MODE",
    "resume": "WANDB_RESUME",
}

log_ = logging.getLogger("ridgepole")


class AlertLevel(enum.Enum):
    """The levels of an alert."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class _Session:
    """The run and the sweeps of this process."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.sweeps: dict[str, Any] = {}
        self.warned: set[str] = set()

    def warn(self, message: str) -> None:
        if message not in self.warned:
            self.warned.add(message)
            warnings.warn(message, UserWarning, stacklevel=4)


@functools.cache
def _session() -> _Session:
    return _Session()


def open_run() -> Run | None:
    """Return the run that is open, or None."""
    run = _session().run
    return run if run is None or run._begun is None or run._begun.is_open else None  # noqa: SLF001 - its own package


def open_config() -> Config:
    """Return the config of the open run."""
    return _the_run("wandb.config").config


def open_summary() -> Summary:
    """Return the summary of the open run."""
    return _the_run("wandb.summary").summary


def _the_run(what: str) -> Run:
    run = open_run()
    if run is None:
        raise LifecycleError(f"call wandb.init() before {what}")
    return run


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: Any = None,  # noqa: A002 - W&B's word
    id: str | None = None,  # noqa: A002 - W&B's word
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | None = None,
    config: Any = None,
    config_exclude_keys: Sequence[str] | None = None,
    config_include_keys: Sequence[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    force: bool | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    save_code: bool | None = None,
    tensorboard: bool | None = None,
    sync_tensorboard: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Any = None,
    **more: Any,
) -> Run:
    """Begin a run; arguments as in W&B's client.

    Under `ridgepole run`, in a block of `ridgepole.run` and in a trial of a sweep it is that run.

    Args:
        entity: Noted in the record.
        project: Noted in the record.
        dir: The directory whose `runs` holds the run; `runs` of the working directory when None.
        id: An id, by which the run may be resumed.
        name: A name of the run.
        notes: A note about the run.
        tags: Words to find the run by.
        config: The parameters: a mapping, a namespace, or the path of a YAML file.
        config_exclude_keys: Names to leave out of the config.
        config_include_keys: The only names to keep of the config.
        allow_val_change: Has no effect: values may change.
        group: Noted in the record.
        job_type: Noted in the record.
        mode: `"disabled"` keeps nothing. Nothing is sent in any mode.
        force: Has no effect.
        reinit: What happens if a run is open: `"return_previous"` (the default),
            `"finish_previous"` or True, `"create_new"`.
        resume: `"allow"` and `"must"` continue the run of that `id`, `"never"` refuses one, True
            and `"auto"` continue the newest unfinished run of this script.
        resume_from: Not supported.
        fork_from: Not supported.
        save_code: Has no effect: the record has the code's state.
        tensorboard: Has no effect: `ridgepole.tensorboard` logs into the same run.
        sync_tensorboard: As `tensorboard`.
        monitor_gym: Has no effect.
        settings: More of these arguments.
        **more: Have no effect.

    Raises:
        TrackerError: If a run that must be resumed is not there, or one is to be forked or rewound.
        RunDirError: If the run's directory can't be written.
    """
    del allow_val_change, force, save_code, tensorboard, sync_tensorboard, monitor_gym, more
    if resume_from is not None or fork_from is not None:
        raise TrackerError("resume_from and fork_from are not supported: the new run would lack the old one's rows")
    session, previous = _session(), open_run()
    if previous is not None and reinit in (None, "default", "return_previous"):
        return previous
    if previous is not None and reinit != "create_new":
        previous.finish()
    given: dict[str, Any] = {
        "project": project,
        "entity": entity,
        "id": id,
        "name": name,
        "notes": notes,
        "group": group,
    }
    given |= {"job_type": job_type, "mode": mode, "resume": resume}
    fields = _completed(given, settings)
    fields["tags"] = (
        tuple(tags) if tags is not None else tuple(filter(None, os.environ.get("WANDB_TAGS", "").split(",")))
    )
    mode, resume = fields.pop("mode"), fields.pop("resume")
    params = _chosen(config, config_exclude_keys, config_include_keys)
    begun = None
    if mode not in _OFF:
        root = None if dir is None else Path(dir) / "runs"
        begun = _begin(fields, root, resume, alone=reinit == "create_new")
        if mode == "online":
            session.warn("mode='online': the run is kept here; to send it: ridgepole export RUN --to wandb")
        if resume not in (None, False, "never"):
            begun.keep_earlier()
    directory = begun.dir if begun is not None and begun.has_record else None
    # The end of our id, by which commands find the run
    fields["id"] = fields["id"] or (directory.name.rpartition("-")[2] if directory else secrets.token_hex(_ID_LETTERS))
    fields |= {
        "mode": mode,
        "resumed": begun is not None and begun.continues,
        "sweep_id": os.environ.get("WANDB_SWEEP_ID"),
    }
    run = Run(begun, fields, _forget)
    if begun is not None:
        begun.users.append(run)
    _configure(run, params)
    session.run = run
    return run


def _completed(given: dict[str, Any], settings: Any) -> dict[str, Any]:
    """Fill in what settings and variables say."""
    stated = settings if isinstance(settings, Mapping) else vars(settings) if settings is not None else {}
    found = {}
    for key, value in given.items():
        words = (key, f"run_{key}", "run_group" if key == "group" else key)
        also = next((stated[word] for word in words if stated.get(word) is not None), None)
        found[key] = value if value is not None else also if also is not None else os.environ.get(_VARIABLES[key])
    return found


def _chosen(config: Any, exclude: Sequence[str] | None, include: Sequence[str] | None) -> dict[str, Any]:
    params = read_config(Path(config)) if isinstance(config, str) else as_params(config)
    if exclude and include:
        raise TrackerError("give config_exclude_keys or config_include_keys, not both")
    return {
        key: value for key, value in params.items() if key not in (exclude or ()) and (not include or key in include)
    }


def _begin(fields: Mapping[str, Any], root: Path | None, resume: Any, *, alone: bool) -> BegunRun:
    labels = checked(name=str(fields["name"] or ""), tags=fields["tags"], note=str(fields["notes"] or ""))
    earlier = _earlier(root or runs_root(), fields["id"], resume)
    wants = True if resume in (True, "auto") and earlier is None else None

    def make() -> BegunRun:
        return BegunRun(labels, root=root, earlier=earlier, resume=wants)

    if alone:
        begun = make()
        begun.begin()
        return begun
    marker = object()
    begun = join_run(marker, make)
    begun.users.remove(marker)
    begun.describe(labels, {})
    return begun


def _earlier(root: Path, wanted: str | None, resume: Any) -> Path | None:
    """Return the run that is to be continued, found by W&B's id."""
    if resume not in (True, "auto", "allow", "must", "never"):
        return None
    found = None
    if wanted:
        runs = (run for run in rundir.list_runs(root) if isinstance(run.fields.get(KEY), dict))
        found = next((run.path for run in runs if run.fields[KEY].get("id") == wanted), None)
    if resume == "must" and found is None:
        raise TrackerError(f"resume='must', but no run in {root} has the id {wanted!r}")
    if resume == "never" and found is not None:
        raise TrackerError(f"resume='never', but the run {found.name} has the id {wanted!r}")
    return None if resume == "never" else found


def _configure(run: Run, params: Mapping[str, Any]) -> None:
    """Set the parameters; those of a sweep count whatever the script says."""
    if params:
        run.config.update(params)
    hook, file = current_hook.get(), os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if hook is not None:
        run.config.fix(hook.values)
    elif file and Path(file).is_file():
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
        except ValueError:
            run.config.fix(read_config(Path(file)))
        else:
            run.config.fix({key: value["value"] for key, value in content.items() if isinstance(value, dict)})


def _forget(run: Run) -> None:
    session = _session()
    if session.run is run:
        session.run = None


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **more: Any) -> None:
    """Log a row; arguments as in `Run.log`."""
    del more
    run = _session().run
    if run is None:
        raise LifecycleError("call wandb.init() before wandb.log()")
    run.log(data, step, commit)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the open run, if there is one."""
    run = open_run()
    if run is not None:
        run.finish(exit_code, quiet)


join = finish


def alert(title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
    """Keep an alert; arguments as in `Run.alert`."""
    _the_run("wandb.alert()").alert(title, text, level, wait_duration)


def define_metric(name: str, *args: Any, **more: Any) -> Metric:
    """Note how a metric is to be shown; arguments as in `Run.define_metric`."""
    return _the_run("wandb.define_metric()").define_metric(name, *args, **more)


def watch(models: Any, *args: Any, **more: Any) -> None:
    """Log histograms of a network; arguments as in `Run.watch`."""
    _the_run("wandb.watch()").watch(models, *args, **more)


def unwatch(models: Any = None) -> None:
    """Stop what `watch` has begun."""
    _the_run("wandb.unwatch()").unwatch(models)


def save(glob_str: Any = None, base_path: Any = None, policy: str = "live", **more: Any) -> Any:
    """Keep files; arguments as in `Run.save`."""
    return _the_run("wandb.save()").save(glob_str, base_path, policy, **more)


def restore(name: str, run_path: str | None = None, replace: bool = False, root: str | None = None) -> Any:
    """Open a kept file; arguments as in `Run.restore`."""
    return _the_run("wandb.restore()").restore(name, run_path, replace, root)


def log_artifact(artifact_or_path: Any, *args: Any, **more: Any) -> Artifact:
    """Keep an artifact; arguments as in `Run.log_artifact`."""
    return _the_run("wandb.log_artifact()").log_artifact(artifact_or_path, *args, **more)


def use_artifact(artifact_or_name: Any, *args: Any, **more: Any) -> Artifact:
    """Return an artifact; arguments as in `Run.use_artifact`."""
    return _the_run("wandb.use_artifact()").use_artifact(artifact_or_name, *args, **more)


def log_model(path: Any, *args: Any, **more: Any) -> None:
    """Keep a model; arguments as in `Run.log_model`."""
    _the_run("wandb.log_model()").log_model(path, *args, **more)


def use_model(name: str) -> str:
    """Copy a model's files; arguments as in `Run.use_model`."""
    return _the_run("wandb.use_model()").use_model(name)


def log_code(*args: Any, **more: Any) -> Artifact:
    """Keep the code; arguments as in `Run.log_code`."""
    return _the_run("wandb.log_code()").log_code(*args, **more)


def link_artifact(*args: Any, **more: Any) -> None:
    """Warn: there is no registry to link to."""
    _the_run("wandb.link_artifact()").link_artifact(*args, **more)


link_model = link_artifact


def mark_preempting() -> None:
    """Do nothing: nothing waits for it."""


def login(*args: Any, **more: Any) -> bool:
    """Return True: nothing needs a key."""
    del args, more
    return True


def setup(*args: Any, **more: Any) -> Settings:
    """Return empty settings: nothing is to be set up."""
    del args, more
    return Settings()


def teardown(exit_code: int | None = None) -> None:
    """End the open run, if there is one."""
    finish(exit_code)


def termlog(string: str = "", *args: Any, **more: Any) -> None:
    """Show a message."""
    del args, more
    log_.info("%s", string)


def termwarn(string: str = "", *args: Any, **more: Any) -> None:
    """Show a warning."""
    del args, more
    log_.warning("%s", string)


def termerror(string: str = "", *args: Any, **more: Any) -> None:
    """Show an error."""
    del args, more
    log_.error("%s", string)


class Api:
    """W&B's public API, which needs W&B's client."""

    def __init__(self, *args: Any, **more: Any) -> None:
        del args, more
        raise TrackerError(
            "wandb.Api reads W&B's server: import it from wandb itself; ridgepole.load_runs reads runs here"
        )


def sweep(sweep: Any, entity: str | None = None, project: str | None = None, prior_runs: Any = None) -> str:
    """Take a sweep's configuration; return an id for `agent`.

    Args:
        sweep: The configuration, in W&B's schema.
        entity: Has no effect.
        project: Has no effect.
        prior_runs: Not supported.

    Raises:
        TrackerError: If there are prior runs.
    """
    del entity, project
    if prior_runs:
        raise TrackerError("prior_runs is not supported: the sweep would not learn from them")
    made = secrets.token_hex(_ID_LETTERS)
    _session().sweeps[made] = sweep() if callable(sweep) else sweep
    return made


def agent(
    sweep_id: str,
    function: Callable[[], Any] | None = None,
    entity: str | None = None,
    project: str | None = None,
    count: int | None = None,
    **more: Any,
) -> Any:
    """Run the trials of a sweep that this process has made.

    Returns:
        The result of the sweep.

    Raises:
        TrackerError: If the id is not of this process, or there is no function to run.
    """
    del entity, project, more
    config = _session().sweeps.get(str(sweep_id).rpartition("/")[2])
    if config is None or function is None:
        raise TrackerError(
            "wandb.agent takes the id of a wandb.sweep of this process, and a function; "
            "a sweep over a program: ridgepole sweep start FILE"
        )
    from ridgepole.sweeps.api import run_sweep

    return run_sweep(function, config, count=count)


def controller(*args: Any, **more: Any) -> None:
    """Refuse: `ridgepole sweep start` controls sweeps here.

    Raises:
        TrackerError: Always.
    """
    del args, more
    raise TrackerError("wandb.controller is not supported: ridgepole sweep start FILE controls a sweep here")
