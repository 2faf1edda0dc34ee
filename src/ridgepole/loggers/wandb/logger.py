"""Weights & Biases as one of a run's loggers."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ridgepole.errors import RunDirError, TrackerError, TrialPruned
from ridgepole.launch import global_rank
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.loggers.ending import export_command, failure, failure_at_exit
from ridgepole.loggers.media_types import AnnotatedImage, Histogram, MediaFile, RenderedFigure, Table
from ridgepole.loggers.messages import FileHandler, checked_file_name, checked_level, detach
from ridgepole.loggers.slot import LoggerSlot, slot_of
from ridgepole.loggers.wandb.account import (
    RESUMES,
    Attached,
    check_client,
    check_key,
    checked_id,
    checked_mode,
    checked_tags,
)
from ridgepole.loggers.wandb.frames import nested, plain
from ridgepole.loggers.wandb.link import FLUSH_SECONDS, PATIENCE, RunIdError, WriterLink
from ridgepole.metrics.steps import Metrics
from ridgepole.permanence import State, Stoppable, run_of, state_of

DEFAULT_DIR = "logs"
OUTPUT = "client.log"


class WandBLogger(BaseLoggerManager):
    """Weights & Biases logger backend, online or offline.

    The client runs in a process of its own and never blocks or stops the run, even if the server is
    down, answers with errors or hangs. Its files are in `wandb/` of the run directory (in a plain
    script: of `WANDB_DIR`, else of `logs`). Every step is kept, in any order: `step` is a metric
    like any other, and the x axis of all of them.

    A resumed run continues the same run at W&B. A run that is stopped on its page there stops at
    its next tick, with a checkpoint.

    Args:
        project: Project at W&B; by default `WANDB_PROJECT`, else the name of the pipeline.
        entity: User or team; by default `WANDB_ENTITY`, else that of the account.
        name: Name of the run; by default `WANDB_NAME`, else the run id.
        tags: Short words for the run.
        notes: A longer description.
        count: How many trials an agent of a sweep at W&B runs.
        log_level: The lowest level of messages to show and keep: DEBUG, INFO, WARNING or ERROR.
        log_file: Name of a file of messages in `wandb/`; None for no file: the local record has
            one, and the run's page shows the messages under Logs.
        mode: `"online"`, `"offline"` (only files, for `wandb sync`) or `"disabled"`; by default
            `WANDB_MODE`, else online.
        strict: Whether an unreachable server or a failing client is an error, instead of one
            warning.
        id: Id of the run at W&B, to continue one; by default that of the run's earlier attempts,
            else `WANDB_RUN_ID`, else the run id.
        resume: `"allow"` continues a run of this id if there is one, `"must"` needs one, `"never"`
            refuses one. Off line W&B can't tell.
        group: Name of a group of runs, such as the folds of a cross-validation.
        job_type: Kind of the run in its group, such as `"train"`.
        config: Further entries of the run's config at W&B, nested and with lists if you like.

    Raises:
        ValueError: If `mode`, `count`, a tag, the level, the file name, `id` or `resume` is
            invalid.
        TypeError: If `tags` is not a sequence of strings, or `config` is not a mapping.
    """

    export_target = "wandb"
    _patience: ClassVar[float] = PATIENCE
    _online_share: ClassVar[float] = 0.6  # of the patience; an offline start after it gets the rest

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        count: int | None = None,
        log_level: str = "INFO",
        log_file: str | None = None,
        mode: str | None = None,
        strict: bool = False,
        id: str | None = None,  # noqa: A002 - the client's name
        resume: Literal["allow", "must", "never"] = "allow",
        group: str | None = None,
        job_type: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if mode is not None:
            checked_mode(mode)
        if resume not in RESUMES:
            raise ValueError(f"resume must be one of {', '.join(RESUMES)}, not {resume!r}")
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"config must be a mapping of names to values, not {type(config).__name__}")
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        checked_file_name("log_file", log_file, "wandb/")
        checked_level(log_level)
        self.project = project
        self.entity = entity
        self.name = name
        self.tags = checked_tags(tags)
        self.notes = notes
        self.count = count
        self.mode = mode
        self.strict = strict
        self.id = None if id is None else checked_id(id)
        self.resume = resume
        self.group = group
        self.job_type = job_type
        self.config: dict[str, Any] = plain(config or {})
        self._params: dict[str, Any] = {}  # of all calls of `log_hparams`
        self._log_level = log_level
        self._log_file = log_file
        self._link: WriterLink | None = None
        self._ended: WriterLink | None = None  # for `get_state` after the clean-up
        self._attached: Attached | None = None
        self._ending: _Ending | None = None
        self._finalizer: weakref.finalize[..., WandBLogger] | None = None
        # Only this process writes; and of the ranks of a script's launch, only the first.
        self._home = -1 if run_of(self) is None and global_rank() else os.getpid()
        self._live_mode = "disabled"
        self._wall_time: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_link": None, "_ended": None, "_ending": None, "_finalizer": None, "_home": -1,
        }  # fmt: skip

    # -- lifecycle ---------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Start the run at W&B, or offline if it can't be reached; give up after 30 s.

        Raises:
            MissingExtraError: If the client is not installed.
            TrackerError: If the mode is online and there is no key for the server; with `strict`
                also if the server can't be reached.
            ValueError: If `WANDB_MODE` is invalid.
            RunDirError: If the directory can't be created.
        """
        if os.getpid() != self._home:
            return
        mode = self._check()
        deadline = time.monotonic() + self._patience
        if mode == "disabled":
            return
        folder = self._root() / "wandb"
        try:
            (folder / "cache").mkdir(parents=True, exist_ok=True)
            (folder / "data").mkdir(exist_ok=True)
            if self._log_file is not None:
                handler = FileHandler(folder / self._log_file)
                self.defer(detach, self._log())
                self._log().addHandler(handler)
        except OSError as error:
            raise RunDirError(f"can't log to {folder}: {error.strerror or error} ({error.filename})") from error
        self._attached = Attached(folder, run_of(self), self.id)
        self._connect(mode, deadline)

    def _connect(self, mode: str, deadline: float) -> None:
        attached = self._attached
        assert attached is not None
        before = attached.folders()
        try:
            self._start(mode, deadline)
        except TrackerError as error:
            attached.remove_since(before)
            if isinstance(error, RunIdError):
                raise
            if self.strict:
                what = "the server can't be reached" if mode == "online" else "the client can't be started"
                raise TrackerError(f"W&B: {what}: {error}; mode='offline' logs without it") from error
            if mode == "online":
                self.warning("W&B can't be reached, so this run is logged offline: %s", error)
                self._connect("offline", deadline)
                return
            slot_of(self).dropped += 1
            self.warning("W&B is switched off for this run, its client can't be started: %s", error)

    def _start(self, mode: str, deadline: float) -> None:
        attached = self._attached
        assert attached is not None
        asked = weakref.WeakMethod(self._asked_to_stop)  # the link may outlive the logger
        link = WriterLink(self._log(), slot_of(self), lambda: (stop := asked()) and stop())
        left = deadline - time.monotonic()
        share = left * self._online_share if mode == "online" else left
        link.start(self._options(mode, attached.id, share), time.monotonic() + share, attached.folder / OUTPUT)
        self._live_mode = mode
        self._link = link
        attached.add(Path(link.info["directory"]))
        self._log().addHandler(_ToTracker(link))
        # Without cleanup, the run is closed when the logger or the interpreter ends.
        ending = _Ending(link, attached, slot_of(self), self._log(), mode)
        self._ending = ending
        self._finalizer = weakref.finalize(self, ending.abandon, self._patience)

    def _asked_to_stop(self) -> None:
        """Stop the run, as its page asks; a trial of a sweep is pruned instead."""
        run: object = run_of(self)
        if not isinstance(run, Stoppable):
            return
        swept = "WANDB_SWEEP_ID" in os.environ
        self.info("W&B asks this run to stop; it stops at its next tick")
        run.ask_to_stop(TrialPruned("stopped by W&B") if swept else KeyboardInterrupt("stopped on its page at W&B"))

    def _options(self, mode: str, run_id: str, seconds: float) -> dict[str, Any]:
        run = run_of(self)
        config = plain(run.config) if run is not None else {}
        pipeline = config.get("pipeline")
        named = pipeline.get("name") if isinstance(pipeline, dict) else None
        program = sys.argv[0] if sys.argv and sys.argv[0] else None
        return {
            "mode": mode,
            "root": str(self._root()),
            "id": run_id,
            "resume": self.resume,
            "group": self.group,
            "job_type": self.job_type,
            "project": self.project or os.environ.get("WANDB_PROJECT") or named,
            "entity": self.entity,
            "name": self.name or os.environ.get("WANDB_NAME") or (run.run_id if run is not None else None),
            "tags": list(self.tags) if self.tags is not None else None,
            "notes": self.notes,
            "config": config | self.config,
            # By the monotonic clock, which both processes share. The client gives up before this
            # process does.
            "init_deadline": time.monotonic() + seconds - max(0.5, seconds * 0.1),
            "finish_seconds": max(1.0, self._patience * 0.7),
            "flush_seconds": FLUSH_SECONDS,
            "pid": os.getpid(),
            "program": {"program": program} if program else {},
        }

    def _root(self) -> Path:
        run = run_of(self)
        return Path(run.run_dir if run is not None else os.environ.get("WANDB_DIR") or DEFAULT_DIR).absolute()

    def _check(self) -> str:
        mode = checked_mode(self.mode)
        if mode != "disabled":
            check_client()
        if mode == "online":
            check_key()
        return mode

    def validate(self) -> None:
        """Check the client, the mode and the key, without network access.

        Raises:
            MissingExtraError: If the client is not installed.
            TrackerError: If the mode is online and there is no key.
            ValueError: If `WANDB_MODE` is invalid.
        """
        if os.getpid() == self._home:
            self._check()

    def checkpoint(self) -> None:
        """Wait, up to 30 s, until the client has everything logged so far."""
        self.flush(durable=True)

    def flush(self, durable: bool = False) -> None:
        """Wait until the client has everything logged so far, at most 30 s.

        After one timeout, later calls don't wait. `durable` makes no difference: the client writes
        its file every second.
        """
        del durable
        if self._link is not None:
            self._link.sync(self._patience)

    def cleanup(self) -> None:
        """End the run at W&B, as failed if it did. Log how to send what has not arrived.

        The client gets everything first. Only a client that hangs for 30 s, or a server that takes
        longer than that, ends the wait.

        Raises:
            TrackerError: If `strict` is set and not everything arrived.
        """
        link, self._link, self._ended = self._link, None, self._link
        failed = failure(run_of(self))
        complete, log = True, self._log()
        try:
            if link is not None and self._ending is not None and os.getpid() == self._home:
                if self._finalizer is not None:
                    self._finalizer.detach()
                complete = self._ending.end(failed, self._patience)
        finally:
            for handler in [handler for handler in log.handlers if isinstance(handler, _ToTracker)]:
                log.removeHandler(handler)
            detach(log)
        if self.strict and not complete:
            raise TrackerError("W&B did not get all of this run; the warning before says what brings the rest")

    def get_state(self) -> dict[str, Any]:
        """Return the run's id at W&B, the mode, the directory, the steps and the counts."""
        link, slot = self._link or self._ended, slot_of(self)
        info = link.info if link is not None else {}
        return {
            "id": self._attached.id if self._attached is not None else None,
            "mode": self._live_mode,
            "sync_dir": info.get("directory"),
            "url": info.get("url"),
            "resumed": info.get("resumed", False),
            "global_step": slot.steps.global_step,
            "last_step": slot.steps.last_step,
            "sent": link.sent if link is not None else 0,
            "dropped": slot.dropped,
        }

    def sweep_service(self) -> dict[str, Any]:
        """Return W&B's sweep service if online; see `BaseLoggerManager.sweep_service`."""
        begun = self._link is not None or state_of(self) is State.READY
        if (self._live_mode if begun else checked_mode(self.mode)) != "online":
            return {}
        return {"executor": "wandb", "project": self.project, "entity": self.entity, "count": self.count}

    def _send(self, *frame: Any) -> None:
        link = self._opened()
        if link is None:
            slot_of(self).dropped += self._live_mode != "disabled"
        elif not link.put(frame, patience=self._patience) and self.strict:
            raise TrackerError(f"W&B: a record was dropped: {link.gone or 'the client does not keep up'}")

    def _opened(self) -> WriterLink | None:
        """Return the link, and initialise the logger if needed; None if nothing can be written."""
        if self._link is None and state_of(self) in (State.CONSTRUCTED, State.CLOSED) and os.getpid() == self._home:
            with slot_of(self).lock:
                if self._link is None:
                    self.initialize()
        return self._link

    def set_wall_time(self, seconds: float | None) -> None:
        """Set the time of the next records, to replay logs: seconds since the epoch, or None."""
        self._wall_time = seconds

    def _now(self) -> float:
        return time.time() if self._wall_time is None else self._wall_time

    # -- logging -----------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log metrics without waiting for the client.

        Arguments and errors are as in `BaseLoggerManager.log_metrics`. With `strict`, a dropped
        record raises `TrackerError`.
        """
        self._opened()
        now = self._now()
        for row in self.resolve(metrics, step).plan.rows:
            self._send("metrics", now, row.step, row.metrics)

    def show_system(self, values: Mapping[str, float], step: int) -> None:
        """Send system metrics below `system/`; the client's own are beside them."""
        if self._link is not None:
            self._send("metrics", self._now(), step, {f"system/{name}": value for name, value in values.items()})

    def define_metric(
        self,
        name: str,
        *,
        step_metric: str | None = None,
        summary: Literal["min", "max", "mean", "last", "none"] | None = None,
        hidden: bool = False,
    ) -> None:
        """Say how W&B shows a metric; see `wandb.define_metric`.

        Args:
            name: Name of the metric, or a pattern such as `"val/*"`.
            step_metric: The metric on the x axis; by default the step.
            summary: The value of the run's summary; by default the last.
            hidden: Whether it gets no plot of its own.
        """
        self._send("define", name, step_metric, summary, hidden)

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Log a figure as an image; arguments and errors as in `BasicLogger.log_figure`."""
        self._log_drawn_here(name, figure, step, close=close)

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Log the unchanged bytes of a drawn figure."""
        name, at = self._named_figure(name, rendered, step)
        self._send("figure", self._now(), at, name, rendered.data, rendered.suffix)

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        height, width = image.pixels.shape[:2]
        masks = {
            layer: (str(mask.labels.dtype), mask.labels.tobytes(), {int(k): str(v) for k, v in mask.names.items()})
            for layer, mask in image.masks.items()
        }
        boxes = {
            layer: [(plain(box.corners), int(box.label), str(box.name), plain(box.score)) for box in found]
            for layer, found in image.boxes.items()
        }
        self._send("image", self._now(), step, name, (height, width, image.pixels.tobytes()), masks, boxes)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        rows = [[cell.data if isinstance(cell, RenderedFigure) else plain(cell) for cell in row] for row in table.rows]
        self._send("table", self._now(), step, name, plain(table.columns), rows)

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        nonfinite = (histogram.nan, histogram.nonfinite - histogram.nan)
        self._send("histogram", self._now(), step, name, histogram.counts, histogram.edges, nonfinite)

    def _log_media_file(self, name: str, file: MediaFile, step: int) -> None:
        path = None if file.path is None else str(file.path)
        self._send("file", self._now(), step, name, file.kind, file.suffix, file.data, path)

    def _log_text(self, name: str, text: str, step: int) -> None:
        self._send("text", self._now(), step, name, text)

    def _log_hparams(self, params: dict[str, Any], metrics: dict[str, float], step: int) -> None:
        del step
        self._params |= params
        self._send("hparams", nested(self._params), plain(metrics))


