"""One run from start to end: directory, provenance, permanences, processes, clean-up, final status."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint.rng import draw_seed, seeded
from ridgepole.config import mask
from ridgepole.errors import RunDirError, join_errors, redact, text_of, user_traceback
from ridgepole.permanence import current_run, global_rank
from ridgepole.pipeline import provenance
from ridgepole.pipeline.controller import Controller
from ridgepole.pipeline.executor import Executor, Outcome
from ridgepole.pipeline.plan import Plan, plain_json
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.rundir import RunDir


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that finished.

    Attributes:
        id: The run id.
        path: The run directory.
        status: `"finished"`.
        seconds: Wall time.
        metrics: What the logger's summary says of each metric, as in `summary.json`.
        processes: How each process went.
    """

    id: str
    path: Path
    status: str
    seconds: float
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    processes: Sequence[Outcome] = ()


def run(plan: Plan, root: Path, announce: Callable[[Path], None] | None = None) -> RunResult:
    """Runs a plan in a directory of its own below a root.

    Args:
        plan: What to run.
        root: The directory that holds runs.
        announce: Is told the run directory as soon as it exists.

    Returns:
        The result.

    Raises:
        RunDirError: If the run directory can't be made or written.
        BaseException: What the run failed with, unchanged but for notes of where.
    """
    clock = time.monotonic()
    seed = draw_seed() if plan.settings.seed is None else plan.settings.seed
    config = plan.resolved(seed)
    # One run, however many ranks: what the others must keep for themselves is no run of its own.
    directory = RunDir.create(root / rundir.RANKS if global_rank() else root)
    errors: list[BaseException] = []
    outcomes: list[Outcome] = []
    guard = SignalGuard(plan.settings.grace_seconds)
    with contextlib.closing(directory), guard.installed():
        record = _Record(plan, directory, seed)
        late = False
        try:
            if announce is not None:
                announce(directory.path)
            record.start(config)
            controller = Controller(plan, directory.path, config, seed, guard)
            executor = Executor(plan, controller, guard)
            outcomes = executor.outcomes
            with seeded(seed, deterministic=plan.settings.deterministic):
                errors, late = _live(controller, executor)
        except BaseException as error:
            if record.is_forked:
                raise
            errors.append(error)
        status = _status(errors, failed_in_cleanup=late)
        try:
            record.end(status, errors, outcomes)
        except OSError as error:
            errors.append(error)
    if errors:
        raise join_errors(errors, f"run {directory.id} failed, and so did its clean-up")
    metrics = rundir.read_run(directory.path).json(rundir.SUMMARY).get("metrics", {})
    return RunResult(directory.id, directory.path, status, time.monotonic() - clock, metrics, outcomes)


def _live(controller: Controller, executor: Executor) -> tuple[list[BaseException], bool]:
    """The part of a run in which permanences exist. Returns its errors, and whether only the clean-up had any."""
    pid = os.getpid()
    token = current_run.set(controller)
    errors: list[BaseException] = []
    try:
        try:
            controller.open()
            executor.run()
        except BaseException as error:
            if os.getpid() != pid:  # a forked child that leaves by an exception: all of this is its parent's
                raise
            errors.append(error)
        controller.failed = bool(errors)
        late = controller.close()
    finally:
        current_run.reset(token)
    return errors + late, not errors and bool(late)


def _status(errors: Sequence[BaseException], *, failed_in_cleanup: bool) -> str:
    if not errors:
        return "finished"
    if failed_in_cleanup:
        return "finished_with_cleanup_errors"
    first = errors[0]
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, SystemExit) and not first.code:
        return "interrupted"  # the user's own code ended the run, and called it no failure
    return "interrupted" if isinstance(first, KeyboardInterrupt) else "failed"


class _Record:
    """What a run writes about itself."""

    def __init__(self, plan: Plan, directory: RunDir, seed: int) -> None:
        self.plan, self.directory = plan, directory
        self.fields: dict[str, Any] = {
            "pipeline": plan.settings.name,
            "status": "running",
            "started": time.time(),
            "ended": None,
            "seconds": None,
            "attempt": 1,
            "seed": seed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "file": str(plan.file.absolute()) if plan.file else None,
        }
        self.clock = time.monotonic()

    @property
    def is_forked(self) -> bool:
        """Whether this process is not the one that started the run."""
        return bool(os.getpid() != self.fields["pid"])

    def start(self, config: Mapping[str, Any]) -> None:
        """Writes what is known before anything runs.

        Raises:
            RunDirError: If it can't be written.
        """
        try:
            self._start(config)
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunDirError(f"can't write the run directory {self.directory.path}: {reason}") from error

    def _start(self, config: Mapping[str, Any]) -> None:
        directory, secrets = self.directory, self.plan.secrets
        directory.write_run(**self.fields)
        directory.write_config(self.plan.source)
        directory.write_json(rundir.RESOLVED, config)
        directory.start_attempt(1)
        state, diff = provenance.code_state(self.plan.directory)
        directory.write_json(
            rundir.PROVENANCE,
            plain_json(
                {
                    "command": sys.argv,
                    "overrides": self.plan.overrides,
                    "working_directory": str(Path.cwd()),
                    "pipeline_directory": str(self.plan.directory),
                    "git": state,
                    "machine": provenance.machine(),
                    "packages": provenance.packages(),
                },
                secrets,
            ),
        )
        if diff:
            masked = "\n".join(mask(line) for line in redact(diff, secrets).split("\n"))
            rundir.write_atomically(directory.path / rundir.DIFF, masked.encode("utf-8", "replace"))

    def end(self, status: str, errors: Sequence[BaseException], outcomes: Sequence[Outcome]) -> None:
        self.fields |= {
            "status": status,
            "ended": time.time(),
            "seconds": round(time.monotonic() - self.clock, 3),
            "processes": [asdict(outcome) for outcome in outcomes],
        }
        if errors:
            self.fields["error"] = plain_json(_described(errors[0]), self.plan.secrets)
        self.directory.write_run(**self.fields)


def _described(error: BaseException) -> dict[str, Any]:
    notes = getattr(error, "__notes__", None)
    return {
        "type": type(error).__name__,
        "message": text_of(error),
        "traceback": user_traceback(error),
        "notes": [text_of(note) for note in notes] if isinstance(notes, list) else [],
    }
