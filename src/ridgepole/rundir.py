"""The files of a run directory; no other module knows their names."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ridgepole import project
from ridgepole.errors import RunDirError, did_you_mean
from ridgepole.files import Flock, read_json, write_atomically
from ridgepole.labels import Labels, read_labels

FORMAT = 1
"""Version of the layout; a directory with a larger one is refused."""

CONFIG = "config.toml"
RESOLVED = "config.resolved.json"
RUN = "run.json"
ATTEMPTS = "attempts.jsonl"
PROCESSES = "processes.jsonl"
PROVENANCE = "provenance.json"
DIFF = "code.diff"
OWNER = "owner.lock"
RUN_LOG = "run.log"
CONSOLE = "console.log"
CONSOLES = "console"
ALERTS = "alerts.jsonl"
STALLS = "stalls"
OOM = "oom"
METRICS = "metrics.jsonl"
METRICS_GLOB = "metrics*.jsonl"
COPIED = "metrics-copied.jsonl"
"""Metrics that a script logs with other libraries, written by the process that runs it."""
MEDIA = "media.jsonl"
SYSTEM = "system.jsonl"
SYSTEM_GLOB = "system*.jsonl"
STEPTIME = "steptime.json"
SUMMARY = "summary.json"
HPARAMS = "hparams.json"
FIGURES = "figures"
TABLES = "tables"
TEXTS = "texts"
MEDIA_FOLDERS = {"audio": "audio", "video": "videos", "html": "pages", "artifact": "artifacts"}
CHECKPOINTS = "checkpoints"
CACHE = ".cache"
"""Below the run root: the states of finished processes, which later runs may reuse."""
JOBS = ".jobs"
"""Below the run root: the records of jobs that were submitted to a cluster."""
JOB_VARIABLE = "RIDGEPOLE_JOB"
"""The environment variable that names the record of the job in which a run runs."""
RUN_OF_JOB = "run"
"""In the record of a job: the file with the id of its newest run."""
RANKS = ".ranks"
"""Below the run root: where the ranks of a launch rendezvous before they have a run directory."""

STATUSES = ("running", "finished", "failed", "interrupted", "crashed", "finished_with_cleanup_errors", "pruned")
"""Every status. `crashed` is never written: it is a `running` whose owner is gone."""
UNFINISHED = ("failed", "interrupted", "crashed")
"""The statuses of runs that can be resumed."""


def system_file(rank: int) -> str:
    """Return the name of the file of a rank's system metrics."""
    return f"system-rank-{rank}.jsonl" if rank else SYSTEM


def new_run_id(now: float | None = None) -> str:
    """Return an id that sorts by time, such as `20261122-101500-7f3a91c2`.

    It is the UTC time, then the fraction of the second in 1/65536 and 16 random bits, as hex.
    """
    now = time.time() if now is None else now
    whole = int(now)
    fraction = min(int((now - whole) * 65536), 65535)
    return f"{datetime.fromtimestamp(whole, UTC):%Y%m%d-%H%M%S}-{fraction:04x}{secrets.token_hex(2)}"


