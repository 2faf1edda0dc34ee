"""Logging to TensorBoard's event files. Initialising a logger imports TensorBoard."""

from ridgepole.loggers.tensorboard.logger import TensorBoardLogger as TensorBoardLogger

__all__ = ["TensorBoardLogger"]
