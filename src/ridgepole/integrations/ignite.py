"""A handler for PyTorch Ignite: record a training, stop it, resume it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ridgepole import seeding
from ridgepole.data import ResumableLoader
from ridgepole.errors import MissingExtraError
from ridgepole.integrations.training_run import Due, TrainingRun, training_run

try:
    from ignite.engine import Engine, Events
except ModuleNotFoundError as error:
    if error.name != "ignite":
        raise
    raise MissingExtraError("pytorch-ignite", "ignite", "ridgepole.integrations.ignite") from error

_IGNITE = "PyTorch Ignite"


class RidgepoleHandler:
    """Lets a run under Ignite be recorded, stop in order, and resume where it was.

    A stop is obeyed between two batches, behind a checkpoint of the trainer and of what `to_save`
    names. Inside an epoch a run can be resumed if the training loader is among it and has a
    position, as `ResumableLoader`. With another loader it continues from the beginning of the
    epoch, which is logged. In a pipeline no checkpoints are taken: the process stores its own.

    ```python
    handler = RidgepoleHandler({"model": model, "optimizer": optimizer, "loader": loader})
    handler.attach(trainer)
    handler.log(trainer, Events.ITERATION_COMPLETED, output=lambda loss: {"loss": loss})
    handler.log(evaluator, Events.COMPLETED, tag="validation")
    trainer.run(loader, max_epochs=10)
    ```

    Args:
        to_save: Objects with `state_dict` and `load_state_dict`, by name.
        every_n_epochs: Take a checkpoint after so many epochs; None for never.
        every_n_train_steps: Take one after so many batches; None for never.
        every_minutes: Take one after so many minutes; None for never.

    Raises:
        ValueError: If a number is not positive.
        TypeError: If an object has no state.
    """

    def __init__(
        self,
        to_save: Mapping[str, Any] | None = None,
        *,
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        every_minutes: float | None = 10.0,
    ) -> None:
        self._saved = dict(to_save or {})
        for name, value in self._saved.items():
            if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
                raise TypeError(f"to_save[{name!r}]: a {type(value).__name__} has no state_dict and load_state_dict")
        self._due = Due(every_n_epochs, every_n_train_steps, every_minutes)
        self._run: TrainingRun | None = None
        self._trainer: Engine | None = None
        self._resumed: Mapping[str, Any] | None = None
        self._told = False
        self._begun = -1

    @property
    def run(self) -> TrainingRun:
        """The run that is written to."""
        if self._run is None:
            self._run = training_run()
        return self._run

    def attach(self, trainer: Engine) -> None:
        """Follow a trainer; if the run was resumed, restore the newest checkpoint.

        Call it when everything in `to_save` is made, right before `trainer.run`.
        """
        self._trainer = trainer
        state = None if self.run.script is None else self.run.restore(_IGNITE)
        if state is not None:
            for name, value in self._saved.items():
                if name in state["objects"]:
                    value.load_state_dict(state["objects"][name])
            trainer.load_state_dict(state["trainer"])
            self.run.logger.info("continuing from Ridgepole's checkpoint, iteration %d", trainer.state.iteration)
        self._resumed, self._begun = state, trainer.state.iteration
        trainer.add_event_handler(Events.STARTED, self._due.restart)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._between_batches)
        trainer.add_event_handler(Events.COMPLETED, self._end)

    def log(
        self,
        engine: Engine,
        event: Any,
        *,
        tag: str = "",
        output: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> None:
        """Log an engine's metrics at each event, at the trainer's iteration.

        Args:
            engine: The trainer or an evaluator.
            event: When to log, such as `Events.EPOCH_COMPLETED` of an evaluator's `run`.
            tag: The first part of the names.
            output: Makes metrics of `engine.state.output`, beside `engine.state.metrics`.
        """

        def write(engine: Engine) -> None:
            found = dict(engine.state.metrics)
            if output is not None:
                found |= output(engine.state.output)
            if found:
                step = (self._trainer or engine).state.iteration
                self.run.log({tag: found} if tag else found, step)

        engine.add_event_handler(event, write)

    def _start_epoch(self, trainer: Engine) -> None:
        if self._resumed is not None and not self._resumed["inside"]:
            self._restore_rng()
        loader = trainer.state.dataloader
        if isinstance(loader, ResumableLoader):
            loader.set_epoch(trainer.state.epoch - 1)

    def _restore_rng(self) -> None:
        state, self._resumed = self._resumed, None
        if state is not None:
            seeding.restore(state["rng"])

    def _between_batches(self, trainer: Engine) -> None:
        """Take a checkpoint that is due, and obey a stop, before a batch is fetched."""
        self._restore_rng()
        done = trainer.state.iteration
        if done == self._begun:  # nothing new since the beginning
            return
        if self.run.script is None:
            self.run.tick(done)
            return
        inside = done % trainer.state.epoch_length != 0
        due = self._due.after_batch() or (not inside and self._due.after_epoch(done // trainer.state.epoch_length))
        has_position = any(value is trainer.state.dataloader for value in self._saved.values())
        if inside and not has_position:
            self._tell(trainer)
            self.run.tick(done)
        elif due or self.run.stop_requested:
            self._save(trainer, inside=inside)
        else:
            self.run.note_step(done)

    def _save(self, trainer: Engine, *, inside: bool) -> None:
        self.run.note_step(trainer.state.iteration)
        self._due.restart()
        objects = {name: value.state_dict() for name, value in self._saved.items()}
        state = {
            "objects": objects, "trainer": dict(trainer.state_dict()), "inside": inside, "rng": seeding.capture(),
        }  # fmt: skip
        self.run.checkpoint(_IGNITE, state)

    def _end(self) -> None:
        self.run.stop_ticking()

    def _tell(self, trainer: Engine) -> None:
        if not self._told:
            self._told = True
            self.run.logger.warning(
                "a resume goes back to the beginning of the epoch: the training loader (%s) has no position to store, "
                "or is not in to_save; ResumableLoader has one",
                type(trainer.state.dataloader).__name__,
            )
