"""The checkpoints of one run: save, find, load, verify, prune."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ridgepole.checkpoint.loading import Loaded, SkippedCheckpoint, load_checkpoint, read_index
from ridgepole.checkpoint.manifest import (
    ERROR,
    INDEX,
    MANIFEST,
    CheckpointInfo,
    DamagedError,
    UnsupportedVersionError,
    checkpoint_name,
    decode_manifest,
    is_leftover,
    parse_name,
    temporary_name,
)
from ridgepole.checkpoint.policy import KeepBest
from ridgepole.checkpoint.retention import best_first, newest_first, superfluous
from ridgepole.checkpoint.safe_open import check_recorded, read_small, system_errors
from ridgepole.checkpoint.saving import Saved, Saving
from ridgepole.errors import CheckpointError, did_you_mean
from ridgepole.files import fsync_directory, read_json, remove_tree, write_atomically


class CheckpointStore:
    """The checkpoints of one run, in one directory.

    A checkpoint exists only once it is whole and on the disk. An interrupted save never touches
    those before it, and damage to any byte is found when it is loaded. Reading changes nothing, so
    it works on a copy, on a read-only disk, and beside the process that writes. Only the run's
    owner may save: nothing here takes a lock.

    Args:
        path: The directory, such as `runs/<id>/checkpoints`; made by the first save.
        keep_last: How many of the latest are kept, at least 2, in case that one is damaged.
        keep_best: Which are kept for being the best; None keeps none for that.

    Raises:
        ValueError: If `keep_last` is below 2.
    """

    def __init__(self, path: Path, *, keep_last: int = 2, keep_best: KeepBest | None = None) -> None:
        if keep_last < 2:
            raise ValueError(f"keep_last={keep_last}: keep at least 2, so that a damaged one has another before it")
        self.path = Path(path)
        self.keep_last = keep_last
        self.keep_best = keep_best
        self._saving: Saving | None = None
        self._damaged: set[str] = set()
        self._committing = threading.Lock()
        self._given_up = False

    # --- writing

    def save(
        self,
        state: Mapping[str, Any],
        *,
        step: int,
        kind: str,
        score: float | None = None,
        protect: str | None = None,
        config_hash: str = "",
        world_size: int = 1,
        meta: Mapping[str, Any] | None = None,
    ) -> Saved:
        """Save a state; when this returns it is on the disk.

        Args:
            state: Names and values; `docs/checkpoints.md` lists what a value can be.
            step: The run's step, at least 0.
            kind: Why it is taken, a word such as `step`; `error` never becomes the latest.
            score: Value of the metric of `keep_best`; None or NaN without one.
            protect: Tags such as `boundary`, with spaces between them: the newest with a tag is
                kept whatever `keep_last` says.
            config_hash: Identifies the config.
            world_size: Number of ranks.
            meta: Plain JSON values to be readable without loading.

        Returns:
            What was saved, what was removed for it, and what to tell the user.

        Raises:
            StateError: If the state holds what can't be stored; names the path.
            CheckpointError: If the system refuses. The checkpoints before are untouched, and
                nothing is left of this one.
        """
        with self.begin(step=step, kind=kind) as saving:
            return saving.commit(
                state, score=score, protect=protect, config_hash=config_hash, world_size=world_size, meta=meta
            )

    def begin(self, *, step: int, kind: str) -> Saving:
        """Begin a save in which several ranks write a part each; rank 0 calls this and commits.

        Returns:
            The save; leave its `with` block without `commit` and nothing is left of it.

        Raises:
            CheckpointError: If the system refuses, or a save is under way.
        """
        if type(step) is not int or not 0 <= step < 2**63:
            raise ValueError(f"step must be a whole number of at least 0, and step={step!r}")
        if not re.fullmatch("[a-z][a-z_]{0,29}", kind):
            raise ValueError(f"kind must be a word of small letters, and kind={kind!r}")
        if self._saving is not None and self._saving.open:
            raise CheckpointError(f"a save is under way in {self._saving.directory}: finish or leave it first")
        with system_errors(self.path, "the checkpoint was not saved"):
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                fsync_directory(self.path.parent)
            self._sweep()
            used = (parsed[0] for name in self._names() if (parsed := parse_name(name)))
            number = max([self._next_number(), *(number + 1 for number in used)])
            directory = self.path / temporary_name(number, "saving")
            directory.mkdir()
        name = checkpoint_name(number, step, kind)
        info = CheckpointInfo(name=name, path=self.path / name, number=number, kind=kind, step=step, time=time.time())
        self._saving = Saving(directory, info, self.keep_best, self._rename, self._after_commit)
        return self._saving

    def give_up(self) -> None:
        """Never commit a save that another thread is still writing: the run ends before it."""
        with self._committing:
            self._given_up = True

    def _rename(self, directory: Path, path: Path) -> None:
        with self._committing:
            if self._given_up:
                raise CheckpointError(f"the run ended before the checkpoint {path.name} was written")
            directory.rename(path)

    def remove(self, name: str) -> None:
        """Remove a checkpoint for good, by its name.

        Raises:
            CheckpointError: If it doesn't exist, or the system refuses.
        """
        info = self.find(name)
        with system_errors(info.path, "the checkpoint was not removed"):
            self._remove(info)
        self.rebuild_index()

    def undo_after(self, info: CheckpointInfo) -> tuple[str, ...]:
        """Put aside all checkpoints that are newer than one, under names that begin with a dot.

        Returns:
            The names that they had.

        Raises:
            CheckpointError: If the system refuses.
        """
        newer = [each for each in self.list() if each.number > info.number]
        with system_errors(self.path, "a newer checkpoint was not put aside"):
            for each in reversed(newer):
                each.path.rename(self.path / f".undone-{each.name}")
        if newer:
            self.rebuild_index()
        return tuple(each.name for each in newer)

    def rebuild_index(self) -> None:
        """Write the index from the manifests, as each save does; only people and tools read it.

        Raises:
            CheckpointError: If the system refuses.
        """
        with system_errors(self.path / INDEX, "the index was not written"):
            self._write_index(self.list())

    # --- reading

    def list(self) -> tuple[CheckpointInfo, ...]:
        """Return all checkpoints by their number, those of errors and damaged ones included.

        Raises:
            CheckpointError: If the directory is there and can't be read.
        """
        found = [self._info(name) for name in self._names() if parse_name(name)]
        return tuple(sorted(found, key=lambda info: info.number))

    def latest(self) -> CheckpointInfo | None:
        """Return the newest that a run may be resumed from, by its manifest; None without one."""
        return next(iter(newest_first(self.list())), None)

    def best(self) -> CheckpointInfo | None:
        """Return the best by its score, the earlier of equals; None where none has a score."""
        return next(iter(best_first(self.list())), None)

    def find(self, which: str) -> CheckpointInfo:
        """Return one checkpoint.

        Args:
            which: `latest`, `best`, a name, or a number.

        Raises:
            CheckpointError: If it doesn't exist; the text lists those that do.
        """
        if which in ("latest", "best"):
            found = self.latest() if which == "latest" else self.best()
        elif which.isascii() and which.isdigit():
            found = next((info for info in self.list() if info.number == int(which)), None)
        else:
            found = self._info(which) if which in self._names() else None
        if found is None:
            raise CheckpointError(self._nothing(which))
        return found

    def load(self, which: str = "latest", *, ranks: Iterable[int] = ()) -> Loaded:
        """Read a checkpoint and verify every byte of it.

        Args:
            which: `latest`, `best`, a name, or a number.
            ranks: Whose parts to return, too; all are verified, so that all ranks choose alike.

        Returns:
            The state, and the better fitting checkpoints that were skipped because they are
            damaged: tell the user.

        Raises:
            CheckpointError: If it doesn't exist, no fitting one is sound, the named one is damaged,
                or one has a newer format, which is never skipped.
            MissingExtraError: If its tensors or arrays need a package that is not installed.
        """
        skipped: list[SkippedCheckpoint] = []
        ranks = tuple(ranks)
        for info in self._candidates(which):
            try:
                if info.newer:
                    raise CheckpointError(f"checkpoint {info.path} can't be read: {info.problem}")
                if info.problem:
                    raise DamagedError(info.problem)
                with system_errors(info.path, "the checkpoint can't be read"):
                    state, parts = load_checkpoint(info, ranks)
            except DamagedError as error:
                self._damaged.add(info.name)
                skipped.append(SkippedCheckpoint(info.name, str(error)))
            else:
                return Loaded(info=info, state=state, parts=parts, passed_over=tuple(skipped))
        if len(skipped) == 1:
            raise CheckpointError(f"{skipped[0]} ({self.path / skipped[0].name})")
        if skipped:
            raise CheckpointError("\n".join([f"no usable checkpoint in {self.path}:", *map(str, skipped)]))
        raise CheckpointError(self._nothing(which))

    def load_verified(self, name: str, *, ranks: Iterable[int]) -> Loaded:
        """Read the state and some ranks' parts of a checkpoint that the ranks have just verified.

        Tensors that are spread over ranks come back as `Sharded`, and are read when they are laid
        out.

        Raises:
            CheckpointError: If it can't be read, or was damaged meanwhile.
            MissingExtraError: If its tensors or arrays need a package that is not installed.
        """
        info = self.find(name)
        try:
            with system_errors(info.path, "the checkpoint can't be read"):
                state, parts = load_checkpoint(info, ranks, verified=True)
        except DamagedError as error:
            raise CheckpointError(str(SkippedCheckpoint(name, str(error)))) from error
        return Loaded(info=info, state=state, parts=parts)

    def verify(self, which: str, *, share: tuple[int, int] = (0, 1)) -> tuple[str, ...]:
        """Compare all files of a checkpoint, named as for `find`, with what was written.

        Args:
            which: `latest`, `best`, a name, or a number.
            share: A number and a count of ranks that verify it together: only every so many files
                are read here.

        Returns:
            Every problem found; empty where it is sound.

        Raises:
            CheckpointError: If it doesn't exist, or the system can't read it at the moment.
        """
        info = self.find(which)
        if info.problem:
            return (info.problem,)
        problems = []
        largest_first = sorted((info.files or {}).items(), key=lambda item: (-item[1].size, item[0]))
        for name, record in largest_first[share[0] :: share[1]]:
            try:
                with system_errors(info.path / name, "the file can't be read"):
                    check_recorded(info.path, name, record)
            except DamagedError as error:
                problems.append(str(error))
        try:
            read_index(info)
        except DamagedError as error:
            problems.append(str(error))
        return tuple(dict.fromkeys(problems))

    # --- inside

    def _names(self) -> tuple[str, ...]:
        try:
            with os.scandir(self.path) as entries:
                return tuple(
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and (entry.is_dir(follow_symlinks=False) or entry.is_symlink())
                )
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise CheckpointError(error.errno, f"can't be read: {error.strerror}", str(self.path)) from error

    def _info(self, name: str) -> CheckpointInfo:
        """Read a manifest; note its problem where it can't be used."""
        path = self.path / name
        newer = False
        try:
            if path.is_symlink():
                raise DamagedError("it is a symbolic link, which could lead anywhere")
            with system_errors(path, "the checkpoint can't be read"):
                return decode_manifest(read_small(path, MANIFEST), path)
        except DamagedError as error:
            problem = str(error)
        except UnsupportedVersionError as error:
            problem, newer = str(error), True
        number, step, failed = parse_name(name) or (0, 0, False)
        kind = ERROR if failed else "unknown"
        return CheckpointInfo(name=name, path=path, number=number, kind=kind, step=step, problem=problem, newer=newer)

    def _candidates(self, which: str) -> tuple[CheckpointInfo, ...]:
        """Return what to try in turn, damaged manifests included: to skip them must be reported."""
        if which not in ("latest", "best"):
            return (self.find(which),)
        infos = self.list()
        if which == "latest":
            return tuple(sorted((info for info in infos if info.kind != ERROR), key=lambda info: -info.number))
        unknown = [info for info in infos if info.problem and info.kind != ERROR]
        return (*unknown, *best_first(infos))

    def _nothing(self, which: str) -> str:
        names = [info.name for info in self.list()]
        if not names:
            return f"no checkpoint in {self.path}"
        if which == "best":
            there = f"; there are {', '.join(names)}"
            return f"no checkpoint in {self.path} has a score: set keep_best and log its metric{there}"
        hint = did_you_mean(which, names) or f"there are {', '.join(names[-5:])}"
        return f"no checkpoint {which!r} in {self.path}; {hint}"

    def _next_number(self) -> int:
        """Return the next number by the index, or 1; checkpoints may have been removed by hand."""
        following = read_json(self.path / INDEX).get("next")
        return following if type(following) is int and 0 < following < 10**15 else 1

    def _write_index(self, infos: Sequence[CheckpointInfo]) -> None:
        """Replace the index atomically; it names at least one best where any has a score."""
        infos = sorted(infos, key=lambda info: info.number)
        latest, best = newest_first(infos), best_first(infos)
        value = {
            "format": 1,
            "next": max([self._next_number(), *(info.number + 1 for info in infos)]),
            "latest": _brief(latest[0]) if latest else None,
            "best": [_brief(info) for info in best[: max(self._keep_best_count(), 1)]],
            "checkpoints": [_brief(info) for info in infos],
        }
        write_atomically(self.path / INDEX, json.dumps(value, indent=2).encode() + b"\n")

    def _sweep(self) -> None:
        """Remove what interrupted saves and removals left; the next save retries what fails."""
        for entry in tuple(self.path.iterdir()):
            if is_leftover(entry.name):
                if entry.is_dir() and not entry.is_symlink():
                    with contextlib.suppress(OSError):
                        remove_tree(entry)
                else:
                    entry.unlink(missing_ok=True)

    def _after_commit(self, new: CheckpointInfo) -> Saved:
        """Write the index and prune; report failures, which can't undo the commit."""
        problems: list[str] = []
        pruned: list[str] = []
        try:
            infos = self.list()
            if new.name not in {info.name for info in infos if not info.problem}:
                return Saved(new, (), (f"checkpoint {new.name} can't be read back; nothing was removed for it",))
            old = superfluous(infos, keep_last=self.keep_last, keep_best=self._keep_best_count(), damaged=self._damaged)
            self._write_index([info for info in infos if info not in old])
        except OSError as error:
            problems.append(f"the index was not written: {error}")
            old = []
        for info in old:
            try:
                self._remove(info)
                pruned.append(info.name)
            except OSError as error:
                problems.append(f"checkpoint {info.name} was not removed: {error}")
        return Saved(new, tuple(pruned), tuple(problems))

    def _keep_best_count(self) -> int:
        return self.keep_best.k if self.keep_best else 0

    def _remove(self, info: CheckpointInfo) -> None:
        """Rename the checkpoint first, so that no half of one is ever seen under its name."""
        away = self.path / temporary_name(info.number, "removing")
        info.path.rename(away)
        if away.is_symlink():
            away.unlink()
        else:
            remove_tree(away)


def _brief(info: CheckpointInfo) -> dict[str, Any]:
    score = asdict(info.score) if info.score else None
    return {"name": info.name, "kind": info.kind, "step": info.step, "time": info.time, "score": score}
