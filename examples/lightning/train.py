"""Train a LightningModule on scikit-learn's digits, as a run that resumes inside an epoch."""

import argparse
from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split

from ridgepole import ResumableLoader
from ridgepole.integrations.lightning import RidgepoleCallback, RidgepoleLogger


class Digits(pl.LightningModule):
    """Two linear layers that read an image of 8 x 8 pixels."""

    def __init__(self, width: int = 64, lr: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()  # they are the run's parameters
        self.lr = lr
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = torch.nn.functional.cross_entropy(self.layers(images), labels)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Log the share of images that are read correctly."""
        images, labels = batch
        self.log("val/accuracy", (self.layers(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args()

    pl.seed_everything(1)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16  # 16 is black
    data = TensorDataset(images, torch.tensor(digits.target))
    learnt, validated = random_split(data, (1437, 360), torch.Generator().manual_seed(0))
    trainer = pl.Trainer(
        max_epochs=args.epochs,
        accelerator="auto",
        log_every_n_steps=1,
        logger=RidgepoleLogger(),
        callbacks=[RidgepoleCallback()],
    )
    # The trainer counts the epochs. A DataLoader works too, and resumes with the epoch.
    trainer.fit(Digits(args.width), ResumableLoader(learnt, batch_size=64), DataLoader(validated, batch_size=360))


if __name__ == "__main__":
    main()
