"""The permanences of one run: construct, initialize, validate, restore, clean up."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ridgepole.errors import PermanenceNotFoundError, ValidationFailed, add_note_once, did_you_mean
from ridgepole.permanence import Permanence, construct
from ridgepole.pipeline.lifecycle.checkpointing import RankStates, ResumePoint
from ridgepole.pipeline.lifecycle.rehearsal import Rehearsal, rehearse
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.pipeline.run.changed import ChangedParameters
from ridgepole.pipeline.spec.injection import EMPTY
from ridgepole.pipeline.spec.plan import LOGGER, PROGRESS, ComponentPlan, Plan, View, is_stateful

if TYPE_CHECKING:
    from ridgepole.loggers.composite import LoggerGroup

SLOW_CLEANUP = 1.0
"""Seconds after which the progress of the clean-up is shown."""


class PermanenceSet:
    """Owns the permanences and calls their hooks. Errors get a note that names the permanence.

    Args:
        plan: The plan.
        guard: Interrupts the hooks, which are user code.
        rank: The rank of this process.
        world_size: The number of ranks.
        controller: The value of reserved `controller` parameters.

    Attributes:
        owned: The permanences that exist, in the order of construction.
        group: All loggers as one; None until the last of them exists.
    """

    def __init__(self, plan: Plan, guard: SignalGuard, rank: int, world_size: int, controller: object) -> None:
        self._plan, self._guard, self._rank, self._controller = plan, guard, rank, controller
        self._world_size = world_size
        self.owned: dict[str, Permanence] = {}
        self.group: LoggerGroup | None = None

    def find(self, name: str) -> Any:
        """Return the permanence of a name, the group of all loggers for `logger`, or None."""
        if name == LOGGER:
            return self.group
        return self.owned.get(self._plan.progress if name == PROGRESS else name)

    def not_found(self, name: str) -> PermanenceNotFoundError:
        """Return the error for a name that has no permanence."""
        declared = [component.name for component in self._plan.permanences]
        if name in (*declared, LOGGER):
            hint = f"it is constructed later: ask for it in initialize(), or set depends_on = [{name!r}]"
            return PermanenceNotFoundError(f"the permanence {name!r} does not exist yet; {hint}")
        hint = did_you_mean(name, declared) or f"declared are: {', '.join(declared)}"
        return PermanenceNotFoundError(f"no permanence is called {name!r}; {hint}")

    def construct(self) -> None:
        """Construct all permanences in their order."""
        for component in self._plan.permanences:
            permanence = self._call(component, "construction", partial(self._construct, component))
            if permanence is not None:
                self.owned[component.name] = permanence
            self._fill_group()

    def initialize(self) -> None:
        """Initialize all permanences in their order."""
        for component, permanence in self._present():
            self._call(component, "initialize", permanence.initialize)

    def validate(self) -> None:
        """Validate all permanences, and report all failures together.

        Raises:
            BaseException: The failure, or a `ValidationFailed` with several.
        """
        failures: list[Exception] = []
        for component, permanence in self._present():
            try:
                self._call(component, "validate", permanence.validate)
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

    def checkpoint(self, on_error: Callable[[Permanence, Exception], None]) -> None:
        """Call every permanence's `checkpoint`; `on_error` may raise an error again."""
        for component, permanence in self._present():
            try:
                self._call(component, "checkpoint", permanence.checkpoint)
            except Exception as error:  # noqa: BLE001 - decided by the caller
                on_error(permanence, error)

    def states(self) -> dict[str, Any]:
        """Return the states that this rank stores, by name: all on rank 0, else those by rank."""
        return {
            component.name: self._call(component, "state_dict", permanence.state_dict)
            for component, permanence in self._present()
            if (not self._rank or permanence.state_ranks == "all") and is_stateful(permanence)
        }

    def rehearse(self) -> list[Rehearsal]:
        """Encode the states that this rank stores, each for itself, without storing them."""
        return [
            rehearse("permanences", component.name, partial(self._call, component, "state_dict", permanence.state_dict))
            for component, permanence in self._present()
            if (not self._rank or permanence.state_ranks == "all") and is_stateful(permanence)
        ]

    def restore(self, point: ResumePoint, changed: ChangedParameters) -> None:
        """Restore the states of all permanences. Loggers without one restart at the beginning."""
        from ridgepole.loggers.base import BaseLoggerManager

        states = self._laid_out(point)
        for component, permanence in self._present():
            if self._rank and component.ranks == "zero":
                continue  # its null object has no state
            state = states.get(component.name)
            if state is None and isinstance(permanence, BaseLoggerManager):
                state = {}  # hides what was logged before
            if state is not None:
                self.restore_one(component, state, changed)

    def _laid_out(self, point: ResumePoint) -> dict[str, Any]:
        """Return the states as this rank has them: resharded, and with its shards of tensors."""
        states = dict(point.permanences)
        owners = [(each, permanence) for each, permanence in self._present() if each.name in states]
        for component, permanence in owners:
            state = states[component.name]
            if isinstance(state, RankStates):
                make = partial(state.reshard, permanence, self._rank, self._world_size)
                states[component.name] = self._call(component, "reshard", make)
        if "torch" not in sys.modules:
            return states
        from ridgepole.checkpoint.sharded import Layouts, holds_shards

        # Only where one of both may have tensors that are spread over ranks
        relayout = "torch.distributed.tensor" in sys.modules and (point.sharded or point.stored_by != self._world_size)
        templates = {}
        for component, permanence in owners:
            spread = relayout and (permanence.state_ranks == "all" or self._world_size == 1)
            if is_stateful(permanence) and (spread or holds_shards(states[component.name])):
                templates[component.name] = self._call(component, "state_dict", permanence.state_dict)
        layouts = Layouts(states, templates)
        for component, _ in owners:
            name = component.name
            if name in templates:
                states[name] = self._call(component, "load_state_dict", partial(layouts.place, name, states[name]))
        return states

    def restore_one(self, component: ComponentPlan, state: Any, changed: ChangedParameters) -> None:
        """Restore the state of one permanence; one that is not stateful is left alone."""
        permanence = self.owned.get(component.name)
        if is_stateful(permanence):
            key = f"permanences.{component.name}"
            self._call(component, "load_state_dict", partial(changed.restore, key, permanence, state))

    def cleanup(self) -> list[BaseException]:
        """Clean every permanence up in reverse order, and return the errors."""
        errors: list[BaseException] = []
        components = {component.name: component for component in self._plan.permanences}
        advance = self._cleanup_bar()
        while self.owned:
            name, permanence = self.owned.popitem()
            try:
                permanence.cleanup()
            except BaseException as error:  # noqa: BLE001 - the other permanences are cleaned up in any case
                errors.append(_noted(error, components[name], "cleanup"))
            if name != self._plan.progress:
                # A display that fails must not stop the clean-up
                with contextlib.suppress(Exception):
                    advance()
        return errors

    def arguments_of(self, component: ComponentPlan) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and keyword arguments of a component, with its permanences."""
        named = component.arguments()
        for name, target in component.bindings.items():
            if isinstance(target, View):
                named[name] = self.group
            else:
                named[name] = None if target is None else self.owned.get(target)
        reserved = {"controller": self._controller, "force": component.force}
        named |= {name: reserved[name] for name in component.signature.reserved}
        positional: list[Any] = []
        for name, default in component.signature.positional:
            if name not in named and default is EMPTY:
                break
            positional.append(named.pop(name, default))
        return positional, named

    def _present(self) -> list[tuple[ComponentPlan, Permanence]]:
        return [(each, self.owned[each.name]) for each in self._plan.permanences if each.name in self.owned]

    def _construct(self, component: ComponentPlan) -> Any:
        if self._rank and component.ranks == "zero":
            return _null_object(component)
        positional, named = self.arguments_of(component)
        return construct(component.target, *positional, **named)

    def _call(self, component: ComponentPlan, hook: str, call: Callable[[], Any]) -> Any:
        try:
            with self._guard.user_code():
                return call()
        except BaseException as error:
            _noted(error, component, hook)
            raise

    def _fill_group(self) -> None:
        """Make the one view over all loggers as soon as the last of them exists."""
        from ridgepole.loggers.composite import LoggerGroup

        if self.group is None and all(name in self.owned for name in self._plan.loggers):
            self.group = LoggerGroup([self.owned[name] for name in self._plan.loggers])  # type: ignore[misc]

    def _cleanup_bar(self) -> Callable[[], None]:
        """Show the progress of a slow clean-up; an error of the display is ignored."""
        display = self.owned.get(self._plan.progress)
        began = time.monotonic()
        try:
            task = display.add_task_to_progress("cleanup", len(self.owned) - 1, progress_name="cleanup")  # type: ignore[union-attr]
            bar = display.progress_dict["cleanup"]  # type: ignore[union-attr]
            bar.update(task, visible=False)
        except Exception:  # noqa: BLE001
            return lambda: None
        return lambda: bar.update(task, advance=1, visible=time.monotonic() - began > SLOW_CLEANUP)


def _null_object(component: ComponentPlan) -> Permanence | None:
    """Return what a rank other than 0 has in the place of a permanence of rank 0 alone."""
    from ridgepole.loggers.base import BaseLoggerManager
    from ridgepole.loggers.composite import NullLogger
    from ridgepole.progress import NullProgressManager, ProgressManager

    if issubclass(component.target, BaseLoggerManager):
        return NullLogger()
    return NullProgressManager() if issubclass(component.target, ProgressManager | NullProgressManager) else None


def _noted(error: BaseException, component: ComponentPlan, hook: str) -> BaseException:
    add_note_once(error, f"in {hook} of permanence {component.described}")
    return error
