"""A tracker for Hugging Face Accelerate: record a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgepole.errors import MissingExtraError
from ridgepole.integrations.training_run import TrainingRun, training_run

try:
    from accelerate.tracking import GeneralTracker
except ModuleNotFoundError as error:
    if error.name != "accelerate":
        raise
    raise MissingExtraError("accelerate", "accelerate", "ridgepole.integrations.accelerate") from error


class RidgepoleTracker(GeneralTracker):
    """Writes what `accelerator.log` gets to the record of the run, from the main process.

    In a pipeline, in a `ridgepole.run` block and under `ridgepole run` it writes to that run, else
    it begins one, which ends with the interpreter. The configuration of `init_trackers` becomes
    parameters of the run; its project name is not used. Stops and checkpoints stay the script's:
    see `ridgepole.run`.

    ```python
    accelerator = Accelerator(log_with=RidgepoleTracker())
    accelerator.init_trackers("project", config={"lr": 0.1})
    accelerator.log({"loss": loss}, step=step)
    ```
    """

    name = "ridgepole"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self._run: TrainingRun | None = None

    @property
    def run(self) -> TrainingRun:
        """The run that is written to."""
        if self._run is None:
            self._run = training_run()
        return self._run

    @property
    def tracker(self) -> Any:
        """The run's own logger, for figures, images and other media."""
        return self.run.logger

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Record the configuration as parameters of the run."""
        self.run.describe(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """Log metrics at a step."""
        self.run.log(values, step)

    def finish(self) -> None:
        """Bring what was logged to the disk; the run ends with its block or the interpreter."""
        if self._run is not None:
            self._run.logger.flush(durable=True)
