"""Run a function that was written for `wandb.agent` as a trial, without W&B's service."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ridgepole.errors import TrackerError
from ridgepole.files import write_atomically
from ridgepole.loggers.wandb.account import check_key
from ridgepole.sweeps.run.environ import scoped_environ
from ridgepole.sweeps.run.trial import Trial
from ridgepole.sweeps.sweepdir import SweepDir


def uses_wandb(function: Callable[..., object]) -> bool:
    """Return whether a function's code, or its module, imports W&B's client."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = getattr(inner, "__func__", inner)
    client, names = sys.modules.get("wandb"), getattr(inner, "__globals__", {})
    if client is not None and any(value is client for value in names.values()):
        return True
    code = getattr(inner, "__code__", None)
    return code is not None and "wandb" in code.co_names


@contextmanager
def wandb_trial(trial: Trial) -> Iterator[None]:
    """Give `wandb.init` the trial's parameters, and take the metric from `run.log`.

    Runs are off line, unless `WANDB_MODE` says otherwise or there is a key. A run that is open
    already is the user's own, and is left alone.
    """
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:  # the function says so itself
        yield
        return
    if getattr(wandb, "run", None) is not None or not hasattr(wandb, "Run"):
        yield
        return
    with scoped_environ(_environ(trial)), _tapped(wandb.Run, trial):
        yield


def _environ(trial: Trial) -> dict[str, str]:
    """Return the variables of a trial that W&B's own service has not set."""
    folder = SweepDir(Path(trial.spec.directory)).trial_wandb(trial.number)
    folder.mkdir(parents=True, exist_ok=True)
    params = folder / "params.json"
    table = {"wandb_version": 1} | {name: {"value": value} for name, value in trial.params.items()}
    write_atomically(params, json.dumps(table, default=str).encode())
    environ = {"WANDB_SWEEP_PARAM_PATH": str(params)}
    mode = os.environ.get("WANDB_MODE")
    if mode is None:
        try:
            check_key()
        except TrackerError:
            mode = environ["WANDB_MODE"] = "offline"
    if mode == "offline":
        environ |= {"WANDB_SWEEP_ID": trial.spec.sweep, "WANDB_SILENT": "true"}
        environ["WANDB_DIR"] = os.environ.get("WANDB_DIR", str(folder))
    return environ


@contextmanager
def _tapped(run: Any, trial: Trial) -> Iterator[None]:
    """Pass what is logged on to the trial; a stop is obeyed at each call."""
    log = run.log

    @functools.wraps(log)
    def tapped(self: Any, data: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        log(self, data, *args, **kwargs)
        for name, value in _flat(data):
            trial.note(name, _plain(value))
        trial.obey_stop()

    run.log = tapped
    try:
        yield
    finally:
        run.log = log


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> object:
    """Return a number of numpy or torch as a plain one."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        with contextlib.suppress(TypeError, ValueError):
            return item()
    return value
