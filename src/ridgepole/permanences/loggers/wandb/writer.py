"""What runs in the process of its own: takes frames from the logger and hands them to the W&B client.

Frames that arrive: `("start", options)` first, then any of the `_ACTIONS` below. Frames that go back: `("ready", info)`
or `("refused", reason)`, `("synced", token, handled)`, `("problem", text)`, `("stop",)` where the run's page asks for
it, `("finished", handled, complete, reason)`.
When the frames end without a `finish`, the process that sent them is gone, and the run is closed as failed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ridgepole.metrics.summary import Summary
from ridgepole.permanences.loggers.wandb import values
from ridgepole.permanences.loggers.wandb.account import DEFAULT_SERVER, without_key
from ridgepole.permanences.loggers.wandb.frames import encode, read_frames, write_all

if TYPE_CHECKING:
    from wandb import Run

CONNECT_SECONDS = 3.0


class Writer:
    """One run at W&B, or off line in its files."""

    def __init__(self, options: Mapping[str, Any], stop: Callable[[], None]) -> None:
        """Starts the run.

        Args:
            options: What the logger wants.
            stop: Is called, on some thread, when the run is to stop; else the client would interrupt this process.

        Raises:
            Exception: Whatever the client raises, or the connection.
        """
        self.handled = 0
        self._summary = Summary()
        self._actions: dict[str, Callable[..., None]] = {
            "metrics": self._metrics,
            "figure": self._figure,
            "image": self._image,
            "table": self._table,
            "histogram": self._histogram,
            "text": self._text,
            "hparams": self._hparams,
            "message": self._message,
        }
        self.run = _started(options, stop)
        self._scratch = Path(tempfile.mkdtemp(prefix="ridgepole-wandb-"))
        self.run.define_metric(values.AXIS, hidden=True)
        self.run.define_metric("*", step_metric=values.AXIS)

    def handle(self, frame: tuple[Any, ...]) -> None:
        """Does what one frame asks for; errors are whatever the client raises."""
        self.handled += frame[0] != "message"
        self._actions[frame[0]](*frame[1:])

    def describe(self) -> dict[str, Any]:
        """What the logger wants to know of the run."""
        import psutil

        directory = Path(self.run.dir).parent
        services = [child.pid for child in psutil.Process().children(recursive=True)]
        offline = bool(self.run.settings.mode in ("offline", "dryrun"))
        return {
            "directory": str(directory),
            "url": None if offline else self.run.url,
            "resumed": bool(self.run.resumed),
            "services": services,
        }

    def write_best(self) -> None:
        """Puts the best value of each metric whose name tells which way is better beside the client's own last ones."""
        best: dict[str, Any] = {}
        for name, entry in self._summary.as_dict().items():
            if entry["best"] is not None:
                best |= {f"best/{name}": entry["best"], f"best/{name}/{values.AXIS}": entry["best_step"]}
        if best:
            self.run.summary.update(best)

    def sync(self) -> None:
        """Returns once the client's service has answered, which it does in order: it has everything before."""
        self.write_best()
        ask = getattr(self.run, "status", None)  # older clients have none
        if ask is not None:
            ask()

    def is_served(self) -> bool:
        """Whether the client's service is alive."""
        import psutil

        children = psutil.Process().children()
        return any(child.status() != psutil.STATUS_ZOMBIE for child in children)

    def finish(self, exit_code: int) -> None:
        """Ends the run.

        Raises:
            TimeoutError: If not everything was sent in the time given at the start; it is in the run's files.
        """
        try:
            self.write_best()
            self.run.finish(exit_code=exit_code)
        finally:
            with contextlib.suppress(OSError):
                self._scratch.rmdir()

    # -- actions -----------------------------------------------------------------------------------------------------

    def _put(self, at: float, step: int, record: dict[str, Any]) -> None:
        # Never the client's own `step=`: it drops what is lower than the last one.
        self.run.log(record | {values.AXIS: step, "_timestamp": at})

    def _metrics(self, at: float, step: int, metrics: dict[str, Any]) -> None:
        self._put(at, step, {values.metric_key(name): values.metric_value(x) for name, x in metrics.items()})
        self._summary.update(metrics, step)

    def _figure(self, at: float, step: int, name: str, data: bytes, suffix: str) -> None:
        scratch = self._scratch / "figure"
        try:
            self._put(at, step, {values.media_key(name): values.figure(name, data, suffix, scratch)})
        finally:
            scratch.with_suffix(suffix).unlink(missing_ok=True)

    def _image(self, at: float, step: int, name: str, pixels: Any, masks: Any, boxes: Any) -> None:
        self._put(at, step, {values.media_key(name): values.image(name, pixels, masks, boxes)})

    def _table(self, at: float, step: int, name: str, columns: Any, rows: Any) -> None:
        self._put(at, step, {values.media_key(name): values.table(columns, rows)})

    def _histogram(self, at: float, step: int, name: str, counts: Any, edges: Any) -> None:
        self._put(at, step, {values.metric_key(name): values.histogram(counts, edges)})

    def _text(self, at: float, step: int, name: str, content: str) -> None:
        self._put(at, step, {values.media_key(name): values.text(content)})

    def _hparams(self, params: dict[str, Any], metrics: dict[str, float]) -> None:
        self.run.config.update(params, allow_val_change=True)  # type: ignore[no-untyped-call]
        if metrics:
            self.run.summary.update({values.metric_key(name): value for name, value in metrics.items()})

    def _message(self, text: str) -> None:
        write = getattr(self.run, "write_logs", None)  # older clients have none
        if write is not None:
            write(text)


