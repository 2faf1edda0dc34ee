"""Starts a sweep, or lets one go on: of a function, or of a pipeline's file."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import ConfigError, SweepError, text_of
from ridgepole.permanence import run_of
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.sweeps import executors
from ridgepole.sweeps.executors import inline
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.jobs import FunctionJob, Job, PipelineJob, takes_trial
from ridgepole.sweeps.options import Executor as ExecutorName
from ridgepole.sweeps.precheck import check_pipeline, places_of
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.spec import SweepSpec, read_sweep
from ridgepole.sweeps.sweepdir import Flock, SweepDir, find_sweep

if TYPE_CHECKING:
    from ridgepole.sweeps.driver import Sweep
    from ridgepole.sweeps.ledger import Ledger


def run_sweep(
    run_once: Callable[..., Any],
    sweep_config: Mapping[str, Any] | str | Path,
    *,
    logger: BaseLoggerManager | None = None,
    root: str | Path | None = None,
    executor: ExecutorName | None = None,
    workers: int | None = None,
    count: int | None = None,
    resume: str | None = None,
    progress: bool = True,
) -> SweepResult:
    """Runs a sweep over a function.

    Args:
        run_once: Runs one trial; takes no argument, or the `Trial`. It may return the objective; otherwise that is the
            best value of the metric that it logs: in a pipeline that it runs, with `logger`, or with `trial.report`.
            The trial's parameters lie over every pipeline that it plans.
        sweep_config: A sweep in W&B's schema, or the file that holds it.
        logger: A logger from outside of the trials whose metrics count too. Only the executor `inline` has it.
        root: The directory that holds runs; that of the logger's run, else `runs`.
        executor: Where trials run; when None, what the sweep's `ridgepole` table says, else W&B for a logger that is on
            line there, else `inline`.
        workers: How many run at a time; likewise.
        count: How many trials there are to be at most.
        resume: Id of a sweep that is to go on, or `latest`.
        progress: Whether to show how it goes.

    Returns:
        The result.

    Raises:
        ConfigError: If the sweep, or a pipeline with its parameters, is not right; before the first trial where that
            can be known.
        SweepError: If it stops before its end, or can't go on.
        KeyboardInterrupt: If a signal stopped it.
        MissingExtraError: If Optuna is not installed.
    """
    need("optuna", "run_sweep")
    takes_trial(run_once)
    if root is None:
        run = run_of(logger) if logger is not None else None
        root = run.run_dir.parent if run is not None else Path("runs")
    spec = read_sweep(sweep_config)
    service = logger.sweep_service() if logger is not None else {}
    if service:
        spec = replace(spec, project=spec.project or service["project"], entity=spec.entity or service["entity"])
        executor = executor or spec.options.executor or service["executor"]
        count = count or service["count"]
    spec = _with(spec, executor, workers)
    job = FunctionJob(str(Path(root).absolute()), spec.metric, places_of(spec), run_once, logger)
    return _conduct(spec, job, Path(root), count, resume, progress=progress)


def sweep_pipeline(
    sweep_config: Mapping[str, Any] | str | Path,
    pipeline: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    root: str | Path | None = None,
    executor: ExecutorName | None = None,
    workers: int | None = None,
    count: int | None = None,
    resume: str | None = None,
    progress: bool = True,
) -> SweepResult:
    """Runs a sweep over a pipeline's file.

    Args:
        sweep_config: A sweep in W&B's schema, the file that holds it, or a pipeline's file with a `[sweep]` table.
        pipeline: The pipeline's file; by default the one that the sweep names or stands in.
        overrides: `-s` values, below the sweep's parameters.
        root: The directory that holds runs; `runs` beside the pipeline's file when None.
        executor: As in `run_sweep`.
        workers: As in `run_sweep`.
        count: As in `run_sweep`.
        resume: As in `run_sweep`.
        progress: As in `run_sweep`.

    Returns:
        The result.

    Raises:
        ConfigError: As `run_sweep`.
        SweepError: As `run_sweep`.
        KeyboardInterrupt: As `run_sweep`.
        MissingExtraError: As `run_sweep`.
    """
    need("optuna", "a sweep")
    spec = _with(read_sweep(sweep_config), executor, workers)
    file = pipeline_of(spec, pipeline)
    home = Path(root) if root is not None else file.parent / "runs"
    check_pipeline(spec, file, overrides)
    job = PipelineJob(str(home.absolute()), spec.metric, places_of(spec), str(file), tuple(overrides))
    return _conduct(spec, job, home, count, resume, progress=progress)


def resume_sweep(
    sweep: str | None = None,
    *,
    root: str | Path = "runs",
    executor: ExecutorName | None = None,
    workers: int | None = None,
    count: int | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> SweepResult:
    """Lets a sweep over a pipeline go on.

    Args:
        sweep: Id, unique prefix, path, or `latest`; the newest when None.
        root: The directory that holds runs.
        executor: Where trials run; as it was when None.
        workers: How many run at a time; likewise.
        count: How many trials there are to be in all; likewise.
        overrides: `-s` values that the sweep was started with and that are stored nowhere, because they are secret.
        progress: As in `run_sweep`.

    Returns:
        The result.

    Raises:
        RunDirError: If there is no such sweep.
        SweepError: If it runs a function: only the code that started it can do that.
        ConfigError: As `run_sweep`.
        KeyboardInterrupt: As `run_sweep`.
        MissingExtraError: As `run_sweep`.
    """
    need("optuna", "a sweep")
    directory = find_sweep(sweep, Path(root))
    fields = directory.record()
    file = fields.get("pipeline")
    if not file:
        raise SweepError(
            f"sweep {directory.id} was started from Python: go on there, with run_sweep(..., resume={directory.id!r})"
        )
    workers = fields.get("workers") if workers is None else workers
    spec = _with(read_sweep(directory.spec()), executor or fields.get("executor"), workers)
    values = _restored(directory, fields.get("overrides", ()), overrides)
    if not Path(file).is_file():
        raise SweepError(f"sweep {directory.id} can't go on: the pipeline's file {file} is gone")
    check_pipeline(spec, Path(file), values)
    job = PipelineJob(str(directory.root), spec.metric, {}, str(file), tuple(values))
    return _conduct(spec, job, directory.root, count, directory.id, progress=progress)


def load_sweep(sweep: str | None = None, root: str | Path = "runs") -> SweepResult:
    """Reads what a sweep has come to, without changing anything; also while it runs.

    Args:
        sweep: Id, unique prefix, path, or `latest`; the newest when None.
        root: The directory that holds runs.

    Returns:
        The result so far.

    Raises:
        RunDirError: If there is no such sweep.
        SweepError: If it can't be read.
        MissingExtraError: If Optuna is not installed.
    """
    need("optuna", "a sweep")
    from ridgepole.sweeps.ledger import read_trials

    directory = find_sweep(sweep, Path(root))
    fields = directory.record()
    spec = read_sweep(directory.spec())
    alive = directory.lock.holder() is not None
    return _result(directory, spec, fields, read_trials(directory, spec, alive=alive), alive=alive)


def pipeline_of(spec: SweepSpec, given: str | Path | None = None) -> Path:
    """The pipeline's file of a sweep, absolute.

    Raises:
        SweepError: If it names none.
    """
    if given is not None:
        return Path(given).absolute()
    if spec.in_pipeline and spec.file is not None:
        return spec.file.absolute()
    if spec.options.pipeline is not None:
        base = spec.file.absolute().parent if spec.file is not None else Path.cwd()
        return base / spec.options.pipeline
    where = f"{spec.file}: " if spec.file is not None else ""
    raise SweepError(
        f"{where}the sweep names no pipeline: give --pipeline FILE, or write ridgepole = {{ pipeline = ... }}"
    )


# --- one driver


def _with(spec: SweepSpec, executor: ExecutorName | None, workers: int | None) -> SweepSpec:
    options = spec.options
    if executor is not None:
        options = replace(options, executor=executor)
    if workers is not None:
        if workers < 1:
            raise SweepError(f"a sweep needs at least 1 worker, not {workers}")
        options = replace(options, workers=workers)
    return replace(spec, options=options)


def _conduct(
    spec: SweepSpec, job: Job, root: Path, count: int | None, resume: str | None, *, progress: bool
) -> SweepResult:
    directory, before = None, {}
    if resume is not None:
        directory = find_sweep(None if resume == "latest" else resume, root)
        before = directory.record()
        stored = read_sweep(directory.spec())
        spec = replace(
            stored, options=spec.options if spec.options.storage == stored.options.storage else stored.options
        )
        count = count if count is not None else before.get("count")
    limit = _limit(spec, count)
    check: Callable[[], None] = getattr(executors.find(spec.options.place), "check", lambda: None)
    check()  # before anything is made
    directory = directory or SweepDir.create(root)
    lock = _claimed(directory)
    try:
        return _driven(directory, spec, job, limit, {"count": count, **_kept(before)}, progress=progress)
    finally:
        lock.release()


def _limit(spec: SweepSpec, count: int | None) -> int:
    try:
        return spec.limit(count)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise SweepError(str(error)) from error


def _claimed(directory: SweepDir) -> Flock:
    """Takes the one driver's lock.

    Raises:
        SweepError: If another process drives this sweep.
    """
    lock = directory.lock
    if lock.take(patience=1.0):
        return lock
    holder = lock.holder() or {}
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    raise SweepError(f"sweep {directory.id} is running already: {who} drives it")


def _kept(before: Mapping[str, Any]) -> dict[str, Any]:
    return {key: before[key] for key in ("created", "seed", "pipeline", "overrides") if key in before}


def _driven(
    directory: SweepDir, spec: SweepSpec, job: Job, limit: int, kept: Mapping[str, Any], *, progress: bool
) -> SweepResult:
    from ridgepole.sweeps.ledger import Ledger

    options = spec.options
    fields: dict[str, Any] = {
        "name": spec.name,
        "status": "running",
        "reason": "",
        "created": time.time(),
        "ended": None,
        "limit": limit,
        "executor": options.place,
        "workers": options.workers,
        "seed": options.seed if options.seed is not None else secrets.randbits(32),
        "pipeline": getattr(job, "file", None),
        "overrides": _masked(getattr(job, "overrides", ())),
        "file": str(spec.file.absolute()) if spec.file is not None else None,
        "pid": os.getpid(),
        "host": socket.gethostname(),
    } | dict(kept)
    if not (directory.path / "spec.json").exists():
        directory.write_spec(spec.to_dict(), spec.source, spec.file.suffix if spec.file is not None else "")
    directory.write_record(fields)
    with _quiet_optuna():
        try:
            ledger = Ledger(directory, spec, fields["seed"], _say)
            try:
                return _drive(directory, spec, job, limit, ledger, fields, progress=progress)
            finally:
                ledger.close()
        finally:
            if fields["status"] == "running":
                fields["status"] = "failed"
            directory.write_record(fields | {"ended": time.time()})


def _drive(
    directory: SweepDir,
    spec: SweepSpec,
    job: Job,
    limit: int,
    ledger: Ledger,
    fields: dict[str, Any],
    *,
    progress: bool,
) -> SweepResult:
    from ridgepole.sweeps.display import Bars, Display
    from ridgepole.sweeps.driver import Sweep
    from ridgepole.sweeps.source import Source

    options = spec.options
    done = sum(row.outcome is not None for row in ledger.rows.values())
    apart = options.place != "inline"
    name = spec.name or "sweep"
    display = Bars(name, limit, done, spec.metric, _say, rows=apart) if progress else Display(_say)
    module = executors.find(options.place)
    executor = getattr(module, "make", inline.make)(options, options.workers)
    sweep = Sweep(spec, job, directory, ledger, limit, options.workers, executor, display, Source(ledger, limit))
    drive: Callable[[Sweep], None] = getattr(module, "drive", Sweep.drive)
    display.open()
    try:
        drive(sweep)
    except BaseException as error:
        if sweep.status == "running":
            sweep.status, sweep.reason = "failed", text_of(error)
        if isinstance(error, SweepError):
            error.result = _so_far(sweep, fields)
        raise
    finally:
        display.close()
        fields |= {"status": sweep.status, "reason": sweep.reason}
    return _so_far(sweep, fields)


def _so_far(sweep: Sweep, fields: Mapping[str, Any]) -> SweepResult:
    rows = sorted(sweep.ledger.rows.values(), key=lambda row: row.number)
    told = {**fields, "status": sweep.status, "reason": sweep.reason}
    return _result(sweep.directory, sweep.spec, told, [row.result(alive=False) for row in rows], alive=True)


def _result(
    directory: SweepDir, spec: SweepSpec, fields: Mapping[str, Any], trials: Sequence[Any], *, alive: bool
) -> SweepResult:
    status = str(fields.get("status", "running"))
    return SweepResult(
        directory.id,
        directory.path,
        fields.get("name"),
        "crashed" if status == "running" and not alive else status,
        str(fields.get("reason", "")),
        spec.metric,
        tuple(trials),
        int(fields.get("limit", 0)),
        fields.get("pipeline"),
        tuple(text for text in fields.get("overrides", ()) if not text.endswith("***")),
    )


def _masked(overrides: Sequence[str]) -> list[str]:
    from ridgepole.config import parse_override

    return [parse_override(text).place.text for text in overrides]


def _restored(directory: SweepDir, stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """The `-s` values of a sweep that goes on; secret ones have to be given again."""
    names = {text.partition("=")[0].strip() for text in given}
    for text in stored:
        name = text.partition("=")[0].strip()
        if text.endswith("***") and name not in names:
            message = f"sweep {directory.id} was started with -s {name}=..., a secret that is stored nowhere"
            raise SweepError(f"{message}: give it again")
    return [text for text in stored if not text.endswith("***")] + list(given)


class _quiet_optuna:  # noqa: N801 - used as a function
    """Optuna's own messages are about what this package says itself."""

    def __enter__(self) -> None:
        import optuna

        self._before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def __exit__(self, *_: object) -> None:
        import optuna

        optuna.logging.set_verbosity(self._before)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
