"""Decide whether a process is tried again, and find the state from which."""

from __future__ import annotations

import copy
import traceback
from dataclasses import replace

from ridgepole import seeding
from ridgepole.data.positions import LEFT_OUT, done_in
from ridgepole.data.ranges import merged
from ridgepole.errors import GuardError, text_of
from ridgepole.pipeline.lifecycle.checkpointing import ResumePoint, newest_resume_point
from ridgepole.pipeline.lifecycle.guarding import Rollback
from ridgepole.pipeline.run.controller import Controller
from ridgepole.pipeline.spec.plan import Retries
from ridgepole.seeding import MAX_SEED


class RetryPolicy:
    """Decides whether a failed process is tried again.

    Attributes:
        left: How many retries are left.
    """

    def __init__(self, retries: Retries | None, world_size: int) -> None:
        # If one of several ranks fails, the others are in the middle of the process: the launcher
        # restarts all.
        self.left = 0 if retries is None or world_size > 1 else retries.n
        self._names = set(retries.on) if retries is not None else set()
        self._pause = retries.backoff if retries is not None else 0.0

    def allows(self, error: Exception) -> bool:
        """Return whether a retry is left for an error."""
        return (
            self.left > 0
            and not isinstance(error, GuardError)
            and bool({base.__name__ for base in type(error).__mro__} & self._names)
        )

    def next_pause(self) -> float:
        """Use up one retry, and return the seconds to wait before it."""
        pause, self._pause = self._pause, self._pause * 2
        self.left -= 1
        return pause


class RetryRestorer:
    """Finds the state from which a failed process is tried again.

    If the run stores checkpoints, that is the newest one; one is taken now if none exists between
    the process and the one before it. Otherwise the states are copied in memory for as long as the
    process runs.

    Args:
        controller: Owns the permanences; no process is running.
        fresh: Whether the process begins here, and is not resumed in the middle.
    """

    def __init__(self, controller: Controller, *, fresh: bool) -> None:
        self._controller = controller
        self._copy: ResumePoint | None = None
        self._problem = "it was resumed in the middle, and no checkpoint is stored"
        if not fresh:
            return
        if controller.stores_checkpoints:
            if not controller.has_boundary():
                controller.checkpoint("boundary")
            return
        try:
            framework = controller.framework_state() | {"rng": seeding.capture()}
            self._copy = ResumePoint(
                attempt=controller.attempt,
                name="memory",
                step=controller.step,
                position=controller.position,
                permanences=copy.deepcopy(controller.states()),
                framework=copy.deepcopy(framework),
                outcomes=controller.done(),
            )
        except Exception as error:  # noqa: BLE001 - it matters only if the process fails
            self._problem = f"the state before it could not be copied ({type(error).__name__}: {text_of(error)})"

    def find(self) -> ResumePoint | str:
        """Return the state to restore, or why none exists."""
        controller = self._controller
        if not controller.stores_checkpoints:
            # Loading a state may keep parts of it, and there may be a third attempt: hand out a
            # copy.
            return self._problem if self._copy is None else copy.deepcopy(self._copy)
        controller.finish_save()
        point = newest_resume_point(controller.run_dir, controller.attempt, fits=controller.fits)
        if point.name is None or point.position != controller.position:
            return "no sound checkpoint exists between it and the process before it"
        return point


def release_frames(error: BaseException) -> None:
    """Release what the frames of a failed attempt hold, such as memory of a device."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


def after_rollback(point: ResumePoint, back: Rollback, reseed: int) -> tuple[ResumePoint, str]:
    """Return a point that leaves out the batches since, or draws other random numbers."""
    loaders = [dict(state) for state in point.process.get("loaders", ())]
    if back.found.policy.then == "skip" and back.cursor is not None and loaders and "range" not in loaders[-1]:
        place = done_in(loaders[-1])
        left_out = back.cursor - place
        if "cursor" in loaders[-1]:
            loaders[-1]["cursor"] = back.cursor
        else:
            loaders[-1][LEFT_OUT] = merged(loaders[-1].get(LEFT_OUT, ()), [(place, back.cursor)])
        return replace(point, process={**point.process, "loaders": loaders}), f"leaves out {left_out} batches"
    return replace(point, reseed=reseed % MAX_SEED), "draws other random numbers"
