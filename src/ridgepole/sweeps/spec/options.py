"""The `ridgepole` table of a sweep's file: how to run the sweep. W&B never sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, TypeAlias

from ridgepole.sweeps.executor_registry import executor_names
from ridgepole.sweeps.spec.checker import Checker, KeyPath, Range

OnTrialError: TypeAlias = Literal["fail", "retry", "stop"]
Sampler: TypeAlias = Literal["tpe", "gp", "nsga2"]

_RAY_KEYS = ("address", "num_cpus", "num_gpus", "memory", "resources", "runtime_env")
_STORAGES = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of how Ridgepole runs a sweep. A key that is not written keeps its default.

    Attributes:
        executor: Where trials run: `inline` in this process, `process` in worker processes, `ray`,
            `slurm`, `wandb`, where W&B's own service chooses them, or a plugin's. None: `inline`,
            or `wandb` for `run_sweep` of a WandBLogger on line.
        workers: The number of trials that run at a time.
        on_trial_error: Whether a trial that fails counts as failed (`fail`), is run again
            (`retry`), or ends the sweep (`stop`).
        retries: With `retry`, the most times that a trial is run again.
        max_failures: The sweep ends when more trials than this have failed for good; None: it ends
            when the first three never logged the metric.
        sampler: The model of a bayes sweep: Optuna's Gaussian process, TPE, or NSGA-II, which suits
            several metrics; None: see `sampler_name`.
        startup_trials: The number of random trials of a bayes sweep before the model proposes.
        seed: Makes a random sweep draw the same trials each time. Without it one is drawn and
            recorded.
        reuse_workers: Whether a worker process runs one trial after another, instead of a fresh one
            each.
        storage: URL of a database for Optuna; None: a journal file in the sweep's directory.
        pipeline: The pipeline's TOML file, relative to the sweep's.
        grace_seconds: The time between SIGTERM and SIGKILL for a program that is to stop.
        ray: For `ray`: `address` of a cluster, and the needs of a trial: `num_cpus`, `num_gpus`,
            `memory`, `resources`, `runtime_env`.
        slurm: For `slurm`: submitit's parameters, such as `partition` and `timeout_min`.
    """

    executor: str | None = None
    workers: Annotated[int, Range(1)] = 1
    on_trial_error: OnTrialError = "fail"
    retries: Annotated[int, Range(0)] = 1
    max_failures: Annotated[int, Range(0)] | None = None
    sampler: Sampler | None = None
    startup_trials: Annotated[int, Range(0)] = 10
    seed: Annotated[int, Range(0, 2**63 - 1)] | None = None
    reuse_workers: bool = False
    storage: str | None = None
    pipeline: str | None = None
    grace_seconds: Annotated[float, Range(0)] = 10.0
    ray: Mapping[str, Any] = field(default_factory=dict)
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The executor; `inline` is the default."""
        return self.executor or "inline"

    def to_dict(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, as the table would have them."""
        default = Options()
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in pairs if value != getattr(default, name)}


def parse_options(check: Checker, table: Any, path: KeyPath, method: object) -> Options:
    """Read the `ridgepole` table. A wrong value is reported, and its default taken."""
    if table is None or not check.table(table, path):
        return Options()
    options = Options(**check.read(Options, table, path))
    if options.executor is not None:
        check.word(executor_names(), options.executor, (*path, "executor"))
    check.known(options.ray, (*path, "ray"), _RAY_KEYS)
    scheme = (options.storage or "").partition("://")[0].partition("+")[0]
    if options.storage is not None and scheme not in _STORAGES:
        hint = "such as postgresql://user@host/name; leave it out for a journal file"
        check.wrong((*path, "storage"), "is not a URL of a database", hint)
    _warn_of_no_effect(check, table, path, options, method)
    return options


def _warn_of_no_effect(
    check: Checker, table: Mapping[str, Any], path: KeyPath, options: Options, method: object
) -> None:
    """Warn of values that are right by themselves and have no effect beside the others."""
    for key in ("sampler", "startup_trials"):
        if key in table and method in ("grid", "random"):
            check.warn((*path, key), f"has no effect on a {method} sweep")
    if "retries" in table and options.on_trial_error != "retry":
        check.warn((*path, "retries"), "has no effect unless on_trial_error is 'retry'")
    for key in ("ray", "slurm"):
        if key in table and "executor" in table and options.executor != key:
            check.warn((*path, key), f"has no effect on the executor {options.executor!r}")
