"""The permanences that come with Ridgepole, resolved when first asked for (PEP 562)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.devices import Device as Device
    from ridgepole.loggers.base import BaseLoggerManager as BaseLoggerManager
    from ridgepole.loggers.composite import LoggerGroup as LoggerGroup
    from ridgepole.loggers.composite import NullLogger as NullLogger
    from ridgepole.loggers.local.logger import BasicLogger as BasicLogger
    from ridgepole.loggers.mlflow import MLflowLogger as MLflowLogger
    from ridgepole.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
    from ridgepole.loggers.trackio import TrackioLogger as TrackioLogger
    from ridgepole.loggers.wandb import WandBLogger as WandBLogger
    from ridgepole.permanence import Permanence as Permanence
    from ridgepole.progress import NullProgressManager as NullProgressManager
    from ridgepole.progress import ProgressManager as ProgressManager

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ridgepole.devices": ("Device",),
        "ridgepole.loggers.base": ("BaseLoggerManager",),
        "ridgepole.loggers.composite": ("LoggerGroup", "NullLogger"),
        "ridgepole.loggers.local.logger": ("BasicLogger",),
        "ridgepole.loggers.mlflow": ("MLflowLogger",),
        "ridgepole.loggers.tensorboard": ("TensorBoardLogger",),
        "ridgepole.loggers.trackio": ("TrackioLogger",),
        "ridgepole.loggers.wandb": ("WandBLogger",),
        "ridgepole.permanence": ("Permanence",),
        "ridgepole.progress": ("NullProgressManager", "ProgressManager"),
    },
)
