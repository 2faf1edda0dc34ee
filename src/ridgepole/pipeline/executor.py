"""Runs the processes of a plan one after another."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ridgepole.checkpoint import rng
from ridgepole.errors import add_note_once, redact, text_of
from ridgepole.pipeline.checkpoints import Resumption
from ridgepole.pipeline.controller import Controller
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.plan import LOGGER, PROGRESS, Part, Plan
from ridgepole.pipeline.ranks.cause import RankStop
from ridgepole.pipeline.retrying import WayBack, let_go
from ridgepole.pipeline.running import Running, is_stateful
from ridgepole.pipeline.signals import SignalGuard
from ridgepole.processes import PipelineProcess, skip_of

if TYPE_CHECKING:
    from ridgepole.pipeline.cache import ProcessCache


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
    """Runs a plan's processes and keeps the outcome of each.

    Args:
        plan: The plan.
        controller: Owns the permanences.
        guard: Knows about signals.
        note: Told how a process stands, when it begins and when it has ended.
    """

    def __init__(self, plan: Plan, controller: Controller, guard: SignalGuard, note: Callable[[Outcome], None]) -> None:
        self.plan = plan
        self.controller = controller
        self.guard = guard
        self.note = note
        self.cache: ProcessCache | None = None

    def run(self) -> None:
        """Runs all processes.

        Raises:
            BaseException: The first failure, unchanged but for notes of where.
        """
        if any(part.cache != "off" for part in self.plan.processes):
            from ridgepole.pipeline.cache import cache_of

            self.cache = cache_of(self.plan, self.controller)
        resumption = self.controller.resumption
        begun = resumption is not None and resumption.name is not None
        if self.plan.policy.after_process and self.plan.processes and not begun:
            self.controller.checkpoint("boundary")  # what a kill inside the first process goes back to
        display = self.controller.get_permanence(PROGRESS)
        total = len(self.plan.processes)
        task = None
        if total > 1:  # visible from here: its time is the time of all processes
            task = display.add_task_to_progress("overall", total, visible=True, progress_name="overall")
        first = self.controller.position
        if task is not None and first:
            display.progress_dict["overall"].reset(task, total=total, completed=first)
        if resumption is not None and begun:
            rng.restore(resumption.framework["rng"])
        for index in range(first, total):
            inside = resumption if resumption is not None and resumption.inside and index == first else None
            self._run_one(self.plan.processes[index], self.controller.outcomes[index], inside)
            if task is not None:
                display.advance("overall", task)
        if task is not None:
            display.progress_dict["overall"].update(task, visible=False)  # the run's own last line says the same

    def _run_one(self, part: Part, outcome: Outcome, resumption: Resumption | None) -> None:
        started = time.monotonic()
        outcome.status = "running"
        self.note(outcome)
        try:
            outcome.status = self._settle(part, outcome, resumption)
        except BaseException as error:
            outcome.status = "failed"
            where = f", {part.place}" if part.place else ""
            add_note_once(error, f"in process {part.name!r} ({part.type_name}{where})")
            raise
        finally:
            outcome.seconds += time.monotonic() - started
            self.note(outcome)
        self.controller.position += 1
        self.controller.ticks.end_process()

    def _settle(
        self, part: Part, outcome: Outcome, resumption: Resumption | None
    ) -> Literal["done", "skipped", "cached"]:
        """Runs a process, unless another run has done it or it skips itself, and says why where it did not run."""
        cache = self.cache
        if cache is not None:
            cache.begin(part, outcome, resumption)
            if resumption is None and not part.force and cache.restore(outcome):
                self.controller.say("info", f"{part.name} cached: {outcome.reason}")
                return "cached"
        skipped = self._attempts(part, resumption)
        if skipped:
            outcome.reason = skipped if isinstance(skipped, str) else ""
            self.controller.say("info", f"{part.name} skipped{': ' if outcome.reason else ''}{outcome.reason}")
            if cache is not None:
                cache.went_otherwise(outcome)
            return "skipped"
        if cache is not None:
            cache.store()
        return "done"

    def _attempts(self, part: Part, resumption: Resumption | None) -> bool | str:
        """Runs a process, again where it failed and may be retried: from the newest checkpoint, as a resume would."""
        retries = part.retries
        # Where one of several ranks fails, the others are in the middle of it: the launcher starts all of them again.
        if retries is None or retries.n < 1 or self.controller.world_size > 1:
            return self._once(part, resumption)
        way = WayBack(self.controller, boundary=resumption is None)
        pause = retries.backoff
        for left in range(retries.n, 0, -1):
            try:
                return self._once(part, resumption)
            except Exception as error:
                if not {base.__name__ for base in type(error).__mro__} & set(retries.on):
                    raise
                place = way.find()
                if isinstance(place, str):
                    add_note_once(error, f"{part.name} was not tried again: {place}")
                    raise
                what = redact(f"{type(error).__name__}: {text_of(error)}", self.plan.secrets)
                let_go(error)
            where = f" from step {place.step}" if place.inside else ""
            message = f"{part.name} failed with {what}; trying again{where}, {left - 1} retries left"
            self.controller.get_permanence(LOGGER).warning("%s", message)
            self._pause(pause)
            pause *= 2
            self.controller.go_back(place)
            rng.restore(place.framework["rng"])
            resumption = place if place.inside else None
        return self._once(part, resumption)

    def _pause(self, seconds: float) -> None:
        """Waits, and obeys a signal at once: nothing is half-done between two attempts."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.guard.requested is None:
            time.sleep(min(left, 0.05))
        if self.guard.requested is not None:
            raise self.guard.requested

    def _once(self, part: Part, resumption: Resumption | None) -> bool | str:
        # Three pieces of user code: a signal that falls between two of them is obeyed before the next.
        with self.guard.user_code():
            process = self._construct(part)
        if not part.force and resumption is None:
            with self.guard.user_code():
                skipped: bool | str = self.controller.decide(process.skip)
            if skipped:
                return skipped
        self._begin(process, resumption)
        try:
            with self.guard.user_code():
                result: Any = process.execute()
                if inspect.isgenerator(result):
                    # Closed here and now: an error's traceback keeps it alive until after the permanences are gone.
                    with contextlib.closing(result):
                        for _ in result:
                            self.controller.tick()
        except (Exception, RankStop) as error:
            self.controller.report(error)
            if self.plan.policy.on_error and not (isinstance(error, RankStop) and error.cause.signal):
                self._checkpoint_after(error)
            raise
        finally:
            if self.controller.running is not None:
                self.controller.running.close()
            self.controller.running = None
        return False

    def _begin(self, process: PipelineProcess, resumption: Resumption | None) -> None:
        """Notes which process runs; one that is resumed gets its state, and the random generators theirs."""
        ticks = self.controller.ticks
        if resumption is None:
            self.controller.running = Running(process, ticks)
            return
        put_back = partial(rng.restore, resumption.framework["rng"])
        self.controller.running = Running(process, ticks, resumption.process["loaders"], put_back)
        if is_stateful(process):
            with self.guard.user_code():
                process.load_state_dict(resumption.process["state"])
        put_back()

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
            self.controller.checkpoint("error")
        except Exception as second:  # noqa: BLE001 - the first cause stays the error
            add_note_once(error, f"the checkpoint on error failed too: {type(second).__name__}: {text_of(second)}")
