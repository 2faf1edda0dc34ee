"""Run the processes of a plan one after another, with retries and cached results."""

from __future__ import annotations

import contextlib
import inspect
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ridgepole import seeding
from ridgepole.data.ranges import Ranges
from ridgepole.errors import CheckpointError, GuardError, StateError, add_note_once, redact, stop_behind, text_of
from ridgepole.pipeline.distributed.failure import RankStop
from ridgepole.pipeline.lifecycle.checkpointing import RankStates, ResumePoint
from ridgepole.pipeline.lifecycle.gradients import STEPS, GradientWatch
from ridgepole.pipeline.lifecycle.guarding import Rollback
from ridgepole.pipeline.lifecycle.process_run import ProcessOutcome, ProcessRun
from ridgepole.pipeline.lifecycle.signals import SignalGuard, is_lost_worker
from ridgepole.pipeline.run.controller import Controller
from ridgepole.pipeline.run.durations import expected_seconds
from ridgepole.pipeline.run.retries import RetryPolicy, RetryRestorer, after_rollback, release_frames
from ridgepole.pipeline.spec.loops import ticking_loops
from ridgepole.pipeline.spec.plan import PROGRESS, ComponentPlan, Plan, is_stateful
from ridgepole.processes import PipelineProcess, skip_of

if TYPE_CHECKING:
    from ridgepole.pipeline.cache.store import CacheKey, ProcessCache

_REHEARSAL_SECONDS = 10.0  # by then optimisers have their states, and little is lost


class FunctionProcess(PipelineProcess):
    """A function under `@process`, with its arguments filled."""

    def __init__(self, component: ComponentPlan, controller: Controller) -> None:
        super().__init__(controller, component.force)
        self.component = component
        self.owner = controller

    def execute(self) -> Any:
        """Call the function."""
        positional, named = self.owner.arguments_of(self.component)
        return self.component.target(*positional, **named)

    def skip(self) -> bool | str:
        """Ask the function given as `@process(skip=...)`."""
        ask = skip_of(self.component.target)
        return ask() if ask else False


