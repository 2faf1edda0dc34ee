"""Start or resume a sweep: take its lock, choose its executor, drive it, and record the result."""

from __future__ import annotations

import importlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole import project
from ridgepole.config import parse_override
from ridgepole.errors import ConfigError, SweepError, did_you_mean, text_of
from ridgepole.files import Flock
from ridgepole.sweeps.executor_registry import executor_names, executor_path
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.run.executor import Executor
from ridgepole.sweeps.run.program import ProgramTarget
from ridgepole.sweeps.run.targets import PipelineTarget, Target
from ridgepole.sweeps.spec.spec import SweepSpec, read_sweep
from ridgepole.sweeps.sweepdir import SweepDir, find_sweep

if TYPE_CHECKING:
    from ridgepole.sweeps.run.driver import Sweep

_KEPT = ("created", "seed", "directory", "overrides", "file", "history")
"""Fields of a sweep's record that a resume does not change."""


def start_or_resume(
    spec: SweepSpec,
    target: Target,
    root: Path,
    count: int | None,
    resume: str | None,
    *,
    progress: bool,
    on_start: Callable[[str], None] | None = None,
    retry: Sequence[int] | None = None,
) -> SweepResult:
    """Start or resume a sweep, and drive it to its end; see `run_sweep` and `sweep_pipeline`.

    On a resume, only the options of `spec` count.
    """
    directory, before = None, {}
    if resume is not None:
        directory = find_sweep(None if resume == "latest" else resume, root)
        before = directory.record()
        stored = read_sweep(directory.spec())
        options = spec.options if spec.options.storage == stored.options.storage else stored.options
        spec = replace(stored, options=options)
        count = count if count is not None else before.get("count")
    limit = _limit(spec, count)
    executor_class = load_executor(spec.options.place)
    executor_class.validate(spec.options)
    directory = directory or SweepDir.create(root)
    lock = _take_lock(directory)
    try:
        if on_start is not None:
            on_start(directory.id)
        if isinstance(target, PipelineTarget):
            _compare(directory, target)
        fields = _record(spec, target, limit) | _pipeline_place(target, directory.root)
        fields |= {"count": count} | {key: before[key] for key in _KEPT if key in before}
        return _drive(directory, spec, target, executor_class, fields, progress=progress, retry=retry)
    finally:
        lock.release()


def load_executor(name: str) -> type[Executor]:
    """Return the class of an executor.

    Raises:
        SweepError: If the executor is unknown, or its plugin can't be imported.
    """
    path = executor_path(name)
    if path is None:
        names = executor_names()
        hint = did_you_mean(name, names) or f"available are {', '.join(names)}"
        raise SweepError(f"unknown executor {name!r}; {hint}")
    module, _, attribute = path.partition(":")
    try:
        found: type[Executor] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SweepError(f"the executor {name!r} can't be imported from {path}: {text_of(error)}") from error
    return found


def _limit(spec: SweepSpec, count: int | None) -> int:
    try:
        return spec.limit(count)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise SweepError(str(error)) from error


def _take_lock(directory: SweepDir) -> Flock:
    """Take the driver's lock; raise SweepError if another process drives this sweep."""
    lock = directory.lock
    try:
        if lock.take(patience=1.0):
            return lock
    except OSError as error:
        raise SweepError(f"sweep {directory.id} can't be written: {error.strerror or error}") from error
    raise SweepError(f"sweep {directory.id} is running already: {lock.who()} drives it")


def _compare(directory: SweepDir, target: PipelineTarget) -> None:
    """Raise ConfigError if the pipeline has changed: one sweep has trials of one pipeline."""
    from ridgepole.pipeline.run.comparison import differences  # imports pydantic

    stored = directory.pipeline()
    problems = differences(stored, target.description, target.allow_change, f"sweep {directory.id}") if stored else []
    if problems:
        raise ConfigError(problems)
    if stored != target.description:
        directory.write_pipeline(target.description)


