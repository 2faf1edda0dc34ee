"""`ridgepole run`."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.cli.faults import exit_code, explain, show_problems
from ridgepole.cli.output import complain, near, number, paint, say, seconds
from ridgepole.errors import RankError
from ridgepole.launch import global_rank
from ridgepole.pipeline.api import Pipeline
from ridgepole.pipeline.plan import Plan
from ridgepole.pipeline.runner import Joined, RunResult
from ridgepole.pipeline.runner import run as start
from ridgepole.rundir import read_run

if TYPE_CHECKING:
    from ridgepole.pipeline.ranks.team import Team


def call(arguments: argparse.Namespace) -> int:
    """Runs a pipeline and ends with one line that says how it went and where it lies."""
    pipeline = Pipeline.from_toml(arguments.file, arguments.overrides)
    root = pipeline.root(arguments.run_dir)
    if not arguments.resume:
        return _begin(pipeline, root, arguments)
    from ridgepole.cli.resume import go_on, newest_unfinished

    with Joined(root) as team:  # first: what is unfinished changes as soon as one of several ranks goes on
        run = newest_unfinished(root, Path(arguments.file), team)
        return _begin(pipeline, root, arguments, team) if run is None else go_on(run, arguments, team)


def _begin(pipeline: Pipeline, root: Path, arguments: argparse.Namespace, team: Team | None = None) -> int:
    plan = pipeline.plan()
    if plan.warnings:
        show_problems(list(plan.warnings))
    if arguments.dry_run:
        _show(plan)
        return 0
    return conduct(plan, lambda announce: start(plan, root, announce, team), debug=arguments.debug)


def conduct(plan: Plan, begin: Callable[[Callable[[Path], None]], RunResult], *, debug: bool) -> int:
    """Runs an attempt and ends with one line that says how it went, where it lies and how it goes on.

    Args:
        plan: What runs.
        begin: Runs it; tells the run directory to the function that it is given.
        debug: Whether to show full tracebacks.

    Returns:
        The exit code.
    """
    started = time.monotonic()
    made: list[Path] = []
    try:
        result = begin(made.append)
    except BaseException as error:
        if not made:
            raise
        if global_rank():
            # Rank 0 says what happened on other ranks; rank 1 does where it was rank 0.
            if not isinstance(error, RankError) or (error.rank == 0 and global_rank() == 1):
                explain(error, debug=debug, in_a_run=True, secrets=plan.secrets)
            return exit_code(error, in_a_run=True)
        explain(error, debug=debug, in_a_run=True, secrets=plan.secrets)
        run = read_run(made[0]) if made[0].is_dir() else None
        word = run.status.replace("_", " ") if run is not None else "failed"
        complain(f"{paint(word, 'red', sys.stderr)} after {seconds(time.monotonic() - started)} · {near(made[0])}")
        if run is not None and run.status in ("failed", "interrupted") and plan.file is not None:
            complain(f"go on with: ridgepole resume {shlex.quote(near(made[0]))}")
        return exit_code(error, in_a_run=True)
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
