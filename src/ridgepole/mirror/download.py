"""Brings mirrored runs to this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from ridgepole import rundir
from ridgepole.errors import RunDirError
from ridgepole.files import remove_tree
from ridgepole.mirror.index import Index, Part
from ridgepole.mirror.objects import Objects
from ridgepole.mirror.uploader import INDEX

_TRIES = 3


def fetch_run(url: str, root: Path, say: Callable[[str], None]) -> Path:
    """Bring a mirrored run with its checkpoints, unless it is here, and return its directory.

    Raises:
        RunDirError: If there is none, it is damaged, or an older attempt of it is here.
    """
    base, _, name = url.rstrip("/").rpartition("/")
    objects = Objects(f"{base}/{name}")
    target = root.absolute() / name
    if target.exists():
        index = _index(objects)
        here = max((int(line["attempt"]) for line in rundir.read_attempts(target)), default=1)
        if here < index.attempt:
            raise RunDirError(f"{target} is at attempt {here}, {url} at {index.attempt}: move the directory away first")
        return target
    say(f"fetching {url} to {target}")
    _fetch(objects, target, checkpoints=True)
    return target


def fetch_records(url: str, root: Path) -> list[str]:
    """Bring the records of all runs below a URL, without their checkpoints.

    Returns:
        One line for each run that can't be read.

    Raises:
        RunDirError: If the URL can't be read.
    """
    faults = []
    for name in Objects(url).folders():
        try:
            _fetch(Objects(f"{url.rstrip('/')}/{name}"), root / name, checkpoints=False)
        except RunDirError as error:
            faults.append(str(error))
    return faults


def _index(objects: Objects) -> Index:
    found = objects.read(INDEX)
    if found is None:
        raise RunDirError(f"{objects.url} has no mirrored run: it has no {INDEX}")
    return Index.decode(found[0], objects.url)


def _fetch(objects: Objects, target: Path, *, checkpoints: bool) -> None:
    """Bring the files that an index names; a reader sees all of them or none."""
    part = target.with_name(f".fetching-{target.name}-{secrets.token_hex(4)}")
    for left in reversed(range(_TRIES)):
        index = _index(objects)
        part.mkdir(parents=True)
        try:
            for name, parts in index.files.items():
                if checkpoints or not name.startswith(f"{rundir.CHECKPOINTS}/"):
                    _write(objects, part / name, parts, 0o600 if name == rundir.CONFIG else 0o644)
            part.rename(target)
        except RunDirError:
            if not left or _index(objects).version == index.version:
                raise  # else its writer has replaced what we were reading
        else:
            return
        finally:
            with contextlib.suppress(OSError):
                remove_tree(part)


def _write(objects: Objects, path: Path, parts: tuple[Part, ...], mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        for part in parts:
            digest = hashlib.sha256()
            for piece in objects.chunks(part.key):
                digest.update(piece)
                file.write(piece)
            if digest.hexdigest() != part.sha256:
                raise RunDirError(f"{objects.url}/{part.key} is damaged: its hash is not that of the index")
        file.flush()
        os.fsync(file.fileno())
