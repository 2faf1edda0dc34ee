"""`ridgepole run` of a script, a module or a program: the part of `run` that is not a pipeline."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointStore
from ridgepole.cli.labels import labels_of
from ridgepole.cli.output import complain, near, paint, say, seconds
from ridgepole.errors import RunDirError
from ridgepole.labels import NO_LABELS, Labels
from ridgepole.rundir import RunInfo
from ridgepole.scripts.notices import anew
from ridgepole.scripts.record import Script, ScriptRecord, newest_unfinished, runs_root

_USAGE = 2  # argparse's exit code: the same command fails again
_CLEAR = "\r\x1b[J\x1b[?25h"  # erase what is below (ECMA-48, ED) and show the cursor


def is_script(arguments: argparse.Namespace) -> bool:
    """Return whether `run` is to start anything else than a pipeline."""
    return bool(arguments.module) or not str(arguments.file).endswith(".toml")


def run_script(arguments: argparse.Namespace) -> int:
    """Run a script as a child process, and end with one line: how it ended, and its directory."""
    script = _script(arguments)
    root = Path(arguments.runs_dir) if arguments.runs_dir else runs_root()
    before = newest_unfinished(root, script) if arguments.resume else None
    if arguments.resume and before is None:
        for line in anew(root, script):
            complain(line)
    if arguments.dry_run:
        say(shlex.join(script.shown()))
        if before is not None:
            complain(f"would resume {near(before.path)}")
        return 0
    return start_script(script, root, before, arguments, labels_of(arguments))


def resume_script(run: RunInfo, arguments: argparse.Namespace) -> int:
    """Resume the script of a run, with the command that the run recorded.

    Raises:
        RunDirError: If its arguments hold a secret, which is not stored.
    """
    if arguments.start is not None:
        raise RunDirError("--from is for pipelines; a script chooses its checkpoint itself, by run.restore()")
    if arguments.skip_batches is not None:
        raise RunDirError("--skip-batches is for pipelines: the loops of a script are its own")
    stored = run.fields["script"]
    command = [str(text) for text in stored["command"]]
    if any(text.endswith("***") for text in command):
        raise RunDirError(
            f"run {run.id} was started with a secret that is not stored: "
            "give the whole command again, with ridgepole run --resume"
        )
    directory = str(run.json("provenance.json").get("working_directory") or Path.cwd())
    name = str(run.fields.get("pipeline") or "script")
    script = Script(name=name, command=tuple(command), directory=directory, file=stored.get("file"))
    return start_script(script, run.path.parent, run, arguments)


def start_script(
    script: Script, root: Path, before: RunInfo | None, arguments: argparse.Namespace, labels: Labels = NO_LABELS
) -> int:
    """Start a script in a new run, or in one that it is to resume; return its exit code."""
    from ridgepole.scripts.supervise import supervise

    record = ScriptRecord.create(script, root, labels=labels) if before is None else ScriptRecord.reopen(before.path)
    if before is not None:
        complain(f"resuming {near(before.path)}: RIDGEPOLE_RESUME=1; a script that ignores it starts over")
    if getattr(arguments, "in_process", False):
        from ridgepole.scripts.in_process import run_in_process

        run_in_process(script, record, module=arguments.module, resume=before is not None)
        return 0
    status, code = supervise(script, record, resume=before is not None)
    took = seconds(record.fields["seconds"])
    line = f"{status} in {took} · {near(record.path)}"
    if status == "finished":
        complain(line)
    else:
        error = record.fields.get("error") or {}
        if error.get("type") == "Signal":
            if os.isatty(1) and os.isatty(2):  # its bars are still there
                sys.stderr.write(_CLEAR)
            line = f"{line} · {error['message']}"
        complain(paint(line, "red", sys.stderr))
        command = f"ridgepole resume {shlex.quote(near(record.path))}"
        if CheckpointStore(record.path / rundir.CHECKPOINTS).list():
            complain(f"resume with: {command}")
        elif code != _USAGE or (record.path / rundir.SUMMARY).exists():
            complain(f"the run has no checkpoint; run the script again with: {command}")
    return code


def _script(arguments: argparse.Namespace) -> Script:
    """Return what is to be run.

    Raises:
        RunDirError: If it does not exist, or an option is for pipelines only.
    """
    if arguments.overrides or arguments.allow_change:
        raise RunDirError(
            "-s and --allow-change are for pipelines; arguments of a script go behind --, "
            "as in: ridgepole run train.py -- --lr 0.1"
        )
    given, here = tuple(arguments.arguments), str(Path.cwd())
    if arguments.module:
        name = str(arguments.module)
        command = (sys.executable, "-m", name, *given)
        return Script(name=name.rpartition(".")[2], command=command, arguments=given, directory=here)
    text = str(arguments.file)
    path = Path(text)
    if path.suffix == ".py":
        if not path.is_file():
            raise RunDirError(f"no script {text}: there is no such file in {here}")
        file = str(path.absolute())
        command = (sys.executable, text, *given)
        return Script(name=path.stem, command=command, arguments=given, directory=here, file=file)
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        raise RunDirError(
            f"{text} is neither a pipeline nor a script; a sweep starts with: ridgepole sweep start {text}"
        )
    found = shutil.which(text)
    if found is None:
        kind = "is not executable" if path.is_file() else "is not a pipeline (.toml), a script (.py) or a program"
        raise RunDirError(f"{text} {kind}; a module runs with: ridgepole run -m {text}")
    if arguments.in_process:
        raise RunDirError(f"--in-process runs Python code; {text} is a program")
    return Script(name=path.name, command=(found, *given), arguments=given, directory=here)
