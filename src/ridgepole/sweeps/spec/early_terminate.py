"""The `early_terminate` table: W&B's Hyperband, or one of Optuna's pruners under its own name."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ridgepole.sweeps.spec.checker import Checker, KeyPath
from ridgepole.sweeps.spec.hyperband import Hyperband

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

_OPTUNA = (
    "HyperbandPruner",
    "MedianPruner",
    "PatientPruner",
    "PercentilePruner",
    "SuccessiveHalvingPruner",
    "ThresholdPruner",
    "WilcoxonPruner",
)
_WRAPPED = "wrapped_pruner"


@dataclass(frozen=True, slots=True)
class OptunaPruner:
    """One of Optuna's pruners; a trial's steps are its finite values of the metric, from 1.

    Attributes:
        type: The name of its class.
        arguments: The arguments of its constructor; that of `wrapped_pruner` is a table too.
    """

    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def create(self) -> BasePruner:
        """Return the pruner.

        Raises:
            ValueError, TypeError: If Optuna refuses an argument.
        """
        import optuna

        arguments = dict(self.arguments)
        inner = arguments.get(_WRAPPED)
        if inner is not None:
            rest = {key: value for key, value in inner.items() if key != "type"}
            arguments[_WRAPPED] = OptunaPruner(inner["type"], rest).create()
        pruner: BasePruner = getattr(optuna.pruners, self.type)(**arguments)
        return pruner


EarlyTerminate: TypeAlias = Hyperband | OptunaPruner


def parse_early_terminate(check: Checker, table: Any) -> EarlyTerminate | None:
    """Check the table; None where there is none, or after reporting its errors."""
    path: KeyPath = ("early_terminate",)
    if table is None or not check.table(table, path):
        return None
    if "type" not in table:
        check.error(path, "early_terminate has no 'type'", "write type: hyperband", key=True)
    elif check.word(("hyperband", *_OPTUNA), table["type"], (*path, "type")) not in (None, "hyperband"):
        return _parse_pruner(check, table, path)
    before = check.errors
    found = check.read(Hyperband, table, path, ("type",))
    if check.errors > before:  # a misspelt key is reason enough for one that is missing
        return None
    rule = Hyperband(**found)
    _check_bands(check, rule, path)
    return rule


def _check_bands(check: Checker, rule: Hyperband, path: KeyPath) -> None:
    first, last, count = ((*path, key) for key in ("min_iter", "max_iter", "s"))
    if rule.max_iter is not None and rule.s is not None:
        if rule.min_iter is not None:
            check.warn(first, "has no effect beside max_iter and s")
        if not rule.bands(rule.max_iter):
            check.wrong(last, f"is {rule.max_iter}, which leaves no band: {rule.max_iter}/eta is below 1")
    elif rule.min_iter is not None:
        if rule.max_iter is not None:
            check.warn(last, "has no effect without s", "with min_iter the bands have no end")
        if rule.s is not None:
            check.warn(count, "has no effect without max_iter", "with min_iter the bands have no end")
    elif rule.max_iter is not None:
        check.error(last, "early_terminate.max_iter needs s, the number of bands below it", key=True)
    elif rule.s is not None:
        check.error(count, "early_terminate.s goes with max_iter only", "add max_iter", key=True)
    else:
        check.error(path, "early_terminate needs min_iter, or max_iter and s", key=True)


def _parse_pruner(check: Checker, table: Mapping[str, Any], path: KeyPath) -> OptunaPruner | None:
    """Check a table of Optuna's against the constructor of its class, and make the pruner once."""
    arguments = {key: value for key, value in table.items() if key != "type"}
    pruner = OptunaPruner(table["type"], arguments)
    if importlib.util.find_spec("optuna") is None:  # a sweep needs it, but not a look at its file
        return pruner
    import optuna

    before = check.errors
    names = list(inspect.signature(getattr(optuna.pruners, pruner.type)).parameters)
    check.known(table, path, [*names, "type"], f"early_terminate, a {pruner.type},")
    inner = arguments.get(_WRAPPED)
    if _WRAPPED in names and inner is not None and check.table(inner, (*path, _WRAPPED)):
        where = (*path, _WRAPPED)
        if check.word(_OPTUNA, inner.get("type"), (*where, "type")) is not None:
            _parse_pruner(check, inner, where)
    if check.errors > before:
        return None
    try:
        pruner.create()
    except (TypeError, ValueError) as error:
        check.error(path, f"{pruner.type} of Optuna refuses its arguments: {error}", key=True)
    return pruner
