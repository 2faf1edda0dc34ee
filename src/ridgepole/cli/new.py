"""`ridgepole new`."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from ridgepole.cli.output import complain, say

_PLACEHOLDER = re.compile(
    r"my_experiment|\bdigits(?=\.toml|/|\.(?:data|figures|network|steps)\b|\")|(?<=test_)digits(?=\.py)|^digits$"
)
_COMMENT = re.compile(r"^(\S.*?\S) {2,}(# .*)$")
_TAKEN = ("tests", "runs")  # folders that stand beside the package


def call(arguments: argparse.Namespace) -> int:
    """Make a project that runs and passes its own test."""
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
    has_pytest = importlib.util.find_spec("pytest") is not None
    say("  python -m pytest" if has_pytest else "  pip install pytest && python -m pytest")
    return 0


def _fault(target: Path, name: str, package: str) -> str:
    """Return the reason why the project can't be made there; empty if it can."""
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            return f"{target} exists already; name a directory that does not"
    except OSError as error:
        return f"can't look into {target}: {error.strerror or error}"
    if not package.isidentifier() or keyword.iskeyword(package):
        return f"{name!r} is not a valid name of a Python package; use letters, digits and '_'"
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
    if spec is None:
        return False
    # What lies directly in the working directory is not installed, but an environment there is.
    places = [Path(each) for each in spec.submodule_search_locations or [spec.origin or ""]]
    return any(each.parent != Path.cwd() for each in places)


def _make(place: Path, package: str, template: str) -> None:
    """Make the project beside its place, then move it there, so that no partial project is left."""
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
    """Replace the template's name by the project's."""
    # The deepest first: a parent's rename moves its children
    for path in sorted(project.rglob("*"), reverse=True):
        if path.is_file() and path.suffix in (".toml", ".py", ".md"):
            text = path.read_text(encoding="utf-8")
            text = _PLACEHOLDER.sub(name, text)
            path.write_text(text if path.suffix == ".py" else _aligned(text), encoding="utf-8")
        renamed = _PLACEHOLDER.sub(name, path.name)
        if renamed != path.name:
            path.rename(path.with_name(renamed))


def _aligned(text: str) -> str:
    """Align the comments at the ends of lines, which another name has moved."""
    lines = text.split("\n")
    found = [_COMMENT.match(line) for line in lines]
    width = max((len(each[1]) for each in found if each), default=0)
    aligned = [f"{each[1]:<{width}}  {each[2]}" if each else line for each, line in zip(found, lines, strict=True)]
    return "\n".join(aligned)
