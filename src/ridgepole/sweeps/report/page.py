"""The report as one HTML page that works without a network: data as JSON, one style, one script, nothing else.

A policy in the page forbids everything but that script, known by its hash, so that what a name or a value says can't be
executed, and nothing can be fetched. The script writes every text as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ridgepole.sweeps.report import palette
from ridgepole.sweeps.report.axes import Axis
from ridgepole.sweeps.report.scale import written
from ridgepole.sweeps.report.view import View

_SCRIPTS = ("base.js", "history.js", "parallel.js", "slices.js", "bars.js", "table.js", "main.js")
_DIGITS = 4  # of a place from 0 to 1: finer than any screen
_LABEL = 20
_SKELETON = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<noscript><p>This page draws with JavaScript, which is switched off here.</p></noscript>
<main id="report"></main>
<script id="data" type="application/json">{data}</script>
<script>
{script}</script>
</body>
</html>
"""


def render_page(view: View) -> str:
    """The page of a sweep."""
    folder = files("ridgepole.sweeps.report") / "page"
    parts = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'(() => {{\n"use strict";\n{parts}}})();\n'
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    return _SKELETON.format(
        digest=digest,
        title=html.escape(f"{view.title} · sweep report".encode("utf-8", "replace").decode()),
        style=(folder / "style.css").read_text(encoding="utf-8"),
        data=escaped_json(page_data(view)),
        script=script,
    )


def escaped_json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends that, opens a comment, or ends a line."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # in ASCII, so U+2028 is escaped already
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(view: View) -> dict[str, Any]:
    """What the page's script draws, as plain JSON values. Trials are columns, by number."""
    result, scale = view.result, view.scale
    best = result.best
    return {
        "id": result.id,
        "title": view.title,
        "status": result.status,
        "reason": result.reason,
        "counts": result.counts,
        "limit": result.limit,
        "metric": {"name": view.metric.name, "goal": view.metric.goal, "target": view.metric.target},
        "best": None if best is None else best.number,
        "command": view.command,
        "constants": list(view.constants.items()),
        "importances": {"shares": view.importances.shares, "note": view.importances.note},
        "scale": {
            "low": scale.low,
            "high": scale.high,
            "log": scale.log,
            "ticks": _ticks(view.ticks),
            "target": _target(view),
        },
        "axes": [_axis(axis) for axis in view.axes],
        "trials": {
            "number": [trial.number for trial in result.trials],
            "status": [trial.status for trial in result.trials],
            "value": view.values,
            "text": [None if value is None else written(value) for value in view.values],
            "place": _rounded([view.place(value) for value in view.values]),
            "best": _rounded([view.place(value) for value in view.best]),
            "bestText": [None if value is None else written(value) for value in view.best],
            "run": [trial.run for trial in result.trials],
            "seconds": [None if trial.seconds is None else round(trial.seconds, 3) for trial in result.trials],
            "error": [trial.error.partition("\n")[0][:300] for trial in result.trials],
        },
        "colours": {"light": palette.LIGHT, "dark": palette.DARK},
    }


def _target(view: View) -> float | None:
    target = view.metric.target
    return None if target is None or view.is_beyond(target) else view.place(target)


def _axis(axis: Axis) -> dict[str, Any]:
    whole = axis.kind == "choice" or all(value is None or value.is_integer() for value in axis.values)
    values = [None if value is None else int(value) if whole else value for value in axis.values]
    return {
        "name": axis.name,
        "kind": axis.kind,
        "step": axis.step,
        "ticks": _ticks(axis.ticks),
        "labels": axis.labels(_LABEL),
        "places": _rounded(axis.places),
        "drawn": _rounded([axis.drawn(row) for row in range(len(axis.places))]) if axis.step else None,
        "values": values,
    }


def _ticks(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    return [(round(place, _DIGITS), label) for place, label in ticks]


def _rounded(places: Sequence[float | None]) -> list[float | None]:
    return [None if place is None else round(place, _DIGITS) for place in places]
