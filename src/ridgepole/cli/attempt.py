"""Report the outcome of one attempt: the part that `run` and `resume` share."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgepole.cli.faults import exit_code, explain
from ridgepole.cli.output import ReaderGone, complain, near, number, paint, say, seconds
from ridgepole.errors import RankError
from ridgepole.launch import global_rank
from ridgepole.metrics.summary import telling
from ridgepole.pipeline.lifecycle.checkpointing import where_to_resume
from ridgepole.pipeline.run.attempt import RunResult
from ridgepole.pipeline.spec.plan import Plan
from ridgepole.rundir import read_run


def report_attempt(
    plan: Plan, begin: Callable[[Callable[[Path], None]], RunResult], here: Path | None, *, debug: bool
) -> int:
    """Run an attempt, and end with one line: its outcome, its directory, and how to resume it.

    The report never changes the outcome.

    Args:
        plan: The plan that runs.
        begin: Runs it, and calls its argument with the run directory.
        here: The directory in which the command was given; the user's code may have changed it.
        debug: Whether to show full tracebacks.

    Returns:
        The exit code.
    """
    started = time.monotonic()
    directories: list[Path] = []
    try:
        result = begin(directories.append)
    except BaseException as error:
        if not directories:
            raise
        rank = global_rank()
        # Rank 0 reports errors of other ranks. Rank 1 reports an error of rank 0.
        if not rank or not isinstance(error, RankError) or (error.rank == 0 and rank == 1):
            explain(error, debug=debug, in_a_run=True, secrets=plan.secrets)
        if not rank:
            with _only_reporting():
                _report_failure(plan, directories[0], here, time.monotonic() - started)
        return exit_code(error, in_a_run=True)
    if not global_rank():  # rank 0 reports for all ranks
        with _only_reporting():
            best = plan.policy.keep_best
            figures = _headline(result.metrics, {best.metric: best.mode} if best else {})
            done = _done([process.status for process in result.processes])
            say(" · ".join([f"finished in {_duration(result)}", *done, *figures, near(result.path, here)]))
    return 0


@contextlib.contextmanager
def _only_reporting() -> Iterator[None]:
    """Keep an error of the report from changing the outcome."""
    try:
        yield
    except ReaderGone:
        raise
    except Exception as error:  # noqa: BLE001
        complain(f"the outcome can't be shown: {type(error).__name__}: {error}")


def _report_failure(plan: Plan, directory: Path, here: Path | None, took: float) -> None:
    run = read_run(directory) if directory.is_dir() else None
    word = run.status.replace("_", " ") if run is not None else "failed"
    done = _done([process["status"] for process in run.fields.get("processes", ())]) if run is not None else []
    complain(" · ".join([f"{paint(word, 'red', sys.stderr)} after {seconds(took)}", *done, near(directory, here)]))
    if run is not None and run.status in ("failed", "interrupted") and plan.file is not None:
        found, reason = where_to_resume(directory)
        if reason:
            complain(f"a resume goes back to step {found.step if found else 0}: {reason}")
        complain(f"resume with: ridgepole resume {shlex.quote(near(directory, here))}")


def _duration(result: RunResult) -> str:
    """Format the duration of a run; of one that was resumed, also that of each attempt."""
    if len(result.attempts) == 1:
        return seconds(result.seconds)
    each = " + ".join(seconds(one) for one in result.attempts[-4:])
    more = "… + " if len(result.attempts) > 4 else ""
    return f"{seconds(result.seconds)} in {len(result.attempts)} attempts ({more}{each})"


def _done(statuses: Sequence[str]) -> list[str]:
    """Format how many of several processes are done."""
    done = sum(status in ("done", "skipped", "cached") for status in statuses)
    return [f"{done}/{len(statuses)}"] if len(statuses) > 1 else []


def _headline(metrics: Mapping[str, Mapping[str, Any]], goals: Mapping[str, str]) -> list[str]:
    """Format the last and best value of the most telling metric, else of two metrics."""
    numeric = [name for name, entry in metrics.items() if isinstance(entry.get("last"), int | float)]
    best = [name for name in telling(metrics, goals) if name in numeric]
    others = [name for name in numeric if name not in best]
    names = best if goals and best else [*best[1::-1], *others[::-1]][:2]
    return [f"{name} {_last_and_best(metrics[name])}" for name in names]


def _last_and_best(entry: Mapping[str, Any]) -> str:
    last, best = number(entry["last"]), entry.get("best")
    return last if best is None or number(best) == last else f"{last} (best {number(best)})"
