"""What Ridgepole itself is to know of a sweep: the `ridgepole` table of a sweep's file, which W&B never sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from ridgepole.sweeps.checker import Checker, plain
from ridgepole.sweeps.reading import Path_

Executor: TypeAlias = Literal["inline", "process", "ray", "slurm", "wandb"]
OnTrialError: TypeAlias = Literal["fail", "retry", "stop"]
Sampler: TypeAlias = Literal["tpe", "gp"]

_RAY_KEYS = ("address", "num_cpus", "num_gpus", "memory", "resources", "runtime_env")
_STORAGES = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True, slots=True)
class Options:
    """How Ridgepole runs a sweep. A key that is not written keeps its default.

    Attributes:
        executor: Where trials run: `inline` in this process, `process` in worker processes, `ray`, `slurm`, or `wandb`,
            where W&B's own service chooses them. None: `inline`, or `wandb` for `run_sweep` of a WandBLogger on line.
        workers: How many trials run at a time.
        on_trial_error: Whether a trial that fails counts as failed (`fail`), is run again (`retry`), or ends the
            sweep (`stop`).
        retries: With `retry`: how often a trial is run again at most.
        max_failures: The sweep ends when more trials than this have failed for good; None: it never ends for that.
        sampler: What proposes trials of a bayes sweep: Optuna's Gaussian process or TPE; None: see `sampler_name`.
        startup_trials: How many trials of a bayes sweep are random before the model proposes.
        seed: Makes a random sweep draw the same trials each time; one is drawn and recorded unless given.
        reuse_workers: Whether a worker process runs one trial after another, instead of a fresh one each.
        storage: URL of a database for Optuna; None: a journal file in the sweep's directory.
        pipeline: The pipeline's TOML file, relative to the sweep's.
        ray: For `ray`: `address` of a cluster, and what a trial needs: `num_cpus`, `num_gpus`, `memory`, `resources`,
            `runtime_env`.
        slurm: For `slurm`: submitit's parameters, such as `partition` and `timeout_min`.
    """

    executor: Executor | None = None
    workers: int = 1
    on_trial_error: OnTrialError = "fail"
    retries: int = 1
    max_failures: int | None = None
    sampler: Sampler | None = None
    startup_trials: int = 10
    seed: int | None = None
    reuse_workers: bool = False
    storage: str | None = None
    pipeline: str | None = None
    ray: Mapping[str, Any] = field(default_factory=dict)
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> Executor:
        """The executor, which is `inline` where none is named."""
        return self.executor or "inline"

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as the table would have it."""
        default = Options()
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in pairs if value != getattr(default, name)}


def parse_options(check: Checker, table: Any, path: Path_, method: object) -> Options:
    """Reads the `ridgepole` table; what is wrong goes to the checker, and its default is taken."""
    default = Options()
    if table is None:
        return default
    if not check.table(table, path):
        return default
    check.known(table, path, [each.name for each in fields(Options)])

    ray, slurm = (_inner(check, table, (*path, key)) for key in ("ray", "slurm"))
    check.known(ray, (*path, "ray"), _RAY_KEYS)
    options = Options(
        executor=check.one_of(table, path, "executor", get_args(Executor)),
        workers=check.integer(table, path, "workers", 1) or default.workers,
        on_trial_error=check.one_of(table, path, "on_trial_error", get_args(OnTrialError)) or default.on_trial_error,
        retries=_or(check.integer(table, path, "retries", 0), default.retries),
        max_failures=check.integer(table, path, "max_failures", 0),
        sampler=check.one_of(table, path, "sampler", get_args(Sampler)),
        startup_trials=_or(check.integer(table, path, "startup_trials", 0), default.startup_trials),
        seed=check.integer(table, path, "seed", 0, 2**63 - 1),
        reuse_workers=bool(check.boolean(table, path, "reuse_workers")),
        storage=check.text(table, path, "storage"),
        pipeline=check.text(table, path, "pipeline"),
        ray=ray,
        slurm=slurm,
    )
    _check_together(check, table, path, options, method)
    return options


def _inner(check: Checker, table: Mapping[str, Any], path: Path_) -> dict[str, Any]:
    """A table inside, whose values belong to another package."""
    inner = table.get(str(path[-1]), {})
    return dict(plain(check, inner, path)) if check.table(inner, path) else {}


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _check_together(check: Checker, table: Mapping[str, Any], path: Path_, options: Options, method: object) -> None:
    """What is fine by itself and has no effect here."""
    for key in ("sampler", "startup_trials"):
        if key in table and method in ("grid", "random"):
            check.warn((*path, key), f"{check.name((*path, key))} has no effect on a {method} sweep", key=True)
    if "retries" in table and options.on_trial_error != "retry":
        message = f"{check.name((*path, 'retries'))} has no effect unless on_trial_error is 'retry'"
        check.warn((*path, "retries"), message, key=True)
    for key in ("ray", "slurm"):
        if key in table and "executor" in table and options.executor != key:
            message = f"{check.name((*path, key))} has no effect on the executor {options.executor!r}"
            check.warn((*path, key), message, key=True)
    scheme = (options.storage or "").partition("://")[0].partition("+")[0]
    if options.storage is not None and scheme not in _STORAGES:
        message = f"{check.name((*path, 'storage'))} is no URL of a database"
        check.error((*path, "storage"), message, "such as postgresql://user@host/name; leave it out for a journal file")
