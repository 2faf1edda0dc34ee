"""A checked sweep in W&B's schema: one report has every problem of a file, each with its place.

The schema is that of W&B's page "Sweep configuration options"
(https://docs.wandb.ai/models/sweeps/sweep-config-keys). Ridgepole adds `ridgepole`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from ridgepole.errors import ConfigError, Place, Problem, did_you_mean
from ridgepole.sweeps.spec.checker import Checker, KeyPath, PlaceOf, Range, describe, to_json
from ridgepole.sweeps.spec.early_terminate import EarlyTerminate, OptunaPruner, parse_early_terminate
from ridgepole.sweeps.spec.objective import Metric
from ridgepole.sweeps.spec.options import Options, Sampler, parse_options
from ridgepole.sweeps.spec.parameter_types import Json, canonical
from ridgepole.sweeps.spec.parameters import ParameterReader
from ridgepole.sweeps.spec.program import check_program
from ridgepole.sweeps.spec.reading import SweepDocument, no_place, read
from ridgepole.sweeps.spec.space import Grid, Space

Method: TypeAlias = Literal["grid", "random", "bayes"]

_OURS = "ridgepole"
_TEXTS = ("name", "description", "project", "entity")
_RUNS = ("program", "command")
_KEYS = ("method", "run_cap", *_TEXTS, "metric", "metrics", "parameters", "early_terminate", *_RUNS, _OURS)
_LIMITS = ("count", "max_trials", "n_trials", "num_samples", "num_trials", "trials")
_ELSEWHERE = ("apiVersion", "controller", "image_uri", "job", "kind")
"""Keys of W&B's schema that say something to its own services only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """A sweep without errors.

    Attributes:
        method: How trials are chosen.
        space: The search space. Every parameter of a grid is a `FiniteParameter`.
        metric: The metric to optimise; None where nothing needs it.
        early_terminate: Which runs are stopped early; None: no run.
        metrics: The metrics of a search for trade-offs, two or more; `metric` is None then.
        run_cap: The most trials.
        name: The sweep's name.
        description: Its description.
        project: The project at W&B.
        entity: The entity at W&B.
        program: The program that each trial runs; None where it runs a pipeline or a function.
        command: The words of the command that runs it, with W&B's macros; None: W&B's default.
        options: How Ridgepole runs it.
        config: The file without the `ridgepole` table, in plain JSON values: the configuration for
            W&B.
        warnings: Warnings about the file.
        file: The file; None for a mapping.
        source: That file byte for byte. It lacks what a TOML file `extends`; `to_dict` has
            everything.
        in_pipeline: Whether `file` is a pipeline's, whose `sweep` table this is.
        program_place: Where the program is in the file.
    """

    method: Method
    space: Space
    metric: Metric | None = None
    metrics: tuple[Metric, ...] = ()
    early_terminate: EarlyTerminate | None = None
    run_cap: int | None = None
    name: str | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None
    program: str | None = None
    command: tuple[str, ...] | None = None
    options: Options = field(default_factory=Options)
    config: dict[str, Json] = field(default_factory=dict, compare=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    file: Path | None = field(default=None, compare=False)
    source: bytes = field(default=b"", compare=False, repr=False)
    in_pipeline: bool = field(default=False, compare=False)
    program_place: Place | None = field(default=None, compare=False, repr=False)
    _method_place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """The metrics of the Optuna study: `metrics`, or `metric`; empty without either."""
        return self.metrics or ((self.metric,) if self.metric is not None else ())

    def grid(self) -> Grid:
        """Return the combinations of a grid sweep.

        Raises:
            ValueError: If the sweep is not a grid.
        """
        if self.method != "grid":
            raise ValueError(f"a {self.method} sweep has no grid")
        return Grid(self.space)

    def limit(self, count: int | None = None) -> int:
        """Return the number of trials in all: the count or `run_cap`, at most the points of a grid.

        Args:
            count: The caller's limit, such as `--max-trials`; it wins over the file's `run_cap`.

        Raises:
            ConfigError: If nothing ends a random or bayes sweep.
            ValueError: If the count is below 1.
        """
        if count is not None and count < 1:
            raise ValueError(f"a sweep runs at least 1 trial, not {count}")
        wanted = self.run_cap if count is None else count
        limits = [] if wanted is None else [wanted]
        if self.method == "grid":
            limits.append(self.grid().size)
        if not limits:
            message = f"a {self.method} sweep never ends by itself"
            raise ConfigError(
                [Problem(message, self._method_place, "give it a run_cap, or start it with --max-trials N")]
            )
        return min(limits)

    def to_dict(self) -> dict[str, Json]:
        """Return the whole sweep as plain JSON, from which `read_sweep` makes the same sweep."""
        ours = self.options.to_dict()
        return {**self.config, _OURS: ours} if ours else dict(self.config)


def sampler_name(spec: SweepSpec) -> Literal["grid", "random"] | Sampler:
    """Return the name of the sampler that proposes the trials of a sweep.

    For a bayes sweep without `sampler` that is Optuna's Gaussian process where torch and SciPy are
    installed, else TPE. The Gaussian process gets further in few trials and needs far longer for a
    proposal (`benchmarks/sweep_samplers.py`). Several metrics take TPE.
    """
    if spec.method != "bayes":
        return spec.method
    if spec.options.sampler is not None:
        return spec.options.sampler
    if spec.metrics:
        return "tpe"
    return "gp" if all(importlib.util.find_spec(package) for package in ("torch", "scipy")) else "tpe"


def read_sweep(source: str | Path | Mapping[str, Any]) -> SweepSpec:
    """Read a sweep.

    Args:
        source: A file, or the same as a mapping: a sweep in TOML (or the `[sweep]` table of a
            pipeline's file), YAML, or JSON.

    Returns:
        The sweep; it holds the warnings.

    Raises:
        ConfigError: With every problem found, warnings included.
        MissingExtraError: If it is YAML and PyYAML is not installed.
    """
    document = SweepDocument(values=source) if isinstance(source, Mapping) else read(Path(source))
    check = Checker(document.place, document.hints)
    spec = _parse(check, document)
    if spec is None:
        raise ConfigError(check.sorted())
    return replace(spec, warnings=tuple(check.sorted()))


def check_sweep(values: Any, place: PlaceOf = no_place) -> list[Problem]:
    """Return the problems of a sweep's table, errors and warnings, in the order of their places.

    Args:
        values: The table, such as `sweep` of a pipeline's file.
        place: Gives the place of a path inside the table; with True, the place of its key.
    """
    check = Checker(place)
    _parse(check, SweepDocument(values=values, place=place))
    return check.sorted()


def _parse(check: Checker, document: SweepDocument) -> SweepSpec | None:
    """Check a sweep; None after reporting its errors."""
    if not check.table(document.values, ()):
        return None
    values: dict[str, Json] = to_json(check, document.values, ())
    for key in [key for key in _KEYS if key in values and values[key] is None and key not in ("method", "parameters")]:
        check.warn((key,), "is null, and counts as left out", check.hints.get((key,), ""))
        del values[key]
    if "method" not in values and "parameters" not in values:
        message = "this is not a sweep: it has neither 'method' nor 'parameters'"
        check.error((), message, "see W&B's sweep configuration")
        return None
    for key in ("method", "parameters"):
        if key not in values:
            check.error((key,), f"the sweep has no {key!r}")
    _note_other_keys(check, values)
    method = _parse_method(check, values)
    run_cap = check.value(Annotated[int, Range(1)], values["run_cap"], ("run_cap",)) if "run_cap" in values else None
    options = parse_options(check, values.get(_OURS), (_OURS,), method)
    space = Space(())
    if "parameters" in values:
        space = ParameterReader(check, method).read(values["parameters"], ("parameters",))
    metric, metrics = _parse_objective(check, values, method)
    rule = parse_early_terminate(check, values.get("early_terminate"))
    program, command = _parse_program(check, values, has_pipeline=document.in_pipeline or options.pipeline is not None)
    texts = _parse_texts(check, values)
    if options.executor == "wandb":
        _refuse_at_wandb(check, metrics, rule)
    if check.errors:
        return None
    return SweepSpec(
        method=method,
        space=space,
        metric=metric,
        metrics=metrics,
        early_terminate=rule,
        run_cap=run_cap,
        program=program,
        command=command,
        options=options,
        config={key: value for key, value in values.items() if key != _OURS},
        file=document.file,
        source=document.source,
        in_pipeline=document.in_pipeline,
        program_place=document.place(("program",), False),
        _method_place=document.place(("method",), False),
        **texts,
    )


def _note_other_keys(check: Checker, values: Mapping[str, Any]) -> None:
    """Warn of keys without effect here; report what changes how trials are chosen at W&B."""
    for key in values:
        if key == "scheduler":
            message = "is a program of yours that chooses trials at W&B, which Ridgepole does not run"
            check.error((key,), f"scheduler {message}", "leave it out, and take method random or bayes", key=True)
        elif key in _ELSEWHERE:
            check.warn((key,), "has no effect here", "it is for W&B's own services")
        elif key not in _KEYS:
            check.warn((key,), "is not a key of a sweep, and has no effect", _instead_of(key))


def _instead_of(key: str) -> str:
    """Return what to write instead of an unknown key; other tools have their own words."""
    if key in {each.name for each in fields(Options)}:
        return f"it belongs in the sweep's table {_OURS!r}"
    if key.lower().replace("-", "_") in _LIMITS:
        return "a sweep's limit is its run_cap"
    return did_you_mean(key, (*_KEYS, *_ELSEWHERE)) or "W&B's schema does not have it either"


def _parse_method(check: Checker, values: Mapping[str, Any]) -> Any:
    if values.get("method") == "custom":
        message = "method 'custom' leaves the choice of trials to a scheduler at W&B"
        check.error(("method",), message, "take grid, random or bayes")
        return None
    return check.value(Method, values["method"], ("method",)) if "method" in values else None


def _parse_texts(check: Checker, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in _TEXTS:
        value = values.get(key, "")
        if value != "" and check.value(str, value, (key,)) is not None:
            found[key] = value
    return found


def _parse_program(
    check: Checker, values: Mapping[str, Any], *, has_pipeline: bool
) -> tuple[str | None, tuple[str, ...] | None]:
    """Check the keys that name a program; warn of them beside a pipeline."""
    program = check.value(str, values["program"], ("program",)) if "program" in values else None
    command, words = None, values.get("command")
    if isinstance(words, list):
        command = tuple(word if isinstance(word, str) else canonical(word) for word in words)
    elif "command" in values:
        check.wrong(("command",), f"must be an array of words, not {describe(words)}")
    for key in _RUNS:
        if has_pipeline and key in values:
            check.warn((key,), "has no effect beside a pipeline", "leave out one of the two")
    check_program(check, values, command, has_pipeline=has_pipeline)
    return program, command


def _refuse_at_wandb(check: Checker, metrics: tuple[Metric, ...], rule: EarlyTerminate | None) -> None:
    """Report what W&B's service can't do."""
    if metrics:
        check.error(("metrics",), "W&B's service takes one 'metric'", "take another executor", key=True)
    if isinstance(rule, OptunaPruner):
        check.error(("early_terminate", "type"), f"W&B's service has no {rule.type}", "write hyperband")


def _parse_objective(
    check: Checker, values: Mapping[str, Any], method: Method | None
) -> tuple[Metric | None, tuple[Metric, ...]]:
    """Check `metric` and `metrics`, of which a sweep has one at most."""
    if "metrics" not in values:
        return _parse_metric(check, values, method), ()
    path, tables = ("metrics",), values["metrics"]
    if values.get("metric") is not None:
        check.error(path, "a sweep has 'metric' or 'metrics', not both", "leave out one of the two", key=True)
    if values.get("early_terminate") is not None:
        check.error(("early_terminate",), "early_terminate needs a single 'metric'", "leave out one", key=True)
    if not isinstance(tables, list) or len(tables) < 2:
        check.wrong(path, "must be an array of two or more tables", "for a single one write metric")
        return None, ()
    found: list[Metric] = []
    for index, table in enumerate(tables):
        where = (*path, index)
        if check.table(table, where) and (metric := _read_metric(check, table, where)) is not None:
            if any(metric.name == other.name for other in found):
                check.error(where, f"there are two metrics {metric.name!r}")
            if metric.target is not None:
                check.warn((*where, "target"), "has no effect among several metrics")
            found.append(metric)
    return None, tuple(found)


def _parse_metric(check: Checker, values: Mapping[str, Any], method: Method | None) -> Metric | None:
    path: KeyPath = ("metric",)
    table = values.get("metric")
    if table is None:
        hint = "add metric with its name and goal"
        if method == "bayes":
            check.error(("method",), "a bayes sweep needs a 'metric'", hint)
        if values.get("early_terminate") is not None:
            check.error(("early_terminate",), "early_terminate needs a 'metric'", hint, key=True)
        return None
    if not check.table(table, path):
        return None
    return _read_metric(check, table, path)


def _read_metric(check: Checker, table: Mapping[str, Any], path: KeyPath) -> Metric | None:
    if "name" not in table:
        check.error(path, f"{check.name(path)} has no 'name'", "write the name under which it is logged")
    while_running = "impute_while_running"
    if while_running in table:
        where = (*path, while_running)
        if (
            table[while_running] is False
            or check.word(("latest", "best", "worst", "false"), table[while_running], where) is not None
        ):
            check.warn(where, "has no effect here", "a model of Optuna imputes nothing while a trial runs")
    found = check.read(Metric, table, path, (while_running, "from"))
    return Metric(**found) if "name" in found else None