def _record(spec: SweepSpec, target: Target, limit: int) -> dict[str, Any]:
    """Return the record of a sweep that begins."""
    options = spec.options
    pipeline = target if isinstance(target, PipelineTarget) else None
    return {
        "name": spec.name,
        "status": "running",
        "reason": "",
        "created": time.time(),
        "ended": None,
        "limit": limit,
        "executor": options.place,
        "workers": options.workers,
        "seed": options.seed if options.seed is not None else secrets.randbits(32),
        "directory": target.directory if isinstance(target, ProgramTarget) else None,
        "overrides": [parse_override(text).place.text for text in pipeline.overrides] if pipeline else [],
        "file": str(spec.file.absolute()) if spec.file is not None else None,
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }


def _pipeline_place(target: Target, root: Path) -> dict[str, Any]:
    """Describe where the pipeline is, so that a sweep in a moved or copied project finds it."""
    if not isinstance(target, PipelineTarget):
        return {"pipeline": None}
    found = project.describe(Path(target.file), Path(target.file).parent, root)
    return {"pipeline": found["file"], "inode": found["inode"], "project": found["project"]}


def _drive(
    directory: SweepDir,
    spec: SweepSpec,
    target: Target,
    executor_class: type[Executor],
    fields: dict[str, Any],
    *,
    progress: bool,
    retry: Sequence[int] | None,
) -> SweepResult:
    # Optuna and the terminal's bars take long to import.
    from ridgepole.sweeps.run.display import Display
    from ridgepole.sweeps.run.driver import Sweep, TrialSource
    from ridgepole.sweeps.study.trial_store import TrialStore

    options, limit = spec.options, fields["limit"]
    if not (directory.path / "spec.json").exists():
        directory.write_spec(spec.to_dict(), spec.source, spec.file.suffix if spec.file is not None else "")
    with (
        _recorded(directory, fields),
        _quiet_optuna(),
        closing(TrialStore(directory, spec, fields["seed"], _say)) as store,
    ):
        ended = [record for record in store.rows.values() if record.outcome is not None]
        done = [record for record in ended if not (record.retried or record.foreign)]
        name, rows = spec.name or "sweep", options.place != "inline"
        display = Display(name, limit, done, spec.metric, _say, progress=progress, rows=rows)
        sweep = Sweep(
            spec=spec,
            target=target,
            directory=directory,
            store=store,
            workers=options.workers,
            executor=executor_class.create(options, options.workers),
            display=display,
            source=TrialSource(store, limit),
            retry=retry,
        )
        display.open()
        try:
            sweep.source = executor_class.trial_source(sweep) or sweep.source
            sweep.drive()
        except BaseException as error:
            if sweep.status == "running":
                sweep.status, sweep.reason = "failed", text_of(error)
            if isinstance(error, SweepError):
                error.result = _result_so_far(sweep, fields)
            raise
        finally:
            display.close()
            fields |= {"status": sweep.status, "reason": sweep.reason, "seconds": display.seconds}
        return _result_so_far(sweep, fields)


def _result_so_far(sweep: Sweep, fields: Mapping[str, Any]) -> SweepResult:
    records = sorted(sweep.store.rows.values(), key=lambda record: record.number)
    trials = [record.result(alive=False) for record in records]
    current = {**fields, "status": sweep.status, "reason": sweep.reason}
    return SweepResult.from_record(sweep.directory, sweep.spec, current, trials, alive=True)


@contextmanager
def _recorded(directory: SweepDir, fields: dict[str, Any]) -> Iterator[None]:
    """Write the sweep's record at its start and at its end, whatever ends it."""
    directory.write_record(fields)
    try:
        yield
    except BaseException as error:
        if fields["status"] == "running":
            fields |= {"status": "failed", "reason": text_of(error)}
        raise
    finally:
        directory.write_record(fields | {"ended": time.time()})


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence Optuna's own messages, which repeat ours."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
