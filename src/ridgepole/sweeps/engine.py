"""Starts a sweep, or lets one go on: of a function, or of a pipeline's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgepole.errors import SweepError
from ridgepole.permanence import run_of
from ridgepole.permanences.loggers.base import BaseLoggerManager
from ridgepole.sweeps.conduct import conduct, result_of
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.jobs import FunctionJob, PipelineJob, takes_trial
from ridgepole.sweeps.options import Executor as ExecutorName
from ridgepole.sweeps.precheck import check_pipeline, description, places_of
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.spec import SweepSpec, read_sweep
from ridgepole.sweeps.sweepdir import SweepDir, find_sweep


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
    return conduct(spec, job, Path(root), count, resume, progress=progress)


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
    described = description(spec, file, overrides)
    job = PipelineJob(str(home.absolute()), spec.metric, places_of(spec), str(file), tuple(overrides), described)
    return conduct(spec, job, home, count, resume, progress=progress)


def resume_sweep(
    sweep: str | None = None,
    *,
    root: str | Path = "runs",
    executor: ExecutorName | None = None,
    workers: int | None = None,
    count: int | None = None,
    overrides: Sequence[str] = (),
    allow_change: Sequence[str] = (),
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
        allow_change: Keys of the pipeline that may differ from what they were, as `pipeline.seed`.
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
    described = description(spec, Path(file), values)
    job = PipelineJob(str(directory.root), spec.metric, {}, str(file), tuple(values), described, tuple(allow_change))
    return conduct(spec, job, directory.root, count, directory.id, progress=progress)


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
    from ridgepole.sweeps.rows import read_trials

    directory = find_sweep(sweep, Path(root))
    alive = directory.lock.holder() is not None  # first: a sweep that ends meanwhile has not crashed
    fields = directory.record()
    spec = read_sweep(directory.spec())
    return result_of(directory, spec, fields, read_trials(directory, spec, alive=alive), alive=alive)


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


def _with(spec: SweepSpec, executor: ExecutorName | None, workers: int | None) -> SweepSpec:
    options = spec.options
    if executor is not None:
        options = replace(options, executor=executor)
    if workers is not None:
        if workers < 1:
            raise SweepError(f"a sweep needs at least 1 worker, not {workers}")
        options = replace(options, workers=workers)
    return replace(spec, options=options)


def _restored(directory: SweepDir, stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """The `-s` values of a sweep that goes on; secret ones have to be given again."""
    names = {text.partition("=")[0].strip() for text in given}
    for text in stored:
        name = text.partition("=")[0].strip()
        if text.endswith("***") and name not in names:
            message = f"sweep {directory.id} was started with -s {name}=..., a secret that is stored nowhere"
            raise SweepError(f"{message}: give it again")
    return [text for text in stored if not text.endswith("***")] + list(given)
