"""A callback for Keras 3 on torch: record a training, stop it, resume it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgepole.errors import MissingExtraError, RidgepoleError
from ridgepole.integrations.training_run import Due, TrainingRun, training_run

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise MissingExtraError("keras", "keras", "ridgepole.integrations.keras") from error

_KERAS = "Keras"


class RidgepoleCallback(keras.callbacks.Callback):
    """Lets a run under Keras be recorded, stop in order, and resume between two epochs.

    `fit` logs the metrics of each epoch at the epoch's number, as Keras counts it. A stop is obeyed
    after the batch that runs. Keras can't begin inside an epoch: a resumed run continues from the
    newest checkpoint, between two epochs, which hold weights, optimizer and random generators.
    States of other callbacks, such as the patience of `EarlyStopping`, are not stored by Keras.

    Don't use it beside `keras.callbacks.BackupAndRestore`, which restores too. In a pipeline no
    checkpoints are taken: the process stores its own.

    Args:
        every_n_epochs: Take a checkpoint after so many epochs; None for never.

    Raises:
        ValueError: If the number is not positive.
    """

    def __init__(self, *, every_n_epochs: int | None = 1) -> None:
        super().__init__()
        self._due = Due(every_n_epochs, None, None)
        self._run: TrainingRun | None = None
        self._batches = 0

    @property
    def run(self) -> TrainingRun:
        """The run that is written to."""
        if self._run is None:
            self._run = training_run()
        return self._run

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restore the newest checkpoint, if the run was resumed.

        Raises:
            RidgepoleError: If Keras runs on another backend than torch, or the model has changed.
        """
        if keras.backend.backend() != "torch":
            raise RidgepoleError(
                f"RidgepoleCallback needs Keras on torch, not on {keras.backend.backend()}: "
                "set KERAS_BACKEND=torch before keras is imported"
            )
        state = None if self.run.script is None else self.run.restore(_KERAS)
        if state is None:
            return
        variables = self._variables()
        if len(variables) != len(state["variables"]):
            raise RidgepoleError(
                f"the checkpoint holds {len(state['variables'])} variables and the model has {len(variables)}: "
                "resume with the same model and optimizer"
            )
        for variable, value in zip(variables, state["variables"], strict=True):
            variable.assign(value)
        self._batches = state["batches"]
        self.model._initial_epoch = state["epochs"]  # noqa: SLF001 - as BackupAndRestore of Keras does
        self.run.logger.info("continuing from Ridgepole's checkpoint, behind epoch %d", state["epochs"] - 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count a step, and obey a stop."""
        self._batches += 1
        self.run.tick(self._batches)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the metrics of the epoch; take a checkpoint that is due."""
        if logs:
            self.run.log(logs, epoch)
        if self.run.script is not None and (self._due.after_epoch(epoch + 1) or self.run.stop_requested):
            values = [keras.ops.convert_to_numpy(variable) for variable in self._variables()]
            self.run.checkpoint(_KERAS, {"variables": values, "epochs": epoch + 1, "batches": self._batches})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Let a stop come at once again."""
        self.run.stop_ticking()

    def _variables(self) -> list[Any]:
        self.model.optimizer.build(self.model.trainable_variables)
        found = [*self.model.variables, *self.model.optimizer.variables]
        metrics = {id(variable) for variable in self.model.metrics_variables}
        return [variable for variable in found if id(variable) not in metrics]
