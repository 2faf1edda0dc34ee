"""Draw the pictures of a report. Only its functions import matplotlib, which is slow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.sweeps.report.axes import Axis, short
from ridgepole.sweeps.report.scale import Tick, format_number
from ridgepole.sweeps.report.view import LIGHT, QUIET, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_SIZE = (7.0, 4.5)  # inches, as for the other figures
_DPI = 150
_RULE = "#dcdce2"
_BAND = 0.3  # width of the band of a choice's value in a panel, which has more room than an axis
_NOTHING_VARIES = "No parameter varies: there is nothing to compare."
_PANELS, _BARS = 24, 20  # the most parameters in a picture; the page shows all


def draw_history(view: View) -> Figure:
    """Draw each trial's objective by its number, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    figure = _page(f"{short(view.title, 60)}: history")
    if not view.trials:
        return _empty(figure, "No trial has begun yet.")
    axes = figure.add_subplot()
    numbers = [trial.number for trial in view.trials]
    size = 28 if len(numbers) <= 200 else 10
    for (finished, marker), rows in _marks(view).items():
        label = "finished" if finished else "stopped early: the best until then"
        axes.scatter(
            [numbers[row] for row in rows],
            [view.scale.place(view.values[row] or 0.0) for row in rows],
            marker=marker,
            facecolors=LIGHT["point"] if finished else "none",
            edgecolors=LIGHT["point"] if finished else QUIET,
            label=label if marker == "o" else None,
            s=size,
            linewidths=1.2,
            clip_on=False,
            zorder=2,
        )
    _draw_best(axes, view, numbers)
    _draw_failed(axes, view)
    _draw_target(axes, view)
    beyond = sum(view.is_beyond(value) for value in view.values)
    if beyond:
        axes.scatter([], [], marker="^", color=QUIET, s=size, label=f"further out: {beyond}")
    _objective_axis(axes, view)
    axes.set_ylabel(short(view.metric.name, 40))
    axes.set_xlabel("trial")
    room = max(0.5, (numbers[-1] - numbers[0]) * 0.02)
    axes.set_xlim(numbers[0] - room, numbers[-1] + room)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _draw_best(axes: Axes, view: View, numbers: Sequence[int]) -> None:
    best = [(number, view.place(value)) for number, value in zip(numbers, view.best, strict=True) if value is not None]
    if best:
        x, y = zip(*best, strict=True)
        axes.step(x, y, where="post", color=LIGHT["best"], linewidth=1.8, label="best so far", zorder=1.5)


def _draw_failed(axes: Axes, view: View) -> None:
    failed = [
        trial.number
        for trial, value in zip(view.trials, view.values, strict=True)
        if value is None and trial.status == "failed"
    ]
    if failed:
        look: dict[str, Any] = {"marker": "x", "color": LIGHT["failed"], "linewidths": 1.8, "clip_on": False, "s": 28}
        axes.scatter(failed, [-0.08] * len(failed), label="failed", zorder=3, **look)


def _draw_target(axes: Axes, view: View) -> None:
    target = view.metric.target
    if target is None:
        return
    label = f"target {format_number(target)}"
    if view.is_beyond(target):
        axes.plot([], [], "--", color=LIGHT["target"], label=f"{label}, outside of this picture")
    else:
        axes.axhline(view.scale.place(target), linestyle="--", color=LIGHT["target"], label=label, zorder=1)


def draw_parallel(view: View) -> Figure:
    """Draw parallel coordinates: axes for parameters and objective, a line for each trial."""
    from matplotlib.collections import LineCollection

    shown = view.axes[:_PANELS]
    figure = _page(f"{short(view.title, 60)}: parameters{_of(shown, view)}", (max(_SIZE[0], 1.15 * len(shown) + 2), 5))
    if not shown or not view.trials:
        return _empty(figure, _NOTHING_VARIES)
    axes = figure.add_subplot()
    goodness = [_goodness(view, value) for value in view.values]
    order = sorted(range(len(goodness)), key=lambda row: -1.0 if (good := goodness[row]) is None else good)
    colours = _ramp()
    lines, looks = [], []
    for row in order:
        places = [axis.drawn(row) for axis in shown] + [view.place(view.values[row])]
        points = [(column, place) for column, place in enumerate(places) if place is not None]
        good = goodness[row]
        if len(points) > 1:
            lines.append(points)
            looks.append(_RULE if good is None else colours(good))
    strength = 0.75 if len(lines) <= 50 else 0.5 if len(lines) <= 300 else 0.25
    axes.add_collection(LineCollection(lines, colors=looks, linewidths=1.3, alpha=strength))
    for column, axis in enumerate(shown):
        _vertical(axes, column, axis.name, _labelled(axis, 14), bold=False)
    _vertical(axes, len(shown), view.metric.name, view.ticks, bold=True)
    for step in range(64):  # the objective's own axis is the legend of the colours
        good = step / 63 if view.metric.goal == "maximize" else 1 - step / 63
        ends = [step / 64, (step + 1) / 64]
        axes.plot([len(shown)] * 2, ends, color=colours(good), linewidth=5, solid_capstyle="butt")
    axes.set_xlim(-0.15, len(shown) + 0.85)
    axes.set_ylim(-0.05, 1.05)
    axes.set_axis_off()
    return figure


def _vertical(axes: Axes, column: int, name: str, ticks: Sequence[Tick], *, bold: bool) -> None:
    axes.plot([column, column], [0, 1], color=QUIET, linewidth=1, zorder=2.5)
    weight = "bold" if bold else "normal"
    axes.text(column, 1.06, short(name, 28), rotation=25, ha="left", va="bottom", fontsize=9, fontweight=weight)
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    for place, label in _spaced(ticks, 1 / 22):
        axes.plot([column, column + 0.04], [place] * 2, color=QUIET, linewidth=1, zorder=2.5)
        axes.text(column + 0.07, place, label, va="center", fontsize=7.5, bbox=box, zorder=3)


