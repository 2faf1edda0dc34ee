"""The record of a script's run: the same files as those of a pipeline's run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ridgepole import project, rundir
from ridgepole.config.secrets import looks_secret, mask
from ridgepole.errors import RunDirError
from ridgepole.files import read_json, write_atomically
from ridgepole.labels import NO_LABELS, Labels, LabelsChange
from ridgepole.metrics.codec import decode
from ridgepole.metrics.summary import Summary
from ridgepole.pipeline.run import provenance
from ridgepole.pipeline.spec.plan import plain_json
from ridgepole.rundir import RunDir, RunInfo
from ridgepole.runs.attempts import attempts_before

_STOPS = {128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP, 75}
"""Exit codes of a script that was asked to stop."""
_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A program with its arguments.

    Attributes:
        name: The name of its runs.
        command: The whole command line.
        arguments: The arguments of the script itself.
        directory: The working directory, absolute.
        file: The script's file, absolute; None for a module or a program that is not a script.
    """

    name: str
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    directory: str
    file: str | None = None

    @property
    def key(self) -> str:
        """Return what a run must have in common to be resumed: script, arguments, directory."""
        what = self.file or self.command[: len(self.command) - len(self.arguments)]
        text = json.dumps([what, self.arguments, self.directory])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def shown(self) -> list[str]:
        """Return the command line without secrets."""
        return _masked(self.command)


