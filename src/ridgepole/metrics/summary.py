"""Last, smallest, largest and best value of each metric, kept up to date at every call."""

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

# What an entry holds, by position: this runs at every training step, and a list is the cheapest thing to update.
_LAST, _LAST_STEP, _MIN, _MIN_STEP, _MAX, _MAX_STEP, _COUNT, _NONFINITE = range(8)


def goal_of(name: str) -> str | None:
    """Which way a metric is better, told by the words of its name.

    Args:
        name: Such as `"validation/loss"` or `"val_acc"`.

    Returns:
        `"min"`, `"max"`, or None where the name does not say, or says both.
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    small, large = bool(words & _SMALL_IS_BEST), bool(words & _LARGE_IS_BEST)
    if small == large:
        return None
    return "min" if small else "max"


class Summary:
    """The running summary of a metrics file."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[str, list[Any]] = {}

    def update(self, metrics: Mapping[str, Any], step: int) -> None:
        """Takes in the flat, plain metrics of one record.

        Args:
            metrics: Names and values; numbers that are not finite count, and stay out of smallest and largest.
            step: The record's step.
        """
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
        """How many values of one metric there were, and the last of them; (0, None) before the first."""
        entry = self._entries.get(name)
        return (0, None) if entry is None else (entry[_COUNT], entry[_LAST])

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The summary as plain JSON values, names in order of first appearance.

        Returns:
            For each name `last`, `last_step`, `min`, `min_step`, `max`, `max_step`, `count` (all values), `nonfinite`
            (those left out of the rest), `best` and `best_step`. None where there is no such thing: a `last` that is
            not finite or an array's summary, the extremes of strings, a best where `goal_of` does not know the way.
        """
        return {name: _described(name, entry) for name, entry in self._entries.items()}


def _described(name: str, entry: list[Any]) -> dict[str, Any]:
    last, last_step, low, low_step, high, high_step, count, nonfinite = entry
    if isinstance(last, dict) or (isinstance(last, float) and last - last != 0.0):
        last = None
    elif isinstance(last, list):
        last = [None if x - x != 0.0 else x for x in last]
    if low is None:
        low_step = high_step = None
    best, best_step = {"min": (low, low_step), "max": (high, high_step), None: (None, None)}[goal_of(name)]
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