def draw_importances(view: View) -> Figure:
    """Draw the importance of each parameter as bars."""
    shares = view.importances.shares[:_BARS]
    figure = _page(f"{short(view.title, 60)}: importances", (_SIZE[0], max(2.4, 1.5 + 0.28 * len(shares))))
    if not shares:
        return _empty(figure, view.importances.note)
    axes = figure.add_subplot()
    names = [short(name, 32) for name, _ in shares]
    bars = axes.barh(range(len(shares)), [share for _, share in shares], color=LIGHT["point"], height=0.7)
    axes.bar_label(bars, [f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" for _, share in shares], padding=4)
    axes.set_yticks(range(len(shares)), names, color="black")
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, shares[0][1] * 1.12)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    left = len(view.importances.shares) - len(shares)
    note = view.importances.note + (f" {left} parameters that matter less are left out." if left else "")
    figure.supxlabel(note, fontsize="small", color=QUIET, wrap=True)
    return figure


def draw_slices(view: View) -> Figure:
    """Draw the objective over each parameter, coloured by the trial's number."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    shown = view.axes[:_PANELS]
    rows = max(1, math.ceil(len(shown) / (3 if len(shown) == 4 else 4)))
    columns = max(1, math.ceil(len(shown) / rows))
    size = (max(_SIZE[0], 2.5 * columns + 1), max(_SIZE[1] if rows == 1 else 0, 2.3 * rows + 0.6))
    figure = _page(f"{short(view.title, 60)}: each parameter{_of(shown, view)}", size)
    count = sum(value is not None for value in view.values)
    if not shown or not count:
        return _empty(figure, "No trial has a value." if shown else _NOTHING_VARIES)
    colours, norm = _ramp(), Normalize(0, max(1, view.trials[-1].number))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    figure.supylabel(short(view.metric.name, 40), fontsize="medium")
    for index, panel in enumerate(panels.flat):
        if index >= len(shown):
            panel.set_visible(False)
            continue
        axis = shown[index]
        for (finished, marker), marked in _marks(view).items():
            points = [row for row in marked if axis.places[row] is not None]
            shades = colours(norm([view.trials[row].number for row in points]))
            panel.scatter(
                [axis.drawn(row, _BAND) or 0.0 for row in points],
                [view.scale.place(view.values[row] or 0.0) for row in points],
                edgecolors=shades,
                facecolors=shades if finished else "none",
                marker=marker,
                s=14 if count <= 300 else 5,
                linewidths=0.8,
            )
        _slice_axes(panel, axis, view)
    whole = MaxNLocator("auto", integer=True)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=panels, label="trial", aspect=40, shrink=0.9, ticks=whole)
    bar.outline.set_visible(False)
    return figure


def _slice_axes(panel: Axes, axis: Axis, view: View) -> None:
    panel.set_title(short(axis.name, 28), fontsize=9)
    ticks = _spaced(_labelled(axis, 14), 0.19)
    rotated = any(len(label) > 6 for _, label in ticks) and len(ticks) > 2
    panel.set_xticks([place for place, _ in ticks], [label for _, label in ticks], fontsize=8)
    if rotated:
        for label in panel.get_xticklabels():
            label.set(rotation=25, ha="right", rotation_mode="anchor")
    room = 0.05 if axis.kind != "choice" else 0.35 * axis.step if axis.step < 1 else 0.5
    panel.set_xlim(-room, 1 + room)
    _objective_axis(panel, view, low=-0.05)


# --- shared


def _page(title: str, size: tuple[float, float] = _SIZE) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    figure.suptitle(short(title, int(10 * size[0])), fontsize="medium", x=0.02, ha="left")
    return figure


def _empty(figure: Figure, reason: str) -> Figure:
    """Write on a picture why it is empty."""
    figure.text(0.5, 0.5, reason, ha="center", va="center", color=QUIET, wrap=True)
    return figure


def _of(shown: Sequence[Axis], view: View) -> str:
    return f" ({len(shown)} of {len(view.axes)})" if len(shown) < len(view.axes) else ""


def _objective_axis(axes: Axes, view: View, *, low: float = -0.12) -> None:
    axes.set_yticks([place for place, _ in view.ticks], [label for _, label in view.ticks])
    axes.set_ylim(low, 1.06)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)


def _labelled(axis: Axis, length: int) -> list[Tick]:
    return [(place, label) for (place, _), label in zip(axis.ticks, axis.labels(length), strict=True)]


def _marks(view: View) -> dict[tuple[bool, str], list[int]]:
    """Return the trials with a value, by whether they finished and by marker."""
    found: dict[tuple[bool, str], list[int]] = {}
    for row, (trial, value) in enumerate(zip(view.trials, view.values, strict=True)):
        if value is not None:
            marker = "o" if not view.is_beyond(value) else "v" if value < view.scale.low else "^"
            found.setdefault((trial.status == "finished", marker), []).append(row)
    return dict(sorted(found.items(), key=lambda item: -item[0][0]))


def _goodness(view: View, value: float | None) -> float | None:
    place = view.place(value)
    return place if place is None or view.metric.goal == "maximize" else 1 - place


def _ramp() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ridgepole", list(LIGHT["ramp"]))


def _spaced(ticks: Sequence[Tick], gap: float) -> list[Tick]:
    """Return the ticks whose labels don't overlap."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= gap * 0.999:
            kept.append(tick)
    return kept
