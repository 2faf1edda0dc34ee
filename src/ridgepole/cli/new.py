"""`ridgepole new`."""

from __future__ import annotations

import argparse
import keyword
import shutil
from importlib import resources
from pathlib import Path

from ridgepole.cli.output import complain, say

_PLACEHOLDER = "my_experiment"


def call(arguments: argparse.Namespace) -> int:
    """Makes a project that runs and passes its own test."""
    target = Path(arguments.name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        complain(f"error: {target} exists already; name a directory that does not")
        return 2
    name = target.resolve().name.replace("-", "_").replace(" ", "_")
    if not name.isidentifier() or keyword.iskeyword(name):
        complain(f"error: {target.name!r} is no name for a Python package; use letters, digits and '_'")
        return 2
    # Made beside its place and renamed, so that nothing half-done is ever there.
    draft = target.resolve().with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    with resources.as_file(resources.files("ridgepole") / "templates" / arguments.template) as source:
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns("__pycache__", "runs", ".*"))
    _rename(draft, name)
    if target.is_dir():
        target.rmdir()
    draft.rename(target.resolve())
    file = next(iter(sorted(target.glob("*.toml"))))
    say(f"made {target}")
    say(f"  cd {target}")
    say(f"  ridgepole run {file.name}")
    say("  python -m pytest")
    return 0


def _rename(project: Path, name: str) -> None:
    """Puts the project's name in the place of the template's."""
    for path in sorted(project.rglob("*"), reverse=True):  # the deepest first: a parent's rename moves its children
        if path.is_file() and path.suffix in (".toml", ".py", ".md"):
            text = path.read_text(encoding="utf-8")
            if _PLACEHOLDER in text:
                path.write_text(text.replace(_PLACEHOLDER, name), encoding="utf-8")
        if _PLACEHOLDER in path.name:
            path.rename(path.with_name(path.name.replace(_PLACEHOLDER, name)))
