"""`ridgepole new`."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from ridgepole.cli.output import complain, say

_PLACEHOLDER = "my_experiment"
_TAKEN = ("tests", "runs")  # folders that stand beside the package


def call(arguments: argparse.Namespace) -> int:
    """Makes a project that runs and passes its own test."""
    target = Path(arguments.name)
    place = target.resolve()
    package = place.name.replace("-", "_").replace(" ", "_")
    fault = _fault(target, place.name, package)
    if fault:
        complain(f"error: {fault}")
        return 2
    try:
        _make(place, package, arguments.template)
    except OSError as error:
        complain(f"error: can't make {target}: {error.strerror or error}")
        return 2
    file = next(iter(sorted(place.glob("*.toml"))))
    say(f"made {target}")
    if place != Path.cwd():
        say(f"  cd {target}")
    say(f"  ridgepole run {file.name}")
    say("  python -m pytest")
    return 0


def _fault(target: Path, name: str, package: str) -> str:
    """Why no project can be made there under that name; empty where it can."""
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            return f"{target} exists already; name a directory that does not"
    except OSError as error:
        return f"can't look into {target}: {error.strerror or error}"
    if not package.isidentifier() or keyword.iskeyword(package):
        return f"{name!r} is no name for a Python package; use letters, digits and '_'"
    if package in _TAKEN:
        return f"a project has a folder {package!r} of its own; take another name"
    if package in sys.stdlib_module_names or _is_installed(package):
        return f"there is a Python package {package!r} already, which would be hidden; take another name"
    return ""


def _is_installed(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    # A folder without code is found too, as a namespace; and what lies in the working directory hides nothing.
    return spec is not None and spec.origin is not None and Path.cwd() not in Path(spec.origin).parents


def _make(place: Path, package: str, template: str) -> None:
    """Makes the project beside its place and moves it there whole, so that nothing half-done is ever left."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        with resources.as_file(resources.files("ridgepole") / "templates" / template) as source:
            unwanted = shutil.ignore_patterns("__pycache__", "runs", ".*")
            shutil.copytree(source, draft, ignore=unwanted, dirs_exist_ok=True)
        _rename(draft, package)
        (draft / ".gitignore").write_text("runs/\n__pycache__/\n", encoding="utf-8")
        if place.is_dir():  # empty; kept, because it may be where the user's shell stands
            for child in draft.iterdir():
                child.rename(place / child.name)
            draft.rmdir()
        else:
            draft.rename(place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _rename(project: Path, name: str) -> None:
    """Puts the project's name in the place of the template's."""
    for path in sorted(project.rglob("*"), reverse=True):  # the deepest first: a parent's rename moves its children
        if path.is_file() and path.suffix in (".toml", ".py", ".md"):
            text = path.read_text(encoding="utf-8")
            if _PLACEHOLDER in text:
                path.write_text(text.replace(_PLACEHOLDER, name), encoding="utf-8")
        if _PLACEHOLDER in path.name:
            path.rename(path.with_name(path.name.replace(_PLACEHOLDER, name)))
