"""The process of W&B's client, which runs `wandb.sweep` and `wandb.agent`.

Orders arrive on standard input as lines of JSON:

- First `{"sweep": config}`, `{"agent": path}` or `{"run": environ}`. A process that has created a
  sweep waits for `{"agent": path}`, which saves the start of another one.
- Then for the running trial `{"log": {name: value}}`, and `{"end": exit code, "last": hold agent}`.

Messages go back in the same way: `{"created": {"path", "app"}}`,
`{"trial": {"id", "args", "environ"}}`, `{"stop": id}`, `{"done": id}`, `{"problem": text}`,
`{"away": why}` if W&B is unreachable, `{"failed": why}`, `{"over": ""}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ridgepole.loggers.wandb.account import error_line
from ridgepole.loggers.wandb.writer import check_server, settings_of

ENVIRON = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_ENTITY", "WANDB_PROJECT")
"""Variables that the client's agent sets for the run of a trial."""

_POLL_SECONDS = 0.2  # time in which a waiting thread notices that the agent wants it to stop


def main() -> None:
    """Run the process; it ends when its standard input does, as the driver has died then."""
    lines = _Lines()
    order = lines.next()
    if order is None:
        return
    try:
        check_server()
        if "sweep" in order:
            lines.send(created=_created(order))
            order = lines.next() or {}
        if "agent" in order:
            _serve(order["agent"], lines)
            lines.send(over="")
        elif "run" in order:
            os.environ.update(order["run"])
            _Trial(lines).follow()
            lines.send(done=order["run"]["WANDB_RUN_ID"])
    except BaseException as error:  # noqa: BLE001 - the client even exits in some cases
        lines.send(**{"away" if _is_away(error) else "failed": error_line(error)})


def _is_away(error: BaseException) -> bool:
    """Return whether the server is unreachable or broken, instead of refusing."""
    import wandb

    while error.__cause__ is not None and not hasattr(error, "response"):
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "http_status", None)
    if status is not None:
        return bool(status >= 500 or status in (408, 429))
    return isinstance(error, OSError | wandb.errors.CommError) or type(error).__name__ == "WandbApiFailedError"


def _created(order: Mapping[str, Any]) -> dict[str, Any]:
    import wandb

    name = wandb.sweep(order["sweep"], entity=order.get("entity"), project=order.get("project"))
    path = "/".join(part for part in (os.environ.get("WANDB_ENTITY"), os.environ.get("WANDB_PROJECT"), name) if part)
    return {"path": path, "app": wandb.setup().settings.app_url}


def _serve(path: str, lines: _Lines) -> None:
    """Let W&B's agent choose trials until it has no further one."""
    import wandb

    def hook(failed: threading.ExceptHookArgs) -> None:
        # The client's heartbeat has ended: no message from the server will arrive.
        lines.send(failed=error_line(failed.exc_value or RuntimeError("the agent has failed")))
        os._exit(1)

    threading.excepthook = hook
    wandb.agent(path, function=lambda: _trial(lines))


def _trial(lines: _Lines) -> None:
    """Announce a trial of the agent, and follow it until the driver ends it."""
    run_id = os.environ["WANDB_RUN_ID"]
    environ = {name: os.environ[name] for name in ENVIRON if name in os.environ}
    trial, announced = _Trial(lines), False
    while True:
        try:
            if not announced:
                lines.send(trial={"id": run_id, "args": _arguments(), "environ": environ})
                announced = True
            trial.follow()
            break
        except Exception as error:
            # The agent throws a bare one in here for a run that is to stop
            if type(error) is not Exception:
                raise
            lines.send(stop=run_id)
    lines.send(done=run_id)
    while trial.last:  # the agent would ask for a further one
        lines.next()


def _arguments() -> dict[str, Any]:
    """Return the parameters of a trial, as the client passes them to a run."""
    import yaml

    table = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text(encoding="utf-8"))
    return {key: entry["value"] for key, entry in table.items() if isinstance(entry, dict) and "value" in entry}


class _Trial:
    """The run of a trial that no other client logs: begun with its first value, or at its end.

    The client is called on a thread of its own. The agent stops a run by throwing an exception into
    the thread that follows it. Within the client it would be swallowed, or break the client.
    """

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._calls = ThreadPoolExecutor(1, "ridgepole-client")
        self._ending: Future[None] | None = None
        self._run: Any = None
        self.last = False

    def follow(self) -> None:
        """Obey orders until the trial has ended. May be called again after an exception."""
        while self._ending is None:
            order = self._lines.next(_POLL_SECONDS) or {}
            if "log" in order:
                self._calls.submit(self._log, order["log"])
            elif "end" in order:
                self.last = bool(order.get("last"))
                self._ending = self._calls.submit(self._end, order["end"])
        while not self._ending.done():
            wait([self._ending], _POLL_SECONDS)

    def _log(self, values: Mapping[str, Any]) -> None:
        with self._guarded():
            self._begun().log(values)

    def _end(self, code: int | None) -> None:
        if code is not None:
            with self._guarded():
                self._begun().finish(exit_code=code)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Report W&B's own errors, which are not the trial's."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever the client raises
            self._lines.send(problem=error_line(error))

    def _begun(self) -> Any:
        import wandb

        if self._run is None:
            run_id = os.environ["WANDB_RUN_ID"]
            wanted = {"silent": True, "console": "off", "stop_fn": lambda: self._lines.send(stop=run_id)}
            self._run = wandb.init(resume="allow", settings=settings_of(wanted))
        return self._run


class _Lines:
    """Lines from the driver and to it."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._lock = threading.Lock()
        os.dup2(2, 1)  # the client's output goes to the agent's file, not between the lines
        threading.Thread(target=self._read, args=(os.fdopen(os.dup(0), encoding="utf-8"),), daemon=True).start()

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the next order; None if it does not arrive in time."""
        try:
            return self._orders.get(timeout=timeout)
        except queue.Empty:
            return None

    def send(self, **line: Any) -> None:
        """Send a message."""
        with self._lock, contextlib.suppress(OSError):
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._orders.put(json.loads(line))
        os._exit(0)  # the driver has died