def parameters(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that a command line seems to set, for `runs show` and `runs diff`.

    `--lr 0.1`, `--lr=0.1` and `lr=0.1` set `lr`; a flag without a value is true. Values are texts.
    """
    found: dict[str, Any] = {}
    others: list[str] = []
    name = ""
    for text in arguments:
        number = text[1:2].isdigit() or text[1:2] == "."
        if text.startswith("-") and not number and text.strip("-"):
            key, equals, value = text.lstrip("-").partition("=")
            found[key] = value if equals else True
            name = "" if equals else key
        elif name:
            found[name], name = text, ""
        elif "=" in text and text.partition("=")[0].replace(".", "_").strip("+").isidentifier():
            key, _, value = text.partition("=")
            found[key.lstrip("+")] = value
        else:
            others.append(text)
    return found | ({"arguments": others} if others else {})


class ScriptRecord:
    """The run directory of a script, owned by this process.

    Attributes:
        directory: The run directory.
        fields: The content of `run.json`.
    """

    def __init__(self, directory: RunDir, fields: dict[str, Any]) -> None:
        self.directory, self.fields = directory, fields
        self._clock = time.monotonic()

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @classmethod
    def create(
        cls,
        script: Script,
        root: Path,
        *,
        seed: int | None = None,
        trial: Mapping[str, Any] | None = None,
        labels: Labels = NO_LABELS,
    ) -> ScriptRecord:
        """Make the directory of a new run, and write what is known before the script starts.

        Raises:
            RunDirError: If it can't be written.
        """
        directory = RunDir.create(root)
        fields = {
            "pipeline": script.name,
            "status": "running",
            "started": time.time(),
            "ended": None,
            "seconds": None,
            "attempt": 1,
            "attempts": [],
            "seed": seed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **project.describe(None, Path(script.directory), root),
            "script": {"command": script.shown(), "file": script.file, "key": script.key},
            "processes": [],
        }
        if trial is not None:
            fields["sweep"] = dict(trial)
        record = cls(directory, fields)
        record._write_first(script)
        if labels != NO_LABELS:
            record._write(lambda: _add_labels(record.path, labels))
        record._clock = time.monotonic()  # what was written above is not the script's time
        return record

    @classmethod
    def reopen(cls, path: Path, *, trial: Mapping[str, Any] | None = None, finished: bool = False) -> ScriptRecord:
        """Own the directory of a run that has stopped, for one more attempt.

        Args:
            path: The run directory.
            trial: The description of the trial that the run belongs to.
            finished: Whether a run that has finished may continue.

        Raises:
            RunDirError: If the run has finished, is running, or can't be written.
        """
        directory = RunDir.reopen(path)
        stored = rundir.read_run(directory.path)
        # One that was killed says that it runs, and now it is ours
        if stored.status not in (*rundir.UNFINISHED, "running") and trial is None and not finished:
            directory.close()
            raise RunDirError(f"run {stored.id} has {stored.status.replace('_', ' ')}: there is nothing to resume")
        fields = {key: value for key, value in stored.fields.items() if key not in ("format", "id")}
        for key in ("error", "exit_code", "signal"):
            fields.pop(key, None)
        fields["attempts"] = attempts_before(directory.path, stored.fields)
        fields |= {"status": "running", "ended": None, "seconds": None, "pid": os.getpid()}
        fields |= {"attempt": int(fields.get("attempt") or 1) + 1, "host": socket.gethostname()}
        if trial is not None:
            fields["sweep"] = dict(trial)
        record = cls(directory, fields)
        record._write(lambda: directory.start_attempt(fields["attempt"]))
        record._clock = time.monotonic()
        return record

    def _write_first(self, script: Script) -> None:
        def write() -> None:
            directory = self.directory
            directory.write_json(rundir.RESOLVED, {"params": _without_secrets(parameters(script.arguments))})
            folder = Path(script.file).parent if script.file else Path(script.directory)
            state, diff = provenance.code_state(folder)
            origin = {
                "command": script.shown(),
                "code": _code(script.file),
                "overrides": [],
                "working_directory": script.directory,
                "git": state,
                "machine": provenance.machine(),
                "packages": provenance.packages(),
            }
            directory.write_json(rundir.PROVENANCE, plain_json(origin))
            if diff:
                text = "\n".join(mask(line) for line in diff.split("\n"))
                write_atomically(directory.path / rundir.DIFF, text.encode("utf-8", "replace"))
            directory.start_attempt(1)

        self._write(write)

    def _write(self, more: Callable[[], object]) -> None:
        try:
            self.directory.write_run(**self.fields)
            more()
        except OSError as error:
            self.directory.close()
            reason = error.strerror or str(error)
            raise RunDirError(f"can't write the run directory {self.path}: {reason}") from error

    def end(self, status: str, **more: Any) -> None:
        """Record how the script has ended, and release the directory.

        Args:
            status: The status.
            **more: Further fields, such as `exit_code` and `error`; None is left out.

        Raises:
            OSError: If it can't be written.
        """
        stored = rundir.read_run(self.path).fields
        self.fields["seed"] = stored.get("seed", self.fields["seed"])
        # What the script has added
        self.fields |= {key: stored[key] for key in stored if key not in (*self.fields, "format", "id")}
        self.fields |= {key: value for key, value in more.items() if value is not None}
        took = round(time.monotonic() - self._clock, 3)
        mine = {"attempt": self.fields["attempt"], "status": status, "seconds": took}
        attempts = [*self.fields["attempts"], mine]
        total = round(sum(each["seconds"] for each in attempts), 3)
        self.fields |= {"status": status, "ended": time.time(), "seconds": total, "attempts": attempts}
        try:
            _renew_summary(self.path)
            self.directory.write_run(**self.fields)
        finally:
            self.directory.close()


def describe(path: Path, *, config: Mapping[str, Any] | None, labels: Labels = NO_LABELS, seed: int | None) -> None:
    """Add what a script says about itself to its run's record.

    Raises:
        OSError: If it can't be written.
    """
    directory = RunDir(path)
    if seed is not None:
        stored = rundir.read_run(path).fields
        directory.write_run(**{key: stored[key] for key in stored if key not in ("format", "id")} | {"seed": seed})
    if config is not None:
        params = _without_secrets(plain_json(dict(config)))
        directory.write_json(rundir.RESOLVED, {"params": params})
    if labels != NO_LABELS:
        _add_labels(path, labels)


def _add_labels(path: Path, labels: Labels) -> None:
    with LabelsChange(path) as change:
        if change.labels.name:  # by the command line, or by hand
            labels = replace(labels, name="")
        change.labels = change.labels.merged(labels)


def _renew_summary(path: Path) -> None:
    """Write the summary of a script that ended without closing its logger."""
    files = sorted(path.glob(rundir.METRICS_GLOB))
    written, stored = path / rundir.SUMMARY, read_json(path / rundir.SUMMARY)
    if not files or (stored and written.stat().st_mtime_ns >= max(file.stat().st_mtime_ns for file in files)):
        return
    summary, abandoned = Summary(), rundir.abandoned_segments(path)
    for line in (line for file in files for line in file.read_bytes().splitlines()):
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):  # a torn or bad line
            record = decode(line)
            if not any(first <= record["seq"] < end for first, end in abandoned):
                summary.update(record["metrics"], record["step"])
    RunDir(path).write_json(rundir.SUMMARY, stored | {"metrics": summary.as_dict()})


def ending(code: int, *, stopped: bool = False) -> tuple[str, dict[str, Any]]:
    """Return the status and the fields for a process that ended.

    Args:
        code: Its exit code, negative for a signal, as `subprocess` has it.
        stopped: Whether it was asked to stop.
    """
    fields: dict[str, Any] = {"exit_code": 128 - code if code < 0 else code}
    if code >= 0:
        asked = code in _STOPS or (stopped and code)
        return ("interrupted" if asked else "failed" if code else "finished"), fields
    number = -code
    with contextlib.suppress(ValueError):
        fields["signal"] = signal.Signals(number).name
    return ("interrupted" if number in _STOP_SIGNALS or stopped else "failed"), fields


def how_it_ended(name: str, code: int) -> str:
    """Return how a process ended, as a sentence for an error."""
    if code >= 0:
        return f"{name} exited with code {code}"
    try:
        word = signal.Signals(-code).name
    except ValueError:
        word = f"signal {-code}"
    hints = {"SIGKILL": ", as when memory runs out", "SIGSEGV": " (a segmentation fault)"}
    verb = "stopped" if word == "SIGINT" else "killed"  # by Ctrl-C
    return f"{name} was {verb} by {word}{hints.get(word, '')}"


def newest_unfinished(root: Path, script: Script, name: str | None = None) -> RunInfo | None:
    """Return the newest run of a script that can be resumed; trials are left to their sweep.

    Args:
        root: The directory that holds runs.
        script: The script.
        name: The run's name; None for any.
    """
    same = (run for run, stored in _unfinished(root) if stored.get("key") == script.key)
    return next((run for run in same if name is None or run.labels.name == name), None)


def unfinished_with_others(root: Path, script: Script) -> RunInfo | None:
    """Return the newest run of a script's file that can be resumed and had other arguments."""
    others = (run for run, stored in _unfinished(root) if stored.get("key") != script.key)
    return next((run for run in others if script.file and run.fields["script"].get("file") == script.file), None)


def _unfinished(root: Path) -> Iterator[tuple[RunInfo, dict[str, Any]]]:
    for run in rundir.list_runs(root):
        stored = run.fields.get("script")
        if isinstance(stored, dict) and run.status in rundir.UNFINISHED and not run.fields.get("sweep"):
            yield run, stored


def runs_root() -> Path:
    """Return where scripts make their runs: `runs` of the working directory, else the variable's.

    Commands look there in the same order.
    """
    root, given = Path("runs"), os.environ.get("RIDGEPOLE_RUNS_DIR")
    return Path(given) if given and not root.is_dir() else root


def this_script() -> Script:
    """Describe the script of this process."""
    main = Path(sys.argv[0] or "python")
    file = str(main.absolute()) if main.is_file() else None
    return Script(
        name=main.stem,
        command=tuple(sys.orig_argv),
        arguments=tuple(sys.argv[1:]),
        directory=str(Path.cwd()),
        file=file,
    )


def _code(file: str | None) -> dict[str, str]:
    """Hash the script and the Python files beside it, as `provenance.code_files` does."""
    found = {}
    for path in sorted({Path(file), *Path(file).parent.glob("*.py")}) if file else ():
        with contextlib.suppress(OSError):
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def _masked(command: Sequence[str]) -> list[str]:
    shown: list[str] = []
    secret = False
    for text in command:
        key, equals, _ = text.partition("=")
        if secret and not text.startswith("-"):
            shown.append("***")
        else:
            shown.append(f"{key}=***" if equals and looks_secret(key.lstrip("-")) else text)
        secret = text.startswith("-") and not equals and looks_secret(text.lstrip("-"))
    return shown


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "***" if item is not None and looks_secret(str(key)) else _without_secrets(item)
            for key, item in value.items()
        }
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
