"""`ridgepole runs rm|gc`: choose runs, ask, and remove them without leaving partial ones."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ridgepole import rundir
from ridgepole.cli.output import cell, columns, complain, counted, near, say, size, when
from ridgepole.errors import RunDirError
from ridgepole.files import fsync_directory
from ridgepole.rundir import RunDir, RunInfo

_LEFTOVER = re.compile(r"\.removing-.+-[0-9a-f]{8}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def remove(arguments: argparse.Namespace, root: Path) -> int:
    """`runs rm`: remove the named runs."""
    runs = list({run.path: run for run in (_named(spec, root) for spec in arguments.runs)}.values())
    for run in runs:
        if run.status == "running":
            who = f"process {run.fields.get('pid', '?')} on {run.fields.get('host', '?')}"
            raise RunDirError(f"run {run.id} is running: stop {who} first")
    return _carry_out(runs, yes=arguments.yes)


def collect(arguments: argparse.Namespace, root: Path) -> int:
    """`runs gc`: remove runs by rules, leftovers, and cached processes beyond a limit."""
    leftovers = [path for path in _entries(root) if _LEFTOVER.fullmatch(path.name)]
    runs = _superfluous(root, arguments)
    cached = _beyond_limit(root / rundir.CACHE, arguments.cache_size, leftovers)
    if arguments.dry_run:
        _show(runs, "would remove")
        _tell(leftovers, cached, "would remove")
        return 0
    if not (runs or leftovers or cached):
        say(f"nothing to remove in {root}")
    code = _carry_out(runs, yes=arguments.yes) if runs else 0
    if code == 0:
        _tell(leftovers, cached, "removing")
        for path in leftovers:
            _delete(path)
        for path in cached:
            with contextlib.suppress(OSError):  # a run has just replaced it
                _delete(_put_aside(path))
    return code


def duration(text: str) -> float:
    """Return seconds from a text such as `30d`, `12h` or `45m`.

    Raises:
        argparse.ArgumentTypeError: If the text is not valid.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number and a unit, such as 30d, 12h or 45m")
    return float(match[1]) * _UNITS[match[2]]


def byte_count(text: str) -> int:
    """Return bytes from a text such as `500M` or `20G`.

    Raises:
        argparse.ArgumentTypeError: If the text is not valid.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number and a unit, such as 500M or 20G")
    return int(float(match[1]) * _SIZES[match[2]])


def whole(text: str) -> int:
    """Return a whole number from 0.

    Raises:
        argparse.ArgumentTypeError: If the text is not valid.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


# --- what


def _named(spec: str, root: Path) -> RunInfo:
    run = rundir.find_run(spec, root)
    path = Path(os.path.abspath(run.path))  # noqa: PTH100 - resolve() would follow the link that is refused below
    if path.is_symlink():
        raise RunDirError(f"{path} is a symbolic link to a run elsewhere: name that one, or remove the link with rm")
    return RunInfo(path, run.fields, run.status)


def _superfluous(root: Path, arguments: argparse.Namespace) -> list[RunInfo]:
    """Return the runs to remove, newest first; never a running one, and none without a rule."""
    if arguments.keep is None and arguments.older_than is None and not arguments.failed:
        return []
    runs = [run for run in rundir.list_runs(root.absolute()) if not run.path.is_symlink()]
    if arguments.failed:
        runs = [run for run in runs if run.status in rundir.UNFINISHED]
    runs = [run for run in runs if run.status != "running"][arguments.keep or 0 :]
    if arguments.older_than is not None:
        before = time.time() - arguments.older_than
        runs = [run for run in runs if _last_touched(run) < before]
    return runs


def _last_touched(run: RunInfo) -> float:
    """Return the time at which a run ended, as far as it is known."""
    stamp = run.fields.get("ended") or run.fields.get("started")
    if isinstance(stamp, int | float):
        return stamp
    with contextlib.suppress(OSError):
        return run.path.lstat().st_mtime
    return time.time()


def _beyond_limit(cache: Path, limit: int, leftovers: list[Path]) -> list[Path]:
    """Return the least recently used cached processes beyond the limit; extend `leftovers`."""
    entries = []
    for path in _entries(cache):
        if path.name.startswith("."):
            # The run that was writing it is gone
            if not rundir.is_owned(cache.parent / path.name.split("~")[-1]):
                leftovers.append(path)
        else:
            with contextlib.suppress(OSError):
                entries.append((path.lstat().st_mtime, path))
    total = 0
    given_up: list[Path] = []
    for _, path in sorted(entries, reverse=True):
        total += _bytes(path)
        if total > limit:
            given_up.append(path)
    return given_up[::-1]


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


# --- how


def _carry_out(runs: Sequence[RunInfo], *, yes: bool) -> int:
    """Ask if needed, and remove runs; return 1 if one could not be removed or the answer was no."""
    if not yes:
        _show(runs, "about to remove")
        if not (sys.stdin is not None and sys.stdin.isatty()):
            raise RunDirError("nothing was removed: there is no terminal to ask on; say --yes")
        complain(f"remove {counted(len(runs), 'run')} for good? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            complain("nothing was removed")
            return 1
    code, freed, gone = 0, 0, 0
    for run in runs:
        try:
            freed += _remove(run)
            gone += 1
        except (RunDirError, OSError) as error:
            complain(f"run {run.id} was not removed: {error}")
            code = 1
    say(f"removed {counted(gone, 'run')}, {size(freed)}")
    return code


def _show(runs: Sequence[RunInfo], what: str) -> None:
    total = 0
    rows = []
    for run in runs:
        total += (count := _bytes(run.path))
        started = when(run.fields.get("started"))
        names = (run.id, cell(run.labels.name or None, 30), str(run.fields.get("pipeline") or "-"))
        rows.append((*names, run.status, started, size(count)))
    if rows:
        columns(rows, ("RUN", "NAME", "PIPELINE", "STATUS", "STARTED (UTC)", "SIZE"))
    say(f"{what} {counted(len(runs), 'run')}, {size(total)}")


def _tell(leftovers: Sequence[Path], cached: Sequence[Path], what: str) -> None:
    for paths, noun in ((leftovers, "leftover"), (cached, "cached process")):
        if paths:
            say(f"{what} {counted(len(paths), noun)}, {size(sum(map(_bytes, paths)))}")


def _remove(run: RunInfo) -> int:
    """Remove a run while holding its lock, and return its bytes.

    Raises:
        RunDirError: If it is running.
        OSError: If the system refuses.
    """
    with contextlib.closing(RunDir.reopen(run.path)):
        count = _bytes(run.path)
        _delete(_put_aside(run.path))
    return count


def _put_aside(path: Path) -> Path:
    """Rename a directory durably first, so that no partial run is seen under its name."""
    away = path.with_name(f".removing-{path.name}-{secrets.token_hex(4)}")
    path.rename(away)
    fsync_directory(path.parent)
    return away


def _delete(path: Path) -> None:
    """Delete a tree; remove links in it without following them."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:  # another process removes the same
        shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        complain(f"{near(path)} is left over ({error.strerror}); `ridgepole runs gc` tries again")


def _bytes(path: Path) -> int:
    """Return the bytes of all files below a path; links count as themselves."""
    total = 0
    stack = [path]
    while stack:
        here = stack.pop()
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to read
            status = here.lstat()
            if stat.S_ISDIR(status.st_mode):
                stack += here.iterdir()
            else:
                total += status.st_size
    return total