class Executor:
    """Runs a plan's processes and keeps the outcome of each.

    Args:
        plan: The plan.
        controller: Owns the permanences.
        guard: Handles signals.
        note: Called with a process's outcome when it begins and when it has ended.
    """

    def __init__(
        self, plan: Plan, controller: Controller, guard: SignalGuard, note: Callable[[ProcessOutcome], None]
    ) -> None:
        self.plan = plan
        self.controller = controller
        self.guard = guard
        self.note = note
        self.cache: ProcessCache | None = None

    def run(self) -> None:
        """Run all processes.

        Raises:
            BaseException: The first failure, unchanged except for notes of its place.
        """
        self.cache = self._open_cache()
        controller, total = self.controller, len(self.plan.processes)
        point = controller.resume_point
        if point is not None and point.name is None:
            point = None
        if self.plan.policy.after_process and total and point is None:
            controller.checkpoint("boundary")  # to resume from if the first process is killed
        display = controller.get_permanence(PROGRESS)
        first, task = controller.position, None
        if total > 1:  # visible from here: its time is the time of all processes
            task = display.add_task_to_progress("overall", total, visible=True, progress_name="overall")
            bar = display.progress_dict["overall"]
            if first:
                bar.reset(task, total=total, completed=first)
            bar.update(task, expected_seconds=expected_seconds(self.plan, controller.run_dir))
        if point is not None:
            point.restore_rng()
        for index in range(first, total):
            inside = point if point is not None and point.inside and index == first else None
            self._run_process(self.plan.processes[index], controller.outcomes[index], inside)
            if task is not None:
                display.advance("overall", task)
        if task is not None:
            # The run's own last line says the same
            display.progress_dict["overall"].update(task, visible=False)

    def _run_process(self, process: ComponentPlan, outcome: ProcessOutcome, point: ResumePoint | None) -> None:
        started = time.monotonic()
        outcome.status, self.controller.ended = "running", None
        self.note(outcome)
        try:
            outcome.status = self._run_or_restore(process, outcome, point)
        except BaseException as error:
            outcome.status = "failed"
            add_note_once(error, f"in process {process.described}")
            raise
        finally:
            outcome.seconds += time.monotonic() - started
            self.note(outcome)
        self.controller.position += 1
        self.controller.ticks.end_process()

    def _run_or_restore(
        self, process: ComponentPlan, outcome: ProcessOutcome, point: ResumePoint | None
    ) -> Literal["done", "skipped", "cached"]:
        """Restore a process's result from another run, or run it."""
        controller = self.controller
        key = self._cache_key(process, outcome, point)
        if key is not None and point is None and not process.force and self._restore_cached(key, outcome):
            controller.log("info", f"{process.name} cached: {outcome.reason}")
            return "cached"
        skipped = self._run_with_retries(process, point)
        if skipped:
            outcome.reason = skipped if isinstance(skipped, str) else ""
            controller.log("info", f"{process.name} skipped{': ' if outcome.reason else ''}{outcome.reason}")
            if key is not None:
                self._mark_skipped(outcome)
            return "skipped"
        if key is not None:
            self._store_cached(key)
        return "done"

    # --- running

    def _run_with_retries(self, process: ComponentPlan, point: ResumePoint | None) -> bool | str:
        """Run a process; if it fails and may be retried, again from the newest checkpoint."""
        policy = RetryPolicy(process.retries, self.controller.world_size)
        restorer = RetryRestorer(self.controller, fresh=point is None) if policy.left else None
        rollbacks = 0
        while True:
            try:
                return self._run_once(process, point)
            except Exception as error:
                if restorer is None or not policy.allows(error):
                    raise
                found = restorer.find()
                if isinstance(found, str):
                    add_note_once(error, f"{process.name} was not tried again: {found}")
                    raise
                shown = redact(f"{type(error).__name__}: {text_of(error)}", self.plan.secrets)
                release_frames(error)
            except Rollback as back:
                rollbacks += 1
                point = self._roll_back(process, back, rollbacks)
                continue
            pause = policy.next_pause()
            where = f" from step {found.step}" if found.inside else ""
            self.controller.warn(f"{process.name} failed with {shown}; trying again{where}, {policy.left} retries left")
            self._pause(pause)
            self.controller.restore(found)
            found.restore_rng()
            point = found if found.inside else None

    def _roll_back(self, process: ComponentPlan, back: Rollback, number: int) -> ResumePoint | None:
        """Restore the state before a fault; return where the process continues, None at its start.

        Raises:
            GuardError: If there were too many rollbacks, or no checkpoint is before the fault.
        """
        found, controller = back.found, self.controller
        # First: it removes the checkpoints since the fault, from which a resume would continue
        point = controller.go_back(back)
        if number > found.policy.rollbacks:
            raise GuardError(f"{found.title}: {found.text}; rolled back {found.policy.rollbacks} times already")
        if point is None:
            raise GuardError(f"{found.title}: {found.text}; no checkpoint before it can be resumed from")
        release_frames(back)
        point, how = after_rollback(point, back, reseed=controller.seed + number)
        controller.warn(f"{process.name} goes back to {point.name}, step {point.step}, and {how}")
        controller.restore(point)
        point.restore_rng()
        return point if point.inside else None

    def _pause(self, seconds: float) -> None:
        """Wait between two attempts, and obey a signal at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.guard.requested is None:
            time.sleep(min(left, 0.05))
        if self.guard.requested is not None:
            raise self.guard.requested

    def _run_once(self, component: ComponentPlan, point: ResumePoint | None) -> bool | str:
        """Construct, ask whether to skip, restore and execute; return why it was skipped."""
        # These are pieces of user code: a signal that falls between two of them is obeyed before
        # the next.
        controller = self.controller
        with self.guard.user_code():
            process = self._construct(component)
        if not component.force and point is None:
            with self.guard.user_code():
                skipped: bool | str = controller.decide(process.skip)
            if skipped:
                return skipped
        self._restore_process(process, point)
        if self.plan.policy.enabled:
            self._watch_beginning(component, process, new=point is None)
        try:
            with self.guard.user_code():
                self._execute(process)
        except SystemExit as error:
            if (behind := stop_behind(error)) is not None:
                raise behind from None
            raise
        except (Exception, RankStop) as error:
            stop = self.guard.requested
            if stop is not None and is_lost_worker(error):  # ended by the signal that asked for the stop
                raise stop from error
            controller.report(error)
            controller.note_out_of_memory(error)
            if self.plan.policy.on_error and not (isinstance(error, RankStop) and error.failure.signal):
                self._checkpoint_after(error)
            raise
        else:
            if controller.process_run is not None and self.plan.policy.enabled and controller.world_size == 1:
                with self.guard.user_code():
                    controller.ended = controller.process_run.capture_end()
        finally:
            controller.ticks.rest()
            if controller.process_run is not None:
                controller.process_run.close()
            controller.process_run = None
        return False

    def _watch_beginning(self, component: ComponentPlan, process: PipelineProcess, *, new: bool) -> None:
        """Look early in a process for states that no checkpoint will hold."""
        controller = self.controller
        if controller.world_size > 1:
            if new:
                controller.ticks.watch(controller.rehearse, 1)
            return
        if new:
            controller.ticks.rehearse_after(_REHEARSAL_SECONDS, controller.rehearse)
        gradients = GradientWatch({**controller.permanences, component.name: process}, controller.warn)
        controller.ticks.watch(gradients.look, STEPS)

    def _execute(self, process: PipelineProcess) -> None:
        """Run the body of a process; each `yield` of a generator is a tick."""
        result: Any = process.execute()
        if inspect.isgenerator(result):
            # Closed here and now: an error's traceback keeps it alive until after the
            # permanences are gone.
            with contextlib.closing(result):
                for _ in result:
                    self.controller.tick()
        for line in () if self.controller.process_run is None else self.controller.process_run.not_taken_up():
            self.controller.warn(line)

    def _restore_process(self, process: PipelineProcess, point: ResumePoint | None) -> None:
        """Record which process runs; if it is resumed, restore it and the random generators."""
        controller, ticks = self.controller, self.controller.ticks
        target = self.plan.processes[controller.position].target
        loops = ticking_loops(target) if self.plan.policy.enabled else []
        replays = any(loop.replays for loop in loops)
        kept = loops[0].kept if len(loops) == 1 else ()
        left_out = self._left_out(point)
        if point is None:
            controller.process_run = ProcessRun(process, ticks, replays=replays, kept=kept, left_out=left_out)
            return
        loaders = point.process["loaders"]
        controller.process_run = ProcessRun(
            process,
            ticks,
            loaders,
            point.restore_rng,
            replays=replays,
            kept=kept,
            left_out=left_out,
            extended=point.extended,
        )
        if is_stateful(process):
            with self.guard.user_code():
                key, state = f"processes.{controller.outcomes[controller.position].name}", point.process["state"]
                if isinstance(state, RankStates):
                    state = state.reshard(process, controller.rank, controller.world_size)
                controller.changed.restore(key, process, state)
        point.restore_rng()

    def _left_out(self, point: ResumePoint | None) -> Ranges:
        """Return the ranges to leave out from a point on; None is the start of the process."""
        begin = self.controller.resume_point
        if begin is None or self.controller.position != begin.position:
            return ()
        return begin.left_out if point is None or point.name == begin.name else ()

    def _construct(self, component: ComponentPlan) -> PipelineProcess:
        if not isinstance(component.target, type):
            return FunctionProcess(component, self.controller)
        positional, named = self.controller.arguments_of(component)
        target: Any = component.target
        plain = target.__new__ is object.__new__
        process = target.__new__(target) if plain else target.__new__(target, *positional, **named)
        # Set before __init__, so that the user's constructor need not take them; works for a frozen
        # dataclass too.
        object.__setattr__(process, "controller", self.controller)
        object.__setattr__(process, "force", component.force)
        process.__init__(*positional, **named)
        return process  # type: ignore[no-any-return]

    def _checkpoint_after(self, error: BaseException) -> None:
        try:
            self.controller.checkpoint("error")
        except Exception as second:  # noqa: BLE001 - the first cause stays the error
            add_note_once(error, f"the checkpoint on error failed too: {type(second).__name__}: {text_of(second)}")

    # --- cached results

    def _open_cache(self) -> ProcessCache | None:
        if all(process.cache == "off" for process in self.plan.processes):
            return None
        controller = self.controller
        # Ranks could decide differently, and wait for each other for ever
        if controller.world_size > 1:
            controller.warn("with several ranks no process is cached")
            return None
        from ridgepole.pipeline.cache.store import ProcessCache

        return ProcessCache(self.plan, controller.run_dir, controller.seed, controller.warn)

    def _cache_key(self, process: ComponentPlan, outcome: ProcessOutcome, point: ResumePoint | None) -> CacheKey | None:
        if self.cache is None:
            return None
        before = self._fingerprint_before() or (secrets.token_hex() if self.controller.position else "")
        resumed = None if point is None else str(point.framework.get("fingerprint"))
        key = self.cache.key(process, before, resumed)
        outcome.fingerprint = key.fingerprint
        return key

    def _fingerprint_before(self) -> str:
        position = self.controller.position
        return self.controller.outcomes[position - 1].fingerprint if position else ""

    def _restore_cached(self, key: CacheKey, outcome: ProcessOutcome) -> bool:
        """Restore the result of another run's process, and return whether there was one."""
        from ridgepole.pipeline.cache.fingerprint import chained

        assert self.cache is not None
        controller = self.controller
        cached = self.cache.find(key, controller.permanences)
        if cached is None:
            return False
        for component in self.plan.permanences:
            if component.name in cached.states:
                try:
                    controller.restore_state(component, cached.states[component.name])
                except BaseException as error:
                    add_note_once(
                        error, f"with the result of {key.process.name} in run {cached.run}; force = true reruns it"
                    )
                    raise
        outcome.reason = f"done by run {cached.run}"
        if key.process.cache == "fingerprint":
            controller.ticks.resume(int(cached.framework["step"]), int(cached.framework["count"]))
            seeding.restore(cached.framework["rng"])
        else:  # today's code might have come to the result in another way
            outcome.fingerprint = chained("exists", cached.fingerprint, outcome.fingerprint)
        return True

    def _store_cached(self, key: CacheKey) -> None:
        """Store the result of a process; a failure is only a warning."""
        assert self.cache is not None
        controller = self.controller
        if not key.usable:
            return
        try:
            ticks = controller.ticks
            self.cache.store(key, controller.permanences, controller.states(), ticks.step, ticks.count)
        except (CheckpointError, StateError, OSError) as error:
            controller.warn(f"{key.process.name} was not cached: {error}")

    def _mark_skipped(self, outcome: ProcessOutcome) -> None:
        """Give a skipped process another fingerprint: the next one does not follow its work."""
        from ridgepole.pipeline.cache.fingerprint import chained

        outcome.fingerprint = chained("skipped", outcome.name, self._fingerprint_before())
