"""What a run writes about itself: how it stands, what it was made from."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.config import mask
from ridgepole.errors import RunDirError, redact, text_of, user_traceback
from ridgepole.pipeline import provenance
from ridgepole.pipeline.checkpoints import Resumption
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.plan import Plan, plain_json
from ridgepole.rundir import RunDir


class Record:
    """What a run writes about itself.

    Args:
        plan: What runs.
        directory: The run directory.
        seed: The seed in use.
        resumption: Where this attempt goes on; None for a fresh run.
    """

    def __init__(self, plan: Plan, directory: RunDir, seed: int, resumption: Resumption | None) -> None:
        self.plan, self.directory = plan, directory
        self.resumption = resumption
        attempt = 1 if resumption is None else resumption.attempt
        before = {} if resumption is None else rundir.read_run(directory.path).fields
        self.fields: dict[str, Any] = {
            "pipeline": plan.settings.name,
            "status": "running",
            "started": before.get("started", time.time()),
            "ended": None,
            "seconds": None,
            "attempt": attempt,
            "seed": seed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "file": before.get("file", str(plan.file.absolute()) if plan.file else None),
        }
        trial = plan.trial if plan.trial is not None else before.get("sweep")
        if trial is not None:
            self.fields["sweep"] = dict(trial)
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
        directory.start_attempt(int(self.fields["attempt"]))
        if self.resumption is not None and self.resumption.name is not None:
            return  # what the results come from is what the first attempt wrote
        directory.write_config(self.plan.source)
        directory.write_json(rundir.RESOLVED, config)
        state, diff = provenance.code_state(self.plan.directory)
        directory.write_json(
            rundir.PROVENANCE,
            plain_json(
                {
                    "command": sys.argv,
                    "code": provenance.code_files(self.plan),
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
        """Writes how the run has ended.

        Raises:
            OSError: If it can't be written.
        """
        self.fields |= {
            "status": status,
            "ended": time.time(),
            "seconds": round(time.monotonic() - self.clock, 3),
            "processes": [asdict(outcome) for outcome in outcomes],
        }
        if errors and status != "pruned":
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
