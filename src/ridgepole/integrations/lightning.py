"""A logger and a callback for PyTorch Lightning: record a training, stop it, resume it."""

from __future__ import annotations

import copy
import signal
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from ridgepole import seeding
from ridgepole.data import ResumableLoader
from ridgepole.errors import MissingExtraError, RidgepoleError
from ridgepole.integrations.training_run import Due, TrainingRun, training_run

try:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import Callback
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    from ridgepole.integrations import lightning_results
except ModuleNotFoundError as error:
    if error.name != "pytorch_lightning":
        raise
    raise MissingExtraError("pytorch-lightning", "lightning", "ridgepole.integrations.lightning") from error

_LIGHTNING = "PyTorch Lightning"
_UNUSED = ("hyper_parameters", "hparams_name", "hparams_type", "datamodule_hyper_parameters", "datamodule_hparams_name")
"""Parts of Lightning's checkpoints that hold any objects, and that a resume does not read."""


class RidgepoleLogger(Logger):
    """Writes what Lightning logs to the record of the run.

    In a pipeline, in a `ridgepole.run` block and under `ridgepole run` it writes to that run, else
    it begins one, which ends with the interpreter. Metrics keep Lightning's step. Hyperparameters
    become parameters of the run.

    ```python
    trainer = Trainer(logger=RidgepoleLogger(), callbacks=[RidgepoleCallback()])
    ```
    """

    def __init__(self) -> None:
        self._run: TrainingRun | None = None

    @property
    def experiment(self) -> Any:
        """The run's own logger, for figures, images and other media."""
        return self._opened().logger

    def _opened(self) -> TrainingRun:
        if self._run is None:
            self._run = training_run()
        return self._run

    @property
    def name(self) -> str:
        """The folder of Lightning's own files in the run's directory."""
        return "lightning"

    @property
    def version(self) -> str:
        """The run id."""
        return self._opened().context.run_id

    @property
    def save_dir(self) -> str:
        """The run's directory."""
        return str(self._opened().context.run_dir)

    @property
    def log_dir(self) -> str:
        """The run's directory."""
        return self.save_dir

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics at Lightning's step."""
        self._opened().log(metrics, step)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Record hyperparameters as parameters of the run."""
        self._opened().describe(vars(params) if isinstance(params, Namespace) else params)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Check that the trainer has one logger of this class: two would log everything twice.

        Raises:
            RidgepoleError: If it has two.
        """
        _check_loggers(model.trainer)

    def save(self) -> None:
        """Bring what was logged to the disk."""
        if self._run is not None:
            self._run.logger.flush(durable=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"_run": None}  # a copy in another process finds its run itself


