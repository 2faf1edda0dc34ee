"""A callback for Hugging Face Transformers: record a training, stop it, resume it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgepole.errors import MissingExtraError
from ridgepole.integrations.training_run import TrainingRun, training_run

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import ExportableState
    from transformers.trainer_utils import get_last_checkpoint
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise MissingExtraError("transformers", "transformers", "ridgepole.integrations.transformers") from error


class RidgepoleCallback(TrainerCallback, ExportableState):
    """Lets a run under Transformers be recorded, and stop in order.

    What the trainer logs is recorded at its step. A stop is obeyed at the end of a step, behind a
    checkpoint of the trainer; one in the middle of an evaluation waits for its end.

    The trainer's own checkpoints are those that count, and Ridgepole takes none beside them. They
    hold how far the record was, so that a resumed run shows each step once. In a pipeline a stop
    comes at the end of a step too, and the trainer takes no checkpoint for it.

    ```python
    callback = RidgepoleCallback()
    trainer = Trainer(model, args, train_dataset=data, callbacks=[callback])
    trainer.train(resume_from_checkpoint=callback.checkpoint(args))
    ```
    """

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self._run: TrainingRun | None = None

    @property
    def run(self) -> TrainingRun:
        """The run that is written to."""
        if self._run is None:
            self._run = training_run()
        return self._run

    def checkpoint(self, args: TrainingArguments) -> str | None:
        """Return the trainer's newest checkpoint if the run was resumed, else None."""
        found: str | None = get_last_checkpoint(args.output_dir) if self.run.context.attempt > 1 else None
        return found

    def state(self) -> dict[str, Any]:
        """Return how far the record is, which the trainer stores in its checkpoint."""
        if self.run.script is not None and not self.run.context.rank:
            self.run.logger.checkpoint()
            self.record = {"run": self.run.context.run_id, "logger": self.run.logger.state_dict()}
        return {"args": {}, "attributes": {"record": self.record}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the arguments; in a resumed run, say from where, and hide what comes again."""
        self.run.describe(args.to_sanitized_dict())
        if self.run.script is None or self.run.context.attempt == 1:
            return
        stored = state.stateful_callbacks.get(type(self).__name__, {}) if state.global_step else {}
        record = stored.get("attributes", {}).get("record", {}) if isinstance(stored, Mapping) else {}
        if record.get("run") == self.run.context.run_id:
            self.run.logger.load_state_dict(record["logger"])
            self.run.logger.info("continuing from the trainer's checkpoint, step %d", state.global_step)
        elif state.global_step:
            self.run.logger.warning(
                "continuing from a checkpoint of another run, step %d: what was recorded before stays",
                state.global_step,
            )
        else:
            self.run.logger.load_state_dict({})
            self.run.logger.warning("starting over: trainer.train got no resume_from_checkpoint")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log metrics at the trainer's step."""
        if logs and state.is_world_process_zero:
            self.run.log(logs, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count a step; if a stop was asked for, have the trainer take a checkpoint and stop."""
        if self.run.script is None:
            self.run.tick(state.global_step)
            return
        self.run.note_step(state.global_step)
        self._stop(control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop behind an evaluation, if a stop was asked for in the middle of it."""
        self._stop(control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Obey a stop behind the trainer's checkpoint."""
        if control.should_training_stop and self.run.stop_requested:
            self.run.stop_ticking()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let a stop come at once again."""
        self.run.stop_ticking()

    def _stop(self, control: TrainerControl) -> None:
        if self.run.stop_requested:
            control.should_training_stop = control.should_save = True
