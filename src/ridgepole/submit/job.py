"""The record of a job: a directory below the runs that needs no cluster to be read."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ridgepole import rundir
from ridgepole.errors import RunDirError, did_you_mean
from ridgepole.files import Flock, read_json, write_atomically
from ridgepole.submit.spec import JobSpec, masked

State: TypeAlias = Literal["waiting", "running", "finished", "failed", "cancelled", "lost", "unknown"]
ENDS: Final[tuple[State, ...]] = ("finished", "failed", "cancelled", "lost")
"""The states that never change again."""
_FORMAT = 1
_LOCK = ".submit.lock"


class Job:
    """A job that was submitted, by its directory.

    Attributes:
        path: The directory; its name is the job's id.
        fields: The content of `job.json`.
    """

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        self.path, self.fields = path, fields

    @classmethod
    def create(cls, spec: JobSpec, executor: str, **more: Any) -> Job:
        """Make the directory of a job that is about to be submitted.

        Raises:
            RunDirError: If it can't be written.
        """
        path = Path(spec.root) / rundir.JOBS / rundir.new_run_id()
        fields = {
            "format": _FORMAT,
            "executor": executor,
            "number": None,
            "name": spec.name,
            "file": spec.file,
            "command": list(masked(spec.command)),
            "directory": spec.directory,
            "nodes": spec.nodes,
            "gpus_per_node": spec.gpus,
            "processes_per_node": spec.processes,
            "key": spec.key,
            "submitted": time.time(),
            **more,
        }
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RunDirError(f"can't make the directory of a job: {error}; name another with --runs-dir") from error
        job = cls(path, fields)
        job.write()
        return job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.path.name

    @property
    def number(self) -> str:
        """The cluster's number of the job, as `submit` or the job itself has noted it, or ""."""
        number = self.fields.get("number") or next((line.get("number") for line in self.events()), "")
        return str(number or "")

    @property
    def is_being_submitted(self) -> bool:
        """Return whether another process has made this record, and is about to note a number."""
        holder = None if self.number else Flock(self.path.parent / _LOCK).holder()
        return holder is not None and holder.get("pid") != os.getpid()

    @property
    def cluster_name(self) -> str:
        """The name of the job on the cluster, which no other job has."""
        return f"ridgepole-{self.fields.get('name', 'job')}-{self.id}"

    @property
    def log(self) -> Path:
        """The file with what the job prints."""
        return self.path / "job.log"

    @property
    def events_file(self) -> Path:
        """The file in which the job notes each of its starts and their ends."""
        return self.path / "events.jsonl"

    @property
    def stop_file(self) -> Path:
        """The file that asks for the job's end."""
        return self.path / "stop"

    def write(self) -> None:
        """Write `job.json`."""
        write_atomically(self.path / "job.json", json.dumps(self.fields, indent=2).encode() + b"\n")

    def discard(self) -> None:
        """Remove the directory of a job that the cluster refuses."""
        with contextlib.suppress(OSError):
            for file in self.path.iterdir():
                file.unlink()
            self.path.rmdir()

    def events(self) -> list[dict[str, Any]]:
        """Return a line for each start of the job, and for each end of one."""
        try:
            return list(rundir.read_lines(self.events_file))
        except OSError:
            return []

    def note(self, event: str, **fields: Any) -> None:
        """Append a line about a start, or about its end."""
        line = json.dumps({"event": event, **fields, "time": int(time.time())}).encode() + b"\n"
        fd = os.open(self.events_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def starts(self) -> int:
        """Return how often the job has started."""
        return sum(line.get("event") == "began" for line in self.events())

    def run(self) -> str:
        """Return the id of the run that the job has started or resumed; "" if there is none yet."""
        with contextlib.suppress(OSError):
            return (self.path / rundir.RUN_OF_JOB).read_text(encoding="utf-8").strip()
        return ""

    def end(self) -> tuple[State, str] | None:
        """Return the recorded end and its reason, if the job has one."""
        found = read_json(self.path / "ended.json")
        return (found["state"], str(found.get("reason", ""))) if found.get("state") in ENDS else None

    def record_end(self, state: State, reason: str) -> tuple[State, str]:
        """Record the end, unless one is recorded; return the one that counts."""
        part = self.path / f".ended.{os.getpid()}"
        value = {"state": state, "reason": reason, "seen": time.time()}
        with contextlib.suppress(OSError):  # the directory is read only: it is seen again the next time
            write_atomically(part, json.dumps(value).encode() + b"\n")
            with contextlib.suppress(FileExistsError):
                os.link(part, self.path / "ended.json")
            part.unlink()
        return self.end() or (state, reason)


def list_jobs(root: Path) -> list[Job]:
    """Return the jobs below a directory of runs, newest first."""
    try:
        paths = sorted((root / rundir.JOBS).iterdir(), reverse=True)
    except OSError:
        return []
    found = ((path.absolute(), read_json(path / "job.json")) for path in paths)
    return [Job(path, fields) for path, fields in found if isinstance(fields.get("format"), int)]


def find_job(spec: str, root: Path) -> Job:
    """Find a job by id, unique prefix, the cluster's number, or `latest`.

    Raises:
        RunDirError: If none or more than one matches, or a newer Ridgepole wrote it.
    """
    jobs = list_jobs(root)
    if not jobs:
        raise RunDirError(f"no jobs in {root}; name another directory of runs with --runs-dir")
    fitting = jobs[:1] if spec == "latest" else [job for job in jobs if spec and job.number == spec]
    fitting = fitting or [job for job in jobs if spec and job.id.startswith(spec)]
    if len(fitting) > 1:
        raise RunDirError(f"{spec!r} matches {len(fitting)} jobs: {', '.join(job.id for job in fitting[:5])}")
    if not fitting:
        hint = did_you_mean(spec, [job.id for job in jobs]) or f"the newest is {jobs[0].id}"
        raise RunDirError(f"no job {spec!r} in {root}; {hint}")
    if fitting[0].fields["format"] > _FORMAT:
        raise RunDirError(f"job {fitting[0].id} was written by a newer Ridgepole: update this one")
    return fitting[0]


@contextlib.contextmanager
def submitting(root: Path) -> Iterator[None]:
    """Let one process at a time submit jobs, so that none is submitted twice.

    Raises:
        RunDirError: If another one does, and takes long.
    """
    folder = root / rundir.JOBS
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"can't make a job in {root}: {error}; name another with --runs-dir") from error
    lock = Flock(folder / _LOCK)
    if not lock.take(patience=60.0):
        raise RunDirError(f"another process submits a job in {root}: {lock.who()}")
    try:
        yield
    finally:
        lock.release()
