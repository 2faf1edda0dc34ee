"""Runs the processes of a plan one after another."""

from __future__ import annotations

import contextlib
import inspect
import time
from dataclasses import dataclass
from typing import Any, Literal

from ridgepole.errors import add_note_once, redact, text_of
from ridgepole.pipeline.controller import Controller
from ridgepole.pipeline.plan import LOGGER, PROGRESS, Part, Plan
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.processes import PipelineProcess, skip_of


@dataclass(slots=True)
class Outcome:
    """How one process went.

    Attributes:
        name: Its name.
        status: `"pending"` until it ran.
        seconds: Wall time that it took, its construction included.
        reason: Why it was skipped, where it said so.
    """

    name: str
    status: Literal["pending", "running", "done", "skipped", "failed"] = "pending"
    seconds: float = 0.0
    reason: str = ""


class FunctionProcess(PipelineProcess):
    """A function under `@process`, with its arguments filled."""

    def __init__(self, part: Part, controller: Controller) -> None:
        super().__init__(controller, part.force)
        self.part = part
        self.owner = controller

    def execute(self) -> Any:
        """Calls the function."""
        positional, named = self.owner.arguments_of(self.part)
        return self.part.target(*positional, **named)

    def skip(self) -> bool | str:
        """Asks the function given as `@process(skip=...)`."""
        ask = skip_of(self.part.target)
        return ask() if ask else False


class Executor:
    """Runs a plan's processes and keeps the outcome of each."""

    def __init__(self, plan: Plan, controller: Controller, guard: SignalGuard) -> None:
        self.plan = plan
        self.controller = controller
        self.guard = guard
        self.outcomes = [Outcome(part.name) for part in plan.processes]

    def run(self) -> None:
        """Runs all processes.

        Raises:
            BaseException: The first failure, unchanged but for notes of where.
        """
        if self.plan.policy.after_process and self.plan.processes:
            self.controller.checkpoint()  # the boundary that a kill inside the first process goes back to
        display = self.controller.get_permanence(PROGRESS)
        total = len(self.plan.processes)
        task = None
        if total > 1:  # visible from here: its time is the time of all processes
            task = display.add_task_to_progress("overall", total, visible=True, progress_name="overall")
        for part, outcome in zip(self.plan.processes, self.outcomes, strict=True):
            self._run_one(part, outcome)
            if task is not None:
                display.advance("overall", task)
        if task is not None:
            display.progress_dict["overall"].update(task, visible=False)  # the run's own last line says the same

    def _run_one(self, part: Part, outcome: Outcome) -> None:
        started = time.monotonic()
        outcome.status = "running"
        try:
            skipped = self._attempts(part)
            if skipped:
                outcome.status, outcome.reason = "skipped", skipped if isinstance(skipped, str) else ""
                why = f": {outcome.reason}" if outcome.reason else ""
                self.controller.get_permanence(LOGGER).info("%s", f"{part.name} skipped{why}")
            else:
                outcome.status = "done"
        except BaseException as error:
            outcome.status = "failed"
            where = f", {part.place}" if part.place else ""
            add_note_once(error, f"in process {part.name!r} ({part.type_name}{where})")
            if self.plan.policy.on_error and isinstance(error, Exception):
                self._checkpoint_after(error)
            raise
        finally:
            outcome.seconds = time.monotonic() - started
        self.controller.ticks.end_process()

    def _attempts(self, part: Part) -> bool | str:
        retries = part.retries
        left = retries.n if retries else 0
        pause = retries.backoff if retries else 0.0
        while True:
            try:
                return self._once(part)
            except Exception as error:
                if retries is None or left < 1 or not {base.__name__ for base in type(error).__mro__} & set(retries.on):
                    raise
                left -= 1
                what = redact(f"{type(error).__name__}: {text_of(error)}", self.plan.secrets)
                message = f"{part.name} failed with {what}; trying again, {left} retries left"
                self.controller.get_permanence(LOGGER).warning("%s", message)
                self._pause(pause)
                pause *= 2

    def _pause(self, seconds: float) -> None:
        """Waits, and obeys a signal at once: nothing is half-done between two attempts."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.guard.requested is None:
            time.sleep(min(left, 0.05))
        if self.guard.requested is not None:
            raise self.guard.requested

    def _once(self, part: Part) -> bool | str:
        # Three pieces of user code: a signal that falls between two of them is obeyed before the next.
        with self.guard.user_code():
            process = self._construct(part)
        if not part.force:
            with self.guard.user_code():
                skipped = process.skip()
            if skipped:
                return skipped
        with self.guard.user_code():
            result: Any = process.execute()
            if inspect.isgenerator(result):
                # Closed here and now: an error's traceback keeps it alive until after the permanences it uses are gone.
                with contextlib.closing(result):
                    for _ in result:
                        self.controller.tick()
        return False

    def _construct(self, part: Part) -> PipelineProcess:
        if not isinstance(part.target, type):
            return FunctionProcess(part, self.controller)
        positional, named = self.controller.arguments_of(part)
        target: Any = part.target
        plain = target.__new__ is object.__new__
        process = target.__new__(target) if plain else target.__new__(target, *positional, **named)
        # Set before __init__, so that a constructor of one's own need not take them; past a frozen dataclass too.
        object.__setattr__(process, "controller", self.controller)
        object.__setattr__(process, "force", part.force)
        process.__init__(*positional, **named)
        return process  # type: ignore[no-any-return]

    def _checkpoint_after(self, error: BaseException) -> None:
        try:
            self.controller.checkpoint()
        except Exception as second:  # noqa: BLE001 - the first cause stays the error
            add_note_once(error, f"the checkpoint on error failed too: {type(second).__name__}: {text_of(second)}")
