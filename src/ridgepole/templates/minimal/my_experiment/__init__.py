"""my_experiment: fits a straight line to noisy points.

Replace the model by yours, and the points by your data.
"""

from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from ridgepole import Permanence, process, track
from ridgepole.permanences import BaseLoggerManager, Device


class Network(Permanence):
    """A resource that outlives a step: a model and its optimiser.

    Args:
        device: The device to compute on.
        lr: The learning rate.
    """

    def __init__(self, device: Device, lr: PositiveFloat = 0.1) -> None:
        self.device = device.device
        self.model = nn.Linear(1, 1).to(self.device)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=lr)

    def learn(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Take one step of the optimiser, and return the loss before."""
        loss = nn.functional.mse_loss(self.model(x), y)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt."""
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def cleanup(self) -> None:
        """Release resources, such as files; the device's memory is freed with the model."""


@process
def fit(network: Network, logger: BaseLoggerManager, steps: PositiveInt = 300) -> None:
    """Train the network on batches of points near y = 3x - 1."""
    bar = track(range(steps), "fit", tick=True)
    for _ in bar:
        x = 2 * torch.rand(32, 1) - 1
        y = 3 * x - 1 + 0.1 * torch.randn(32, 1)
        loss = network.learn(x.to(network.device), y.to(network.device))
        logger.log_metrics({"loss": loss})
        bar.set(loss=loss)
    logger.log_metrics({"offset": network.model.bias, "slope": network.model.weight})