class RunDir:
    """One run's directory, held by the process that runs it.

    Attributes:
        path: The directory; its name is the run id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = Flock(path / OWNER)
        self._processes: int | None = None

    @classmethod
    def create(cls, root: Path) -> RunDir:
        """Create the directory of a new run below a root, and own it.

        Raises:
            RunDirError: If it can't be written.
        """
        root = root.absolute()
        try:
            root.mkdir(parents=True, exist_ok=True)
            run = cls(_make_new(root))
            if not run._owner.take(patience=30.0):  # a query locks it briefly
                raise BlockingIOError(errno.EWOULDBLOCK, f"another process holds {run.path / OWNER}")
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunDirError(
                f"can't make a run directory in {root}: {reason}; name another with --runs-dir or RIDGEPOLE_RUNS_DIR"
            ) from error
        return run

    @classmethod
    def reopen(cls, path: Path) -> RunDir:
        """Own the directory of a run that is not running.

        Raises:
            RunDirError: If a live process owns it, or it can't be written.
        """
        run = cls(path.absolute())
        try:
            owned = run._owner.take(patience=1.0)
        except OSError as error:
            raise RunDirError(f"run {path.name} can't be written: {error.strerror or error}") from error
        if not owned:
            raise RunDirError(f"run {path.name} is running already: {run._owner.who()} owns it")
        return run

    @property
    def id(self) -> str:
        """The run id."""
        return self.path.name

    def close(self) -> None:
        """Release the ownership."""
        self._owner.release()
        if self._processes is not None:
            os.close(self._processes)
            self._processes = None

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one of the directory's JSON files atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        write_atomically(self.path / name, text.encode("utf-8", "replace") + b"\n")

    def write_config(self, source: bytes) -> None:
        """Write the main config file unchanged, readable only by its owner, as for secrets."""
        write_atomically(self.path / CONFIG, source, 0o600)

    def write_run(self, **fields: Any) -> None:
        """Write `run.json`: the owner, the start and the status of the run."""
        self.write_json(RUN, {"format": FORMAT, "id": self.id, **fields})

    def append_process(self, fields: Mapping[str, Any]) -> None:
        """Append the status of a process to `processes.jsonl`, without a sync."""
        if self._processes is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._processes = os.open(self.path / PROCESSES, flags, 0o644)
        os.write(self._processes, json.dumps(fields).encode() + b"\n")

    def start_attempt(self, attempt: int, checkpoint: str | None = None, step: int | None = None, **more: Any) -> None:
        """Append a new attempt to `attempts.jsonl`, with the checkpoint that it resumes from."""
        note_attempt(self.path, attempt, checkpoint=checkpoint, step=step, **more)
        job = os.environ.get(JOB_VARIABLE)
        if job:
            with contextlib.suppress(OSError):  # the run does not need it
                write_atomically(Path(job) / RUN_OF_JOB, f"{self.id}\n".encode())


def _make_new(root: Path) -> Path:
    while True:
        path = root / new_run_id()
        try:
            path.mkdir()
        except FileExistsError:
            if not root.is_dir():
                raise
        else:
            return path


def note_attempt(
    directory: Path,
    attempt: int,
    first_seq: int | None = None,
    resumed_from_seq: int | None = None,
    **more: Any,
) -> None:
    """Append a line to `attempts.jsonl` of a run or log directory, and sync it.

    Args:
        directory: The directory.
        attempt: The number of the attempt, from 1.
        first_seq: The first sequence number of the attempt, if it resumed from a checkpoint.
        resumed_from_seq: The next sequence number of the checkpoint that it resumed from.
        **more: Further members of the line.
    """
    line: dict[str, Any] = {
        "attempt": attempt,
        "first_seq": first_seq,
        "resumed_from_seq": resumed_from_seq,
        "time": time.time(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        **more,
    }
    path = directory / ATTEMPTS
    with path.open("ab+") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a kill tore the last line; it must not spoil this one
                file.write(b"\n")
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file, and skip lines that can't be read."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def read_attempts(directory: Path) -> list[dict[str, Any]]:
    """Return the attempts of a run in their order.

    Each has `attempt`, `time`, `pid`, `host`, and `checkpoint` and `step` where it resumed from
    one. If parameters were changed for it, `changes` has lists of the old and the new value by key,
    empty where there is none, and `restored` the values that restored states brought back.
    """
    found: dict[int, dict[str, Any]] = {}
    for line in read_lines(directory / ATTEMPTS):
        number = line.get("attempt")
        if isinstance(number, int):
            # Loggers and restored states write later lines of the same attempt. So does a script
            # that restores a checkpoint, which its first line does not know yet.
            first = found.get(number, {})
            merged = line | {key: value for key, value in first.items() if value is not None or key not in line}
            parts = [each["restored"] for each in (first, line) if isinstance(each.get("restored"), dict)]
            if parts:  # a line for each component
                merged["restored"] = {key: value for part in parts for key, value in part.items()}
            found[number] = merged
    return [found[number] for number in sorted(found)]


def abandoned_segments(directory: Path) -> list[tuple[int, int]]:
    """Return the half-open ranges of sequence numbers that a resume has undone.

    `resumed_from_seq` of an attempt is the next sequence number of the checkpoint that it resumed
    from.
    `first_seq` is the first one that the attempt itself uses.
    The attempt before logged the records between them after the checkpoint. They are hidden, never
    deleted.
    """
    ranges = ((line.get("resumed_from_seq"), line.get("first_seq")) for line in read_lines(directory / ATTEMPTS))
    return [(start, end) for start, end in ranges if type(start) is int and type(end) is int and start < end]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The record of a run directory.

    Attributes:
        path: The directory.
        fields: The content of `run.json`; empty where it is missing or damaged.
        status: One of `STATUSES`; `crashed` where the owner of a running run is gone.
    """

    path: Path
    fields: Mapping[str, Any]
    status: str

    @property
    def id(self) -> str:
        """The run id."""
        return self.path.name

    @property
    def labels(self) -> Labels:
        """The labels of the run, read now."""
        return read_labels(self.path)

    def json(self, name: str) -> dict[str, Any]:
        """Read one of the directory's JSON files; empty where it is missing or damaged."""
        return read_json(self.path / name)


