"""A running summary of each metric: the last, smallest, largest and best value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SUMMARY_FORMAT = 1

_SMALL_IS_BEST = frozenset(
    "loss error err perplexity ppl mae mse rmse nll bce wer cer fid lpips latency regret".split()  # noqa: SIM905
)
_LARGE_IS_BEST = frozenset(
    "accuracy acc top1 top5 f1 auc auroc auprc map iou miou dice jaccard precision recall sensitivity specificity "  # noqa: SIM905
    "score r2 psnr ssim bleu rouge reward return".split()
)

_HELD_OUT = frozenset("dev eval evaluation heldout holdout test val valid validation".split())  # noqa: SIM905
"""Words of metrics that are measured on data that the training does not see."""

# Positions in an entry. This runs at every training step, and a list is the cheapest to update.
_LAST, _LAST_STEP, _MIN, _MIN_STEP, _MAX, _MAX_STEP, _COUNT, _NONFINITE = range(8)


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def goal_of(name: str) -> str | None:
    """Return `"min"` or `"max"` by the words of a metric's name, or None if unknown."""
    words = _words(name)
    small, large = bool(words & _SMALL_IS_BEST), bool(words & _LARGE_IS_BEST)
    if small == large:
        return None
    return "min" if small else "max"


def goals_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the goals that a run's resolved description states: that of `keep_best`, if any."""
    pipeline = config.get("pipeline")
    policy = pipeline.get("checkpoint") if isinstance(pipeline, Mapping) else None
    wanted = policy.get("keep_best") if isinstance(policy, Mapping) else None
    return {str(wanted["metric"]): str(wanted["mode"])} if isinstance(wanted, Mapping) else {}


def telling(metrics: Mapping[str, Mapping[str, Any]], goals: Mapping[str, str]) -> list[str]:
    """Return the metrics whose best value tells how good a run is, the most telling first.

    That is the metric of `keep_best`. Without one, it is the last metric with a known goal, also if
    none of its values is finite. If data that was held out was measured, only its metrics count:
    the best of many training steps is noise.

    Args:
        metrics: The summary of each metric.
        goals: The goals that the run states.
    """
    stated = [name for name in metrics if name in goals]
    if goals:
        return stated
    ranked = [name for name, entry in metrics.items() if entry.get("best") is not None or _is_lost(name, entry)]
    return [name for name in ranked if _words(name) & _HELD_OUT][::-1] or ranked[::-1]


def _is_lost(name: str, entry: Mapping[str, Any]) -> bool:
    """Return whether a metric with a known goal never had a finite value."""
    count = entry.get("count")
    return bool(count) and entry.get("nonfinite") == count and goal_of(name) is not None


class Summary:
    """The running summary of a metrics file.

    Args:
        goals: `"min"` or `"max"` by the name of a metric, where its words would not say it.
    """

    __slots__ = ("_entries", "goals")

    def __init__(self, goals: Mapping[str, str] | None = None) -> None:
        self.goals = dict(goals or {})
        self._entries: dict[str, list[Any]] = {}

    def names(self) -> list[str]:
        """Return the names of all metrics, in order of first appearance."""
        return list(self._entries)

    def update(self, metrics: Mapping[str, Any], step: int) -> None:
        """Add the flat metrics of one record; only finite numbers can be smallest or largest."""
        entries = self._entries
        for name, value in metrics.items():
            try:
                entry = entries[name]
            except KeyError:
                entry = entries[name] = [None, step, None, step, None, step, 0, 0]
            entry[_LAST] = value
            entry[_LAST_STEP] = step
            entry[_COUNT] += 1
            kind = type(value)
            if kind is float or kind is int:
                if value - value != 0.0:  # NaN and the infinities
                    entry[_NONFINITE] += 1
                    continue
                try:
                    if value < entry[_MIN]:
                        entry[_MIN] = value
                        entry[_MIN_STEP] = step
                    elif value > entry[_MAX]:
                        entry[_MAX] = value
                        entry[_MAX_STEP] = step
                except TypeError:  # the first finite number
                    entry[_MIN] = entry[_MAX] = value
                    entry[_MIN_STEP] = entry[_MAX_STEP] = step

    def latest(self, name: str) -> tuple[int, Any]:
        """Return the number of values of a metric and the last one; (0, None) before the first."""
        entry = self._entries.get(name)
        return (0, None) if entry is None else (entry[_COUNT], entry[_LAST])

    def tally(self, name: str) -> tuple[int, int, Any]:
        """Return how many values a metric has, how many are not finite, and the last one."""
        entry = self._entries.get(name)
        return (0, 0, None) if entry is None else (entry[_COUNT], entry[_NONFINITE], entry[_LAST])

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the summary as plain JSON values, names in order of first appearance.

        `count` includes the `nonfinite` values; `min`, `max` and `best` do not.
        A value is None where it does not exist: the extremes of strings, a `last` that is not
        finite or summarises an array, a best without a stated goal or a known `goal_of`.
        """
        return {name: _described(entry, self.goals.get(name) or goal_of(name)) for name, entry in self._entries.items()}


def _described(entry: list[Any], goal: str | None) -> dict[str, Any]:
    last, last_step, low, low_step, high, high_step, count, nonfinite = entry
    if isinstance(last, dict) or (isinstance(last, float) and last - last != 0.0):
        last = None
    elif isinstance(last, list):
        last = [None if x - x != 0.0 else x for x in last]
    if low is None:
        low_step = high_step = None
    best, best_step = {"min": (low, low_step), "max": (high, high_step), None: (None, None)}[goal]
    return {
        "last": last,
        "last_step": last_step,
        "min": low,
        "min_step": low_step,
        "max": high,
        "max_step": high_step,
        "count": count,
        "nonfinite": nonfinite,
        "best": best,
        "best_step": best_step,
    }
