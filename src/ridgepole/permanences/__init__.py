"""The permanences that come with Ridgepole, resolved when first asked for (PEP 562)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.permanence import Permanence as Permanence
    from ridgepole.permanences.device import Device as Device
    from ridgepole.permanences.loggers.base import BaseLoggerManager as BaseLoggerManager
    from ridgepole.permanences.loggers.basic import BasicLogger as BasicLogger
    from ridgepole.permanences.loggers.group import LoggerGroup as LoggerGroup
    from ridgepole.permanences.loggers.group import NullLogger as NullLogger
    from ridgepole.permanences.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
    from ridgepole.permanences.loggers.wandb import WandBLogger as WandBLogger
    from ridgepole.permanences.progress import NullProgressManager as NullProgressManager
    from ridgepole.permanences.progress import ProgressManager as ProgressManager

_HOMES = {
    "Permanence": "ridgepole.permanence",
    "Device": "ridgepole.permanences.device",
    "BaseLoggerManager": "ridgepole.permanences.loggers.base",
    "BasicLogger": "ridgepole.permanences.loggers.basic",
    "LoggerGroup": "ridgepole.permanences.loggers.group",
    "NullLogger": "ridgepole.permanences.loggers.group",
    "WandBLogger": "ridgepole.permanences.loggers.wandb",
    "TensorBoardLogger": "ridgepole.permanences.loggers.tensorboard",
    "ProgressManager": "ridgepole.permanences.progress",
    "NullProgressManager": "ridgepole.permanences.progress",
}

__all__ = [
    "BaseLoggerManager",
    "BasicLogger",
    "Device",
    "LoggerGroup",
    "NullLogger",
    "NullProgressManager",
    "Permanence",
    "ProgressManager",
    "TensorBoardLogger",
    "WandBLogger",
]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
