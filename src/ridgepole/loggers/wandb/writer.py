"""The program of the writer's process: passes frames from the logger to the W&B client.

Frames that arrive: `("start", options)` first, then the actions of `Writer`, `("sync", token)` and
`("finish", exit_code)`. Frames that go back: `("ready", info)` or `("refused", reason, by its id)`,
`("synced", token, handled)`, `("handled", count)` several times a second while frames arrive,
`("problem", text)`, `("stop",)` if the run's page asks for it, and at the end
`("finishing", handled)` and `("finished", handled, complete, reason)`. If the frames end without a
`finish`, the logger's process has ended; the run is then closed as failed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ridgepole.loggers.wandb import values
from ridgepole.loggers.wandb.account import DEFAULT_SERVER, error_line
from ridgepole.loggers.wandb.frames import encode, merged, read_frames, write_all
from ridgepole.metrics.summary import Summary

if TYPE_CHECKING:
    from wandb import Run, Settings

CONNECT_SECONDS = 3.0
BROKEN = 500  # the least HTTP status of a server that fails
TELL_SECONDS = 0.25  # between two signs that this process works


class Writer:
    """One run at W&B, or offline in its files."""

    def __init__(self, options: Mapping[str, Any], stop: Callable[[], None]) -> None:
        """Start the run."""
        self.handled = 0
        self._summary = Summary()
        self._actions: dict[str, Callable[..., None]] = {
            "metrics": self._metrics,
            "figure": self._figure,
            "image": self._image,
            "table": self._table,
            "histogram": self._histogram,
            "text": self._text,
            "file": self._file,
            "hparams": self._hparams,
            "message": self._message,
            "define": self._define,
        }
        self.run = _started(options, stop)
        self._scratch = Path(tempfile.mkdtemp(prefix="ridgepole-wandb-"))
        self.run.define_metric(values.AXIS, hidden=True)
        self.run.define_metric("*", step_metric=values.AXIS)

    def handle(self, frame: tuple[Any, ...]) -> None:
        """Apply one frame; raise errors of the client."""
        self.handled += frame[0] != "message"
        self._actions[frame[0]](*frame[1:])

    def describe(self) -> dict[str, Any]:
        """Return the facts about the run that the logger needs."""
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
        """Add the best values to the summary, for metrics whose names tell which way is better."""
        best: dict[str, Any] = {}
        for name, entry in self._summary.as_dict().items():
            if entry["best"] is not None:
                best |= {f"best/{name}": entry["best"], f"best/{name}/{values.AXIS}": entry["best_step"]}
        if best:
            self.run.summary.update(best)

    def sync(self) -> None:
        """Wait for an answer of the client's service, which handles everything in order."""
        self.write_best()
        ask = getattr(self.run, "status", None)  # older clients have none
        if ask is not None:
            ask()

    def is_served(self) -> bool:
        """Tell whether the client's service is alive."""
        import psutil

        children = psutil.Process().children()
        return any(child.status() != psutil.STATUS_ZOMBIE for child in children)

    def finish(self, exit_code: int) -> None:
        """End the run."""
        try:
            self.write_best()
            self.run.finish(exit_code=exit_code)
        finally:
            with contextlib.suppress(OSError):
                self._scratch.rmdir()

    # -- actions -----------------------------------------------------------------------------------

    def _put(self, at: float, step: int, record: dict[str, Any]) -> None:
        # Not the client's own `step=`: it drops records with a lower step than the last.
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

    def _histogram(self, at: float, step: int, name: str, counts: Any, edges: Any, nonfinite: tuple[int, int]) -> None:
        row = {values.metric_key(name): values.histogram(counts, edges)} if counts else {}
        if any(nonfinite) or not counts:
            row |= dict(zip((f"{name}/nan", f"{name}/inf"), nonfinite, strict=True))
        self._put(at, step, row)

    def _text(self, at: float, step: int, name: str, content: str) -> None:
        self._put(at, step, {values.media_key(name): values.text(content)})

    def _file(
        self, at: float, step: int, name: str, kind: str, suffix: str, data: bytes | None, path: str | None
    ) -> None:
        scratch = self._scratch / f"file{suffix}"
        try:
            if data is not None:
                scratch.write_bytes(data)
            file = str(scratch) if data is not None else str(path)
            shown = values.file(name, kind, file)
            if shown is None:
                self.run.log_artifact(values.artifact(name, file))
            else:
                self._put(at, step, {values.media_key(name): shown})
        finally:
            scratch.unlink(missing_ok=True)

    def _hparams(self, params: dict[str, Any], metrics: dict[str, float]) -> None:
        config: Any = self.run.config  # whose methods have no types
        config.update({name: merged(config.get(name), value) for name, value in params.items()}, allow_val_change=True)
        if metrics:
            self.run.summary.update({values.metric_key(name): value for name, value in metrics.items()})

    def _define(self, name: str, axis: str | None, summary: str | None, hidden: bool) -> None:
        axis = values.AXIS if axis is None else values.metric_key(axis)
        self.run.define_metric(values.metric_key(name), step_metric=axis, summary=summary, hidden=hidden)

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
    return wandb.init(
        mode=options["mode"],
        dir=options["root"],
        id=options["id"],
        resume=options["resume"] if online else None,  # offline the client warns that it can't resume
        group=options["group"],
        job_type=options["job_type"],
        project=options["project"],
        entity=options["entity"],
        name=options["name"],
        tags=options["tags"],
        notes=options["notes"],
        config=options["config"],
        settings=settings_of(wanted),
    )


