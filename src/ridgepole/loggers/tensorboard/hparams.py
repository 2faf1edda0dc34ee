"""Hyperparameters for TensorBoard's dashboard "HParams", in a separate event file.

TensorBoard keeps the first hyperparameters that it reads of a directory and ignores later ones. So
they are in one small file, whose name sorts before all other event files. The file is replaced as a
whole for more hyperparameters, or when the session ends. It has no `Experiment`: TensorBoard would
use that of the first run for all runs, and hide columns that only others have. Without one it
collects the columns from all runs.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from ridgepole.errors import LogWriteError
from ridgepole.files import write_atomically
from ridgepole.loggers.tensorboard.event_file import PREFIX
from ridgepole.loggers.tensorboard.events import empty_value, opening_event, parsed, value_event
from ridgepole.loggers.tensorboard.records import framed, read_records

FILE = f"{PREFIX}0000000000.hparams"
PLUGIN = "hparams"
START_TAG = "_hparams_/session_start_info"
END_TAG = "_hparams_/session_end_info"

_OBSERVERS = ("Logger", "ProgressManager")  # these make no difference to an experiment
_WHOLE = 2**53  # up to here TensorBoard's numbers, which are floats, hold every integer


class HparamsFile:
    """The hyperparameters of a directory."""

    def __init__(self, directory: Path, writer: str) -> None:
        self.directory = directory
        self.params: dict[str, Any] = {}
        self._path = directory / FILE
        self._writer = writer
        self._started = time.time()
        for data in read_records(self._path):
            event = parsed(data)
            for value in event.summary.value if event is not None else ():
                if value.tag == START_TAG:
                    self._adopt(HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info)

    def _adopt(self, info: Any) -> None:
        self._started = info.start_time_secs
        for name, value in info.hparams.items():
            kind = value.WhichOneof("kind")
            if kind is not None:
                self.params[name] = getattr(value, kind)

    def write(self, params: Mapping[str, Any], ended: str | None = None) -> None:
        """Add hyperparameters and replace the file.

        Args:
            params: Flat names and plain values. Numbers, bools and strings keep their type; None
                and integers that no float holds become text.
            ended: `"SUCCESS"` or `"FAILURE"` at the end of the session, else None.
        """
        self.params |= params
        start = SessionStartInfo(start_time_secs=self._started)
        for name, value in self.params.items():
            _put(start.hparams[name], value)
        now = time.time()
        status = {"UNKNOWN": Status.STATUS_UNKNOWN, None: Status.STATUS_RUNNING}
        status |= {"SUCCESS": Status.STATUS_SUCCESS, "FAILURE": Status.STATUS_FAILURE}
        end = SessionEndInfo(status=status[ended], end_time_secs=0.0 if ended is None else now)
        events = [
            opening_event(self._writer, now),
            value_event(_value(START_TAG, HParamsPluginData(session_start_info=start)), 0, now),
            value_event(_value(END_TAG, HParamsPluginData(session_end_info=end)), 0, now),
        ]
        part = self._path.with_name(f".hparams-{os.getpid()}")  # a name that TensorBoard ignores
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(part, b"".join(map(framed, events)))
            part.replace(self._path)
        except OSError as error:
            reason = f"{error.strerror or error}: the hyperparameters were not logged"
            raise LogWriteError(error.errno, reason, str(self._path)) from error


def _put(field: Any, value: Any) -> None:
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) <= _WHOLE):
        field.number_value = value
    else:
        field.string_value = str(value)


def _value(tag: str, data: Any) -> Any:
    return empty_value(tag, PLUGIN, data.SerializeToString())


def params_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's seed and the flat parameters of its components, as `train/epochs`."""
    flat: dict[str, Any] = {}
    pipeline = config.get("pipeline")
    if isinstance(pipeline, Mapping) and pipeline.get("seed") is not None:
        flat["seed"] = pipeline["seed"]
    for kind in ("permanences", "processes"):
        tables = config.get(kind)
        for name, table in tables.items() if isinstance(tables, Mapping) else ():
            if isinstance(table, Mapping) and not str(table.get("type")).endswith(_OBSERVERS):
                params = table.get("params")
                if table.get("type") == "Device" and isinstance(params, Mapping):
                    params = _chosen(params)
                _flatten(name, params, flat)
    return flat


def _chosen(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a `Device` that are not its defaults, of which there are many."""
    from ridgepole.devices.device import Device

    known = inspect.signature(Device).parameters
    defaults = {name: list(each.default) if isinstance(each.default, tuple) else each.default
                for name, each in known.items()}  # fmt: skip
    return {name: value for name, value in params.items() if name not in defaults or value != defaults[name]}


def _flatten(name: str, value: Any, flat: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        if set(value) != {"ref"}:
            for key, inner in value.items():
                _flatten(f"{name}/{key}", inner, flat)
    elif value is not None:
        flat[name] = value
