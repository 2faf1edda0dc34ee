"""Processes that another run has done: what they left is kept, and given back instead of doing it again.

```
<run root>/.cache/
  <pipeline>.<process>-<identity>-<fingerprint>/   a checkpoint store with one checkpoint
  .new-<hex>~<run id>                              one that is being written, or was interrupted
```
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointStore, Loaded, rng
from ridgepole.errors import CheckpointError, StateError, add_note_once
from ridgepole.files import fsync_directory
from ridgepole.pipeline.checkpoints import Resumption
from ridgepole.pipeline.controller import Controller
from ridgepole.pipeline.fingerprint import FORMAT, IncomparableError, chained, fingerprint_of, identity_of, used_by
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.plan import Part, Plan
from ridgepole.pipeline.running import is_stateful

_DIGITS = 16
"""Hex digits of a hash in the name of an entry; the whole hashes are in its manifest, and compared."""


@dataclass(slots=True)
class _Subject:
    """The process that is at hand.

    Attributes:
        part: The process.
        identity: Which process it is, with which parameters.
        fingerprint: All it depends on.
    """

    part: Part
    identity: str
    fingerprint: str


class ProcessCache:
    """The cached processes of a run root, as one run uses them.

    Args:
        plan: The plan.
        controller: Owns the permanences.
    """

    def __init__(self, plan: Plan, controller: Controller) -> None:
        self._plan = plan
        self._controller = controller
        self._path = controller.run_dir.parent / rundir.CACHE
        self._subject: _Subject | None = None

    def begin(self, part: Part, outcome: Outcome, resumption: Resumption | None) -> None:
        """A process is next; works out what it depends on.

        Args:
            part: The process.
            outcome: Its outcome; gets its fingerprint.
            resumption: Where it is resumed in its middle.
        """
        position = self._controller.position
        before = self._controller.outcomes[position - 1].fingerprint or secrets.token_hex() if position else ""
        self._subject = None
        outcome.fingerprint = chained("unknown", secrets.token_hex())
        identity = ""
        try:
            identity = identity_of(self._plan, part)
            outcome.fingerprint = fingerprint_of(self._plan, part, self._controller.seed, before)
        except IncomparableError as error:
            if part.cache == "fingerprint" or (part.cache == "exists" and not identity):
                self._controller.say("warning", f"{part.name} is not cached: {error}")
                return
        if resumption is not None and resumption.framework.get("fingerprint") != outcome.fingerprint:
            # Begun by other code or with other values: what comes out is what no single run would give.
            outcome.fingerprint = chained("altered", secrets.token_hex())
            return
        if part.cache != "off":
            self._subject = _Subject(part, identity, outcome.fingerprint)

    def restore(self, outcome: Outcome) -> bool:
        """Gives the permanences what the process left in another run, where one has done it.

        Args:
            outcome: The process's outcome; says which run it was.

        Returns:
            Whether the process need not run.

        Raises:
            BaseException: What a permanence's `load_state_dict` raised.
        """
        subject = self._subject
        if subject is None:
            return False
        for entry in self._entries(subject):
            try:
                loaded = CheckpointStore(entry).load()
                states = self._fitting(subject, loaded)
            except CheckpointError as error:
                self._controller.say("warning", f"what is cached of {subject.part.name} can't be used: {error}")
                continue
            if states is None:
                continue
            with contextlib.suppress(OSError):  # what is used is kept longest
                os.utime(entry)
            self._give_back(subject, loaded, states, outcome)
            return True
        return False

    def store(self) -> None:
        """Keeps what the process has left, in the place of what was kept before; a failure is only a warning."""
        subject, self._subject = self._subject, None
        if subject is None:
            return
        try:
            self._write(subject)
        except (CheckpointError, StateError, OSError) as error:
            self._controller.say("warning", f"{subject.part.name} was not cached: {error}")

    def went_otherwise(self, outcome: Outcome) -> None:
        """The process was skipped: what comes after it did not come after its work."""
        self._subject = None
        position = self._controller.position
        before = self._controller.outcomes[position - 1].fingerprint if position else ""
        outcome.fingerprint = chained("skipped", outcome.name, before)

    # --- inside

    def _stem(self, subject: _Subject) -> str:
        words = (self._plan.settings.name, subject.part.name)
        slug = ".".join(re.sub(r"[^A-Za-z0-9_]+", "_", word)[:40] for word in words)
        return f"{slug}-{subject.identity[:_DIGITS]}"

    def _entries(self, subject: _Subject) -> Iterator[Path]:
        """What may fit, the newest first."""
        if subject.part.cache == "fingerprint":
            path = self._path / f"{self._stem(subject)}-{subject.fingerprint[:_DIGITS]}"
            return iter([path] if path.is_dir() else [])
        found = []
        for path in self._path.glob(f"{self._stem(subject)}-*"):
            with contextlib.suppress(OSError):
                found.append((path.lstat().st_mtime, path))
        return iter([path for _, path in sorted(found, reverse=True)])

    def _fitting(self, subject: _Subject, loaded: Loaded) -> dict[str, Any] | None:
        """The states for the permanences that have one; None where it is another process's or lacks one."""
        meta, states = loaded.info.meta or {}, loaded.state.get("permanences", {})
        if loaded.state.get("format") != FORMAT or meta.get("identity") != subject.identity:
            return None
        if subject.part.cache == "fingerprint" and meta.get("fingerprint") != subject.fingerprint:
            return None
        wanted = {part.name for part in self._stateful(subject)}
        return {name: states[name] for name in wanted} if wanted <= states.keys() else None

    def _stateful(self, subject: _Subject) -> list[Part]:
        held = self._controller.permanences
        return [part for part in used_by(self._plan, subject.part) if is_stateful(held.get(part.name))]

    def _give_back(self, subject: _Subject, loaded: Loaded, states: dict[str, Any], outcome: Outcome) -> None:
        meta = loaded.info.meta or {}
        for part in self._stateful(subject):
            try:
                self._controller.give_back(part, states[part.name])
            except BaseException as error:
                note = f"with what {subject.part.name} left in run {meta.get('run')}; force = true does it again"
                add_note_once(error, note)
                raise
        outcome.reason = f"done by run {meta.get('run')}"
        if subject.part.cache == "fingerprint":
            framework = loaded.state["framework"]
            self._controller.ticks.go_on(int(framework["step"]), int(framework["count"]))
            rng.restore(framework["rng"])
        else:  # what it left may have come about in another way than today's code would bring it about
            outcome.fingerprint = chained("exists", str(meta.get("fingerprint")), outcome.fingerprint)

    def _write(self, subject: _Subject) -> None:
        run = self._controller.run_dir.name
        wanted = {part.name for part in self._stateful(subject)}
        states = {name: state for name, state in self._controller.states().items() if name in wanted}
        ticks = self._controller.ticks
        self._path.mkdir(exist_ok=True)
        new = self._path / f".new-{secrets.token_hex(4)}~{run}"
        try:
            CheckpointStore(new).save(
                {
                    "format": FORMAT,
                    "permanences": states,
                    "framework": {"step": ticks.step, "count": ticks.count, "rng": rng.capture()},
                },
                step=ticks.step,
                kind="cached",
                meta={
                    "run": run,
                    "pipeline": self._plan.settings.name,
                    "process": subject.part.name,
                    "identity": subject.identity,
                    "fingerprint": subject.fingerprint,
                },
            )
            self._put(new, self._path / f"{self._stem(subject)}-{subject.fingerprint[:_DIGITS]}")
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _put(self, new: Path, path: Path) -> None:
        """Gives an entry its name; the one before goes first, so that no mixture of the two is ever seen."""
        old = self._path / f".removing-{path.name}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            path.rename(old)
        with contextlib.suppress(FileExistsError):  # another run was quicker, with the same
            new.rename(path)
        fsync_directory(self._path)
        shutil.rmtree(old, ignore_errors=True)


def cache_of(plan: Plan, controller: Controller) -> ProcessCache | None:
    """The cache that a run uses; None where no process asks for it, and with several ranks.

    Each rank would decide by itself, and one that runs while another doesn't would wait for it for ever.
    """
    if all(part.cache == "off" for part in plan.processes):
        return None
    if controller.world_size > 1:
        controller.say("warning", "with several ranks no process is cached")
        return None
    return ProcessCache(plan, controller)
