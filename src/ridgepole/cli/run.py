"""`ridgepole run`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepole.cli.faults import exit_code, explain, show_problems
from ridgepole.cli.output import complain, near, number, paint, say, seconds
from ridgepole.permanence import global_rank
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.plan import Plan
from ridgepole.pipeline.runner import run
from ridgepole.rundir import read_run


def call(arguments: argparse.Namespace) -> int:
    """Runs a pipeline and ends with one line that says how it went and where it lies."""
    pipeline = Pipeline.from_toml(arguments.file, arguments.overrides)
    plan = pipeline.plan()
    if plan.warnings:
        show_problems(list(plan.warnings))
    if arguments.dry_run:
        _show(plan)
        return 0
    started = time.monotonic()
    made: list[Path] = []
    try:
        result = run(plan, pipeline.root(arguments.run_dir), made.append)
    except BaseException as error:
        if not made:
            raise
        explain(error, debug=arguments.debug, in_a_run=True, secrets=plan.secrets)
        code = exit_code(error, in_a_run=True)
        word = read_run(made[0]).status.replace("_", " ") if made[0].is_dir() else "failed"
        complain(f"{paint(word, 'red', sys.stderr)} after {seconds(time.monotonic() - started)} · {near(made[0])}")
        return code
    if global_rank():
        return 0  # rank 0 says it for all
    best = plan.policy.keep_best
    figures = _headline(result.metrics, best.metric if best else None)
    say(" · ".join([f"finished in {seconds(result.seconds)}", *figures, near(result.path)]))
    return 0


def _headline(metrics: Mapping[str, Mapping[str, Any]], chosen: str | None) -> list[str]:
    """The metric that the policy ranks by, else two: the last that can be good or bad before the last of the others."""
    numeric = [name for name, entry in metrics.items() if isinstance(entry.get("last"), int | float)]
    telling = [name for name in numeric if metrics[name].get("best") is not None]
    others = [name for name in numeric if name not in telling]
    names = [name for name in numeric if name == chosen] or [*telling[-2:], *others[-2:]][:2]
    return [f"{name} {number(metrics[name]['last'])}" for name in names]


def _show(plan: Plan) -> None:
    import tomli_w

    def without_null(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_null(item) for key, item in value.items() if item is not None}
        if isinstance(value, list):
            return [without_null(item) for item in value if item is not None]
        return value

    say(tomli_w.dumps(without_null(plan.resolved())).rstrip())
