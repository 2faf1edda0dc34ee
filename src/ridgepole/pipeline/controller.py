"""Owns the permanences of one run: order, lifecycle, look-up, ticks, checkpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ridgepole.errors import (
    CheckpointError,
    LogWriteError,
    PermanenceNotFoundError,
    ValidationFailed,
    add_note_once,
    did_you_mean,
)
from ridgepole.permanence import Permanence, construct
from ridgepole.pipeline.checkpoints import Checkpoints, Resumption, Scores, states_of
from ridgepole.pipeline.due import DueTicks, Kind
from ridgepole.pipeline.injection import EMPTY
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.overlay import LISTENER
from ridgepole.pipeline.plan import LOGGER, PROGRESS, Part, Plan, View
from ridgepole.pipeline.ranks.cause import RankStop
from ridgepole.pipeline.running import Running, is_stateful
from ridgepole.pipeline.signals import SignalGuard

if TYPE_CHECKING:
    from ridgepole.permanences.loggers.group import LoggerGroup
    from ridgepole.pipeline.ranks.team import Team

_MISSING: Any = object()

SLOW_CLEANUP = 1.0
"""Seconds after which the progress of the clean-up is shown."""


class Controller:
    """The permanences of one run. A process has it as `self.controller`.

    Attributes:
        run_dir: Directory of this run; its name is the run id.
        config: The resolved description of the pipeline, as in `config.resolved.json`.
        seed: The seed that python, numpy and torch were given.
        attempt: 1 for a fresh run, one more for each resume.
        outcomes: How each process went, so far.
        position: Number of processes that are done.
        running: The process that runs.
        resumption: Where this attempt goes on; None for a fresh run.
        ticks: What counts the step boundaries and does what is due at them.
        failed: Whether the run has failed or was interrupted; known when the clean-up begins.
        rank: The rank of this process in a distributed run; 0 where there is one process.
        world_size: Number of ranks.
    """

    def __init__(
        self,
        plan: Plan,
        run_dir: Path,
        config: Mapping[str, Any],
        seed: int,
        guard: SignalGuard,
        resumption: Resumption | None = None,
        team: Team | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.config = config
        self.seed = seed
        self.attempt = 1 if resumption is None else resumption.attempt
        self.outcomes = [Outcome(part.name) for part in plan.processes]
        self.position = 0
        self.running: Running | None = None
        self.resumption = resumption
        self.failed = False
        self._questions = 0
        self._plan = plan
        self._guard = guard
        self._owned: dict[str, Permanence] = {}
        self._group: LoggerGroup | None = None
        self._team = team
        self.rank = 0 if team is None else team.rank
        self.world_size = 1 if team is None else team.size
        self._scores = Scores(plan, self._latest)
        self._checkpoints = self._storage() if plan.policy.enabled else None
        self.ticks = self._counter()
        self.tick = self.ticks.tick  # type: ignore[method-assign]  # without a call in between, as it runs at every step

    @property
    def run_id(self) -> str:
        """The run id."""
        return self.run_dir.name

    @property
    def step(self) -> int:
        """The step that `tick` counts."""
        return self.ticks.step

    @property
    def permanences(self) -> Mapping[str, Permanence]:
        """The permanences that exist so far, in the order of construction."""
        return dict(self._owned)

    def get_permanence(self, name: str, default: Any = _MISSING) -> Any:
        """The permanence of that name.

        `"logger"` gives all loggers of the run as one, `"progress_manager"` the display; both are always there.

        Args:
            name: Its name in the pipeline.
            default: What to return where there is none.

        Returns:
            The permanence, or the default.

        Raises:
            PermanenceNotFoundError: If there is none and no default was given.
        """
        found: Any = self._group
        if name != LOGGER:
            found = self._owned.get(self._plan.progress if name == PROGRESS else name)
        if found is not None:
            return found
        if default is not _MISSING:
            return default
        declared = [part.name for part in self._plan.permanences]
        if name in (*declared, LOGGER):
            hint = f"it is constructed later: ask for it in initialize(), or set depends_on = [{name!r}]"
            raise PermanenceNotFoundError(f"the permanence {name!r} does not exist yet; {hint}")
        hint = did_you_mean(name, declared) or f"declared are: {', '.join(declared)}"
        raise PermanenceNotFoundError(f"no permanence is called {name!r}; {hint}")

    # --- ticks and checkpoints

    def tick(self, step: int | None = None) -> None:
        """Marks a step boundary: the only place where a checkpoint is taken and a stop is obeyed.

        Args:
            step: Sets the step; None adds one.

        Raises:
            KeyboardInterrupt: If a signal asked the run to stop.
        """
        self.ticks.tick(step)

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Asks the run to stop at its next tick, as a signal does; may come from any thread.

        Args:
            stop: What the tick raises.
        """
        self._guard.ask(stop)

    def checkpoint(self, kind: Kind = "manual") -> None:
        """Takes a checkpoint now.

        Calls `checkpoint()` of every permanence in order, then stores the state of the run, unless the policy is off.
        Where the disk fails, the run goes on with a warning, and the checkpoints before are as they were.

        Args:
            kind: Why it is taken.

        Raises:
            Exception: What a permanence's `checkpoint` or `state_dict` raised, with a note of which.
            StateError: If a state holds what can't be stored; it names the path.
        """
        from ridgepole.permanences.loggers.basic import BasicLogger

        durable = True
        for part in self._plan.permanences:
            permanence = self._owned.get(part.name)
            if permanence is None:
                continue
            try:
                self._call(part, "checkpoint", permanence.checkpoint)
            except LogWriteError as error:
                if not isinstance(permanence, BasicLogger):  # a board that is strict, and says so itself
                    raise
                # What was logged may not be on the disk, and a checkpoint would promise that.
                self.say("warning", f"no checkpoint was taken: {error}")
                durable = False
        if durable and self._checkpoints is not None:
            self._save(self._checkpoints, kind)
        self.ticks.schedule()

    def decide(self, ask: Callable[[], Any]) -> Any:
        """Asks a question whose answer has to be the same on all ranks: rank 0 asks, and tells the others.

        Args:
            ask: Gives the answer, plain JSON.
        """
        if self._team is None:
            return ask()
        self._questions += 1
        return self._team.share(f"answer {self._questions}", None if self.rank else ask())

    def report(self, error: BaseException) -> None:
        """Lets the other ranks know that this one fails, before anything else is done about it."""
        if self._team is None:
            return
        self._team.report(error)
        if isinstance(self._guard.requested, RankStop):  # obeyed: what is still to be done is not interrupted again
            self._guard.requested, self._guard.overdue = None, False

    def _counter(self) -> DueTicks:
        needed = (
            self._plan.policy,
            self._guard,
            self.checkpoint,
            self._scores.look,
            lambda: self._checkpoints.seconds if self._checkpoints is not None else 0.0,
            partial(self.say, "warning"),
        )
        if self._team is None:
            return DueTicks(*needed)
        from ridgepole.pipeline.ranks.ticks import RankTicks

        return RankTicks(self._team, *needed)

    def _storage(self) -> Checkpoints:
        if self._team is None:
            return Checkpoints(self._plan, self.run_dir, self.config, self.attempt)
        from ridgepole.pipeline.ranks.checkpoints import RankCheckpoints

        return RankCheckpoints(self._team, self._plan, self.run_dir, self.config, self.attempt)

    def _stored(self) -> dict[str, Permanence]:
        """The permanences whose state this rank stores: all on rank 0, elsewhere those that differ by rank."""
        if not self.rank:
            return self._owned
        return {name: held for name, held in self._owned.items() if held.state_ranks == "all"}

    @property
    def stores_checkpoints(self) -> bool:
        """Whether a checkpoint is stored when one is taken, rather than only announced to the permanences."""
        return self._checkpoints is not None

    def has_boundary(self) -> bool:
        """Whether there is a checkpoint between the process that is next and the one before it."""
        return self._checkpoints is not None and self._checkpoints.has_boundary(self.position)

    def states(self) -> dict[str, Any]:
        """The states of the permanences that have one, by name; the objects are the permanences' own."""
        parts = {part.name: part for part in self._plan.permanences}
        return states_of(self._stored(), lambda name, hook: self._call(parts[name], "state_dict", hook))

    def framework_state(self) -> dict[str, Any]:
        """What a checkpoint holds of the run itself: counts, scores, what the process that runs depends on."""
        running = "" if self.running is None else self.outcomes[self.position].fingerprint
        return {
            "step": self.ticks.step,
            "count": self.ticks.count,
            "scores": self._scores.state_dict(),
            "fingerprint": running,
        }

    def done(self) -> list[dict[str, Any]]:
        """How the processes went that are done."""
        return [asdict(outcome) for outcome in self.outcomes[: self.position]]

    def _save(self, checkpoints: Checkpoints, kind: Kind) -> None:
        score = self._scores.take()  # before the scores are stored: this one is among them
        try:
            saved = checkpoints.save(
                kind,
                self.states(),
                self.running,
                self.outcomes,
                self.position,
                self.framework_state(),
                score,
            )
        except CheckpointError as error:
            self.say("warning", f"no checkpoint was taken: {error}")
            return
        for problem in saved.problems if saved is not None else ():
            self.say("warning", problem)

    def say(self, level: Literal["info", "warning"], message: str) -> None:
        """Writes a line to the run's log."""
        logger: Any = self.get_permanence(LOGGER, None)
        if logger is not None:
            getattr(logger, level)("%s", message)

    def _latest(self, metric: str) -> tuple[int, Any]:
        return (0, None) if self._group is None else self._group.latest(metric)

    # --- lifecycle

    def open(self) -> None:
        """Constructs, initialises and validates all permanences in their order.

        Raises:
            BaseException: The first failure, or a `ValidationFailed` with several. `close` is owed in any case.
        """
        for part in self._plan.permanences:
            permanence = self._call(part, "construction", partial(self._make, part))
            if permanence is not None:
                self._owned[part.name] = permanence
            self._fill_group()
        present = [part for part in self._plan.permanences if part.name in self._owned]
        for part in present:
            self._call(part, "initialize", self._owned[part.name].initialize)
        if self.resumption is not None:
            self._go_on(self.resumption)
        failures: list[Exception] = []
        for part in present:
            try:
                self._call(part, "validate", self._owned[part.name].validate)
            except Exception as error:  # noqa: BLE001 - all failures are reported together
                failures.append(error)
            except BaseException as error:  # a Ctrl-C stops the collecting and stays the cause
                for failure in failures:
                    add_note_once(error, f"before it: {type(failure).__name__}: {failure}")
                raise
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ValidationFailed(f"{len(failures)} permanences are not valid", failures)

    def _go_on(self, resumption: Resumption) -> None:
        self.go_back(resumption)
        for name in sorted(resumption.permanences.keys() - self._owned.keys() - {LISTENER}):
            self.say("warning", f"the state of the permanence {name!r} is dropped: there is none of that name now")
        where = f"from {resumption.name}, step {resumption.step}" if resumption.name else "from the beginning"
        self.say("info", f"attempt {resumption.attempt} goes on {where}")

    def go_back(self, resumption: Resumption) -> None:
        """Gives every permanence its state back, in the order of their dependencies, and puts the counts back.

        Args:
            resumption: The place.

        Raises:
            BaseException: What a permanence's `load_state_dict` raised, with a note of which.
        """
        from ridgepole.permanences.loggers.base import BaseLoggerManager

        for part in self._plan.permanences:
            if part.name not in self._owned or (self.rank and part.ranks == "zero"):
                continue  # what stands in for one that lives on rank 0 has no state
            state = resumption.permanences.get(part.name)
            if state is None and isinstance(self._owned[part.name], BaseLoggerManager):
                state = {}  # to the beginning: what was logged before is hidden
            if state is not None:
                self.give_back(part, state)
        if resumption.name is not None:
            framework = resumption.framework
            self.ticks.go_on(int(framework["step"]), int(framework["count"]))
            self._scores.load_state_dict(framework["scores"])
            self.position = resumption.position
            for outcome, stored in zip(self.outcomes, resumption.outcomes, strict=False):
                for key, value in stored.items():
                    setattr(outcome, key, value)
        for line in resumption.passed_over:
            self.say("warning", line)

    def give_back(self, part: Part, state: Any) -> None:
        """Gives a permanence a state back; one that has no use for it is left alone.

        Raises:
            BaseException: What its `load_state_dict` raised, with a note of which permanence it was.
        """
        permanence = self._owned.get(part.name)
        if is_stateful(permanence):
            self._call(part, "load_state_dict", partial(permanence.load_state_dict, state))

    def close(self) -> list[BaseException]:
        """Cleans every permanence up in reverse order, each whatever the others do.

        Returns:
            What their clean-ups raised.
        """
        self._guard.start_cleanup()
        errors: list[BaseException] = []
        parts = {part.name: part for part in self._plan.permanences}
        bar = self._cleanup_bar()
        while self._owned:
            name, permanence = self._owned.popitem()
            try:
                permanence.cleanup()
            except BaseException as error:  # noqa: BLE001 - a clean-up never keeps the others from theirs
                errors.append(_noted(error, parts[name], "cleanup"))
            if name != self._plan.progress:
                with contextlib.suppress(Exception):  # a display that fails never keeps anyone from clean-up
                    bar()
        return errors

    def arguments_of(self, part: Part) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments of a part, its permanences filled in."""
        named = part.arguments()
        for name, target in part.bindings.items():
            named[name] = self._bound(target)
        if "controller" in part.signature.reserved:
            named["controller"] = self
        if "force" in part.signature.reserved:
            named["force"] = part.force
        positional: list[Any] = []
        for name, default in part.signature.positional:
            if name not in named and default is EMPTY:
                break
            positional.append(named.pop(name, default))
        return positional, named

    def _bound(self, target: str | View | None) -> Any:
        if target is View.ALL_LOGGERS:
            return self._group
        return None if target is None else self._owned.get(target)

    def _make(self, part: Part) -> Any:
        if self.rank and part.ranks == "zero":
            return _stand_in(part)
        positional, named = self.arguments_of(part)
        return construct(part.target, *positional, **named)

    def _call(self, part: Part, phase: str, hook: Callable[[], Any]) -> Any:
        try:
            with self._guard.user_code():
                return hook()
        except BaseException as error:
            _noted(error, part, phase)
            raise

    def _fill_group(self) -> None:
        """Makes the one view over all loggers as soon as the last of them exists."""
        from ridgepole.permanences.loggers.group import LoggerGroup

        if self._group is None and all(name in self._owned for name in self._plan.loggers):
            self._group = LoggerGroup([self._owned[name] for name in self._plan.loggers])  # type: ignore[misc]

    def _cleanup_bar(self) -> Callable[[], None]:
        """Shows a clean-up that takes its time; what goes wrong with showing it never stops it."""
        display = self._owned.get(self._plan.progress)
        began = time.monotonic()
        try:
            task = display.add_task_to_progress("cleanup", len(self._owned) - 1, progress_name="cleanup")  # type: ignore[union-attr]
            bar = display.progress_dict["cleanup"]  # type: ignore[union-attr]
            bar.update(task, visible=False)
        except Exception:  # noqa: BLE001
            return lambda: None

        def advance() -> None:
            bar.update(task, advance=1, visible=time.monotonic() - began > SLOW_CLEANUP)

        return advance


def _stand_in(part: Part) -> Permanence | None:
    """What a rank other than 0 has in the place of a permanence that lives on rank 0 alone."""
    from ridgepole.permanences.loggers.base import BaseLoggerManager
    from ridgepole.permanences.loggers.group import NullLogger
    from ridgepole.permanences.progress import NullProgressManager, ProgressManager

    if issubclass(part.target, BaseLoggerManager):
        return NullLogger()
    return NullProgressManager() if issubclass(part.target, ProgressManager | NullProgressManager) else None


def _noted(error: BaseException, part: Part, phase: str) -> BaseException:
    where = f", {part.place}" if part.place else ""
    add_note_once(error, f"in {phase} of permanence {part.name!r} ({part.type_name}{where})")
    return error
