"""Scikit-learn's handwritten digits: 1797 real images of 8 x 8 pixels that ship with the package."""

from typing import NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from ridgepole import Permanence, ResumableLoader
from ridgepole.permanences import Device


class Part(NamedTuple):
    """Some of the images, with their labels."""

    images: Tensor
    """Shape (n, 1, 8, 8), from 0.0 (paper) to 1.0 (ink)."""
    labels: Tensor
    """Shape (n,), from 0 to 9."""

    def pick(self, chosen: list[int]) -> "Part":
        """Return some of these images, by their numbers."""
        return Part(self.images[chosen], self.labels[chosen])


class Data(Permanence):
    """All images, on the device: 1257 to learn from, 180 to validate, 360 to test, every digit in equal shares.

    Args:
        device: Where the images are to lie.
        batch_size: Images in a batch.
        split_seed: Decides which images are tested. Not the run's seed: runs can then be compared.
    """

    def __init__(self, device: Device, batch_size: PositiveInt = 64, split_seed: NonNegativeInt = 0) -> None:
        self.device = device
        self.batch_size = batch_size
        self.split_seed = split_seed
        self.parts: dict[str, Part] = {}

    def initialize(self) -> None:
        """Load the images and split them."""
        digits = load_digits()
        pixels = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # 16 is black
        labels = torch.tensor(digits.target)
        learnt, tested = self._deal(np.arange(len(labels)), digits.target, 360)
        learnt, validated = self._deal(learnt, digits.target, 180)
        for name, chosen in (("train", learnt), ("validation", validated), ("test", tested)):
            self.parts[name] = Part(pixels[chosen].to(self.device.device), labels[chosen].to(self.device.device))

    def batches(self, epochs: int) -> ResumableLoader:
        """Return the batches of a whole training, in a new order every epoch; a resumed run continues inside one."""
        part = self.parts["train"]
        return ResumableLoader(range(len(part.labels)), self.batch_size, epochs, collate_fn=part.pick)

    def cleanup(self) -> None:
        """Release the images."""
        self.parts.clear()

    def _deal(self, chosen: np.ndarray, labels: np.ndarray, held_out: int) -> list[np.ndarray]:
        """Split numbers of images in two, with equal shares of every digit."""
        return train_test_split(chosen, test_size=held_out, stratify=labels[chosen], random_state=self.split_seed)
