"""A small training under Lightning, which tests run, stop, kill and resume.

It takes its options as `key=value` words: `loader` (`resumable`, `plain`), `steps`, `stop` and `kill` (a place such as
`train:13` or `val:2`, where it sends itself the signal in the first attempt).
"""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.trainer.connectors.checkpoint_connector import _CheckpointConnector

import ridgepole
from ridgepole import Pipeline, PipelineProcess, ResumableLoader
from ridgepole.integrations.lightning import RidgepoleCallback, RidgepoleLogger
from ridgepole.rundir import list_runs

DATA = torch.linspace(0, 1, 160).reshape(40, 4)
EPOCHS = 3


class Net(pl.LightningModule):
    def __init__(self, options, lr=0.01):
        super().__init__()
        self.save_hyperparameters("lr")
        self.options = options
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    def maybe_stop(self, place):
        first = not os.environ.get("RIDGEPOLE_RESUME")
        for name, number in (("stop", signal.SIGTERM), ("kill", signal.SIGKILL)):
            if first and self.options.get(name) == place:
                os.kill(os.getpid(), number)
        if first and self.options.get("raise") == place:
            raise ValueError("mine")

    def training_step(self, batch, batch_idx):
        loss = (self.layers(batch).squeeze() - batch.sum(dim=1)).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.maybe_stop(f"train:{self.global_step}")
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val", (self.layers(batch).squeeze() - batch.sum(dim=1)).square().mean())
        self.maybe_stop(f"val:{self.current_epoch}:{batch_idx}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2], gamma=0.5)]


def fit(options, *, loggers=None, callback=None, callbacks=(), **more):
    """Train; give the trainer and the module."""
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    pl.seed_everything(3, verbose=False)
    if options.get("loader", "resumable") == "resumable":
        train = ResumableLoader(DATA, batch_size=4, seed=5)
    else:
        train = torch.utils.data.DataLoader(DATA, batch_size=4, shuffle=True)
    validation = torch.utils.data.DataLoader(DATA, batch_size=10)
    csv = CSVLogger(options.get("csv", "csv"), name="", version=f"attempt-{os.environ.get('RIDGEPOLE_RESUME', '0')}")
    model = Net(options)
    trainer = pl.Trainer(
        logger=[RidgepoleLogger(), csv] if loggers is None else loggers,
        callbacks=[callback or RidgepoleCallback(), *callbacks],
        **{"max_epochs": EPOCHS} | more,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        val_check_interval=float(options.get("every", 1.0)),
    )
    trainer.fit(model, train, validation, ckpt_path=os.environ.get("CKPT"))
    return trainer, model


class Fit(PipelineProcess):
    def __init__(self, options: dict[str, str] | None = None) -> None:
        self.options = options or {}
        self.callback = RidgepoleCallback()

    def execute(self):
        self.result = fit(self.options, callback=self.callback)
        save(*self.result)

    def state_dict(self):
        return self.callback.capture()

    def load_state_dict(self, state):
        self.callback.restore(state)


def save(trainer, model):
    Path("weights-end.txt").write_text(str([p.tolist() for p in model.parameters()]))


def main(given):
    how = given.pop("how", "alone")
    if how == "alone":
        save(*fit(given))
    elif how == "block":
        with ridgepole.run("block") as run:
            run.log({"before": 1.0})
            save(*fit(given))
    elif how == "two":
        fit(given, loggers=[RidgepoleLogger(), RidgepoleLogger()])
    elif how == "other version":
        del _CheckpointConnector.dump_checkpoint
        fit(given)
    elif how == "own checkpoints":
        with ridgepole.run("mine") as run:
            if run.attempt == 1:
                run.checkpoint({"mine": 1})
                raise KeyError
            fit(given)
    elif how == "pipeline":
        pipeline = Pipeline("fit", seed=3).process("fit", Fit, options=given)
        if os.environ.get("RIDGEPOLE_RESUME"):
            pipeline.resume(next(iter(list_runs(Path("runs")))).path)
        else:
            pipeline.run("runs")


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))
