"""Where a process that failed starts again: never at its beginning with what the failure left half-done."""

from __future__ import annotations

import copy
import traceback

from ridgepole.checkpoint import rng
from ridgepole.errors import text_of
from ridgepole.pipeline.checkpoints import Resumption, newest_resumption
from ridgepole.pipeline.controller import Controller


class WayBack:
    """Knows the newest checkpoint from which the process that runs can go on.

    Where the run stores checkpoints, that is one of them, and one is taken now if there is none between the process
    and the one before it. Where it stores none, the states are copied in memory for as long as the process runs.

    Args:
        controller: Owns the permanences; no process is running.
        boundary: Whether the process begins here, and is not resumed in its middle.
    """

    def __init__(self, controller: Controller, *, boundary: bool) -> None:
        self._controller = controller
        self._copy: Resumption | None = None
        self._lacking = ""
        if not boundary:
            return
        if controller.stores_checkpoints:
            if not controller.has_boundary():
                controller.checkpoint("boundary")
            return
        try:
            framework = controller.framework_state() | {"rng": rng.capture()}
            self._copy = Resumption(
                controller.attempt,
                "memory",
                controller.step,
                controller.position,
                permanences=copy.deepcopy(controller.states()),
                framework=copy.deepcopy(framework),
                outcomes=controller.done(),
            )
        except Exception as error:  # noqa: BLE001 - it matters only if the process fails
            self._lacking = f"the state before it could not be copied ({type(error).__name__}: {text_of(error)})"

    def find(self) -> Resumption | str:
        """Where to go back to, or why there is no such place."""
        controller = self._controller
        if not controller.stores_checkpoints:
            if self._copy is None:
                return self._lacking or "it was resumed in its middle, and no checkpoint is stored"
            return copy.deepcopy(self._copy)  # loading a state may keep parts of it, and there may be a third attempt
        place = newest_resumption(controller.run_dir, controller.attempt)
        if place.name is None or place.position != controller.position:
            return "there is no sound checkpoint between it and the process before it"
        return place


def let_go(error: BaseException) -> None:
    """Frees what the frames of a failed attempt hold, such as memory of a device, before the next one begins."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        link = link.__context__
