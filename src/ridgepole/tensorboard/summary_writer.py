"""A `SummaryWriter` that also writes the record of a run.

It is torch's class, so that its values are encoded as they always were. What differs is the file
writer below it, and that each value is logged into the run, too.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Any

from ridgepole.errors import MissingExtraError

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import _convert_np, _utils, summary
    from torch.utils.tensorboard.writer import FileWriter as TorchFileWriter
    from torch.utils.tensorboard.writer import SummaryWriter as TorchSummaryWriter
except ImportError as _error:
    raise MissingExtraError("torch and tensorboard", "torch,tensorboard", "SummaryWriter") from _error

from ridgepole.labels import Labels
from ridgepole.loggers.media.validate_files import video_file
from ridgepole.loggers.tensorboard.event_values import EventValues
from ridgepole.loggers.tensorboard.records import scalars_event
from ridgepole.loggers.tensorboard.writer import EventWriter
from ridgepole.metrics.steps import StepCounter
from ridgepole.scripts.begun import BegunRun, first_place, join_run

_scalar: Any = summary.scalar
_encode: Any = TorchSummaryWriter._encode  # noqa: SLF001 - how torch makes a tag part of a path
_make_np: Any = _convert_np.make_np
_prepare_video: Any = _utils._prepare_video  # noqa: SLF001 - how torch lays out the frames

_WRITER = "Ridgepole"
_NAME_CHARACTERS = 200
_MAX_FLOAT = 3.4028234663852886e38  # a larger one is infinite in an event file


class _Events:
    """Stands below torch's `FileWriter`: an event file that a crash of the process leaves whole."""

    def __init__(self, log_dir: str, suffix: str) -> None:
        self._log_dir = log_dir
        log = logging.getLogger("ridgepole")
        self.writer = EventWriter(Path(log_dir).absolute(), _WRITER, StepCounter(), log, suffix=suffix)

    def get_logdir(self) -> str:
        return self._log_dir

    def add_event(self, event: Any) -> None:
        self.writer.append(event.SerializeToString())

    def flush(self) -> None:
        """Do nothing: the operating system has every event already."""

    def close(self) -> None:
        self.writer.sync()
        self.writer.close()


class FileWriter(TorchFileWriter):
    """Writes events to a file of a directory, and their values into a record.

    Args:
        log_dir: The directory.
        max_queue: As in torch's class; used for the address of a remote store alone.
        flush_secs: As `max_queue`.
        filename_suffix: The end of the file's name.
        values: Takes the values of events, if any.
    """

    def __init__(
        self,
        log_dir: Any,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
        values: EventValues | None = None,
    ) -> None:
        self._values = values
        if "://" in str(log_dir):
            super().__init__(log_dir, max_queue, flush_secs, filename_suffix)
        else:
            self.event_writer = _Events(str(log_dir), filename_suffix)

    def add_event(self, event: Any, step: Any = None, walltime: float | None = None) -> None:
        """Write an event, and log its values."""
        super().add_event(event, step, walltime)
        if self._values is not None:
            self._values.log(event, timed=walltime is not None)


