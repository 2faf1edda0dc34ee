"""A drop-in for `torch.utils.tensorboard`: `from ridgepole.tensorboard import SummaryWriter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.tensorboard.summary_writer import FileWriter as FileWriter
    from ridgepole.tensorboard.summary_writer import SummaryWriter as SummaryWriter

__getattr__, __dir__, __all__ = exports(
    __name__, {"ridgepole.tensorboard.summary_writer": ("FileWriter", "SummaryWriter")}
)
