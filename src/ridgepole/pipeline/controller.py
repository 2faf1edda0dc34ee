"""Owns the permanences of one run: order, lifecycle, look-up, ticks, checkpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ridgepole.errors import (
    CheckpointError,
    PermanenceNotFoundError,
    ValidationFailed,
    add_note_once,
    did_you_mean,
)
from ridgepole.permanence import Permanence, construct, global_rank
from ridgepole.pipeline.checkpoints import Checkpoints, Resumption, Scores, states_of
from ridgepole.pipeline.due import DueTicks, Kind
from ridgepole.pipeline.injection import EMPTY
from ridgepole.pipeline.outcome import Outcome
from ridgepole.pipeline.overlay import LISTENER
from ridgepole.pipeline.plan import LOGGER, PROGRESS, Part, Plan, View
from ridgepole.pipeline.running import Running, is_stateful
from ridgepole.pipeline.signals import SignalGuard

if TYPE_CHECKING:
    from ridgepole.permanences.loggers.group import LoggerGroup

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
    """

    def __init__(
        self,
        plan: Plan,
        run_dir: Path,
        config: Mapping[str, Any],
        seed: int,
        guard: SignalGuard,
        resumption: Resumption | None = None,
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
        self._plan = plan
        self._guard = guard
        self._owned: dict[str, Permanence] = {}
        self._group: LoggerGroup | None = None
        self._rank = global_rank()
        self._scores = Scores(plan, self._latest)
        self._checkpoints = Checkpoints(plan, run_dir, config, self.attempt) if self._stores() else None
        self.ticks = DueTicks(
            plan.policy,
            guard,
            self.checkpoint,
            self._scores.look,
            lambda: self._checkpoints.seconds if self._checkpoints is not None else 0.0,
            partial(self._say, "warning"),
        )
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
        for part in self._plan.permanences:
            permanence = self._owned.get(part.name)
            if permanence is not None:
                self._call(part, "checkpoint", permanence.checkpoint)
        if self._checkpoints is not None:
            self._save(self._checkpoints, kind)
        self.ticks.schedule()

    def _stores(self) -> bool:
        return self._plan.policy.enabled and not self._rank

    def _save(self, checkpoints: Checkpoints, kind: Kind) -> None:
        parts = {part.name: part for part in self._plan.permanences}
        try:
            saved = checkpoints.save(
                kind,
                states_of(self._owned, lambda name, hook: self._call(parts[name], "state_dict", hook)),
                self.running,
                self.outcomes,
                self.position,
                {"step": self.ticks.step, "count": self.ticks.count, "scores": self._scores.state_dict()},
                self._scores.take(),
            )
        except CheckpointError as error:
            self._say("warning", f"no checkpoint was taken: {error}")
            return
        for problem in saved.problems:
            self._say("warning", problem)

    def _say(self, level: Literal["info", "warning"], message: str) -> None:
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
            self._go_on(self.resumption, present)
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

    def _go_on(self, resumption: Resumption, present: Sequence[Part]) -> None:
        """Gives every permanence its state back, in the order of their dependencies."""
        from ridgepole.permanences.loggers.base import BaseLoggerManager

        for part in present:
            permanence = self._owned[part.name]
            state = resumption.permanences.get(part.name)
            if state is None and isinstance(permanence, BaseLoggerManager):
                state = {}  # to the beginning: what was logged before is hidden
            if state is not None and is_stateful(permanence):
                self._call(part, "load_state_dict", partial(permanence.load_state_dict, state))
        for name in resumption.permanences.keys() - self._owned.keys() - {LISTENER}:
            self._say("warning", f"the state of the permanence {name!r} is dropped: there is none of that name now")
        if resumption.name is not None:
            framework = resumption.framework
            self.ticks.go_on(int(framework["step"]), int(framework["count"]))
            self._scores.load_state_dict(framework["scores"])
            self.position = resumption.position
            for outcome, stored in zip(self.outcomes, resumption.outcomes, strict=False):
                outcome.status, outcome.seconds, outcome.reason = stored["status"], stored["seconds"], stored["reason"]
        for line in resumption.passed_over:
            self._say("warning", f"a checkpoint can't be used: {line}")
        where = f"from {resumption.name}, step {resumption.step}" if resumption.name else "from the beginning"
        self._say("info", f"attempt {resumption.attempt} goes on {where}")

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
        if self._rank and part.ranks == "zero":
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
