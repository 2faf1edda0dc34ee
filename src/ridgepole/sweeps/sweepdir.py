"""The only module that knows the file names inside a sweep's directory, `<run root>/.sweeps/<id>`."""

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
COPY = "source"
JOURNAL = "journal.log"
LOCK = "driver.lock"
TRIALS = "trials"
PIPELINE = "pipeline.resolved.json"
WANDB = "wandb"
ATTACHED = "attached.json"
REPORT = "report"
PAGE = "report.html"
TASKS = "tasks"
LOG = "executor.log"


class SweepDir:
    """One sweep's directory.

    Attributes:
        path: The directory, absolute; its name is the sweep's id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @classmethod
    def create(cls, root: Path) -> SweepDir:
        """Makes the directory of a new sweep below a run root.

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
                (made.path / TRIALS).mkdir()
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
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.path / JOURNAL

    @property
    def lock(self) -> Flock:
        """Held by the one driver."""
        return Flock(self.path / LOCK)

    @property
    def report(self) -> Path:
        """The directory of its report."""
        return self.path / REPORT

    @property
    def page(self) -> Path | None:
        """The page of its report; None where none was written."""
        page = self.report / PAGE
        return page if page.is_file() else None

    def trial_lock(self, number: int) -> Flock:
        """Held by the process that runs a trial for another one."""
        return Flock(self._trial(number, "lock"))

    def trial_log(self, number: int) -> Path:
        """What a trial prints in a process of its own."""
        return self._trial(number, "log")

    def trial_events(self, number: int, attempt: int) -> Path:
        """What an attempt says, for who has no pipe to it."""
        return self._trial(number, f"{attempt}.events")

    def trial_wish(self, number: int, attempt: int) -> Path:
        """What an attempt is asked for, likewise."""
        return self._trial(number, f"{attempt}.ask")

    def trial_result(self, number: int, attempt: int) -> Path:
        """How an attempt in another process went."""
        return self._trial(number, f"{attempt}.json")

    @property
    def wandb(self) -> Path:
        """What W&B's client writes for the sweep itself."""
        return self.path / WANDB

    def attached(self) -> dict[str, Any]:
        """What W&B calls this sweep; empty where W&B does not have it."""
        return read_json(self.wandb / ATTACHED)

    def attach(self, fields: Mapping[str, Any]) -> None:
        """Notes what W&B calls this sweep."""
        write_atomically(self.wandb / ATTACHED, json.dumps(dict(fields)).encode() + b"\n")

    def trial_task(self, number: int, attempt: int) -> Path:
        """Which task of a scheduler runs an attempt."""
        return self._trial(number, f"{attempt}.task")

    @property
    def tasks(self) -> Path:
        """What a scheduler's client keeps of its tasks."""
        return self.path / TASKS

    @property
    def log(self) -> Path:
        """What a scheduler's client prints."""
        return self.path / LOG

    def is_there(self) -> bool:
        """Whether this process sees the sweep, as another machine does only through a file system that both share."""
        return (self.path / RECORD).is_file()

    def _trial(self, number: int, kind: str) -> Path:
        return self.path / TRIALS / f"{number:06d}.{kind}"

    def write_record(self, fields: Mapping[str, Any]) -> None:
        """Replaces `sweep.json`."""
        text = json.dumps({"format": FORMAT, "id": self.id, **fields}, indent=2, ensure_ascii=False, default=str)
        write_atomically(self.path / RECORD, text.encode("utf-8", "replace") + b"\n")

    def record(self) -> dict[str, Any]:
        """What `sweep.json` holds.

        Raises:
            SweepError: If this is no sweep, or a newer Ridgepole wrote it.
        """
        fields = read_json(self.path / RECORD)
        if not fields:
            raise SweepError(f"{self.path} is not a sweep: it has no {RECORD}")
        if not isinstance(fields.get("format"), int) or fields["format"] > FORMAT:
            raise SweepError(f"{self.path} was written by a newer Ridgepole (format {fields.get('format')}): upgrade")
        return fields

    def write_pipeline(self, description: Mapping[str, Any]) -> None:
        """Writes what the pipeline is, so that a resume notices where it is another one."""
        write_atomically(self.path / PIPELINE, json.dumps(dict(description), indent=2).encode() + b"\n", 0o600)

    def pipeline(self) -> dict[str, Any]:
        """What the pipeline was; empty where the sweep runs a function."""
        return read_json(self.path / PIPELINE)

    def write_spec(self, spec: Mapping[str, Any], source: bytes, suffix: str) -> None:
        """Writes the definition, and the file that it came from; both may hold secrets."""
        write_atomically(self.path / SPEC, json.dumps(spec, indent=2).encode() + b"\n", 0o600)
        if source:
            write_atomically(self.path / f"{COPY}{suffix}", source, 0o600)

    def spec(self) -> dict[str, Any]:
        """The definition.

        Raises:
            SweepError: If it is gone.
        """
        spec = read_json(self.path / SPEC)
        if not spec:
            raise SweepError(f"sweep {self.id} can't go on: {self.path / SPEC} is missing or damaged")
        return spec


def list_sweeps(root: Path) -> Iterator[SweepDir]:
    """The sweeps below a run root, newest first."""
    home = root.absolute() / SWEEPS
    try:
        names = sorted((path.name for path in home.iterdir()), reverse=True)
    except OSError:
        return
    for name in names:
        if (home / name / RECORD).is_file():
            yield SweepDir(home / name)


def find_sweep(spec: str | None, root: Path) -> SweepDir:
    """Finds a sweep by id, unique prefix or path; the newest when None or `latest`.

    Raises:
        RunDirError: If there is none, or more than one.
    """
    if spec and (os.sep in spec or (Path(spec) / RECORD).is_file()):
        if not (Path(spec) / RECORD).is_file():
            raise RunDirError(f"{spec} is not a sweep: it has no {RECORD}")
        return SweepDir(Path(spec))
    names = [sweep.id for sweep in list_sweeps(root)]
    if not names:
        raise RunDirError(f"no sweeps in {root}; name another root with --run-dir")
    if spec in (None, "", "latest"):
        return SweepDir(root / SWEEPS / names[0])
    fitting = [name for name in names if name.startswith(spec or "")]
    if len(fitting) == 1:
        return SweepDir(root / SWEEPS / fitting[0])
    if fitting:
        raise RunDirError(f"{spec!r} fits {len(fitting)} sweeps in {root}: {', '.join(fitting[:5])}")
    hint = did_you_mean(spec or "", names)
    raise RunDirError(f"no sweep {spec!r} in {root}{'; ' + hint if hint else f'; the newest is {names[0]}'}")