def read_run(path: Path) -> RunInfo:
    """Read the record of a run directory; a damaged `run.json` counts as a crashed run.

    Raises:
        RunDirError: If it is not a run directory, or a newer Ridgepole wrote it.
    """
    if not (path / RUN).exists() and not (path / OWNER).exists():
        raise RunDirError(f"{path} is not a run directory: it has no {RUN}")
    fields = read_json(path / RUN)
    version = fields.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise RunDirError(
            f"{path} was written by a newer Ridgepole (format {version}, this one reads {FORMAT}): upgrade"
        )
    status = str(fields.get("status", "running"))
    if status == "running" and not is_owned(path):
        status = "crashed"
    return RunInfo(path, fields, status)


def read_processes(run: RunInfo) -> list[dict[str, Any]]:
    """Return name, status, seconds and reason of each process of a run, in order.

    A finished run has them in `run.json`, a running or crashed one in `processes.jsonl`.
    """
    recorded = run.fields.get("processes")
    if isinstance(recorded, list):
        return recorded
    declared = run.json(RESOLVED).get("processes", {})
    found = {name: {"name": name, "status": "pending", "seconds": 0.0, "reason": ""} for name in declared}
    if not (run.path / PROCESSES).exists():
        return []
    found |= {line["name"]: line for line in read_lines(run.path / PROCESSES) if isinstance(line.get("name"), str)}
    return list(found.values())


def is_owned(path: Path) -> bool:
    """Return whether a live process owns this run."""
    return Flock(path / OWNER).holder() is not None


def list_runs(root: Path) -> Iterator[RunInfo]:
    """Yield the runs below a root, newest first; skip other directories."""
    try:
        names = sorted((path.name for path in root.iterdir()), reverse=True)
    except OSError:
        return
    for name in names:
        if name.startswith("."):
            continue
        try:
            yield read_run(root / name)
        except (RunDirError, OSError):
            continue


def find_run(spec: str, root: Path, here: Path | None = None) -> RunInfo:
    """Find a run by id, unique prefix or last part of it, unique name, path, or `latest`.

    Args:
        spec: The run. `latest` is the newest run of the project here.
        root: The directory that holds runs.
        here: Where the command is given; the working directory when None.

    Raises:
        RunDirError: If no run or more than one matches, or `latest` could mean several projects.
    """
    if os.sep in spec or (Path(spec) / RUN).exists():
        return read_run(Path(spec))
    if (root / spec / RUN).exists() and spec not in ("", ".", ".."):
        return read_run(root / spec)  # a whole id: report a newer format instead of skipping it
    runs = list(list_runs(root))
    if not runs:
        raise RunDirError(f"no runs in {root}; name another root with --runs-dir")
    if spec == "latest":
        return _newest(runs, root, here)
    names = [run.id for run in runs]
    fitting = [name for name in names if name.startswith(spec)] if spec else []
    if not fitting and spec:
        fitting = [run.id for run in runs if run.labels.name == spec or run.id.rpartition("-")[2] == spec]
    if len(fitting) == 1:
        return read_run(root / fitting[0])
    if fitting:
        raise RunDirError(
            f"{spec!r} matches {len(fitting)} runs in {root}: {', '.join(fitting[:5])}{', …' * (len(fitting) > 5)}"
        )
    hint = did_you_mean(spec, [*names, *filter(None, (run.labels.name for run in runs)), "latest"])
    raise RunDirError(f"no run {spec!r} in {root}{'; ' + hint if hint else f'; the newest is {names[0]}'}")


def _newest(runs: Sequence[RunInfo], root: Path, here: Path | None) -> RunInfo:
    """Return the newest run of the project here; a directory of runs may serve several projects."""
    newest: dict[Path | None, RunInfo] = {}
    for run in runs:
        newest.setdefault(project.directory_of(run.fields, root), run)
    known = [home for home in newest if home is not None]
    if len(newest) == 1 or not known:
        return runs[0]
    try:
        chosen = project.nearest(known, Path.cwd() if here is None else here)
    except OSError:  # the working directory is gone
        chosen = known
    if len(chosen) == 1:
        return newest[chosen[0]]
    shown = ", ".join(f"{newest[home].id} of {home}" for home in chosen[:5])
    raise RunDirError(f"{root} has runs of {len(chosen)} projects, so 'latest' is not clear: {shown}; name the run")
