"""Store the results of processes below the directory of runs, and find them again.

```
<directory of runs>/.cache/
  <pipeline>.<process>-<identity>-<fingerprint>/   a checkpoint store with one checkpoint
  .new-<hex>~<run id>                              one that is being written, or was interrupted
```
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole import rundir, seeding
from ridgepole.checkpoint import CheckpointStore, Loaded
from ridgepole.errors import CheckpointError
from ridgepole.files import fsync_directory, remove_tree
from ridgepole.permanence import Permanence
from ridgepole.pipeline.cache.fingerprint import FORMAT, IncomparableError, chained, fingerprint_of, identity_of
from ridgepole.pipeline.spec.plan import ComponentPlan, Plan, is_stateful
from ridgepole.pipeline.spec.usage import used_by

_DIGITS = 16
"""Hex digits of a hash in an entry's name. The whole hashes in its manifest are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """The identity and the fingerprint of a process.

    Attributes:
        identity: Identifies the process with its parameters.
        fingerprint: Identifies all it depends on.
        usable: Whether its result may be stored and looked up.
    """

    process: ComponentPlan
    identity: str
    fingerprint: str
    usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResult:
    """The result of a process in another run.

    Attributes:
        run: The run.
        fingerprint: What the process depended on there.
        states: The states of the permanences that it uses, in the order of construction.
        framework: The counts and random generators after it.
    """

    run: str
    fingerprint: str
    states: Mapping[str, Any]
    framework: Mapping[str, Any]


class ProcessCache:
    """The cached processes of a directory of runs, as one run uses them.

    Args:
        plan: The plan.
        run_dir: The run directory.
        seed: The run's seed.
        warn: Shows a warning.
    """

    def __init__(self, plan: Plan, run_dir: Path, seed: int, warn: Callable[[str], None]) -> None:
        self._plan, self._run, self._seed, self._warn = plan, run_dir.name, seed, warn
        self._path = run_dir.parent / rundir.CACHE

    def key(self, process: ComponentPlan, before: str, resumed: str | None) -> CacheKey:
        """Work out what a process depends on.

        Args:
            process: The process.
            before: The fingerprint of the process before it; empty for the first.
            resumed: Its fingerprint when the checkpoint was taken from whose middle it resumes;
                None otherwise.
        """
        identity, fingerprint = "", chained("unknown", secrets.token_hex())
        usable = process.cache != "off"
        try:
            identity = identity_of(self._plan, process)
            fingerprint = fingerprint_of(self._plan, process, self._seed, before)
        except IncomparableError as error:
            if process.cache == "fingerprint" or (process.cache == "exists" and not identity):
                self._warn(f"{process.name} is not cached: {error}")
                return CacheKey(process=process, identity=identity, fingerprint=fingerprint, usable=False)
        if resumed is not None and resumed != fingerprint:
            # Started with other code or values: no single run would give this result.
            fingerprint, usable = chained("altered", secrets.token_hex()), False
        return CacheKey(process=process, identity=identity, fingerprint=fingerprint, usable=usable)

    def find(self, key: CacheKey, permanences: Mapping[str, Permanence]) -> CachedResult | None:
        """Find the newest sound result for a key; damaged ones are skipped with a warning."""
        for entry in self._entries(key) if key.usable else ():
            try:
                loaded = CheckpointStore(entry).load()
                result = self._matching(key, loaded, permanences)
            except CheckpointError as error:
                self._warn(f"skipped a cached result of {key.process.name}: {error}")
                continue
            if result is not None:
                with contextlib.suppress(OSError):  # recently used entries are kept longest
                    os.utime(entry)
                return result
        return None

    def store(
        self, key: CacheKey, permanences: Mapping[str, Permanence], states: Mapping[str, Any], step: int, count: int
    ) -> None:
        """Store the result of a process in the place of an older one.

        Raises:
            CheckpointError: If it can't be written.
            StateError: If a state holds a value that can't be stored.
            OSError: If the directory can't be written.
        """
        wanted = self._stateful(key, permanences)
        self._path.mkdir(exist_ok=True)
        new = self._path / f".new-{secrets.token_hex(4)}~{self._run}"
        try:
            CheckpointStore(new).save(
                {
                    "format": FORMAT,
                    "permanences": {name: state for name, state in states.items() if name in wanted},
                    "framework": {"step": step, "count": count, "rng": seeding.capture()},
                },
                step=step,
                kind="cached",
                meta={
                    "run": self._run,
                    "pipeline": self._plan.settings.name,
                    "process": key.process.name,
                    "identity": key.identity,
                    "fingerprint": key.fingerprint,
                },
            )
            self._publish(new, self._path / f"{self._stem(key)}-{key.fingerprint[:_DIGITS]}")
        finally:
            with contextlib.suppress(OSError):
                remove_tree(new)

    def _stem(self, key: CacheKey) -> str:
        words = (self._plan.settings.name, key.process.name)
        slug = ".".join(re.sub(r"[^A-Za-z0-9_]+", "_", word)[:40] for word in words)
        return f"{slug}-{key.identity[:_DIGITS]}"

    def _entries(self, key: CacheKey) -> list[Path]:
        """Return the entries that may match, the newest first."""
        if key.process.cache == "fingerprint":
            path = self._path / f"{self._stem(key)}-{key.fingerprint[:_DIGITS]}"
            return [path] if path.is_dir() else []
        found = []
        for path in self._path.glob(f"{self._stem(key)}-*"):
            with contextlib.suppress(OSError):
                found.append((path.lstat().st_mtime, path))
        return [path for _, path in sorted(found, reverse=True)]

    def _matching(self, key: CacheKey, loaded: Loaded, permanences: Mapping[str, Permanence]) -> CachedResult | None:
        """Return an entry's result; None if it belongs to another process or lacks a state."""
        meta, states = loaded.info.meta or {}, loaded.state.get("permanences", {})
        if loaded.state.get("format") != FORMAT or meta.get("identity") != key.identity:
            return None
        if key.process.cache == "fingerprint" and meta.get("fingerprint") != key.fingerprint:
            return None
        wanted = self._stateful(key, permanences)
        if not set(wanted) <= states.keys():
            return None
        return CachedResult(
            run=str(meta.get("run")),
            fingerprint=str(meta.get("fingerprint")),
            states={name: states[name] for name in wanted},
            framework=loaded.state["framework"],
        )

    def _stateful(self, key: CacheKey, permanences: Mapping[str, Permanence]) -> list[str]:
        return [held.name for held in used_by(self._plan, key.process) if is_stateful(permanences.get(held.name))]

    def _publish(self, new: Path, path: Path) -> None:
        """Rename an entry to its place; the old one is removed first, so that they never mix."""
        old = self._path / f".removing-{path.name}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            path.rename(old)
        with contextlib.suppress(FileExistsError):  # another run stored the same result first
            new.rename(path)
        fsync_directory(self._path)
        with contextlib.suppress(OSError):
            remove_tree(old)
