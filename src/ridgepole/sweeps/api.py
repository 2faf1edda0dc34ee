"""Start or resume a sweep of a function or of a pipeline's file; read one's result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgepole import project
from ridgepole.errors import ConfigError, Place, Problem, SweepError, did_you_mean
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.permanence import run_of
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.run.program import program_of, program_target
from ridgepole.sweeps.run.targets import FunctionTarget, PipelineTarget, takes_trial
from ridgepole.sweeps.run.validate import check_pipeline, describe_pipeline, places_of
from ridgepole.sweeps.spec.reading import read
from ridgepole.sweeps.spec.spec import SweepSpec, read_sweep
from ridgepole.sweeps.start import start_or_resume
from ridgepole.sweeps.sweepdir import SweepDir, find_sweep


def run_sweep(
    run_once: Callable[..., Any],
    sweep_config: Mapping[str, Any] | str | Path,
    *,
    logger: BaseLoggerManager | None = None,
    root: str | Path | None = None,
    executor: str | None = None,
    workers: int | None = None,
    count: int | None = None,
    resume: str | None = None,
    progress: bool = True,
    retry: Sequence[int] | None = None,
) -> SweepResult:
    """Run a sweep over a function.

    Args:
        run_once: Runs one trial; takes no argument, or the `Trial`. It may return the objective.
            Otherwise the objective is the best value of the metric that it logs: in a pipeline that
            it runs, with `logger`, or with `trial.report`. The trial's parameters override those of
            every pipeline that it plans.
        sweep_config: A sweep in W&B's schema, or the file that holds it.
        logger: A logger from outside of the trials whose metrics count too, for the executor
            `inline` only.
        root: The directory that holds runs; that of the logger's run, else `runs`.
        executor: Where trials run; by default the sweep's `ridgepole` table decides, then `wandb`
            for a logger that is online at W&B, then `inline`.
        workers: The number of trials that run at a time; likewise.
        count: The most trials.
        resume: Id of a sweep to resume, or `latest`.
        progress: Whether to show progress.
        retry: On a resume, failed trials to run again; all of them if it is empty.

    Returns:
        The result.

    Raises:
        ConfigError: If the sweep, or a pipeline with its parameters, is wrong; before the first
            trial where possible.
        SweepError: If it stops early, or can't be resumed.
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
    target = FunctionTarget(
        root=str(Path(root).absolute()),
        metric=spec.metric,
        metrics=spec.metrics,
        places=places_of(spec),
        function=run_once,
        logger=logger,
    )
    return start_or_resume(spec, target, Path(root), count, resume, progress=progress, retry=retry)


def sweep_pipeline(
    sweep_config: Mapping[str, Any] | str | Path,
    pipeline: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    root: str | Path | None = None,
    executor: str | None = None,
    workers: int | None = None,
    count: int | None = None,
    resume: str | None = None,
    progress: bool = True,
    on_start: Callable[[str], None] | None = None,
) -> SweepResult:
    """Run a sweep over a pipeline's file.

    Args:
        sweep_config: A sweep in W&B's schema, the file that holds it, or a pipeline's file with a
            `[sweep]` table.
        pipeline: The pipeline's file; by default the one that the sweep names or is part of.
        overrides: `-s` values, below the sweep's parameters.
        root: The directory that holds runs; `runs` beside the pipeline's file when None.
        executor: As in `run_sweep`.
        workers: As in `run_sweep`.
        count: As in `run_sweep`.
        resume: As in `run_sweep`.
        progress: As in `run_sweep`.
        on_start: Takes the sweep's id once this process drives it.

    Returns:
        The result.

    Raises:
        ConfigError, SweepError, KeyboardInterrupt, MissingExtraError: As in `run_sweep`.
    """
    need("optuna", "a sweep")
    spec = _with(read_sweep(sweep_config), executor, workers)
    file = pipeline_of(spec, pipeline)
    home = Path(root) if root is not None else file.parent / "runs"
    target = _pipeline_target(spec, file, overrides, home)
    return start_or_resume(spec, target, home, count, resume, progress=progress, on_start=on_start)


