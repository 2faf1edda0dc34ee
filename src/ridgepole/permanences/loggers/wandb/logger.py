"""Weights & Biases as one of a run's loggers."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ridgepole.errors import RunDirError, TrackerError, TrialPruned
from ridgepole.metrics.steps import Metrics
from ridgepole.permanence import State, Stoppable, run_of, state_of
from ridgepole.permanences.loggers.base import BaseLoggerManager, slot_of
from ridgepole.permanences.loggers.figures.names import checked_name
from ridgepole.permanences.loggers.figures.render import Rendered
from ridgepole.permanences.loggers.figures.render import close as close_figure
from ridgepole.permanences.loggers.messages import FileHandler, checked_level, detach, make_log
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Histogram, Table
from ridgepole.permanences.loggers.wandb.account import check_client, check_key, checked_mode
from ridgepole.permanences.loggers.wandb.attached import Attached
from ridgepole.permanences.loggers.wandb.link import FLUSH_SECONDS, Link
from ridgepole.permanences.loggers.wandb.plain import plain

PATIENCE = 30.0  # seconds for `initialize`, and as many for `cleanup`
DEFAULT_DIR = "logs"
OUTPUT = "client.log"


class WandBLogger(BaseLoggerManager):
    """Weights & Biases logger backend, on line or off line.

    The client runs in a process of its own and never holds up or stops the run: not when the server is down, answers
    with errors or hangs. Its files stand in `wandb/` of the run directory (in a plain script: of `WANDB_DIR`, else of
    `logs`). Every step is kept, in whatever order: `step` is a metric like any other, and the axis of all of them.

    A run that is resumed goes on with the same run at W&B. One that is stopped on its page there stops at its next
    tick, with a checkpoint.

    Args:
        project: Project at W&B; `WANDB_PROJECT`, else the name of the pipeline.
        entity: User or team; that of `WANDB_ENTITY` or of the account where left out.
        name: Name of the run; `WANDB_NAME`, else the run id.
        tags: Short words for the run.
        notes: A longer description.
        count: How many trials an agent of a sweep at W&B runs.
        log_level: The least level of messages that is shown and kept: DEBUG, INFO, WARNING or ERROR.
        log_file: Name of a file of messages in `wandb/`. None keeps none: the local record has one, and the messages
            stand on the run's page, under Logs.
        mode: `"online"`, `"offline"` (files alone, for `wandb sync`) or `"disabled"`; `WANDB_MODE`, else online.
        strict: Whether a server that can't be reached, or a client that fails, is an error. Else there is one warning.

    Raises:
        ValueError: If `mode`, `count`, a tag, the level or the file name is none.
        TypeError: If `tags` is no sequence of texts.
    """

    _patience: ClassVar[float] = PATIENCE
    _online_share: ClassVar[float] = 0.6  # of the patience; an off-line start after it takes the rest

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
    ) -> None:
        if mode is not None:
            checked_mode(mode)
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if log_file is not None and (not log_file or log_file != Path(log_file).name or "\0" in log_file):
            raise ValueError(f"log_file must be the plain name of a file in wandb/, not {log_file!r}")
        checked_level(log_level)
        self.project = project
        self.entity = entity
        self.name = name
        self.tags = _checked_tags(tags)
        self.notes = notes
        self.count = count
        self.mode = mode
        self.strict = strict
        self._log_level = log_level
        self._log_file = log_file
        self._link: Link | None = None
        self._ended: Link | None = None  # for `get_state` after the clean-up
        self._attached: Attached | None = None
        self._finalizer: weakref.finalize[..., WandBLogger] | None = None
        self._home = os.getpid()  # forked children and copies in other processes write nothing
        self._live_mode = "disabled"
        self._wall_time: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_link": None, "_ended": None, "_finalizer": None, "_home": -1}

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Starts the run at W&B, or off line where it can't be reached; gives up after 30 s.

        Raises:
            MissingExtraError: If the client is not installed.
            TrackerError: If there is no key for the server and the mode is online; with `strict` also if the server
                can't be reached.
            ValueError: If `WANDB_MODE` is no mode.
            RunDirError: If the directory can't be made.
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
        self._attached = Attached(folder, run_of(self))
        self._connect(mode, deadline)

    def _connect(self, mode: str, deadline: float) -> None:
        attached = self._attached
        assert attached is not None
        before = attached.folders()
        try:
            self._start(mode, deadline)
        except TrackerError as error:
            attached.remove_since(before)
            if self.strict:
                what = "the server can't be reached" if mode == "online" else "the client can't be started"
                raise TrackerError(f"W&B: {what}: {error}; mode='offline' logs without it") from error
            if mode == "online":
                self.warning("W&B can't be reached, so this run is logged off line: %s", error)
                self._connect("offline", deadline)
                return
            slot_of(self).dropped += 1
            self.warning("W&B is switched off for this run, its client can't be started: %s", error)

    def _start(self, mode: str, deadline: float) -> None:
        attached = self._attached
        assert attached is not None
        asked = weakref.WeakMethod(self._asked_to_stop)  # the link outlives a logger that nobody cleans up
        link = Link(self._log(), slot_of(self), lambda: (stop := asked()) and stop())
        left = deadline - time.monotonic()
        share = left * self._online_share if mode == "online" else left
        link.start(self._options(mode, attached.id, share), time.monotonic() + share, attached.folder / OUTPUT)
        self._live_mode = mode
        self._link = link
        attached.add(Path(link.info["directory"]))
        self._log().addHandler(_ToTracker(link))
        # A logger that nobody cleans up: the run is closed when it, or the interpreter, goes.
        self._finalizer = weakref.finalize(self, link.finish, self._patience)

    def _asked_to_stop(self) -> None:
        """The run's page asks for it, or the server of the sweep that the run belongs to: a trial is pruned then."""
        run: object = run_of(self)
        if not isinstance(run, Stoppable):
            return
        swept = "WANDB_SWEEP_ID" in os.environ
        self.info("W&B asks this run to stop; it does so at its next tick")
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
            "project": self.project or os.environ.get("WANDB_PROJECT") or named,
            "entity": self.entity,
            "name": self.name or os.environ.get("WANDB_NAME") or (run.run_id if run is not None else None),
            "tags": list(self.tags) if self.tags is not None else None,
            "notes": self.notes,
            "config": config,
            # By the monotonic clock, which both processes share; the client is to give up before it is given up on.
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
        """Checks that the client is installed, the mode is one, and there is a key unless off line. Asks no server.

        Raises:
            MissingExtraError: If the client is not installed.
            TrackerError: If there is no key.
            ValueError: If `WANDB_MODE` is no mode.
        """
        self._check()

    def checkpoint(self) -> None:
        """Waits, up to 30 s, until the client has everything logged so far."""
        self.flush(durable=True)

    def flush(self, durable: bool = False) -> None:
        """Waits until the client has everything logged so far; 30 s at most, and not at all after it failed to.

        Args:
            durable: Makes no difference: the client's file is brought up to date every second.
        """
        del durable
        if self._link is not None:
            self._link.sync(self._patience)

    def cleanup(self) -> None:
        """Ends the run at W&B; gives up after 30 s. Says how to send what was not sent.

        Raises:
            TrackerError: If `strict` is set and not everything arrived.
        """
        link, self._link, self._ended = self._link, None, self._link
        complete = True
        try:
            if link is not None and os.getpid() == self._home:
                if self._finalizer is not None:
                    self._finalizer.detach()
                run = run_of(self)
                complete = link.finish(self._patience, exit_code=int(run is not None and run.failed))
                self._say_how_to_send(complete)
        finally:
            log = self._log()
            for handler in [handler for handler in log.handlers if isinstance(handler, _ToTracker)]:
                log.removeHandler(handler)
            detach(log)
        if self.strict and not complete:
            raise TrackerError("W&B did not get all of this run; `wandb sync` sends what is missing")

    def _say_how_to_send(self, complete: bool) -> None:
        attached = self._attached
        assert attached is not None
        if complete and self._live_mode == "online":
            attached.sent()
            return
        command = shlex.join(["wandb", "sync", *map(str, attached.unsent())])
        if complete:
            self.info("W&B was off line; to send this run: %s", command)
        else:
            self.warning("W&B did not get all of this run; to send the rest: %s", command)

    def get_state(self) -> dict[str, Any]:
        """The run's id at W&B, how and where it is logged, its step, and what it has counted."""
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
        """W&B's own sweeps where this logger is on line, in its project; see `BaseLoggerManager.sweep_service`."""
        begun = self._link is not None or state_of(self) is State.READY
        if (self._live_mode if begun else checked_mode(self.mode)) != "online":
            return {}
        return {"executor": "wandb", "project": self.project, "entity": self.entity, "count": self.count}

    def _send(self, *frame: Any) -> None:
        link = self._opened()
        if link is None:
            slot_of(self).dropped += self._live_mode != "disabled"
        elif not link.put(frame) and self.strict:
            raise TrackerError(f"W&B: a record was dropped: {link.gone or 'the client does not keep up'}")

    def _opened(self) -> Link | None:
        """The link; a logger that was never initialised is now. None where there is nothing to write to."""
        if self._link is None and state_of(self) in (State.CONSTRUCTED, State.CLOSED) and os.getpid() == self._home:
            with slot_of(self).lock:
                if self._link is None:
                    self.initialize()
        return self._link

    def set_wall_time(self, seconds: float | None) -> None:
        """Sets the time of the records that follow: for a replay of what was logged before.

        Args:
            seconds: Seconds since the epoch; None for the clock.
        """
        self._wall_time = seconds

    def _now(self) -> float:
        return time.time() if self._wall_time is None else self._wall_time

    # -- what is logged ----------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Logs metrics; the client gets them in a moment, and the caller does not wait for it.

        Args:
            metrics: As in `BaseLoggerManager.log_metrics`.
            step: As in `BaseLoggerManager.log_metrics`.

        Raises:
            TypeError: If a value can't be logged; it names the key, and nothing is logged.
            ValueError: If names collide once flattened, or the step is negative.
            TrackerError: With `strict`, if the record was dropped.
        """
        self._opened()
        now = self._now()
        for row in self.resolve(metrics, step).plan.rows:
            self._send("metrics", now, row.step, row.metrics)

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Draws a figure and logs it as an image.

        Args:
            name: Any text; the figure's caption, and as far as W&B can bear it its name there.
            figure: As in `BasicLogger.log_figure`.
            step: The step that it belongs to; that of the latest metrics where left out.
            close: Whether pyplot is to forget the figure afterwards.

        Raises:
            TypeError: If the name is no text, or the figure of an unknown type.
            ValueError: If an array has a shape that is no image.
        """
        checked_name(name)
        try:
            rendered = self._draw(name, figure)
            if rendered is not None:
                self.log_rendered(name, rendered, step=step)
        finally:
            if close:
                close_figure(figure)

    def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None:
        """Logs a figure that was drawn already, its bytes as they are."""
        checked_name(name)
        at = self.last_step if step is None else step
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
        self._send("table", self._now(), step, name, plain(table.columns), plain(table.rows))

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        if histogram.counts:
            self._send("histogram", self._now(), step, name, histogram.counts, histogram.edges)

    def _log_text(self, name: str, text: str, step: int) -> None:
        self._send("text", self._now(), step, name, text)

    def _log_hparams(self, params: dict[str, Any], metrics: dict[str, float]) -> None:
        self._send("hparams", plain(params), plain(metrics))

    def _log(self) -> logging.Logger:
        slot = slot_of(self)
        with slot.lock:
            if slot.log is None:
                slot.log = make_log(f"ridgepole.{type(self).__name__}", self._log_level)
            return slot.log


class _ToTracker(logging.Handler):
    """Sends messages to the Logs tab of the run's page."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._link.put(("message", f"{record.levelname} {record.getMessage()}"), count=False)
        except Exception:  # noqa: BLE001 - arguments that don't fit the message: the other handlers say so
            return


def _checked_tags(tags: Sequence[str] | None) -> tuple[str, ...] | None:
    if tags is None:
        return None
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError(f"tags must be a list of texts, such as ['baseline'], not {tags!r}")
    for tag in tags:
        if not 1 <= len(tag) <= 64:
            raise ValueError(f"a tag at W&B has 1 to 64 characters, not {len(tag)}: {tag[:70]!r}")
    return tuple(tags)