def _started(options: Mapping[str, Any], stop: Callable[[], None]) -> Run:
    import wandb

    online = options["mode"] == "online"
    if online:
        check_server()
    wanted = {
        "silent": True,
        "console": "off",
        "symlink": False,
        "init_timeout": max(0.5, options["init_deadline"] - time.monotonic()),
        "finish_timeout": options["finish_seconds"],
        "finish_timeout_raises": True,
        "x_transaction_log_flush_interval": options["flush_seconds"],
        "x_stats_pid": options["pid"],
        "use_dot_wandb": False,
        "disable_code": True,
        "stop_fn": stop,
        **options["program"],
    }
    known = getattr(wandb.Settings, "model_fields", wanted)
    settings = wandb.Settings(**{name: value for name, value in wanted.items() if name in known})
    return wandb.init(
        mode=options["mode"],
        dir=options["root"],
        id=options["id"],
        resume="allow" if online else None,  # off line the client can't know, and says so each time
        project=options["project"],
        entity=options["entity"],
        name=options["name"],
        tags=options["tags"],
        notes=options["notes"],
        config=options["config"],
        settings=settings,
    )


def check_server() -> None:
    """Finds out in a moment what the client would find out by trying again and again.

    Raises:
        OSError: If nobody answers at the server's port. One that is slow, or behind a proxy, is left to the client.
    """
    import wandb

    parts = urlsplit(os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url or DEFAULT_SERVER)
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"))
    if proxied or not parts.hostname:
        return
    with contextlib.suppress(TimeoutError):
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()


def _said(error: BaseException) -> str:
    return without_key(f"{type(error).__name__}: {error}".strip().rstrip(":"))


def main() -> None:
    """The process: frames come in on what was standard input, and go out on what was standard output."""
    frames, replies = read_frames(0), os.dup(1)
    os.dup2(2, 1)  # whatever the client prints goes to its own file, and never between the replies
    lock = threading.Lock()

    def reply(*frame: Any) -> None:
        with lock, contextlib.suppress(OSError):
            write_all(replies, encode(frame))

    options: Mapping[str, Any] = next(frames, ("start", {}))[1]
    if not options:
        return
    try:
        writer = Writer(options, lambda: reply("stop"))
    except BaseException as error:  # noqa: BLE001 - the client exits in some cases; all of them are told
        reply("refused", _said(error))
        return
    reply("ready", writer.describe())
    for frame in frames:
        try:
            if frame[0] == "sync":
                writer.sync()
                reply("synced", frame[1], writer.handled)
            elif frame[0] == "finish":
                reply("finished", *_finished(writer, frame[1]))
                return
            else:
                writer.handle(frame)
        except Exception as error:  # noqa: BLE001 - one record that the client refuses; the others go on
            reply("problem", _said(error))
            if isinstance(error, ConnectionError) and not writer.is_served():
                return
    _close_alone(writer, float(options["finish_seconds"]))


def _finished(writer: Writer, exit_code: int) -> tuple[int, bool, str]:
    try:
        writer.finish(exit_code)
    except BaseException as error:  # noqa: BLE001 - told, and the process ends anyway
        return writer.handled, False, _said(error)
    return writer.handled, True, ""


def _close_alone(writer: Writer, seconds: float) -> None:
    """Ends the run of a process that was killed; nobody is left who could end this one if it hangs."""
    watchdog = threading.Timer(seconds + 5, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    with contextlib.suppress(BaseException):
        writer.finish(1)
    sys.stderr.flush()
