"""Ridgepole runs deep-learning experiments as pipelines.

Processes do the work, permanences hold it up, one TOML file declares both. Names are resolved when first asked for
(PEP 562): importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import resolver

if TYPE_CHECKING:
    from ridgepole.errors import CheckpointError as CheckpointError
    from ridgepole.errors import ConfigError as ConfigError
    from ridgepole.errors import DeviceWaitTimeout as DeviceWaitTimeout
    from ridgepole.errors import LifecycleError as LifecycleError
    from ridgepole.errors import LogWriteError as LogWriteError
    from ridgepole.errors import MissingExtraError as MissingExtraError
    from ridgepole.errors import PermanenceNotFoundError as PermanenceNotFoundError
    from ridgepole.errors import ProgressNoMatch as ProgressNoMatch
    from ridgepole.errors import RankError as RankError
    from ridgepole.errors import RidgepoleError as RidgepoleError
    from ridgepole.errors import RunDirError as RunDirError
    from ridgepole.errors import StateError as StateError
    from ridgepole.errors import StopRequested as StopRequested
    from ridgepole.errors import ValidationFailed as ValidationFailed
    from ridgepole.errors import VRAMUsageError as VRAMUsageError
    from ridgepole.loading import ResumableLoader as ResumableLoader
    from ridgepole.metrics import read_metrics as read_metrics
    from ridgepole.permanence import Permanence as Permanence
    from ridgepole.permanences.progress import progress_task as progress_task
    from ridgepole.permanences.progress import track as track
    from ridgepole.pipeline.api import Pipeline as Pipeline
    from ridgepole.pipeline.stored import load_checkpoint as load_checkpoint
    from ridgepole.processes import PipelineProcess as PipelineProcess
    from ridgepole.processes import process as process

__version__ = "0.1.0"

_HOMES = {
    "CheckpointError": "ridgepole.errors",
    "ConfigError": "ridgepole.errors",
    "DeviceWaitTimeout": "ridgepole.errors",
    "LifecycleError": "ridgepole.errors",
    "LogWriteError": "ridgepole.errors",
    "MissingExtraError": "ridgepole.errors",
    "Permanence": "ridgepole.permanence",
    "PermanenceNotFoundError": "ridgepole.errors",
    "Pipeline": "ridgepole.pipeline.api",
    "PipelineProcess": "ridgepole.processes",
    "ProgressNoMatch": "ridgepole.errors",
    "ResumableLoader": "ridgepole.loading",
    "RankError": "ridgepole.errors",
    "RidgepoleError": "ridgepole.errors",
    "RunDirError": "ridgepole.errors",
    "StateError": "ridgepole.errors",
    "StopRequested": "ridgepole.errors",
    "VRAMUsageError": "ridgepole.errors",
    "ValidationFailed": "ridgepole.errors",
    "load_checkpoint": "ridgepole.pipeline.stored",
    "process": "ridgepole.processes",
    "progress_task": "ridgepole.permanences.progress",
    "read_metrics": "ridgepole.metrics",
    "track": "ridgepole.permanences.progress",
}

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeviceWaitTimeout",
    "LifecycleError",
    "LogWriteError",
    "MissingExtraError",
    "Permanence",
    "PermanenceNotFoundError",
    "Pipeline",
    "PipelineProcess",
    "ProgressNoMatch",
    "RankError",
    "ResumableLoader",
    "RidgepoleError",
    "RunDirError",
    "StateError",
    "StopRequested",
    "VRAMUsageError",
    "ValidationFailed",
    "load_checkpoint",
    "process",
    "progress_task",
    "read_metrics",
    "track",
]


__getattr__ = resolver(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
