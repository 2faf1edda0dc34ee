"""What a run writes about itself: how it stands, what it was made from."""

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

from ridgepole import rundir
from ridgepole.config import mask
from ridgepole.errors import RunDirError, redact, text_of, user_traceback
from ridgepole.files import write_atomically
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
        writes: Whether this process writes it: rank 0 of a distributed run does.
    """

    def __init__(
        self, plan: Plan, directory: RunDir, seed: int, resumption: Resumption | None, *, writes: bool = True
    ) -> None:
        self.plan, self.directory = plan, directory
        self.writes = writes
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
        self._config: Mapping[str, Any] = {}

    @property
    def is_forked(self) -> bool:
        """Whether this process is not the one that started the run."""
        return bool(os.getpid() != self.fields["pid"])

    def start(self, config: Mapping[str, Any]) -> None:
        """Writes what is known before anything runs.

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

    def _start(self, config: Mapping[str, Any]) -> None:
        directory, secrets, self._config = self.directory, self.plan.secrets, config
        directory.write_run(**self.fields)
        goes_on = self.resumption is not None and self.resumption.name is not None
        where = (self.resumption.name, self.resumption.step) if self.resumption is not None and goes_on else ()
        directory.start_attempt(int(self.fields["attempt"]), *where)
        if goes_on:
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
            write_atomically(directory.path / rundir.DIFF, masked.encode("utf-8", "replace"))

    def adopt(self) -> None:
        """Notes what a resumed run goes on with where that is not what was stored: the states it had fit to it.

        The values given with `-s` are then those of this attempt; the rest of `provenance.json` stays as it was.

        Raises:
            OSError: If it can't be written.
        """
        if not self.writes:
            return
        stored = rundir.read_run(self.directory.path)
        if stored.json(rundir.RESOLVED) == self._config:
            return
        self.directory.write_config(self.plan.source)
        self.directory.write_json(rundir.RESOLVED, self._config)
        given = plain_json({"overrides": self.plan.overrides}, self.plan.secrets)
        self.directory.write_json(rundir.PROVENANCE, stored.json(rundir.PROVENANCE) | given)

    def note(self, outcome: Outcome) -> None:
        """Appends how a process stands, for those who look at a run while it goes on, or after a kill.

        A disk that refuses fails nothing here: how the run ends is written, or complained of, at its end.
        """
        if not self.is_forked and self.writes:
            with contextlib.suppress(OSError):
                self.directory.append_process(asdict(outcome))

    def end(self, status: str, errors: Sequence[BaseException], outcomes: Sequence[Outcome]) -> None:
        """Writes how the run has ended.

        Raises:
            OSError: If it can't be written.
        """
        if not self.writes:
            return
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
