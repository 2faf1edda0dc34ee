"""The only module that knows the file names inside a run directory."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError, did_you_mean
from ridgepole.files import Flock, write_atomically

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
METRICS = "metrics.jsonl"
METRICS_GLOB = "metrics*.jsonl"
MEDIA = "media.jsonl"
SUMMARY = "summary.json"
HPARAMS = "hparams.json"
FIGURES = "figures"
TABLES = "tables"
TEXTS = "texts"
CHECKPOINTS = "checkpoints"
CACHE = ".cache"
"""Below the run root: states that finished processes left, for runs that need not do the same again."""
RANKS = ".ranks"
"""Below the run root: where the ranks of a launch find each other before they have a run directory."""

STATUSES = ("running", "finished", "failed", "interrupted", "crashed", "finished_with_cleanup_errors", "pruned")
"""Every status word. `crashed` is never written: it is a `running` whose owner is gone."""


def new_run_id(now: float | None = None) -> str:
    """An id that sorts by time: UTC to the second, then the fraction of the second and 16 random bits as hex.

    Args:
        now: Seconds since the epoch; the clock when None.

    Returns:
        Such as `20261122-101500-7f3a91c2`; the first four hex digits count 1/65536 of a second.
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
        """Makes the directory of a new run below a root and takes its ownership.

        Args:
            root: The directory that holds runs; made where it is missing.

        Returns:
            The new directory, which no other run has ever had.

        Raises:
            RunDirError: If nothing can be written there.
        """
        root = root.absolute()
        try:
            root.mkdir(parents=True, exist_ok=True)
            while True:
                path = root / new_run_id()
                try:
                    path.mkdir()
                except FileExistsError:
                    if not root.is_dir():
                        raise
                    continue
                break
            run = cls(path)
            if not run._owner.take(patience=30.0):  # such as one who cleans up, and asks for a moment who owns it
                raise BlockingIOError(errno.EWOULDBLOCK, f"another process holds {path / OWNER}")
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunDirError(f"can't make a run directory in {root}: {reason}; name another with --run-dir") from error
        return run

    @property
    def id(self) -> str:
        """The run id."""
        return self.path.name

    @classmethod
    def reopen(cls, path: Path) -> RunDir:
        """Takes the ownership of a run that nobody runs any more.

        Args:
            path: The run directory.

        Returns:
            The directory.

        Raises:
            RunDirError: If a live process owns it, which is named, or it can't be written.
        """
        run = cls(path.absolute())
        try:
            owned = run._owner.take(patience=1.0)
        except OSError as error:
            raise RunDirError(f"run {path.name} can't be written: {error.strerror or error}") from error
        if not owned:
            raise RunDirError(f"run {path.name} is running already: {run._owner.who()} owns it")
        return run

    def close(self) -> None:
        """Gives the ownership back."""
        self._owner.release()
        if self._processes is not None:
            os.close(self._processes)
            self._processes = None

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes one of the directory's JSON files atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        write_atomically(self.path / name, text.encode("utf-8", "replace") + b"\n")

    def write_config(self, source: bytes) -> None:
        """Writes the main config file byte for byte, readable by its owner alone: it may hold secrets."""
        write_atomically(self.path / CONFIG, source, 0o600)

    def write_run(self, **fields: Any) -> None:
        """Writes `run.json`: who runs this, since when, and how it stands."""
        self.write_json(RUN, {"format": FORMAT, "id": self.id, **fields})

    def append_process(self, fields: Mapping[str, Any]) -> None:
        """Appends how a process stands to `processes.jsonl`; cheap, as there may be thousands, and so not synced."""
        if self._processes is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._processes = os.open(self.path / PROCESSES, flags, 0o644)
        os.write(self._processes, json.dumps(fields).encode() + b"\n")

    def start_attempt(self, attempt: int, checkpoint: str | None = None, step: int | None = None) -> None:
        """Appends the line of a new attempt to `attempts.jsonl`, with the checkpoint that it goes on from."""
        note_attempt(self.path, attempt, checkpoint=checkpoint, step=step)


