"""The controller of one run: look-up of permanences, ticks, checkpoints, restoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ridgepole import seeding
from ridgepole.checkpoint import CheckpointInfo, CheckpointStore
from ridgepole.data.ranges import show
from ridgepole.errors import CheckpointError, LogWriteError, did_you_mean, redact, text_of
from ridgepole.permanence import Permanence
from ridgepole.pipeline.distributed.failure import RankStop
from ridgepole.pipeline.lifecycle.checkpointing import (
    Checkpoints,
    ResumePoint,
    Scores,
    Verify,
    newest_resume_point,
    resume_point_of_rank,
)
from ridgepole.pipeline.lifecycle.guarding import Rollback, RunGuard
from ridgepole.pipeline.lifecycle.process_run import ProcessOutcome, ProcessRun
from ridgepole.pipeline.lifecycle.rehearsal import rehearse
from ridgepole.pipeline.lifecycle.scheduler import CheckpointScheduler, Kind
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.pipeline.run.changed import ChangedParameters
from ridgepole.pipeline.run.comparison import check_ranks
from ridgepole.pipeline.run.permanences import PermanenceSet
from ridgepole.pipeline.spec.plan import LOGGER, ComponentPlan, Plan, is_stateful
from ridgepole.pipeline.trial_hook import LISTENER
from ridgepole.ticks import PAUSES
from ridgepole.watch.alerts import Alert, Level, append_alert, new_alert
from ridgepole.watch.guard import MetricGuard
from ridgepole.watch.policy import NO_GUARD
from ridgepole.watch.resources import is_out_of_memory, write_memory_report

if TYPE_CHECKING:
    from ridgepole.pipeline.distributed.coordinator import Coordinator

_MISSING: Any = object()


class Controller:
    """Runs the permanences of one run. A process has it as `self.controller`.

    Attributes:
        run_dir: Directory of this run; its name is the run id.
        config: The resolved description of the pipeline, as in `config.resolved.json`.
        seed: The seed that python, numpy and torch were given.
        attempt: 1 for a fresh run, one more for each resume.
        outcomes: The outcome of each process so far.
        position: How many processes are done.
        process_run: The process that runs.
        resume_point: Where this attempt continues; None for a fresh run.
        ticks: Counts the steps and acts at them.
        on_alert: Called with each alert, when it is kept.
        on_checkpoint: Called when a checkpoint is stored.
        guard: Looks at the metrics; None where no fault of them is watched for.
        changed: The parameters that this attempt has changed.
        ended: The state of the process that has just ended, if it can be continued from there.
        failed: Whether the run has failed or was interrupted; known when the clean-up begins.
        error: The error of a run that failed, with its traceback and without secrets.
        rank: The rank of this process in a distributed run; 0 if there is one process.
        world_size: Number of ranks.
    """

    def __init__(
        self,
        plan: Plan,
        run_dir: Path,
        config: Mapping[str, Any],
        seed: int,
        guard: SignalGuard,
        resume_point: ResumePoint | None = None,
        coordinator: Coordinator | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.config = config
        self.seed = seed
        self.attempt = 1 if resume_point is None else resume_point.attempt
        self.outcomes = [ProcessOutcome(process.name) for process in plan.processes]
        self.position = 0
        self.process_run: ProcessRun | None = None
        self.ended: Mapping[str, Any] | None = None
        self.resume_point = resume_point
        self.failed = False
        self.error = ""
        self.rank = 0 if coordinator is None else coordinator.rank
        self.world_size = 1 if coordinator is None else coordinator.size
        self.on_alert: Callable[[Alert], None] = lambda _alert: None
        self.on_checkpoint: Callable[[], None] = lambda: None
        self.changed = ChangedParameters({}, self.warn, lambda _values: None)
        self._rollbacks = 0
        self._questions, self._warned_at, self._told_of_metric = 0, -1, False
        self._told_of_devices: set[str] = set()
        self._plan = plan
        self._guard = guard
        self._coordinator = coordinator
        self._held = PermanenceSet(plan, guard, self.rank, self.world_size, self)
        self._scores = Scores(plan, self._latest)
        self._checkpoints = self._make_checkpoints() if plan.policy.enabled else None
        self.ticks = self._make_scheduler()
        self.guard = self._make_guard()
        self.tick = self.ticks.tick  # type: ignore[method-assign]  # without a call in between: it runs at every step

    def _make_checkpoints(self) -> Checkpoints:
        if self._coordinator is None:
            return Checkpoints(self._plan, self.run_dir, self.config, self.attempt)
        from ridgepole.pipeline.distributed.synchronized import RankCheckpoints

        return RankCheckpoints(self._coordinator, self._plan, self.run_dir, self.config, self.attempt)

    def _make_guard(self) -> RunGuard | None:
        policy, best = self._plan.guard, self._plan.policy.keep_best
        if policy == NO_GUARD:
            return None
        metrics = MetricGuard(policy.nan, policy.spike, best.metric if best else None, self.run_dir)
        guard = RunGuard(metrics, self, lambda: self._held.group)
        self.ticks.guard_with(guard)
        return guard

    def _make_scheduler(self) -> CheckpointScheduler:
        arguments = (
            self._plan.policy,
            self._guard,
            self.checkpoint,
            self._scores.look,
            lambda: self._checkpoints.seconds if self._checkpoints is not None else 0.0,
            self.warn,
        )
        if self._coordinator is None:
            return CheckpointScheduler(*arguments)
        from ridgepole.pipeline.distributed.synchronized import RankScheduler

        return RankScheduler(self._coordinator, *arguments)

    @property
    def run_id(self) -> str:
        """Return the run id."""
        return self.run_dir.name

    @property
    def step(self) -> int:
        """Return the step that `tick` counts."""
        return self.ticks.step

    @property
    def permanences(self) -> Mapping[str, Permanence]:
        """Return the permanences that exist so far, in the order of construction."""
        return dict(self._held.owned)

    def get_permanence(self, name: str, default: Any = _MISSING) -> Any:
        """Return the permanence of a name.

        `"logger"` gives all loggers of the run as one, `"progress_manager"` the display; both
        always exist.

        Args:
            name: Its name in the pipeline.
            default: The value to return if it does not exist.

        Returns:
            The permanence, or the default.

        Raises:
            PermanenceNotFoundError: If it does not exist and no default was given.
        """
        found = self._held.find(name)
        if found is not None:
            return found
        if default is not _MISSING:
            return default
        raise self._held.not_found(name)

    def arguments_of(self, component: ComponentPlan) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and keyword arguments of a component, with its permanences."""
        return self._held.arguments_of(component)

    def log(self, level: Literal["info", "warning"], message: str) -> None:
        """Write a line to the run's log."""
        logger: Any = self.get_permanence(LOGGER, None)
        if logger is not None:
            getattr(logger, level)("%s", message)

    def warn(self, message: str) -> None:
        """Write a warning to the run's log."""
        self.log("warning", message)

    def alert(self, title: str, text: str = "", level: Level = "info") -> None:
        """Keep an alert of the user's own in `alerts.jsonl`.

        Raises:
            OSError: If it can't be written.
        """
        self.raise_alert("alert", level, title, text)

    def raise_alert(self, kind: str, level: Level, title: str, text: str = "") -> None:
        """Keep an alert of a kind in `alerts.jsonl`; one that is not the user's own is logged, too.

        Raises:
            OSError: If one of the user's own can't be written.
        """
        alert = new_alert(kind, level, title, text, step=self.step, rank=self.rank)
        try:
            self.on_alert(append_alert(self.run_dir, alert, self._plan.secrets))
        except OSError as error:
            if kind == "alert":
                raise
            self.warn(f"the alert was not kept: {error}")
        if kind not in ("alert", "finished", "failed", "best"):
            self.log("info" if level == "info" else "warning", f"{title}: {text}" if text else title)

    def note_out_of_memory(self, error: BaseException) -> None:
        """Write what the memory holds, and keep an alert; the error stays as it is."""
        policy = self._plan.guard.memory
        if policy is None or not is_out_of_memory(error):
            return
        text = redact(f"{type(error).__name__}: {text_of(error)}", self._plan.secrets)
        try:
            name, advice = write_memory_report(self.run_dir, self.rank, text)
            where = f"{advice and f'; {advice}'}; see {name}"
        except Exception as problem:  # noqa: BLE001 - there is no memory: anything may fail now
            where = f"; no report could be written: {type(problem).__name__}"
        self.raise_alert("memory", "error", "out of memory", f"{text}{where}")

    def show_system(self, values: Mapping[str, float], step: int) -> None:
        """Give system metrics to the loggers that show them; may be called from any thread."""
        if self._held.group is not None:
            self._held.group.show_system(values, step)

    def chosen_cards(self) -> set[str]:
        """Return the UUIDs of the cards that the run's `Device` permanences have chosen."""
        from ridgepole.devices.device import Device

        return {held.uuid for held in self.permanences.values() if isinstance(held, Device)} - {""}

    def _latest(self, metric: str) -> tuple[int, Any]:
        return (0, None) if self._held.group is None else self._held.group.latest(metric)

    # --- ticks and checkpoints

    def tick(self, step: int | None = None) -> None:
        """Mark the end of a step: the only place where a checkpoint is taken and a stop is obeyed.

        Args:
            step: Sets the step; None adds one.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        self.ticks.tick(step)

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Ask the run to stop at its next tick, as a signal does; may be called from any thread.

        Args:
            stop: The exception that the tick raises.
        """
        self._guard.ask(stop)

    def checkpoint(self, kind: Kind = "manual") -> None:
        """Take a checkpoint now.

        Calls `checkpoint()` of every permanence in order, then stores the state of the run, unless
        the policy is off. If the disk fails, the run continues with a warning, and earlier
        checkpoints stay as they were.

        Args:
            kind: Why it is taken.

        Raises:
            Exception: An error of a permanence's `checkpoint` or `state_dict`, with a note that
                names it.
            StateError: If a state holds a value that can't be stored; it names the path.
            KeyboardInterrupt: If a signal came meanwhile that stops the run at once.
        """
        guard = self._guard
        outer, guard.saving = guard.saving, True
        self.ticks.beat[PAUSES] += 1
        try:
            with self.ticks.times.spent("checkpoints"):
                self._take_checkpoint(kind)
        finally:
            guard.saving = outer
            self.ticks.beat[PAUSES] += 1
        if kind == "manual":  # the scheduler looks by itself
            guard.obey()

    def _take_checkpoint(self, kind: Kind) -> None:
        from ridgepole.loggers.base import BaseLoggerManager

        stored = self._checkpoints
        if stored is not None:
            skip = stored.must_skip(kind, until=self._guard.deadline, best=self._scores.pending)
            self._tell_outcome(stored)
            if skip:
                self.ticks.schedule()
                return
        durable = True

        def on_error(permanence: Permanence, error: Exception) -> None:
            nonlocal durable
            is_record = isinstance(permanence, BaseLoggerManager) and permanence.is_local_record
            if not (is_record and isinstance(error, LogWriteError)):
                raise error
            # The logged data may not be on the disk, as a checkpoint would promise.
            self.warn(f"no checkpoint was taken: {error}")
            durable = False

        self._held.checkpoint(on_error)
        if durable and self._checkpoints is not None:
            self._save(self._checkpoints, kind)
        self.ticks.schedule()

    def _save(self, checkpoints: Checkpoints, kind: Kind) -> None:
        if reason := checkpoints.refusal(kind):
            self.warn(f"no checkpoint of the error was taken: {reason}")
            return
        if problem := self._scores.problem():
            self.warn(problem)
        score = self._scores.take()  # before the scores are stored: this one is among them
        try:
            saved = checkpoints.save(
                kind,
                permanences=self.states(),
                process_run=self.process_run,
                ended=self.ended if self.process_run is None else None,
                outcomes=self.outcomes,
                position=self.position,
                framework=self.framework_state(),
                score=score,
            )
        except CheckpointError as error:
            self.warn(f"no checkpoint was taken: {error}")
            return
        self._tell_best(score)
        for problem in saved.problems if saved is not None else ():
            self.warn(problem)
        self._warn_of_obstacle(checkpoints.obstacle)
        self._warn_of_metric()
        for name in set(seeding.not_captured()) - self._told_of_devices:
            self._told_of_devices.add(name)
            self.warn(f"torch can't store the random generators of {name}: a resume draws other numbers there")
        try:
            self.on_checkpoint()
        except OSError as error:
            self.warn(f"the changed configuration was not recorded: {error}")

    def rehearse(self) -> bool:
        """Warn of states that a checkpoint could not store; called once, early.

        Returns:
            False: once is enough.
        """
        found = self._held.rehearse()
        run = self.process_run
        if run is not None and is_stateful(run.process):
            with self._guard.user_code():
                found.append(rehearse("process", "state", run.process.state_dict))
        for problem in (each.problem for each in found if each.problem):
            self.warn(f"checkpoints will fail: {problem}")
        if self._checkpoints is not None and any(each.sharded for each in found):
            self._checkpoints.note_shards()
        return False

    def _tell_outcome(self, checkpoints: Checkpoints) -> None:
        for problem in checkpoints.outcome():
            self.warn(problem)

    def finish_save(self) -> None:
        """Wait for a checkpoint that is being written in the background, while there is time."""
        if self._checkpoints is not None:
            self._checkpoints.finish(0.0 if self._guard.forced else self._guard.deadline)
            self._tell_outcome(self._checkpoints)

    def _tell_best(self, score: float | None) -> None:
        notify, best = self._plan.notify, self._plan.policy.keep_best
        wanted = notify is not None and "best" in notify.on
        if wanted and score is not None and best is not None and self._scores.is_best(score):
            self.raise_alert("best", "info", f"{best.metric} = {score:.6g} is the best so far")

    def _warn_of_obstacle(self, obstacle: str) -> None:
        """Warn once of a process that can't be resumed inside, at its first checkpoint there."""
        if not obstacle or self._warned_at == self.position:
            return
        self._warned_at = self.position
        name = self.outcomes[self.position].name
        goal = "the end of its last epoch" if self.ticks.lacks_boundary else "its beginning"
        kept = self.process_run is not None and self.process_run.kept
        other_way = "keep that in a permanence" if kept else "loop over a ResumableLoader or an iterable with them"
        self.warn(
            f"a resume can't continue {name} from this checkpoint, but goes back to {goal}: {obstacle}; "
            f"give the process state_dict and load_state_dict, or {other_way}"
        )

    def _warn_of_metric(self) -> None:
        """Warn once if metrics were logged, and not the one that ranks checkpoints."""
        best = self._plan.policy.keep_best
        names = [] if best is None or self._held.group is None else self._held.group.metric_names()
        if best is None or not names or self._told_of_metric:
            return
        self._told_of_metric = True
        if best.metric not in names:
            logged = f"logged are {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
            hint = did_you_mean(best.metric, names)
            self.warn(
                f"keep_best: no metric called {best.metric!r} was logged so far; {logged}{'; ' + hint if hint else ''}"
            )

    @property
    def stores_checkpoints(self) -> bool:
        """Return whether checkpoints are stored, rather than only announced to the permanences."""
        return self._checkpoints is not None

    def has_boundary(self) -> bool:
        """Return whether there is a checkpoint between the next process and the one before it."""
        self.finish_save()
        return self._checkpoints is not None and self._checkpoints.has_boundary(self.position)

    def go_back(self, back: Rollback) -> ResumePoint | None:
        """Find the newest checkpoint before a fault, and remove those that were taken since.

        All ranks find the same one.

        Returns:
            The point to restore; None if no checkpoint of this process is before the fault.

        Raises:
            CheckpointError: If a checkpoint can't be read or removed.
        """
        if self._checkpoints is None:
            return None
        self.finish_save()
        if self._coordinator is None:
            return self._newest_before(back, self._checkpoints.store)
        from ridgepole.pipeline.distributed.synchronized import agree_on_checkpoint

        self._rollbacks += 1
        store, key = self._checkpoints.store, f"the checkpoint of rollback {self._rollbacks}"
        name = agree_on_checkpoint(
            self._coordinator, key, lambda joint: self._newest_before(back, store, verify=joint.verify)
        )
        if name is None:
            return None
        return resume_point_of_rank(self.run_dir, self.attempt, name, self.rank, self.world_size, self.fits)

    def _newest_before(
        self, back: Rollback, store: CheckpointStore, verify: Verify | None = None
    ) -> ResumePoint | None:
        """Find the newest checkpoint before a fault, and remove those that were taken since."""
        point = newest_resume_point(
            self.run_dir,
            self.attempt,
            self.world_size,
            fits=self.fits,
            until_step=max(back.found.clean - 1, 0),
            verify=verify,
        )
        if point.name is None or point.position != self.position:
            return None
        number = store.find(point.name).number
        for info in store.list():
            if info.number > number and not info.problem:
                store.remove(info.name)
        return point

    def fits(self, info: CheckpointInfo) -> list[str]:
        """Return the states of a checkpoint that have to be resharded for this number of ranks."""
        return check_ranks(self._plan, info, self.world_size)

    def states(self) -> dict[str, Any]:
        """Return the states that this rank stores, by name. They are not copies."""
        return self._held.states()

    def framework_state(self) -> dict[str, Any]:
        """Return the run's own state: counts, scores, the fingerprint of the process that runs."""
        return {
            "step": self.ticks.step,
            "count": self.ticks.count,
            "scores": self._scores.state_dict(),
            "fingerprint": "" if self.process_run is None else self.outcomes[self.position].fingerprint,
        }

    def done(self) -> list[dict[str, Any]]:
        """Return the outcomes of the processes that are done."""
        return [asdict(outcome) for outcome in self.outcomes[: self.position]]

    # --- ranks

    def decide(self, ask: Callable[[], Any]) -> Any:
        """Ask a question on rank 0, and return its answer, which is plain JSON, on all ranks."""
        if self._coordinator is None:
            return ask()
        self._questions += 1
        return self._coordinator.share(f"answer {self._questions}", None if self.rank else ask())

    def report(self, error: BaseException) -> None:
        """Report a failure to the other ranks, before anything else is done about it."""
        if self._coordinator is None:
            return
        self._coordinator.report(error)
        # Obeyed: the rest must not be interrupted again
        if isinstance(self._guard.requested, RankStop):
            self._guard.requested, self._guard.overdue, self._guard.forced = None, False, False

    # --- lifecycle

    def open(self) -> None:
        """Construct, initialize, restore and validate all permanences in their order.

        Raises:
            BaseException: The first failure, or a `ValidationFailed` with several. `close` is
                required in any case.
        """
        self._held.construct()
        self._held.initialize()
        if self.resume_point is not None:
            self._resume(self.resume_point)
        self._held.validate()

    def _resume(self, point: ResumePoint) -> None:
        self.restore(point)
        for name in sorted(point.permanences.keys() - self._held.owned.keys() - {LISTENER}):
            self.warn(f"the state of the permanence {name!r} is dropped: the pipeline has no such permanence now")
        where = f"from {point.name}, step {point.step}" if point.name else "from the beginning"
        ahead = f" ({point.ahead})" if point.ahead else ""
        if point.name and point.stored_by != self.world_size:
            counts = f"{point.stored_by} before, {self.world_size} now"
            self.log("info", f"another number of ranks ({counts}): the random generators of all ranks start anew")
        self.log("info", f"attempt {point.attempt} resumes {where}{ahead}")
        if point.left_out:
            self.log("info", f"attempt {point.attempt} leaves out batches {show(point.left_out)}")

    def restore(self, point: ResumePoint) -> None:
        """Restore the permanences in the order of their dependencies, the counts and the outcomes.

        The random generators are restored later, right before the process that uses them.

        Raises:
            BaseException: An error of a permanence's `load_state_dict`, with a note that names it.
        """
        self._held.restore(point, self.changed)
        if point.name is not None:
            self.ticks.resume(int(point.framework["step"]), int(point.framework["count"]))
            if self.guard is not None:
                self.guard.restart(self.ticks.step)
            self._scores.load_state_dict(point.framework["scores"])
            self.position = point.position
            for outcome, stored in zip(self.outcomes, point.outcomes, strict=False):
                for key, value in stored.items():
                    setattr(outcome, key, value)
        for line in point.skipped:
            self.warn(line)

    def restore_state(self, component: ComponentPlan, state: Any) -> None:
        """Restore the state of one permanence; one that is not stateful is left alone."""
        self._held.restore_one(component, state, self.changed)

    def close(self) -> list[BaseException]:
        """Clean every permanence up in reverse order, and return the errors."""
        self.ticks.rest()
        self._guard.start_cleanup()
        self.finish_save()
        return self._held.cleanup()
