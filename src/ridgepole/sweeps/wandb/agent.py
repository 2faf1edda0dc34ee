"""What runs in a process of its own: the client's `wandb.sweep` and `wandb.agent`, which leave nothing in ours.

Lines of JSON arrive on standard input: an order first, `{"sweep": config}`, `{"agent": path}` or `{"run": environ}`;
then for the trial that goes on `{"log": {name: value}}`, and `{"end": exit code, "last": whether to hold the agent}`.
Lines that go back: `{"created": {"path", "app"}}`, `{"trial": {"id", "args", "environ"}}`, `{"stop": id}`,
`{"done": id}`, `{"problem": text}`, `{"away": why}` where W&B is out of reach, `{"failed": why}`, `{"over": ""}`.
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

from ridgepole.permanences.loggers.wandb.account import without_key
from ridgepole.permanences.loggers.wandb.writer import check_server

ENVIRON = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_ENTITY", "WANDB_PROJECT")
"""What the client's agent sets for the run of a trial."""

_TURN = 0.2
"""Seconds between two moments at which a thread that waits notices that the agent wants it to stop."""


def main() -> None:
    """The process. It ends when its orders do: whoever gave them is gone then."""
    lines = _Lines()
    order = lines.next()
    if order is None:
        return
    try:
        check_server()
        if "sweep" in order:
            lines.say(created=_created(order))
        elif "agent" in order:
            _serve(order["agent"], lines)
            lines.say(over="")
        else:
            os.environ.update(order["run"])
            _Trial(lines).follow()
            lines.say(done=order["run"]["WANDB_RUN_ID"])
    except BaseException as error:  # noqa: BLE001 - the client exits in some cases; all of them are told
        lines.say(**{"away" if _is_away(error) else "failed": _said(error)})


def _is_away(error: BaseException) -> bool:
    """Whether an error means that the server is out of reach or out of order, and not that it refuses."""
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
    """Lets W&B's agent choose trials until it has no further one."""
    import wandb

    def hook(failed: threading.ExceptHookArgs) -> None:
        # The client's heartbeat has ended: no word from the server will ever come.
        lines.say(failed=_said(failed.exc_value or RuntimeError("the agent has failed")))
        os._exit(1)

    threading.excepthook = hook
    wandb.agent(path, function=lambda: _trial(lines))


def _trial(lines: _Lines) -> None:
    """One trial, seen from the agent: it is told to the driver, and lasts until the driver says how it ended."""
    run_id = os.environ["WANDB_RUN_ID"]
    environ = {name: os.environ[name] for name in ENVIRON if name in os.environ}
    trial, told = _Trial(lines), False
    while True:
        try:
            if not told:
                lines.say(trial={"id": run_id, "args": _arguments(), "environ": environ})
                told = True
            trial.follow()
            break
        except Exception as error:
            if type(error) is not Exception:  # a bare one is what the agent throws in here for a run that is to stop
                raise
            lines.say(stop=run_id)
    lines.say(done=run_id)
    while trial.last:  # the agent would ask for a further one; it is ended here
        lines.next()


def _arguments() -> dict[str, Any]:
    """The parameters of a trial, as the client hands them to a run."""
    import yaml

    table = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text(encoding="utf-8"))
    return {key: entry["value"] for key, entry in table.items() if isinstance(entry, dict) and "value" in entry}


class _Trial:
    """The run at W&B of a trial that no other client logs: begun with the first value, or at its end.

    The client is called on a thread of its own. The agent stops a run by throwing an exception into the thread that
    follows it, wherever that is: within the client it would be swallowed, or break the client.
    """

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._calls = ThreadPoolExecutor(1, "ridgepole-client")
        self._ending: Future[None] | None = None
        self._run: Any = None
        self.last = False

    def follow(self) -> None:
        """Does what the driver says of the trial, until it has ended. May be called again after an exception."""
        while self._ending is None:
            order = self._lines.next(_TURN) or {}
            if "log" in order:
                self._calls.submit(self._log, order["log"])
            elif "end" in order:
                self.last = bool(order.get("last"))
                self._ending = self._calls.submit(self._end, order["end"])
        while not self._ending.done():
            wait([self._ending], _TURN)

    def _log(self, values: Mapping[str, Any]) -> None:
        with self._guarded():
            self._begun().log(values)

    def _end(self, code: int | None) -> None:
        if code is not None:
            with self._guarded():
                self._begun().finish(exit_code=code)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """W&B's own troubles are told, and never those of the trial."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever the client raises
            self._lines.say(problem=_said(error))

    def _begun(self) -> Any:
        import wandb

        if self._run is None:
            run_id = os.environ["WANDB_RUN_ID"]
            wanted: dict[str, Any] = {"silent": True, "console": "off", "stop_fn": lambda: self._lines.say(stop=run_id)}
            known = getattr(wandb.Settings, "model_fields", wanted)
            settings = wandb.Settings(**{name: value for name, value in wanted.items() if name in known})
            self._run = wandb.init(resume="allow", settings=settings)
        return self._run


class _Lines:
    """The way to the driver and back."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._lock = threading.Lock()
        os.dup2(2, 1)  # whatever the client prints goes to the agent's file, and never between the lines
        threading.Thread(target=self._read, args=(os.fdopen(os.dup(0), encoding="utf-8"),), daemon=True).start()

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next order; None where there is none in time."""
        try:
            return self._orders.get(timeout=timeout)
        except queue.Empty:
            return None

    def say(self, **line: Any) -> None:
        """Says something."""
        with self._lock, contextlib.suppress(OSError):
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._orders.put(json.loads(line))
        os._exit(0)  # the driver is gone, and what the agent was asked for with it


def _said(error: BaseException) -> str:
    return without_key(f"{type(error).__name__}: {error}".strip().rstrip(":"))
