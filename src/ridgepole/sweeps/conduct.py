"""One driver of a sweep, from the lock that it takes to the result that it leaves."""

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
from ridgepole.files import Flock
from ridgepole.sweeps import executors
from ridgepole.sweeps.executors import inline
from ridgepole.sweeps.jobs import Job, PipelineJob
from ridgepole.sweeps.options import Options
from ridgepole.sweeps.result import SweepResult
from ridgepole.sweeps.spec import SweepSpec, read_sweep
from ridgepole.sweeps.sweepdir import SweepDir, find_sweep

if TYPE_CHECKING:
    from ridgepole.sweeps.driver import Sweep
    from ridgepole.sweeps.ledger import Ledger


def conduct(
    spec: SweepSpec, job: Job, root: Path, count: int | None, resume: str | None, *, progress: bool
) -> SweepResult:
    """Starts a sweep, or lets one go on, and drives it to its end.

    Args:
        spec: The sweep; of one that goes on only its options count.
        job: What each trial runs.
        root: The directory that holds runs.
        count: How many trials there are to be at most.
        resume: Id of a sweep that is to go on, or `latest`.
        progress: Whether to show how it goes.

    Raises:
        ConfigError: If nothing ends the sweep.
        SweepError: If it stops before its end, can't go on, or is driven by another process.
        KeyboardInterrupt: If a signal stopped it.
    """
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
    check: Callable[[Options], None] = getattr(executors.find(spec.options.place), "check", lambda _options: None)
    check(spec.options)  # before anything is made
    directory = directory or SweepDir.create(root)
    lock = _claimed(directory)
    try:
        if isinstance(job, PipelineJob):
            _compare(directory, job)
        return _driven(directory, spec, job, limit, {"count": count, **_kept(before)}, progress=progress)
    except BaseException as error:
        error.sweep_id = directory.id  # type: ignore[attr-defined]  # for who tells the user how it goes on
        raise
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
    try:
        if lock.take(patience=1.0):
            return lock
    except OSError as error:
        raise SweepError(f"sweep {directory.id} can't be written: {error.strerror or error}") from error
    raise SweepError(f"sweep {directory.id} is running already: {lock.who()} drives it")


def _compare(directory: SweepDir, job: PipelineJob) -> None:
    """Trials of two pipelines are never mixed in one sweep.

    Raises:
        ConfigError: If the pipeline is not what it was.
    """
    from ridgepole.pipeline.comparison import differences

    stored = directory.pipeline()
    problems = differences(stored, job.described, job.allow, f"sweep {directory.id}") if stored else []
    if problems:
        raise ConfigError(problems)
    if stored != job.described:
        directory.write_pipeline(job.described)


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
        except BaseException as error:
            if fields["status"] == "running":
                fields |= {"status": "failed", "reason": text_of(error)}
            raise
        finally:
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
    done = [row for row in ledger.rows.values() if row.outcome is not None]
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
    return result_of(sweep.directory, sweep.spec, told, [row.result(alive=False) for row in rows], alive=True)


def result_of(
    directory: SweepDir, spec: SweepSpec, fields: Mapping[str, Any], trials: Sequence[Any], *, alive: bool
) -> SweepResult:
    """What a sweep has come to.

    Args:
        directory: Its directory.
        spec: The sweep.
        fields: What its record says.
        trials: Its trials.
        alive: Whether a driver is at work on it.
    """
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