class RidgepoleCallback(Callback):
    """Lets a run under Lightning stop in order, and resume where it was.

    It counts a step for each batch. A stop (Ctrl-C, SIGTERM, SIGUSR1, a pruner) is obeyed between
    two batches, also in the middle of a validation, behind a checkpoint of model, optimizers,
    schedulers, callbacks, loops and random generators. `ridgepole run --resume` and
    `RIDGEPOLE_RESUME=1` continue from the newest checkpoint.

    Inside an epoch a run can be resumed if its training loader has a position: `ResumableLoader`
    or torchdata's `StatefulDataLoader`. With another loader it continues from the beginning of the
    epoch, which is logged. A validation that was interrupted runs again from its beginning.

    Lightning's own checkpoints are kept beside these and are not read, unless `fit` gets
    `ckpt_path`: then that file is used, and these are not.

    In a pipeline the run's policy says when checkpoints are taken, not the arguments. The process
    stores the training with `capture` and `restore`.

    Args:
        every_n_epochs: Take a checkpoint after so many epochs; None for never.
        every_n_train_steps: Take one after so many batches; None for never.
        every_minutes: Take one after so many minutes; None for never.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self,
        *,
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        every_minutes: float | None = 10.0,
    ) -> None:
        self._due = Due(every_n_epochs, every_n_train_steps, every_minutes)
        self._run: TrainingRun | None = None
        self._trainer: Any = None
        self._handler: Any = None
        self._resumed: Mapping[str, Any] | None = None
        self._place: dict[str, Any] | None = None
        self._ended: dict[str, Any] | None = None
        self._before: dict[str, Any] = {}
        self._told = False

    # -- what a pipeline's process uses

    def capture(self) -> dict[str, Any]:
        """Return the state of the training, for the `state_dict` of a pipeline's process."""
        if self._place is None:
            return {}
        return self._state(self._place)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state at the next `fit`, for a process's `load_state_dict`."""
        self._resumed = state or None

    # -- hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the run; if it was resumed, give Lightning the newest checkpoint."""
        if stage != "fit":
            return
        _check_version(trainer)
        _check_loggers(trainer)
        self._run, self._trainer = training_run(), trainer
        self._handler = signal.getsignal(signal.SIGTERM)
        if self._run.script is not None:
            self._resumed = self._run.restore(_LIGHTNING)
        if self._resumed is not None:
            # Lightning restores from here, unless fit gets a file
            trainer._checkpoint_connector._loaded_checkpoint = dict(self._resumed["trainer"])  # noqa: SLF001
        self._due.restart()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where the training continues, and restore the random generators."""
        run, state = self._opened(), self._resumed
        if trainer.world_size == 1 and callable(self._handler):
            signal.signal(signal.SIGTERM, self._handler)  # Lightning's own would stop without a checkpoint
        if state is None:
            return
        if trainer.ckpt_path:
            self._resumed = None
            run.logger.warning(
                "continuing from Lightning's checkpoint %s, as ckpt_path says; Ridgepole's is not used",
                trainer.ckpt_path,
            )
            return
        run.logger.info(
            "continuing from Ridgepole's checkpoint, step %d; Lightning's own are not read", trainer.global_step
        )
        if state["at"] != "epoch":
            results, reduce = trainer.fit_loop.epoch_loop._results, trainer.strategy.reduce  # noqa: SLF001
            lightning_results.restore(results, trainer.lightning_module, state["results"], reduce)
            trainer._logger_connector._first_loop_iter = False  # noqa: SLF001 - else the first batch clears them
        if state["at"] == "batch":
            self._restore_rng(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give a `ResumableLoader` the order of the epoch; take a checkpoint before it."""
        if self._resumed is not None:  # between two epochs
            self._restore_rng(trainer)
            trainer.fit_loop._resuming_from_checkpoint = False  # noqa: SLF001 - the loader begins with these generators
        for loader in _loaders(trainer):
            if isinstance(loader, ResumableLoader):
                loader.set_epoch(trainer.current_epoch)
        if self._ended is not None:
            place, self._ended = self._ended, None
            self._boundary(place, due=self._due.after_epoch(trainer.current_epoch))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take a checkpoint between two batches, if one is due, and obey a stop."""
        if self._place is None:
            return
        place = self._place
        loops = trainer.fit_loop.state_dict()
        progress = loops["epoch_loop.batch_progress"] = copy.deepcopy(loops["epoch_loop.batch_progress"])
        for counts in (progress["total"], progress["current"]):
            counts["ready"] -= 1  # the batch that was fetched already is the first of the resumed run
        progress["is_last_batch"] = False
        loops["state_dict"] = dict(loops["state_dict"]) | {"combined_loader": place.pop("loaders")}
        self._boundary(place | {"loops": loops}, due=place.pop("due"))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the position of the loader, if a checkpoint is due."""
        run, due = self._opened(), self._due.after_batch()
        self._place = None
        wanted = due or run.stop_requested or run.script is None
        if trainer.world_size > 1:
            wanted = trainer.strategy.reduce_boolean_decision(wanted, all=False)
            due = wanted and run.script is not None
        if not _has_position(trainer):
            self._without_position()
        elif wanted:
            states = [copy.deepcopy(loader.state_dict()) for loader in _loaders(trainer)]
            self._place = {"at": "batch", "loaders": states, "due": due, "rng": seeding.capture()}
        else:
            run.note_step(trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the random generators, in case the validation is interrupted."""
        self._place = None  # not at the next batch: Lightning would count the step twice
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._restore_rng(trainer)
            self._before = {"rng": seeding.capture(), "results": _results(trainer)}
            self._stop_in_validation(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Obey a stop in the middle of a validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_in_validation(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that an epoch has ended; its checkpoint follows when its metrics are logged."""
        loops = copy.deepcopy(trainer.fit_loop.state_dict())
        loops["state_dict"].pop("combined_loader", None)
        self._place, self._ended = None, {"at": "epoch", "loops": loops}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the end of the training."""
        run = self._opened()
        if self._ended is not None and run.script is not None:
            place, self._ended = self._ended, None
            self._boundary(place, due=True)
            run.stop_ticking()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give Lightning's own exception for a SIGTERM the exit code that schedulers expect."""
        if isinstance(exception, SIGTERMException):
            exception.code = 143

    # -- checkpoints

    def _opened(self) -> TrainingRun:
        assert self._run is not None
        return self._run

    def _restore_rng(self, trainer: pl.Trainer) -> None:
        state, self._resumed = self._resumed, None
        if state is not None and trainer.world_size == 1:  # the others' generators were not stored
            seeding.restore(state["rng"])

    def _boundary(self, place: dict[str, Any], *, due: bool) -> None:
        """Take a checkpoint that is due, or leave it to the pipeline; obey a stop."""
        run = self._opened()
        self._place = {"rng": seeding.capture()} | place
        if run.script is not None and (due or run.stop_requested):
            run.note_step(self._trainer.global_step)
            self._due.restart()
            run.checkpoint(_LIGHTNING, self._state(self._place))
        else:
            run.tick(self._trainer.global_step)
        self._place = None

    def _state(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """Return Lightning's checkpoint of now, with the loops as they were at a place."""
        stored = self._trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # noqa: SLF001
        for name in _UNUSED:
            stored.pop(name, None)
        stored["loops"] = {"fit_loop": place["loops"]}
        results = place.get("results") or ({} if place["at"] == "epoch" else _results(self._trainer))
        return {"trainer": stored, "at": place["at"], "rng": place["rng"], "results": results}

    def _stop_in_validation(self, trainer: pl.Trainer) -> None:
        """Stop now, behind a checkpoint from which the validation runs again as a whole."""
        run = self._opened()
        if not run.stop_requested or trainer.world_size > 1:
            return
        if not (_has_position(trainer) or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch):
            self._without_position()
            return
        loops = copy.deepcopy(trainer.fit_loop.state_dict())
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        loops["epoch_loop.val_loop.batch_progress"] = {
            "total": dict(begun), "current": dict(begun), "is_last_batch": False,
        }  # fmt: skip
        self._boundary({"at": "validation", "loops": loops} | self._before, due=True)

    def _without_position(self) -> None:
        """Obey a stop inside an epoch without a checkpoint."""
        run = self._opened()
        if run.script is None:  # a tick would let the pipeline take one
            self._tell("the run can be stopped and resumed between two epochs only")
            return
        self._tell("a resume goes back to the beginning of the epoch")
        run.tick(self._trainer.global_step)

    def _tell(self, consequence: str) -> None:
        if not self._told:
            self._told = True
            kinds = sorted({type(loader).__name__ for loader in _loaders(self._trainer)})
            self._opened().logger.warning(
                "%s: the training loader (%s) has no position to store; ResumableLoader and torchdata's "
                "StatefulDataLoader have one",
                consequence,
                ", ".join(kinds),
            )


def _loaders(trainer: pl.Trainer) -> list[Any]:
    loader = trainer.fit_loop._combined_loader  # noqa: SLF001 - the loaders as the user has passed them, as a flat list
    return [] if loader is None else list(loader.flattened)


def _results(trainer: pl.Trainer) -> dict[str, Any]:
    return lightning_results.capture(trainer.fit_loop.epoch_loop._results, trainer.lightning_module)  # noqa: SLF001


def _has_position(trainer: pl.Trainer) -> bool:
    loaders = _loaders(trainer)
    hooks = ("state_dict", "load_state_dict")
    return bool(loaders) and all(callable(getattr(each, hook, None)) for each in loaders for hook in hooks)


def _check_loggers(trainer: pl.Trainer) -> None:
    if sum(isinstance(logger, RidgepoleLogger) for logger in trainer.loggers) > 1:
        raise RidgepoleError("the trainer has two RidgepoleLoggers, which would log everything twice: pass one")


def _check_version(trainer: pl.Trainer) -> None:
    connector, loop = getattr(trainer, "_checkpoint_connector", None), getattr(trainer, "fit_loop", None)
    known = hasattr(connector, "_loaded_checkpoint") and hasattr(connector, "dump_checkpoint")
    if not (known and hasattr(loop, "_combined_loader") and hasattr(loop, "_resuming_from_checkpoint")):
        raise RidgepoleError(
            f"RidgepoleCallback does not know pytorch-lightning {pl.__version__}: install a version from 2.6 on, "
            "below 3; RidgepoleLogger alone works with any"
        )
