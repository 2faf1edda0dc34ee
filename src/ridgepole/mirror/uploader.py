"""Brings a run directory to its mirror, one committed step after another.

Each stretch of a file is an object that is named by its place and hash, so that an interrupted
upload is repeated, never doubled. The index is replaced last, and only by its e_tag.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ridgepole import rundir
from ridgepole.checkpoint.manifest import MANIFEST, parse_name
from ridgepole.mirror.index import Index, Part
from ridgepole.mirror.lease import TwoWritersError
from ridgepole.mirror.objects import ConflictError, Objects

INDEX = "latest.json"
LOCK = ".mirror.lock"
_SEGMENT = 4 << 20
"""Bytes of a segment; the most of a growing file that is in memory."""
_LINES = ".jsonl"
_GROWING = (_LINES, ".log")
_Mark = tuple[int, int, int]
"""Time, size and inode of a file: they change with it."""


class Uploader:
    """Uploads what is new in a run directory.

    Args:
        run: The run directory.
        objects: The objects of the run.
        attempt: The attempt that writes.
        writer: A name of this process that no other has.
        pause: Called between two uploads: renews the lease, and raises what ends them.
    """

    def __init__(
        self, run: Path, objects: Objects, attempt: int, writer: str, pause: Callable[[], None] = lambda: None
    ) -> None:
        self._run, self._objects, self._pause = run, objects, pause
        self._index = Index(attempt, writer)
        self._e_tag: str | None = None
        self._uploaded: dict[str, tuple[_Mark, Part]] = {}
        self._checked: set[str] = set()
        self._garbage: list[str] = []
        self._changed = False

    def open(self) -> None:
        """Read what the mirror has.

        Raises:
            TwoWritersError: If a later attempt has written it.
        """
        found = self._objects.read(INDEX)
        if found is None:
            return
        stored = Index.decode(found[0], self._objects.url)
        if stored.attempt > self._index.attempt:
            raise TwoWritersError(
                f"{self._objects.url} is at attempt {stored.attempt}, this directory at {self._index.attempt}"
            )
        self._e_tag, self._index.files, self._index.version = found[1], stored.files, stored.version

    def upload(self, *, last: bool = False) -> None:
        """Upload all that is new: first the small files, then each checkpoint, its manifest last.

        Args:
            last: Whether the run has ended, so that the last line of a file may be a torn one.
        """
        checkpoints = self._checkpoints()  # before the files that they refer to
        for name in self._files():
            self._pause()
            self._bring(name, last=last)
        self._commit()
        for checkpoint in checkpoints:
            if checkpoint not in self._checked and self._bring_checkpoint(checkpoint):
                self._checked.add(checkpoint)
                self._commit()
        self._forget()
        self._commit()

    def left(self) -> tuple[int, int]:
        """Return how many files differ from the mirror, as far as sizes tell, and their bytes."""
        count = size = 0
        names = [*self._files(), *(name for each in self._checkpoints() for name in self._inside(each))]
        for name in names:
            try:
                there = (self._run / name).stat().st_size
            except OSError:
                continue
            missing = there - sum(part.size for part in self._index.files.get(name, ()))
            if missing or name not in self._index.files:
                count, size = count + 1, size + max(missing, 0)
        return count, size

    # --- what there is

    def _checkpoints(self) -> list[str]:
        try:
            names = [path.name for path in (self._run / rundir.CHECKPOINTS).iterdir()]
        except OSError:
            return []
        found = sorted((parsed[0], name) for name in names if (parsed := parse_name(name)))
        paths = (f"{rundir.CHECKPOINTS}/{name}" for _, name in found)
        return [path for path in paths if (self._run / path / MANIFEST).is_file()]

    def _inside(self, checkpoint: str) -> list[str]:
        names = sorted(
            (path.name for path in (self._run / checkpoint).iterdir()), key=lambda name: (name == MANIFEST, name)
        )
        return [f"{checkpoint}/{name}" for name in names if not name.startswith(".")]

    def _files(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self._run):
            here = Path(folder).relative_to(self._run)
            inside = here.as_posix() == rundir.CHECKPOINTS
            folders[:] = [] if inside else sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = here / name
                if not name.startswith(".") and name != rundir.OWNER and not (self._run / path).is_symlink():
                    yield path.as_posix()

    # --- one file

    def _bring_checkpoint(self, checkpoint: str) -> bool:
        """Upload a checkpoint, its manifest last; return False if it was removed meanwhile."""
        parts: dict[str, Part] = {}
        try:
            data = (self._run / checkpoint / MANIFEST).read_bytes()
            known = self._index.files.get(f"{checkpoint}/{MANIFEST}", ())
            if [part.sha256 for part in known] == [hashlib.sha256(data).hexdigest()]:
                return True
            for name in self._inside(checkpoint):
                self._pause()
                part = self._whole(name)
                if part is None:
                    return False
                parts[name] = part
        except FileNotFoundError:
            return False
        for name, part in parts.items():
            self._put(name, (part,))
        return True

    def _bring(self, name: str, *, last: bool) -> None:
        try:
            if name.endswith(_GROWING) or "tfevents" in name:
                self._grow(name, last=last)
                return
            part = self._whole(name)
        except FileNotFoundError:  # replaced or removed at this moment: the next look sees it
            return
        if part is not None and self._index.files.get(name) != (part,):
            self._put(name, (part,))

    def _whole(self, name: str) -> Part | None:
        """Upload a file unless it is there; return None if it was written meanwhile."""
        path = self._run / name
        mark = _mark(path)
        before = self._uploaded.get(name)
        if before is not None and before[0] == mark:
            return before[1]
        # What is small goes from memory, so that the bytes are those that were hashed
        data = path.read_bytes() if mark[1] <= _SEGMENT else None
        digest = _hash(path) if data is None else hashlib.sha256(data).hexdigest()
        size = mark[1] if data is None else len(data)
        part = Part(f"data/{name}/{0:06d}-{digest[:16]}", size, digest)
        if self._index.files.get(name) != (part,):
            # An upload that a kill has cut off left no object; one that was whole is not repeated
            if data is not None or self._objects.size(part.key) != size:
                self._objects.write(part.key, path if data is None else data)
            if data is None and _mark(path) != mark:
                return None
        self._uploaded[name] = mark, part
        return part

    def _grow(self, name: str, *, last: bool) -> None:
        """Upload the end of a growing file as numbered segments."""
        with (self._run / name).open("rb") as file:
            parts = list(self._index.files.get(name, ()))
            start = sum(part.size for part in parts)
            size = os.fstat(file.fileno()).st_size
            if parts and (size < start or (name not in self._checked and not _ends_with(file, start, parts[-1]))):
                parts, start = [], 0  # another file of the same name
            self._checked.add(name)
            known = start if parts else -1
            while start < size or known < 0:
                # Small segments are merged, so that their number grows with the logarithm only
                while parts and parts[-1].size + size - start <= _SEGMENT and parts[-1].size <= 2 * (size - start):
                    start -= parts.pop().size
                file.seek(start)
                data = file.read(min(_SEGMENT, size - start))
                if name.endswith(_LINES) and not (last and start + len(data) == size):
                    data = data[: data.rfind(b"\n") + 1] or (data if len(data) == _SEGMENT else b"")
                if start + len(data) <= known:
                    return  # only the beginning of a line is new
                digest = hashlib.sha256(data).hexdigest()
                part = Part(f"data/{name}/{len(parts):06d}-{digest[:16]}", len(data), digest)
                self._pause()
                self._objects.write(part.key, data)
                parts.append(part)
                known = start = start + len(data)
                self._put(name, tuple(parts))

    # --- the index

    def _put(self, name: str, parts: tuple[Part, ...]) -> None:
        kept = {part.key for part in parts}
        self._garbage += [part.key for part in self._index.files.get(name, ()) if part.key not in kept]
        self._index.files[name] = parts
        self._changed = True

    def _drop(self, name: str) -> None:
        self._garbage += [part.key for part in self._index.files.pop(name)]
        self._changed = True

    def _forget(self) -> None:
        """Drop what the run has removed; a checkpoint as a whole, as it may vanish meanwhile."""
        gone = {name for name in self._index.files if not os.path.lexists(self._run / name)}
        folders = {folder for name in gone if (folder := name.rpartition("/")[0]).startswith(f"{rundir.CHECKPOINTS}/")}
        for name in list(self._index.files):
            folder = name.rpartition("/")[0]
            if name in gone or folder in folders:
                self._uploaded.pop(name, None)
                self._checked.discard(folder)
                self._drop(name)

    def _commit(self) -> None:
        if not self._changed:
            return
        self._pause()
        self._index.version += 1
        data = self._index.encode()
        try:
            self._e_tag = self._objects.replace(INDEX, data, self._e_tag)
        except ConflictError:
            found = self._objects.read(INDEX)
            if found is None or found[0] != data:  # else only the answer was lost
                raise TwoWritersError(f"two writers: another process has written {self._objects.url}") from None
            self._e_tag = found[1]
        self._changed = False
        named = {part.key for parts in self._index.files.values() for part in parts}
        self._objects.delete([key for key in self._garbage if key not in named])
        self._garbage.clear()


def _mark(path: Path) -> _Mark:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _ends_with(file: BinaryIO, end: int, part: Part) -> bool:
    """Return whether a file has these bytes before an offset."""
    return hashlib.sha256(os.pread(file.fileno(), part.size, end - part.size)).hexdigest() == part.sha256
