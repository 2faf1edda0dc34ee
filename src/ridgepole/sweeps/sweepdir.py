"""The file names inside a sweep's directory, `<run root>/.sweeps/<id>`, known only here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError, SweepError, did_you_mean
from ridgepole.files import Flock, read_json, write_atomically
from ridgepole.rundir import new_run_id

FORMAT = 1
"""Version of the layout; a directory with a larger one is refused."""

SWEEPS = ".sweeps"
RECORD = "sweep.json"
SPEC = "spec.json"
PIPELINE = "pipeline.resolved.json"
PAGE = "report.html"


class SweepDir:
    """One sweep's directory.

    Attributes:
        path: The directory, absolute; its name is the sweep's id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.journal = self.path / "journal.log"  # Optuna's
        self.report = self.path / "report"
        self.wandb = self.path / "wandb"  # written by W&B's client for the sweep itself
        self.tasks = self.path / "tasks"  # kept by a scheduler's client
        self.log = self.path / "executor.log"  # printed by a scheduler's client
        self._trials = self.path / "trials"
        self._attached = self.wandb / "attached.json"

    @classmethod
    def create(cls, root: Path) -> SweepDir:
        """Make the directory of a new sweep below a run root.

        Raises:
            SweepError: If it can't be made.
        """
        home = root.absolute() / SWEEPS
        try:
            home.mkdir(parents=True, exist_ok=True)
            while True:
                made = cls(home / new_run_id())
                try:
                    made.path.mkdir()
                except FileExistsError:
                    continue
                made._trials.mkdir()
                return made
        except OSError as error:
            raise SweepError(f"can't make a sweep's directory in {home}: {error.strerror or error}") from error

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.path.name

    @property
    def root(self) -> Path:
        """The directory that holds the runs."""
        return self.path.parents[1]

    @property
    def lock(self) -> Flock:
        """The lock of the one driver."""
        return Flock(self.path / "driver.lock")

    @property
    def page(self) -> Path | None:
        """The page of the report; None before it was written."""
        page = self.report / PAGE
        return page if page.is_file() else None

    def exists(self) -> bool:
        """Return whether this process sees the sweep, over a shared file system too."""
        return (self.path / RECORD).is_file()

    # --- trials

    def _trial(self, number: int, suffix: str) -> Path:
        return self._trials / f"{number:06d}.{suffix}"

    def trial_lock(self, number: int) -> Flock:
        """Return the lock of the process that runs a trial for another one."""
        return Flock(self._trial(number, "lock"))

    def trial_log(self, number: int) -> Path:
        """Return the file for the output of a trial in a process of its own."""
        return self._trial(number, "log")

    def trial_events(self, number: int, attempt: int) -> Path:
        """Return the file for the events of an attempt to which no pipe leads."""
        return self._trial(number, f"{attempt}.events")

    def trial_request(self, number: int, attempt: int) -> Path:
        """Return the file for the requests to such an attempt."""
        return self._trial(number, f"{attempt}.ask")

    def trial_result(self, number: int, attempt: int) -> Path:
        """Return the file for the outcome of an attempt in another process."""
        return self._trial(number, f"{attempt}.json")

    def trial_task(self, number: int, attempt: int) -> Path:
        """Return the file that names the scheduler's task of an attempt."""
        return self._trial(number, f"{attempt}.task")

    def trial_wandb(self, number: int) -> Path:
        """Return the directory for W&B's files of a trial that runs a function."""
        return self._trial(number, "wandb")

    # --- records

    def attached(self) -> dict[str, Any]:
        """Return W&B's names of this sweep; empty where W&B does not have it."""
        return read_json(self._attached)

    def attach(self, fields: Mapping[str, Any]) -> None:
        """Record W&B's names of this sweep."""
        write_atomically(self._attached, json.dumps(dict(fields)).encode() + b"\n")

    def write_record(self, fields: Mapping[str, Any]) -> None:
        """Replace `sweep.json`."""
        text = json.dumps({"format": FORMAT, "id": self.id, **fields}, indent=2, ensure_ascii=False, default=str)
        write_atomically(self.path / RECORD, text.encode("utf-8", "replace") + b"\n")

    def record(self) -> dict[str, Any]:
        """Return the content of `sweep.json`.

        Raises:
            SweepError: If this is not a sweep, or a newer Ridgepole wrote it.
        """
        fields = read_json(self.path / RECORD)
        if not fields:
            raise SweepError(f"{self.path} is not a sweep: it has no {RECORD}")
        if not isinstance(fields.get("format"), int) or fields["format"] > FORMAT:
            raise SweepError(f"{self.path} was written by a newer Ridgepole (format {fields.get('format')}): upgrade")
        return fields

    def write_pipeline(self, description: Mapping[str, Any]) -> None:
        """Record the pipeline, so that a resume notices that it changed."""
        write_atomically(self.path / PIPELINE, json.dumps(dict(description), indent=2).encode() + b"\n", 0o600)

    def pipeline(self) -> dict[str, Any]:
        """Return the recorded pipeline; empty where the sweep runs a function."""
        return read_json(self.path / PIPELINE)

    def write_spec(self, spec: Mapping[str, Any], source: bytes, suffix: str) -> None:
        """Record the definition, and the file that it came from; both may hold secrets."""
        write_atomically(self.path / SPEC, json.dumps(spec, indent=2).encode() + b"\n", 0o600)
        if source:
            write_atomically(self.path / f"source{suffix}", source, 0o600)

    def spec(self) -> dict[str, Any]:
        """Return the definition.

        Raises:
            SweepError: If it is missing.
        """
        spec = read_json(self.path / SPEC)
        if not spec:
            raise SweepError(f"sweep {self.id} can't be resumed or read: {self.path / SPEC} is missing or damaged")
        return spec


def list_sweeps(root: Path) -> Iterator[SweepDir]:
    """Return the sweeps below a run root, newest first."""
    try:
        paths = sorted((root.absolute() / SWEEPS).iterdir(), reverse=True)
    except OSError:
        return iter(())
    return (sweep for sweep in map(SweepDir, paths) if sweep.exists())


def find_sweep(spec: str | None, root: Path) -> SweepDir:
    """Find a sweep by id, unique prefix or path; the newest when None or `latest`.

    Raises:
        RunDirError: If no sweep fits, or more than one.
    """
    if spec and (os.sep in spec or SweepDir(Path(spec)).exists()):
        sweep = SweepDir(Path(spec))
        if not sweep.exists():
            raise RunDirError(f"{spec} is not a sweep: it has no {RECORD}")
        return sweep
    sweeps = {sweep.id: sweep for sweep in list_sweeps(root)}
    if not sweeps:
        raise RunDirError(f"no sweeps in {root}; name another root with --runs-dir")
    newest = next(iter(sweeps))
    if spec in (None, "", "latest"):
        return sweeps[newest]
    fitting = [name for name in sweeps if name.startswith(spec or "")]
    if len(fitting) == 1:
        return sweeps[fitting[0]]
    if fitting:
        raise RunDirError(f"{spec!r} fits {len(fitting)} sweeps in {root}: {', '.join(fitting[:5])}")
    hint = did_you_mean(spec or "", sweeps)
    raise RunDirError(f"no sweep {spec!r} in {root}{'; ' + hint if hint else f'; the newest is {newest}'}")
