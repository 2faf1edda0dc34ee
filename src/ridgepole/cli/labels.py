"""`ridgepole runs tag|note|rename|archive`, and the labels that `run` gives a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ridgepole.cli.output import counted, say
from ridgepole.errors import RunDirError
from ridgepole.labels import Labels, LabelsChange, checked, checked_name, checked_note, checked_tag
from ridgepole.rundir import RunInfo, find_run

Value = TypeVar("Value")


def labels_of(arguments: argparse.Namespace) -> Labels:
    """Return the labels that the options of `run` give.

    Raises:
        RunDirError: If one of them is not valid.
    """
    return _valid(lambda: checked(name=arguments.name, tags=arguments.tags, note=arguments.note))


def tag(arguments: argparse.Namespace, root: Path) -> int:
    """`runs tag`: add tags to a run, or remove them; print the tags that it has then."""
    tags = _valid(lambda: [checked_tag(each) for each in arguments.tags])
    run = find_run(arguments.run, root)
    with LabelsChange(run.path) as change:
        change.labels = change.labels.tagged((), without=tags) if arguments.remove else change.labels.tagged(tags)
    say(f"{_described(run)}: {', '.join(change.labels.tags) or 'no tags'}")
    return 0


def note(arguments: argparse.Namespace, root: Path) -> int:
    """`runs note`: print the note of a run, or replace it; `-` reads it from stdin."""
    run = find_run(arguments.run, root)
    if arguments.text is None:
        say(run.labels.note)
        return 0
    text = _valid(lambda: checked_note(sys.stdin.read() if arguments.text == "-" else arguments.text))
    with LabelsChange(run.path) as change:
        change.labels = replace(change.labels, note=text)
    say(f"{_described(run)}: {'noted' if text else 'the note is removed'}")
    return 0


def rename(arguments: argparse.Namespace, root: Path) -> int:
    """`runs rename`: give a run a name; an empty one removes it."""
    name = _valid(lambda: checked_name(arguments.name))
    run = find_run(arguments.run, root)
    with LabelsChange(run.path) as change:
        change.labels = replace(change.labels, name=name)
    say(f"run {run.id} {f'is called {name!r} now' if name else 'has no name now'}")
    return 0


def archive(arguments: argparse.Namespace, root: Path) -> int:
    """`runs archive`: hide runs from lists, or show them again."""
    runs = list({run.path: run for run in (find_run(spec, root) for spec in arguments.runs)}.values())
    for run in runs:
        with LabelsChange(run.path) as change:
            change.labels = replace(change.labels, archived=not arguments.undo)
    say(f"{'restored' if arguments.undo else 'archived'} {counted(len(runs), 'run')}")
    return 0


def _described(run: RunInfo) -> str:
    name = run.labels.name
    return f"run {run.id} ({name})" if name else f"run {run.id}"


def _valid(make: Callable[[], Value]) -> Value:
    try:
        return make()
    except ValueError as error:
        raise RunDirError(str(error)) from error