class SummaryWriter(TorchSummaryWriter):
    """Writes event files as torch's `SummaryWriter` does, and the record of a run.

    Under `ridgepole run` and in a block of `ridgepole.run` the record is that run's. Elsewhere the
    writer begins a run of its own, which `close` ends. Writers that are open at the same time share
    a run; the names of the second one begin with the name of its directory.

    An event is in its file when the call returns. Names, numbers and steps of the record are those
    of the call; what was logged without a step is at step 0, as in the event file.

    Args:
        log_dir: The directory of the event files; by default one below `runs`, as in torch.
        comment: The end of the default directory's name.
        purge_step: Hide what earlier writers of this directory logged at this step or later; also
            in the record of a resumed run.
        max_queue: As in torch's class; used for the address of a remote store alone.
        flush_secs: As `max_queue`.
        filename_suffix: The end of the event files' names.

    Raises:
        MissingExtraError: If torch or TensorBoard is not installed.
        RunDirError: If the run's directory can't be written.
    """

    file_writer: Any
    all_writers: Any

    def __init__(
        self,
        log_dir: Any = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        self._run: BegunRun | None = None
        self._prefix = ""
        self._labels = Labels(name=_run_name(log_dir))
        self._purged = purge_step
        self._earlier: Path | None = None
        self._quick: EventWriter | None = None
        super().__init__(log_dir, comment, purge_step, max_queue, flush_secs, filename_suffix)

    @property
    def run(self) -> BegunRun:
        """The run that the values are logged into; after `close` the same one, opened again."""
        run = self._run
        if run is None or not run.is_open:
            run = join_run(self, lambda: BegunRun(self._labels, earlier=self._earlier, shared=True))
            self._run, self._earlier = run, run.dir if run.has_record else None
            place = Path(str(self.log_dir)).absolute()
            self._prefix = "" if first_place(run, str(place)) == str(place) else f"{place.name}/"
            step, self._purged = self._purged, None
            if step is not None and run.attempt > 1:
                run.hide_from(step)
        return run

    def _get_file_writer(self) -> Any:
        if self.all_writers is None or self.file_writer is None:
            run = self.run
            writer = FileWriter(
                self.log_dir,
                self.max_queue,
                self.flush_secs,
                self.filename_suffix,
                EventValues(run.logger, self._prefix),
            )
            self._quick = getattr(writer.event_writer, "writer", None)
            self.file_writer, self.all_writers = writer, {str(self.log_dir): writer}
            if self.purge_step is not None:
                step, self.purge_step = self.purge_step, None
                for event in (
                    Event(step=step, file_version="brain.Event:2"),
                    Event(step=step, session_log=SessionLog(status=SessionLog.START)),
                ):
                    writer.add_event(event)
        return self.file_writer

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Add a number, as torch does; the record keeps all of its digits."""
        self._get_file_writer()
        number = scalar_value if type(scalar_value) is float else _number(scalar_value)
        step = 0 if global_step is None else int(global_step)
        quick = self._quick
        if quick is not None and not new_style and step >= 0 and abs(number) <= _MAX_FLOAT:
            quick.append(scalars_event({tag: number}, step, time() if walltime is None else walltime))
        else:
            values = _scalar(tag, scalar_value, new_style=new_style, double_precision=double_precision)
            event = Event(summary=values)
            TorchFileWriter.add_event(self.file_writer, event, global_step, walltime)
        self.run.log({self._prefix + tag: number}, step=max(step, 0), walltime=walltime)

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Add several numbers to one chart, each in an event file of a directory of its own."""
        walltime = time() if walltime is None else walltime
        log_dir = str(self.log_dir)
        numbers = {tag: _number(value) for tag, value in tag_scalar_dict.items()}
        for tag, number in numbers.items():
            folder = log_dir + "/" + main_tag.replace("/", "_") + "_" + tag
            if folder not in self.all_writers:
                self.all_writers[folder] = FileWriter(folder, self.max_queue, self.flush_secs, self.filename_suffix)
            self.all_writers[folder].add_summary(_scalar(main_tag, number), global_step, walltime)
        metrics = {f"{self._prefix}{main_tag}/{tag}": number for tag, number in numbers.items()}
        self.run.log(metrics, step=_step(global_step), walltime=walltime)

    def add_hparams(
        self,
        hparam_dict: dict[str, Any],
        metric_dict: dict[str, Any],
        hparam_domain_discrete: Any = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Add hyperparameters and the numbers that runs are compared by."""
        super().add_hparams(hparam_dict, metric_dict, hparam_domain_discrete, run_name, global_step)
        self.run.logger.log_hparams(hparam_dict, metric_dict, step=_step(global_step))
        self.run.log(metric_dict, step=_step(global_step))
        self.run.record_params(hparam_dict)

    def add_video(
        self, tag: str, vid_tensor: Any, global_step: Any = None, fps: int | float = 4, walltime: float | None = None
    ) -> None:
        """Add videos of the shape (count, frames, channels, height, width), as one animated GIF.

        torch needs the package moviepy for it, and adds nothing without; Pillow will do here.
        """
        if importlib.util.find_spec("moviepy") is not None:
            super().add_video(tag, vid_tensor, global_step, fps, walltime)
            return
        frames = _prepare_video(_make_np(vid_tensor))
        gif = video_file(frames, fps).read()
        image = Summary.Image(height=frames.shape[1], width=frames.shape[2], colorspace=frames.shape[3])
        image.encoded_image_string = gif
        values = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._get_file_writer().add_summary(values, global_step, walltime)

    def add_embedding(
        self,
        mat: Any,
        metadata: Any = None,
        label_img: Any = None,
        global_step: int | None = None,
        tag: str = "default",
        metadata_header: Any = None,
    ) -> None:
        """Add points for TensorBoard's projector; the run keeps the files as artifacts."""
        super().add_embedding(mat, metadata, label_img, global_step, tag, metadata_header)
        folder = Path(str(self.log_dir), str(_step(global_step)).zfill(5), _encode(tag))
        for file in sorted(folder.glob("*")):
            self.run.logger.log_artifact(file, name=f"{self._prefix}{tag}/{file.name}", step=_step(global_step))

    def close(self) -> None:
        """Close the event files, and end the run if no other writer uses it."""
        super().close()
        self._quick = None
        run, self._run = self._run, None
        if run is not None:
            run.leave(self)

    def close_at_exit(self) -> None:
        """Close the event files of a script that ends without `close`."""
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_run": None, "_quick": None, "file_writer": None, "all_writers": None}


def _run_name(log_dir: Any) -> str:
    """Return the name of a directory, as a run's name; TensorBoard names runs so, too."""
    name = Path(str(log_dir)).name if log_dir else ""
    return "".join(each for each in name if each.isprintable())[:_NAME_CHARACTERS].strip()


def _number(value: Any) -> float:
    """Return the one number of a value, as torch reads it."""
    array = _make_np(value).squeeze()
    if array.ndim:
        raise AssertionError(f"expected one number, got an array of shape {array.shape}")
    return float(array)


def _step(step: Any) -> int:
    return max(int(step or 0), 0)
