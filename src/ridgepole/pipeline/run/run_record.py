"""The record that a run writes about itself: its status, and what it was made from."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ridgepole import project, rundir
from ridgepole.config import mask
from ridgepole.errors import RunDirError, StopRequested, redact, text_of, user_traceback
from ridgepole.files import write_atomically
from ridgepole.labels import NO_LABELS, Labels, LabelsChange
from ridgepole.pipeline.lifecycle.checkpointing import ResumePoint
from ridgepole.pipeline.lifecycle.process_run import ProcessOutcome
from ridgepole.pipeline.run import provenance
from ridgepole.pipeline.run.comparison import listed
from ridgepole.pipeline.run.left_out import record_of
from ridgepole.pipeline.spec.plan import Plan, plain_json
from ridgepole.rundir import RunDir
from ridgepole.runs.attempts import attempts_before
from ridgepole.watch.killed import baseline, find_kill


class RunRecord:
    """The files in which a run records its status and its origin.

    Args:
        plan: The plan.
        directory: The run directory.
        seed: The seed in use.
        resume_point: Where this attempt resumes; None for a fresh run.
        changes: The stored and the new value of each key that was allowed to change.
        parent: The run and the checkpoint that this one is forked from.
        writes: Whether this process writes the files: rank 0 of a distributed run does.

    Attributes:
        kill: How the attempt before was killed for lack of memory; None if it was not.
    """

    def __init__(
        self,
        plan: Plan,
        directory: RunDir,
        seed: int,
        resume_point: ResumePoint | None,
        changes: Mapping[str, tuple[Any, Any]],
        *,
        parent: Mapping[str, Any] | None = None,
        writes: bool = True,
    ) -> None:
        self.plan, self.directory = plan, directory
        self._is_new = resume_point is None or parent is not None
        self.writes = writes
        self.resume_point, self._changes = resume_point, changes
        self._adopted = False
        attempt = 1 if resume_point is None else resume_point.attempt
        before = {} if self._is_new else rundir.read_run(directory.path).fields
        self._attempts = attempts_before(directory.path, before)
        crashed = bool(self._attempts) and self._attempts[-1]["status"] == "crashed"
        # Looked for before this attempt writes to the same files
        self.kill = find_kill(directory.path) if writes and crashed else None
        self.fields: dict[str, Any] = {
            "pipeline": plan.settings.name,
            "status": "running",
            "started": before.get("started", time.time()),
            "ended": None,
            "seconds": None,
            "attempt": attempt,
            "attempts": self._attempts,
            "seed": seed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        } | _place(plan, directory.path, before)
        trial = plan.trial if plan.trial is not None else before.get("sweep")
        if trial is not None:
            self.fields["sweep"] = dict(trial)
        parent = parent if parent is not None else before.get("parent")
        if parent is not None:
            self.fields["parent"] = dict(parent)
        left_out = record_of(before, resume_point)
        if left_out:
            self.fields["skip_batches"] = left_out
        self.clock = time.monotonic()
        self._config: Mapping[str, Any] = {}

    @property
    def is_forked(self) -> bool:
        """Return whether this process is not the one that started the run."""
        return bool(os.getpid() != self.fields["pid"])

    def start(self, config: Mapping[str, Any]) -> None:
        """Write what is known before anything runs.

        Raises:
            RunDirError: If it can't be written.
        """
        if not self.writes:
            return
        try:
            self._start(config)
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunDirError(f"can't write the run directory {self.directory.path}: {reason}") from error
        tags = self.plan.settings.tags if self._is_new else ()
        labels = Labels(tags=tags).merged(self.plan.labels)
        if labels != NO_LABELS:
            with LabelsChange(self.directory.path) as change:
                change.labels = change.labels.merged(labels)

    def _start(self, config: Mapping[str, Any]) -> None:
        directory, secrets, self._config = self.directory, self.plan.secrets, config
        directory.write_run(**self.fields)
        attempt, point = int(self.fields["attempt"]), self.resume_point
        if point is not None:
            changed = {key: list(map(listed, pair)) for key, pair in self._changes.items()}
            more = {"changes": plain_json(changed, secrets)} if changed else {}
            more |= baseline(directory.path)
            directory.start_attempt(
                attempt, point.name, point.step if point.name else None, position=point.position, **more
            )
            if not self._is_new:
                return  # the origin of the results is recorded; a changed one counts from the first checkpoint on
        else:
            directory.start_attempt(attempt, **baseline(directory.path))
        self._write_origin(config)
        self._adopted = True

    def _write_origin(self, config: Mapping[str, Any]) -> None:
        directory, secrets = self.directory, self.plan.secrets
        directory.write_config(self.plan.source)
        directory.write_json(rundir.RESOLVED, config)
        state, diff = provenance.code_state(self.plan.directory)
        directory.write_json(
            rundir.PROVENANCE,
            plain_json(
                {
                    "command": [mask(each) for each in sys.argv],
                    "code": provenance.code_files(self.plan),
                    "overrides": self.plan.overrides,
                    "working_directory": _working_directory(),
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
            write_atomically(directory.path / rundir.DIFF, masked.encode("utf-8", "replace"))

    def adopt(self) -> None:
        """Record a changed description of a resumed run; called after each checkpoint.

        An attempt that fails before its first one leaves the description as it was. The `-s` values
        are then those of this attempt. The rest of `provenance.json` stays as it was, unless the
        attempt began at the beginning.

        Raises:
            OSError: If it can't be written.
        """
        if not self.writes or self._adopted:
            return
        stored = rundir.read_run(self.directory.path)
        if self.resume_point is None or self.resume_point.name is None:
            self._write_origin(self._config)
            self._adopted = True
            return
        self._adopted = stored.json(rundir.RESOLVED) == self._config
        if self._adopted:
            return
        self.directory.write_config(self.plan.source)
        self.directory.write_json(rundir.RESOLVED, self._config)
        given = plain_json({"overrides": self.plan.overrides}, self.plan.secrets)
        self.directory.write_json(rundir.PROVENANCE, stored.json(rundir.PROVENANCE) | given)
        self._adopted = True

    def note_restored(self, values: Mapping[str, Any]) -> None:
        """Record that restored states brought back values of parameters that were changed."""
        if self.writes:
            shown = plain_json(values, self.plan.secrets)
            rundir.note_attempt(self.directory.path, int(self.fields["attempt"]), restored=shown)

    @property
    def attempts(self) -> list[float]:
        """Return the wall time of each attempt so far; only valid at the end."""
        return [each["seconds"] for each in self.fields["attempts"]]

    @property
    def seconds(self) -> float:
        """Return the wall time of all attempts; only valid at the end."""
        return round(sum(self.attempts), 3)

    def note(self, outcome: ProcessOutcome) -> None:
        """Append a process's outcome, for readers of a running or killed run.

        Errors of the disk are ignored here: the end of the run is written, or fails, later.
        """
        if not self.is_forked and self.writes:
            with contextlib.suppress(OSError):
                self.directory.append_process(asdict(outcome))

    def end(
        self, status: str, errors: Sequence[BaseException], outcomes: Sequence[ProcessOutcome], step: int = 0
    ) -> None:
        """Record how the run has ended, and at which step.

        Raises:
            OSError: If it can't be written.
        """
        took = round(time.monotonic() - self.clock, 3)
        mine = {"attempt": self.fields["attempt"], "status": status, "seconds": took, "step": step}
        if errors and isinstance(errors[0], StopRequested):
            mine["signal"] = errors[0].signal_name
        self.fields["attempts"] = [*self._attempts, mine]
        if not self.writes:
            return
        if status in ("finished", "finished_with_cleanup_errors"):
            self.adopt()
        self.fields |= {
            "status": status,
            "ended": time.time(),
            "seconds": self.seconds,
            "processes": [asdict(outcome) for outcome in outcomes],
        }
        if errors and status != "pruned":
            self.fields["error"] = plain_json(_described(errors[0]), self.plan.secrets)
        self.directory.write_run(**self.fields)


def _place(plan: Plan, run: Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """Describe where the pipeline is; keep the old place if the run's copy of the file is used."""
    if before.get("file") and (plan.file is None or plan.file.parent == run):
        return {key: before[key] for key in ("file", "inode", "project") if key in before}
    return project.describe(plan.file, plan.directory, run.parent)


def _described(error: BaseException) -> dict[str, Any]:
    notes = getattr(error, "__notes__", None)
    return {
        "type": type(error).__name__,
        "message": text_of(error),
        "traceback": user_traceback(error),
        "notes": [text_of(note) for note in notes] if isinstance(notes, list) else [],
    }


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None
