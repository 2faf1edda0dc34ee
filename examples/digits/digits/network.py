"""The network that reads a digit."""

from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from digits.data import Part
from ridgepole import Permanence
from ridgepole.permanences import Device


def make_cnn(width: int) -> nn.Module:
    """Two blocks that each halve the image, 8 x 8 to 2 x 2 pixels, and a linear layer on top."""
    return nn.Sequential(
        *_convolution(1, width),
        *_convolution(width, 2 * width),
        nn.MaxPool2d(2),
        *_convolution(2 * width, 2 * width),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(2 * width * 2 * 2, 10),
    )


def _convolution(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()


class Network(Permanence):
    """A small CNN and its optimiser.

    Args:
        device: Where to compute.
        width: Channels of the first layer.
        lr: Learning rate.
        threads: Threads on the CPU. One is enough for so small a network, and a fixed number rounds alike everywhere.
    """

    def __init__(
        self, device: Device, width: PositiveInt = 32, lr: PositiveFloat = 1e-3, threads: PositiveInt = 1
    ) -> None:
        self.threads = threads
        self.model = make_cnn(width).to(device.device)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=lr)

    def initialize(self) -> None:
        """Set torch's number of threads until the end of the run."""
        self.defer(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(self.threads)

    def learn(self, batch: Part) -> Tensor:
        """Learn from one batch, and return the loss before."""
        self.model.train()
        loss = nn.functional.cross_entropy(self.model(batch.images), batch.labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Return the probability of each digit for each image: shape (n, 10), rows add up to 1."""
        self.model.eval()
        return self.model(images).softmax(dim=1)

    def accuracy(self, part: Part) -> float:
        """Return the share of images that are read correctly."""
        return (self.read(part.images).argmax(dim=1) == part.labels).float().mean().item()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that training changes."""
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def cleanup(self) -> None:
        """Release the weights."""
        del self.model, self.optimiser
