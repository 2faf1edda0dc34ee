"""The process group, and the network that it keeps the same on all ranks."""

from typing import Any

import torch
import torch.distributed as dist
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ridgepole import Permanence


class Group(Permanence):
    """The process group. What takes it as a parameter is made after it and cleaned up before it.

    Args:
        backend: `gloo` for CPUs, `nccl` for cards.
    """

    def __init__(self, backend: str = "gloo") -> None:
        dist.init_process_group(backend)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over all ranks."""
        total = value.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    def cleanup(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group()


class Network(Permanence):
    """A classifier of points, wrapped for all ranks, and its optimiser.

    Args:
        group: The process group, which has to be there first.
        width: Units of the hidden layer.
        lr: Learning rate.
    """

    def __init__(self, group: Group, width: PositiveInt = 32, lr: PositiveFloat = 1e-2) -> None:
        self.group = group
        self.model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 3))
        self.ddp = DistributedDataParallel(self.model)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=lr)

    def learn(self, points: Tensor, labels: Tensor) -> Tensor:
        """Learn from this rank's share of a batch, and return the mean loss of all ranks."""
        loss = nn.functional.cross_entropy(self.ddp(points), labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return self.group.mean(loss.detach())

    @torch.no_grad()
    def accuracy(self, points: Tensor, labels: Tensor) -> float:
        """Return the share of points that are classified correctly."""
        return (self.model(points).argmax(dim=1) == labels).float().mean().item()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that training changes; rank 0's is stored and given back to all ranks."""
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def cleanup(self) -> None:
        """Release the network."""
        del self.ddp, self.model, self.optimiser