def settings_of(wanted: Mapping[str, Any]) -> Settings:
    """Return the client's settings that its version knows."""
    import wandb

    known = getattr(wandb.Settings, "model_fields", wanted)
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in known})


def check_server() -> None:
    """Ask the server once, and again for a few seconds if it fails; the client retries for long.

    Raises:
        OSError: If the server's port refuses connections, or the server answers each time that it
            is broken. A slow server or a proxy is left to the client.
    """
    import wandb

    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url or DEFAULT_SERVER
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"))
    parts = urlsplit(server)
    if proxied or not parts.hostname:
        return
    kind = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
    deadline = time.monotonic() + CONNECT_SECONDS
    while answer := _failure_of(kind(parts.hostname, parts.port, timeout=CONNECT_SECONDS), parts.path):
        if time.monotonic() >= deadline:
            raise ConnectionError(f"{server} answers {answer}")
        time.sleep(CONNECT_SECONDS / 4)


def _failure_of(connection: http.client.HTTPConnection, path: str) -> str:
    """Return what a broken server answers; empty if it works, or only the client can tell."""
    with contextlib.closing(connection), contextlib.suppress(TimeoutError, ssl.SSLError, http.client.HTTPException):
        connection.connect()
        query = json.dumps({"query": "query Viewer { viewer { id } }", "variables": {}})
        connection.request("POST", f"{path.rstrip('/')}/graphql", query, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status >= BROKEN:
            return f"{answer.status} {' '.join(answer.read(300).decode('utf-8', 'replace').split())}"
    return ""


def main() -> None:
    """Run the process: frames come in on standard input and go out on standard output."""
    frames, replies = read_frames(0), os.dup(1)
    os.dup2(2, 1)  # the client's output goes to its own file, not between the replies
    lock = threading.Lock()

    def reply(*frame: Any) -> None:
        with lock, contextlib.suppress(OSError):
            write_all(replies, encode(frame))

    options: Mapping[str, Any] = next(frames, ("start", {}))[1]
    if not options:
        return
    try:
        writer = Writer(options, lambda: reply("stop"))
    except BaseException as error:  # noqa: BLE001 - the client exits in some cases
        reply("refused", error_line(error), type(error).__name__ == "UsageError" and options["resume"] != "allow")
        return
    reply("ready", writer.describe())
    told = time.monotonic()
    for frame in frames:
        if time.monotonic() - told > TELL_SECONDS:
            reply("handled", writer.handled)
            told = time.monotonic()
        try:
            if frame[0] == "sync":
                writer.sync()
                reply("synced", frame[1], writer.handled)
            elif frame[0] == "finish":
                reply("finishing", writer.handled)
                reply("finished", *_finished(writer, frame[1]))
                return
            else:
                writer.handle(frame)
        except Exception as error:  # noqa: BLE001 - only this record is refused
            reply("problem", error_line(error))
            if isinstance(error, ConnectionError) and not writer.is_served():
                return
    _close_alone(writer, float(options["finish_seconds"]))


def _finished(writer: Writer, exit_code: int) -> tuple[int, bool, str]:
    try:
        writer.finish(exit_code)
    except BaseException as error:  # noqa: BLE001 - reported; the process ends anyway
        return writer.handled, False, error_line(error)
    return writer.handled, True, ""


def _close_alone(writer: Writer, seconds: float) -> None:
    """End the run of a killed process, with a watchdog in case the client hangs."""
    watchdog = threading.Timer(seconds + 5, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    with contextlib.suppress(BaseException):
        writer.finish(1)
    sys.stderr.flush()
