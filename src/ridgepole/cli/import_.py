"""`ridgepole import`."""

from __future__ import annotations

import argparse

from ridgepole.cli.output import complain, near, say
from ridgepole.cli.roots import runs_root
from ridgepole.importers import Imported, import_runs


def call(arguments: argparse.Namespace) -> int:
    """Import runs, and print what was counted."""
    root = runs_root(arguments)
    columns = dict(arguments.columns)
    new: list[Imported] = []
    old = 0
    for done in import_runs(arguments.source, arguments.path, root, columns=columns):
        for note in done.notes if not done.unchanged else ():
            complain(f"{done.path.name}: {note}")
        if done.unchanged:
            old += 1
        else:
            new.append(done)
    values, media = sum(each.values for each in new), sum(each.media for each in new)
    what = f"{_count(len(new), 'run')} with {_count(values, 'value')}"
    what += f" and {media:,} of media" if media else ""
    before = f"; {_count(old, 'run')} had been imported before" if old else ""
    say(f"imported {what} to {near(root)}{before}")
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