def note_attempt(
    directory: Path,
    attempt: int,
    first_seq: int | None = None,
    resumed_from_seq: int | None = None,
    **more: str | int | None,
) -> None:
    """Appends a line to a directory's `attempts.jsonl`; it is on the disk when this returns.

    Args:
        directory: A run directory, or the directory of a logger.
        attempt: The number of the attempt, from 1.
        first_seq: The first sequence number that it uses, where it has gone back to a checkpoint.
        resumed_from_seq: The sequence number that the checkpoint would have used next.
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
            if file.read(1) != b"\n":  # a line that a kill has torn must not take this one with it
                file.write(b"\n")
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_attempts(directory: Path) -> list[dict[str, Any]]:
    """The attempts of a run, in their order.

    Args:
        directory: The run directory.

    Returns:
        What the line says with which each began: `attempt`, `time`, `pid`, `host`, and `checkpoint` and `step` of the
        checkpoint that it went on from. Lines that can't be read are passed over.
    """
    try:
        lines = (directory / ATTEMPTS).read_bytes().splitlines()
    except OSError:
        return []
    found: dict[int, dict[str, Any]] = {}
    for text in lines:
        try:
            line = json.loads(text)
            found.setdefault(int(line["attempt"]), line)  # later lines of an attempt are the loggers'
        except (ValueError, TypeError, KeyError):
            continue
    return [found[number] for number in sorted(found)]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run directory says of itself.

    Attributes:
        path: The directory.
        fields: The content of `run.json`; empty where it is missing or damaged.
        status: One of `STATUSES`, the owner's absence taken into account.
    """

    path: Path
    fields: Mapping[str, Any]
    status: str

    @property
    def id(self) -> str:
        """The run id."""
        return self.path.name

    def json(self, name: str) -> dict[str, Any]:
        """One of the directory's JSON files; empty where it is missing or damaged."""
        return _read_json(self.path / name)


def read_run(path: Path) -> RunInfo:
    """Reads what a run directory says of itself, without changing anything in it.

    Args:
        path: The run directory.

    Returns:
        The information; a damaged `run.json` counts as a crashed run.

    Raises:
        RunDirError: If it is no run directory, or one that a newer Ridgepole wrote.
    """
    if not (path / RUN).exists() and not (path / OWNER).exists():
        raise RunDirError(f"{path} is not a run directory: it has no {RUN}")
    fields = _read_json(path / RUN)
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
    """How the processes of a run stand: as it said at its end, else as it noted on the way.

    Args:
        run: The run.

    Returns:
        Name, status, seconds and reason of each process, in order; lines that can't be read are passed over.
    """
    said = run.fields.get("processes")
    if isinstance(said, list):
        return said
    declared = run.json(RESOLVED).get("processes", {})
    found = {name: {"name": name, "status": "pending", "seconds": 0.0, "reason": ""} for name in declared}
    try:
        lines = (run.path / PROCESSES).read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            fields = json.loads(line)
            found[fields["name"]] = fields
        except (ValueError, TypeError, KeyError):
            continue
    return list(found.values())


def is_owned(path: Path) -> bool:
    """Whether a live process runs this run."""
    return Flock(path / OWNER).holder() is not None


def list_runs(root: Path) -> Iterator[RunInfo]:
    """The runs below a root, newest first; directories that are no runs are passed over."""
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


def find_run(spec: str, root: Path) -> RunInfo:
    """Finds a run by id, unique prefix, path, or `latest`.

    Args:
        spec: What the user typed.
        root: The directory that holds runs.

    Returns:
        The run.

    Raises:
        RunDirError: If there is none, or more than one; the message lists what there is.
    """
    if os.sep in spec or (Path(spec) / RUN).exists():
        return read_run(Path(spec))
    if (root / spec / RUN).exists() and spec not in ("", ".", ".."):
        return read_run(root / spec)  # a whole id: a newer format is said, not passed over
    names = [run.id for run in list_runs(root)]
    if not names:
        raise RunDirError(f"no runs in {root}; name another root with --run-dir")
    if spec == "latest":
        return read_run(root / names[0])
    fitting = [name for name in names if name.startswith(spec)] if spec else []
    if len(fitting) == 1:
        return read_run(root / fitting[0])
    if fitting:
        raise RunDirError(f"{spec!r} fits {len(fitting)} runs in {root}: {', '.join(fitting[:5])}")
    hint = did_you_mean(spec, names)
    raise RunDirError(f"no run {spec!r} in {root}{'; ' + hint if hint else f'; the newest is {names[0]}'}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
