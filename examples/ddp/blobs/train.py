"""The process of the pipeline. Every rank runs it; the logger and the bar live on rank 0."""

import torch
from pydantic import PositiveInt
from sklearn.datasets import make_blobs

from blobs.network import Network
from ridgepole import PipelineProcess, ResumableLoader, track
from ridgepole.permanences import BaseLoggerManager


class Train(PipelineProcess):
    """Train the network on points in three clusters."""

    def __init__(
        self, network: Network, logger: BaseLoggerManager, epochs: PositiveInt = 10, global_batch: PositiveInt = 64
    ) -> None:
        self.network = network
        self.logger = logger
        self.epochs = epochs
        self.global_batch = global_batch

    def execute(self) -> None:
        """Train the network."""
        points, labels = make_blobs(1280, centers=3, cluster_std=0.8, random_state=0)
        points, labels = torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
        # The loader knows its rank: each gets its part of every global batch, and the number of ranks may change.
        batches = ResumableLoader(range(len(labels)), epochs=self.epochs, global_batch=self.global_batch)
        for chosen in track(batches, "train", tick=True):
            self.logger.log_metrics({"loss": self.network.learn(points[chosen], labels[chosen])})
            if batches.epoch_ends:
                self.logger.log_metrics({"accuracy": self.network.accuracy(points, labels)})