def sweep_program(
    sweep_config: Mapping[str, Any] | str | Path,
    *,
    root: str | Path | None = None,
    executor: str | None = None,
    workers: int | None = None,
    count: int | None = None,
    resume: str | None = None,
    progress: bool = True,
    on_start: Callable[[str], None] | None = None,
) -> SweepResult:
    """Run a sweep over a program: the `program` and `command` of its file.

    Args:
        sweep_config: A sweep in W&B's schema, or the file that holds it.
        root: The directory that holds runs; `runs` of the program's working directory when None.
        executor: As in `run_sweep`.
        workers: As in `run_sweep`.
        count: As in `run_sweep`.
        resume: As in `run_sweep`.
        progress: As in `run_sweep`.
        on_start: Takes the sweep's id once this process drives it.

    Returns:
        The result.

    Raises:
        ConfigError: If the sweep is wrong, or its program does not exist.
        SweepError, KeyboardInterrupt, MissingExtraError: As in `run_sweep`.
    """
    need("optuna", "a sweep")
    spec = _with(read_sweep(sweep_config), executor, workers)
    if program_of(spec) is None:
        raise SweepError("the sweep has no program: write program: train.py, or a command")
    home = Path("runs" if root is None else root)
    target = program_target(spec, home)
    return start_or_resume(spec, target, home, count, resume, progress=progress, on_start=on_start)


def resume_sweep(
    sweep: str | None = None,
    *,
    root: str | Path = "runs",
    executor: str | None = None,
    workers: int | None = None,
    count: int | None = None,
    overrides: Sequence[str] = (),
    allow_change: Sequence[str] = (),
    progress: bool = True,
    on_start: Callable[[str], None] | None = None,
    retry: Sequence[int] | None = None,
) -> SweepResult:
    """Resume a sweep over a pipeline or a program.

    Args:
        sweep: Id, unique prefix, path, or `latest`; the newest when None.
        root: The directory that holds runs.
        executor: Where trials run; unchanged when None.
        workers: The number of trials that run at a time; likewise.
        count: The number of trials in all; likewise.
        overrides: Secret `-s` values that the sweep was started with; they are not stored.
        allow_change: Keys of the pipeline that may have changed, such as `pipeline.seed`.
        progress: As in `run_sweep`.
        on_start: Takes the sweep's id once this process drives it.
        retry: Failed trials to run again, from their checkpoints; all of them if it is empty.

    Returns:
        The result.

    Raises:
        RunDirError: If the sweep is not found.
        SweepError: If it runs a function: only the code that started it can resume it.
        ConfigError, KeyboardInterrupt, MissingExtraError: As in `run_sweep`.
    """
    need("optuna", "a sweep")
    directory = find_sweep(sweep, Path(root))
    fields = directory.record()
    file, folder = fields.get("pipeline"), fields.get("directory")
    if folder:
        spec = _with(read_sweep(directory.spec()), executor or fields.get("executor"), workers or fields.get("workers"))
        program = program_target(spec, directory.root, Path(folder))
        return start_or_resume(
            spec, program, directory.root, count, directory.id, progress=progress, on_start=on_start, retry=retry
        )
    if not file:
        raise SweepError(
            f"sweep {directory.id} was started from Python: resume it with run_sweep(..., resume={directory.id!r})"
        )
    workers = fields.get("workers") if workers is None else workers
    spec = _with(read_sweep(directory.spec()), executor or fields.get("executor"), workers)
    values = _restored(directory, fields.get("overrides", ()), overrides)
    found = project.locate(fields | {"file": file}, directory.root, warnings.warn)
    if found is None:
        raise SweepError(f"sweep {directory.id} can't be resumed: its pipeline's file {file} does not exist")
    target = _pipeline_target(spec, found, values, directory.root, allow_change)
    return start_or_resume(
        spec, target, directory.root, count, directory.id, progress=progress, on_start=on_start, retry=retry
    )


