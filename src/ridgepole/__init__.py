"""Ridgepole runs deep-learning experiments as pipelines.

Processes do the work; permanences are the resources that they share. One TOML file declares both.
Importing this package imports nothing heavy: its names are imported on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepole.lazy import exports

if TYPE_CHECKING:
    from ridgepole.data import ResumableLoader as ResumableLoader
    from ridgepole.errors import CheckpointError as CheckpointError
    from ridgepole.errors import ClusterError as ClusterError
    from ridgepole.errors import ConfigError as ConfigError
    from ridgepole.errors import DeviceUnavailableError as DeviceUnavailableError
    from ridgepole.errors import DeviceWaitTimeout as DeviceWaitTimeout
    from ridgepole.errors import GuardError as GuardError
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
    from ridgepole.errors import SweepError as SweepError
    from ridgepole.errors import TrackerError as TrackerError
    from ridgepole.errors import TrialPruned as TrialPruned
    from ridgepole.errors import ValidationFailed as ValidationFailed
    from ridgepole.errors import VRAMUsageError as VRAMUsageError
    from ridgepole.metrics import read_metrics as read_metrics
    from ridgepole.notebook import Runs as Runs
    from ridgepole.permanence import Permanence as Permanence
    from ridgepole.pipeline.api import Pipeline as Pipeline
    from ridgepole.pipeline.run.controller import Controller as Controller
    from ridgepole.pipeline.stored_run import load_checkpoint as load_checkpoint
    from ridgepole.processes import PipelineProcess as PipelineProcess
    from ridgepole.processes import process as process
    from ridgepole.progress import progress_task as progress_task
    from ridgepole.progress import track as track
    from ridgepole.progress import trange as trange
    from ridgepole.runs.frame import load_runs as load_runs
    from ridgepole.scripts.session import run as run

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ridgepole.data": ("ResumableLoader",),
        "ridgepole.errors": (
            "CheckpointError",
            "ClusterError",
            "ConfigError",
            "DeviceUnavailableError",
            "DeviceWaitTimeout",
            "GuardError",
            "LifecycleError",
            "LogWriteError",
            "MissingExtraError",
            "PermanenceNotFoundError",
            "ProgressNoMatch",
            "RankError",
            "RidgepoleError",
            "RunDirError",
            "StateError",
            "StopRequested",
            "SweepError",
            "TrackerError",
            "TrialPruned",
            "VRAMUsageError",
            "ValidationFailed",
        ),
        "ridgepole.metrics": ("read_metrics",),
        "ridgepole.permanence": ("Permanence",),
        "ridgepole.pipeline.api": ("Pipeline",),
        "ridgepole.pipeline.run.controller": ("Controller",),
        "ridgepole.pipeline.stored_run": ("load_checkpoint",),
        "ridgepole.processes": ("PipelineProcess", "process"),
        "ridgepole.progress": ("progress_task", "track", "trange"),
        "ridgepole.runs.frame": ("load_runs",),
        "ridgepole.scripts.session": ("run",),
        "ridgepole.notebook": ("Runs",),
    },
)
