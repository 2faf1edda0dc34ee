"""Find a run's pipeline, also after its project was moved, copied or reached by a link."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def plain_path(path: str | Path) -> Path:
    """Return an absolute path without `..`; a link stays a link unless a `..` follows it."""
    path = Path(path).absolute()
    return path.parent.resolve() / path.name if ".." in path.parts else path


def describe(file: Path | None, directory: Path, root: Path) -> dict[str, Any]:
    """Describe the place of a pipeline, for the record of a run or a sweep.

    Args:
        file: The pipeline's file; None for one that was built in Python.
        directory: The pipeline's directory, where it has no file.
        root: The directory that holds the runs.

    Returns:
        The file's path, its number in its filesystem, and its directory as seen from `root`.
    """
    home = plain_path(directory if file is None else file.parent)
    found: dict[str, Any] = {"file": None, "inode": None, "project": os.path.relpath(home, plain_path(root))}
    if file is not None:
        found |= {"file": str(plain_path(file)), "inode": _inode(file)}
    return found


def locate(fields: Mapping[str, Any], root: Path, say: Callable[[str], None] = lambda _line: None) -> Path | None:
    """Return the pipeline's file of a run or sweep, or None if it is gone.

    The project around the runs comes first: a copy of a project is a project of its own. Then comes
    a file of that name in the working directory, if it is the very file. The stored path is last.

    Args:
        fields: The description.
        root: The directory that holds the runs, where it is today.
        say: Called with a line if only the stored path is left.
    """
    stored = fields.get("file")
    if not isinstance(stored, str) or not stored:
        return None
    name = Path(stored).name
    for home in _homes(fields, root):
        if (home / name).is_file():
            return home / name
    here = Path(name).absolute()
    if fields.get("inode") and _inode(here) == fields["inode"]:
        return here
    if not Path(stored).is_file():
        return None
    say(f"no {name} is where it was, seen from {root}: {stored} is used, which the run was started from")
    return Path(stored)


def is_of_file(fields: Mapping[str, Any], root: Path, file: Path) -> bool:
    """Return whether a run or sweep was started from a file, whatever path leads to the file."""
    found = locate(fields, root)
    if found is None:  # renamed, or moved away from the directory of runs
        return bool(fields.get("inode")) and _inode(file) == fields["inode"]
    return _same(found, file)


def directory_of(fields: Mapping[str, Any], root: Path) -> Path | None:
    """Return the real directory of a run's pipeline; None if it is not known any more."""
    file = locate(fields, root)
    if file is not None:
        return file.parent.resolve()
    stored = fields.get("file")
    homes = [*_homes(fields, root), *([Path(stored).parent] if stored else [])]
    return next((home.resolve() for home in homes if home.is_dir()), None)


def nearest(homes: Iterable[Path], here: Path) -> list[Path]:
    """Return the projects that a command in a directory is about.

    These are the project of that directory, else the innermost around it, else those inside it,
    else all of them.
    """
    homes, here = list(homes), here.resolve()
    around = [home for home in homes if here.is_relative_to(home)]
    if around:
        return [max(around, key=lambda home: len(home.parts))]
    return [home for home in homes if home.is_relative_to(here)] or homes


def _homes(fields: Mapping[str, Any], root: Path) -> Iterator[Path]:
    """Yield where the directory of the pipeline is, seen from the directory of runs."""
    relative = fields.get("project")
    relative = relative if isinstance(relative, str) else os.pardir  # not recorded by older versions
    for base in dict.fromkeys((root.absolute(), root.resolve())):
        yield Path(os.path.normpath(base / relative))


def _inode(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_dev, status.st_ino]


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
