"""A sweep in W&B's schema, checked: every problem of a file in one report, each with its place.

Source of the schema: W&B's page "Sweep configuration options"
(https://docs.wandb.ai/models/sweeps/sweep-config-keys). `ridgepole` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ridgepole.errors import ConfigError, Place, Problem
from ridgepole.sweeps.checker import Checker, plain
from ridgepole.sweeps.grid import Grid
from ridgepole.sweeps.kinds import Json
from ridgepole.sweeps.objective import Goal, Impute, Metric
from ridgepole.sweeps.options import Options, parse_options
from ridgepole.sweeps.parameters import parse_parameters
from ridgepole.sweeps.pruner import Hyperband
from ridgepole.sweeps.reading import Path_, PlaceOf, Written, read
from ridgepole.sweeps.space import Space

Method: TypeAlias = Literal["grid", "random", "bayes"]

OURS = "ridgepole"
_TEXTS = ("name", "description", "project", "entity")
_UNUSED = ("program", "command")
_KEYS = ("method", "metric", "parameters", "early_terminate", "run_cap", *_TEXTS, *_UNUSED, OURS)


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A sweep that is right.

    Attributes:
        method: How trials are chosen.
        space: What is searched. In a grid every parameter of it is an `Axis`.
        metric: What is optimised; None where nothing needs it.
        early_terminate: Which runs are stopped early; None: none.
        run_cap: How many trials there are at most.
        name: The sweep's name.
        description: What it is about.
        project: The project at W&B.
        entity: The entity at W&B.
        options: How Ridgepole runs it.
        config: The file without the `ridgepole` table, in plain JSON values: what W&B is given.
        warnings: What is doubtful in the file.
        file: Where it came from; None for a mapping.
        source: That file byte for byte. What a TOML file `extends` is not in it; `to_dict` has everything.
        in_pipeline: Whether `file` is a pipeline's, whose `sweep` table this is.
    """

    method: Method
    space: Space
    metric: Metric | None = None
    early_terminate: Hyperband | None = None
    run_cap: int | None = None
    name: str | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None
    options: Options = field(default_factory=Options)
    config: dict[str, Json] = field(default_factory=dict, compare=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    file: Path | None = field(default=None, compare=False)
    source: bytes = field(default=b"", compare=False, repr=False)
    in_pipeline: bool = field(default=False, compare=False)
    _method_place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def direction(self) -> Goal:
        """The direction of an Optuna study; `minimize` where there is no metric."""
        return self.metric.goal if self.metric else "minimize"

    def grid(self) -> Grid:
        """The combinations of a grid sweep.

        Raises:
            ValueError: If the method is another.
        """
        if self.method != "grid":
            raise ValueError(f"a {self.method} sweep has no grid")
        return Grid(self.space)

    def limit(self, count: int | None = None) -> int:
        """How many trials there are in all: the count, else `run_cap`; of a grid no more than it has points.

        Args:
            count: What the caller wants, such as `--count`; it wins over the file's `run_cap`.

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
            raise ConfigError([Problem(message, self._method_place, "give it a run_cap, or a count")])
        return min(limits)

    def to_dict(self) -> dict[str, Json]:
        """The whole sweep as plain JSON, from which `read_sweep` makes the same again."""
        ours = self.options.to_dict()
        return {**self.config, OURS: ours} if ours else dict(self.config)


def read_sweep(source: str | Path | Mapping[str, Any]) -> SweepSpec:
    """Reads a sweep.

    Args:
        source: A file, or the same as a mapping: a sweep in TOML (or the `[sweep]` table of a pipeline's file), YAML,
            or JSON.

    Returns:
        The sweep; what is only doubtful is in its `warnings`.

    Raises:
        ConfigError: With every problem found, warnings included.
        MissingExtraError: If it is YAML and PyYAML is not installed.
    """
    if isinstance(source, Mapping):
        return _spec(Written(source, lambda _path, _key: None))
    return _spec(read(Path(source)))


def parse_sweep(values: Mapping[str, Any], place: PlaceOf) -> SweepSpec:
    """Makes a sweep of a table that was read already, such as `sweep` of a pipeline's recipe.

    Args:
        values: The table.
        place: Where a path inside the table stands; with True, where its key stands.

    Raises:
        ConfigError: As `read_sweep` does.
    """
    return _spec(Written(values, place, in_pipeline=True))


def check_sweep(values: Any, place: PlaceOf) -> list[Problem]:
    """The problems of a `sweep` table, errors and warnings, in the order of their places."""
    check = Checker(place)
    if check.table(values, ()):
        _parse(check, Written(values, place))
    return check.sorted()


def _spec(written: Written) -> SweepSpec:
    check = Checker(written.place, written.odd)
    spec = _parse(check, written)
    if spec is None or check.failed:
        raise ConfigError(check.sorted())
    object.__setattr__(spec, "warnings", tuple(check.sorted()))
    return spec


def _parse(check: Checker, written: Written) -> SweepSpec | None:
    values = written.values
    if "method" not in values and "parameters" not in values:
        check.error((), "this is no sweep: it has neither 'method' nor 'parameters'", "see W&B's sweep configuration")
        return None
    check.known(values, (), _KEYS, "a sweep")
    method: Method | None = check.one_of(values, (), "method", get_args(Method))
    for key in ("method", "parameters"):
        if key not in values:
            check.error((), f"the sweep has no {key!r}")
    for key in _UNUSED:
        if key in values:
            check.warn((key,), f"{key!r} is never executed: Ridgepole runs the pipeline", key=True)
            plain(check, values[key], (key,))
    space = Space(())
    if "parameters" in values:
        space = parse_parameters(check, values["parameters"], ("parameters",), grid=method == "grid")
    metric = _metric(check, values.get("metric"))
    rule = _early_terminate(check, values.get("early_terminate"))
    if values.get("metric") is None:
        _need_metric(check, values, method)
    name, description, project, entity = (check.text(values, (), key) for key in _TEXTS)
    run_cap = check.integer(values, (), "run_cap", 1)
    options = parse_options(check, values.get(OURS), (OURS,), method)
    if method is None or check.failed:
        return None
    config = {key: plain(check, value, (key,)) for key, value in values.items() if key != OURS}
    place = written.place(("method",), False)
    return SweepSpec(
        method,
        space,
        metric,
        rule,
        run_cap,
        name,
        description,
        project,
        entity,
        options,
        config,
        file=written.file,
        source=written.source,
        in_pipeline=written.in_pipeline,
        _method_place=place,
    )


def _metric(check: Checker, table: Any) -> Metric | None:
    path: Path_ = ("metric",)
    if table is None:
        return None
    if not check.table(table, path):
        return None
    check.known(table, path, ("name", "goal", "target", "impute"))
    name = check.text(table, path, "name")
    if "name" not in table:
        check.error(path, "metric has no 'name'", "write the name under which it is logged")
    goal = check.one_of(table, path, "goal", get_args(Goal))
    target = check.number(table, path, "target")
    imputed = check.one_of(table, path, "impute", get_args(Impute))
    if name is None:
        return None
    return Metric(name, goal or "minimize", None if target is None else float(target), imputed or "worst")


def _need_metric(check: Checker, values: Mapping[str, Any], method: Method | None) -> None:
    if method == "bayes":
        check.error(("method",), "a bayes sweep needs a 'metric'", "add metric with its name and goal")
    if values.get("early_terminate") is not None:
        check.error(
            ("early_terminate",), "early_terminate needs a 'metric'", "add metric with its name and goal", key=True
        )


def _early_terminate(check: Checker, table: Any) -> Hyperband | None:
    path: Path_ = ("early_terminate",)
    if table is None:
        return None
    if not check.table(table, path):
        return None
    if "type" not in table:
        check.error(path, "early_terminate has no 'type'", "write type: hyperband", key=True)
    check.one_of(table, path, "type", ("hyperband",))
    before = len(check.problems)
    check.known(table, path, ("type", "min_iter", "max_iter", "s", "eta", "strict"))
    least = check.integer(table, path, "min_iter", 1)
    most = check.integer(table, path, "max_iter", 1)
    s = check.integer(table, path, "s", 1, 64)
    eta = check.number(table, path, "eta")
    if eta is not None and eta <= 1:
        check.error((*path, "eta"), f"early_terminate.eta must be above 1, not {eta}")
    strict = check.boolean(table, path, "strict")
    if len(check.problems) == before:  # a misspelt key is reason enough why one is missing
        _bands_given(check, table, path)
    if len(check.problems) > before:
        return None
    rule = Hyperband(least, most, s, float(eta or 3), bool(strict))
    if most is not None and not rule.bands(most):
        check.error(
            (*path, "max_iter"), f"early_terminate.max_iter is {most}, which leaves no band: {most}/eta is below 1"
        )
    return rule


def _bands_given(check: Checker, table: Mapping[str, Any], path: Path_) -> None:
    """Whether the table says where the bands are, and says it once."""
    if "min_iter" in table and "max_iter" in table:
        check.error((*path, "max_iter"), "early_terminate has min_iter and max_iter", "give one of the two", key=True)
    elif "max_iter" in table and "s" not in table:
        check.error((*path, "max_iter"), "early_terminate.max_iter needs s, the number of bands below it", key=True)
    elif "s" in table and "max_iter" not in table:
        hint = "with min_iter the bands have no end" if "min_iter" in table else "add max_iter"
        check.error((*path, "s"), "early_terminate.s goes with max_iter only", hint, key=True)
    elif "min_iter" not in table and "max_iter" not in table:
        check.error(path, "early_terminate needs min_iter, or max_iter and s", key=True)