class _ToTracker(logging.Handler):
    """Sends messages to the Logs tab of the run's page."""

    def __init__(self, link: WriterLink) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._link.put(("message", f"{record.levelname} {record.getMessage()}"), count=False)
        except Exception:  # noqa: BLE001 - arguments that don't fit the message: other handlers report them
            return


class _Ending:
    """All that closing a run at W&B needs, also after its logger is gone."""

    def __init__(self, link: WriterLink, attached: Attached, slot: LoggerSlot, log: logging.Logger, mode: str) -> None:
        self._link = link
        self._attached = attached
        self._slot = slot
        self._log = log
        self._mode = mode

    def abandon(self, patience: float) -> None:
        """Close the run of a logger that was never cleaned up; say only what did not arrive."""
        with contextlib.suppress(Exception):
            self._slot.deliver()
        self.end(failure_at_exit(), patience, quiet=True)

    def end(self, failed: str, patience: float, *, quiet: bool = False) -> bool:
        """End the run and report; return whether everything arrived.

        Args:
            failed: The error that ended the run; empty if it succeeded.
            patience: As `WriterLink.finish`.
            quiet: Whether to say nothing of a complete run.
        """
        complete = False
        if failed:
            self._link.put(("message", f"ERROR {failed}"), count=False)
        try:
            complete = self._link.finish(patience, exit_code=int(bool(failed)))
        finally:
            self._report(complete, quiet=quiet)
        return complete

    def _report(self, complete: bool, *, quiet: bool) -> None:
        if complete and not self._slot.dropped:
            if self._mode == "online":
                self._attached.sent()
            elif not quiet:
                self._log.info("W&B was offline; to send this run: %s", self._sync_command())
            return
        lost, export = self._slot.dropped, export_command(self._slot.local_record, WandBLogger.export_target)
        if lost and export:
            self._log.warning("W&B lacks %d records of this run; to send all as a run of its own: %s", lost, export)
        elif lost:
            self._log.warning(
                "W&B lacks %d records of this run, and it has no local record; to send the others: %s",
                lost,
                self._sync_command(),
            )
        else:
            self._log.warning("W&B did not get all of this run; to send the rest: %s", self._sync_command())

    def _sync_command(self) -> str:
        return shlex.join(["wandb", "sync", *map(str, self._attached.unsent())])
