"""The checkpoints of one run: save, find, load, verify, prune."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ridgepole.checkpoint.files import check_recorded, read_small
from ridgepole.checkpoint.index import next_number, write_index
from ridgepole.checkpoint.layout import (
    ERROR,
    INDEX,
    MANIFEST,
    checkpoint_name,
    is_leftover,
    parse_name,
    temporary_name,
)
from ridgepole.checkpoint.loading import Loaded, PassedOver, load_checkpoint
from ridgepole.checkpoint.manifest import CheckpointInfo, DamagedError, NewerError, decode_manifest
from ridgepole.checkpoint.policy import KeepBest
from ridgepole.checkpoint.retention import best_first, newest_first, superfluous
from ridgepole.checkpoint.saving import Saved, Saving, system_errors
from ridgepole.errors import CheckpointError, did_you_mean
from ridgepole.files import fsync_directory


class CheckpointStore:
    """The checkpoints of one run, in one directory.

    A checkpoint exists only once it is whole and on the disk; an interrupted save never touches those before it, and
    damage to any byte is found when it is loaded. Reading changes nothing, so it works on a copy, on a read-only disk,
    and beside the process that writes. Only the run's owner may save: nothing here takes a lock.

    Args:
        path: The directory, such as `runs/<id>/checkpoints`; made by the first save.
        keep_last: How many of the latest are kept, at least 2, so that a damaged one has another before it.
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
        """Saves a state; when this returns it is on the disk.

        Args:
            state: Names and values; `docs/checkpoints.md` lists what a value can be.
            step: The run's step, at least 0.
            kind: Why it is taken, a word such as `step`; `error` is kept apart and never becomes the latest.
            score: Value of the metric of `keep_best`; None or NaN where there is none.
            protect: A tag such as `boundary`; the newest with it is kept whatever `keep_last` says.
            config_hash: Identifies the config.
            world_size: Number of ranks.
            meta: Plain JSON values to be readable without loading.

        Returns:
            What was saved, what was removed for it, and what to tell the user.

        Raises:
            StateError: If the state holds what can't be stored; names the path.
            CheckpointError: If the system refuses. The checkpoints before are untouched, and nothing is left of this.
        """
        with self.begin(step=step, kind=kind) as saving:
            return saving.commit(
                state, score=score, protect=protect, config_hash=config_hash, world_size=world_size, meta=meta
            )

    def begin(self, *, step: int, kind: str) -> Saving:
        """Begins a save in which several ranks write a part each; rank 0 calls this and commits.

        Args:
            step: As for `save`.
            kind: As for `save`.

        Returns:
            The save; leave its `with` block without `commit` and nothing is left of it.

        Raises:
            CheckpointError: If the system refuses, or a save is under way.
        """
        if type(step) is not int or not 0 <= step < 2**63:
            raise ValueError(f"step={step!r}: not a whole number from 0 on")
        if not re.fullmatch("[a-z][a-z_]{0,29}", kind):
            raise ValueError(f"kind={kind!r}: not a word of small letters")
        if self._saving is not None and self._saving.open:
            raise CheckpointError(f"a save is under way in {self._saving.directory}: finish or leave it first")
        with system_errors(self.path, "the checkpoint was not saved"):
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                fsync_directory(self.path.parent)
            self._sweep()
            number = self._next_number()
            directory = self.path / temporary_name(number, "saving")
            directory.mkdir()
        name = checkpoint_name(number, step, kind)
        info = CheckpointInfo(name, self.path / name, number, kind, step, time.time())
        self._saving = Saving(directory, info, self.keep_best, self._settle)
        return self._saving

    def remove(self, name: str) -> None:
        """Removes a checkpoint for good.

        Args:
            name: Of its directory.

        Raises:
            CheckpointError: If there is none of that name, or the system refuses.
        """
        info = self.find(name)
        with system_errors(info.path, "the checkpoint was not removed"):
            self._remove(info)
        self.rebuild_index()

    def rebuild_index(self) -> None:
        """Writes the index anew from the manifests, as each save does. Nothing depends on it but people and tools.

        Raises:
            CheckpointError: If the system refuses.
        """
        with system_errors(self.path / INDEX, "the index was not written"):
            write_index(self.path, self.list(), self._keep_best_count())

    # --- reading

    def list(self) -> tuple[CheckpointInfo, ...]:
        """All checkpoints by their number, those of errors and those whose manifest is damaged among them.

        Raises:
            CheckpointError: If the directory is there and can't be read.
        """
        found = [self._info(name) for name in self._names() if parse_name(name)]
        return tuple(sorted(found, key=lambda info: info.number))

    def latest(self) -> CheckpointInfo | None:
        """The newest that a run may be resumed from, as far as its manifest says; None where there is none."""
        return next(iter(newest_first(self.list())), None)

    def best(self) -> CheckpointInfo | None:
        """The best by its score, the earlier of equals; None where none has a score."""
        return next(iter(best_first(self.list())), None)

    def find(self, which: str) -> CheckpointInfo:
        """One checkpoint.

        Args:
            which: `latest`, `best`, a name, or a number.

        Raises:
            CheckpointError: If there is none; says what there is.
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
        """Reads a checkpoint and verifies every byte of it.

        Args:
            which: `latest`, `best`, a name, or a number.
            ranks: Which ranks' parts to return, too; all parts are verified, so that all ranks choose alike.

        Returns:
            The state, and which better fitting checkpoints were passed over because they are damaged: tell the user.

        Raises:
            CheckpointError: If there is none, if none of those that fit is sound, if the one that was named is damaged,
                or if it is of a newer format, which is never passed over.
            MissingExtraError: If its tensors or arrays need a package that is not installed.
        """
        passed: list[PassedOver] = []
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
                passed.append(PassedOver(info.name, str(error)))
            else:
                return Loaded(info, state, parts, tuple(passed))
        if len(passed) == 1:
            raise CheckpointError(f"{passed[0]} ({self.path / passed[0].name})")
        if passed:
            raise CheckpointError("\n".join([f"no usable checkpoint in {self.path}:", *map(str, passed)]))
        raise CheckpointError(self._nothing(which))

    def verify(self, which: str) -> tuple[str, ...]:
        """Reads all files of a checkpoint through and compares them with what was written.

        Args:
            which: As for `find`.

        Returns:
            Every problem found; nothing where it is sound.

        Raises:
            CheckpointError: If there is no such checkpoint, or the system can't read it at the moment.
        """
        info = self.find(which)
        if info.problem:
            return (info.problem,)
        problems = []
        for name, record in (info.files or {}).items():
            try:
                with system_errors(info.path / name, "the file can't be read"):
                    check_recorded(info.path, name, record)
            except DamagedError as error:
                problems.append(str(error))
        return tuple(problems)

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
        """What a manifest says, or what is wrong with it."""
        path = self.path / name
        newer = False
        try:
            if path.is_symlink():
                raise DamagedError("it is a symbolic link, which could lead anywhere")
            with system_errors(path, "the checkpoint can't be read"):
                return decode_manifest(read_small(path, MANIFEST), path)
        except DamagedError as error:
            problem = str(error)
        except NewerError as error:
            problem, newer = str(error), True
        number, step, failed = parse_name(name) or (0, 0, False)
        return CheckpointInfo(name, path, number, ERROR if failed else "unknown", step, problem=problem, newer=newer)

    def _candidates(self, which: str) -> tuple[CheckpointInfo, ...]:
        """What to try in turn: those with a damaged manifest, too, because passing them over must be said."""
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
            return f"no checkpoint in {self.path} has a score: set keep_best and log its metric"
        hint = did_you_mean(which, names) or f"there are {', '.join(names[-5:])}"
        return f"no checkpoint {which!r} in {self.path}; {hint}"

    def _next_number(self) -> int:
        numbers = [parsed[0] for name in self._names() if (parsed := parse_name(name))]
        return max([next_number(self.path), *(number + 1 for number in numbers)])

    def _sweep(self) -> None:
        """Removes what interrupted saves and removals left; what can't be removed is left to the next time."""
        for entry in tuple(self.path.iterdir()):
            if is_leftover(entry.name):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)

    def _settle(self, new: CheckpointInfo) -> Saved:
        """What comes after a commit: the index and pruning. It can't undo the commit, so it only reports."""
        problems: list[str] = []
        pruned: list[str] = []
        try:
            infos = self.list()
            if new.name not in {info.name for info in infos if not info.problem}:
                return Saved(new, (), (f"checkpoint {new.name} can't be read back; nothing was removed for it",))
            count = self._keep_best_count()
            old = superfluous(infos, keep_last=self.keep_last, keep_best=count, damaged=self._damaged)
            write_index(self.path, [info for info in infos if info not in old], count)
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
        """Takes the name away first: whatever happens then, no half of a checkpoint is ever seen under it."""
        away = self.path / temporary_name(info.number, "removing")
        info.path.rename(away)
        if away.is_symlink():
            away.unlink()
        else:
            shutil.rmtree(away)