def load_sweep(sweep: str | None = None, root: str | Path = "runs") -> SweepResult:
    """Read the result of a sweep, also while it runs. Nothing is changed.

    Args:
        sweep: Id, unique prefix, path, or `latest`; the newest when None.
        root: The directory that holds runs.

    Returns:
        The result so far.

    Raises:
        RunDirError: If the sweep is not found.
        SweepError: If it can't be read.
        MissingExtraError: If Optuna is not installed.
    """
    need("optuna", "a sweep")
    from ridgepole.sweeps.study.trial_record import read_trials

    directory = find_sweep(sweep, Path(root))
    # First: a sweep that ends meanwhile has not crashed
    alive = directory.lock.holder() is not None
    fields = directory.record()
    spec = read_sweep(directory.spec())
    trials = read_trials(directory, spec, alive=alive)
    return SweepResult.from_record(directory, spec, fields, trials, alive=alive)


def pipeline_of(spec: SweepSpec, given: str | Path | None = None) -> Path:
    """Return the absolute path of a sweep's pipeline file.

    Raises:
        ConfigError: If the sweep names no pipeline, or a Python file.
    """
    if given is not None:
        return _no_script(Path(given).absolute(), Place("--pipeline", 1, 1, str(given), len(str(given))))
    if spec.in_pipeline and spec.file is not None:
        return spec.file.absolute()
    written = read(spec.file) if spec.file is not None else None
    if spec.options.pipeline is not None:
        base = spec.file.absolute().parent if spec.file is not None else Path.cwd()
        place = written.place(("ridgepole", "pipeline"), False) if written is not None else None
        return _no_script(base / spec.options.pipeline, place)
    suffix = spec.file.suffix.lower() if spec.file is not None else ""
    line = {
        ".toml": 'ridgepole = { pipeline = "FILE" }',
        ".yaml": "ridgepole: {pipeline: FILE}",
        ".yml": "ridgepole: {pipeline: FILE}",
    }.get(suffix, '"ridgepole": {"pipeline": "FILE"}')
    key = "program" if spec.program is not None else "ridgepole"
    place = written.place((key,), True) if written is not None and key in written.values else None
    if place is None and spec.file is not None:
        place = Place(str(spec.file))
    raise ConfigError([Problem("the sweep names no pipeline", place, f"give --pipeline FILE, or write {line}")])


def _no_script(file: Path, place: Place | None) -> Path:
    """Return a pipeline's path; raise ConfigError if it is a Python file."""
    if file.suffix.lower() == ".py":
        hint = "give the TOML file of a pipeline; a script is the sweep's program"
        raise ConfigError([Problem(f"{file.name!r} is a Python file, not a pipeline", place, hint)])
    if place is not None and not file.exists():
        near = did_you_mean(file.name, [each.name for each in file.parent.glob("*.toml")])
        raise ConfigError([Problem(f"the sweep's pipeline is not there: {file}", place, near)])
    return file


def _pipeline_target(
    spec: SweepSpec, file: Path, overrides: Sequence[str], root: Path, allow_change: Sequence[str] = ()
) -> PipelineTarget:
    """Check a pipeline with the sweep's parameters, and return what each trial runs."""
    check_pipeline(spec, file, overrides)
    return PipelineTarget(
        root=str(root.absolute()),
        metric=spec.metric,
        metrics=spec.metrics,
        places=places_of(spec),
        file=str(file),
        overrides=tuple(overrides),
        description=describe_pipeline(spec, file, overrides),
        allow_change=tuple(allow_change),
    )


def _with(spec: SweepSpec, executor: str | None, workers: int | None) -> SweepSpec:
    options = spec.options
    if executor is not None:
        options = replace(options, executor=executor)
    if workers is not None:
        if workers < 1:
            raise SweepError(f"expected at least 1 worker, got {workers}")
        options = replace(options, workers=workers)
    return replace(spec, options=options)


def _restored(directory: SweepDir, stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the `-s` values of a sweep to resume."""
    names = {text.partition("=")[0].strip() for text in given}
    for text in stored:
        name = text.partition("=")[0].strip()
        if text.endswith("***") and name not in names:
            message = f"sweep {directory.id} was started with -s {name}=..., a secret that is not stored"
            raise SweepError(f"{message}: give it again")
    return [text for text in stored if not text.endswith("***")] + list(given)
