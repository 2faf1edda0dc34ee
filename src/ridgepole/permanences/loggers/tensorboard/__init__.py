"""Logging to TensorBoard's event files; TensorBoard itself is imported when a logger is initialised."""

from ridgepole.permanences.loggers.tensorboard.logger import TensorBoardLogger as TensorBoardLogger

__all__ = ["TensorBoardLogger"]
